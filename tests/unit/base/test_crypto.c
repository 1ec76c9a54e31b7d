/* Known answers of the standards, and everything that must not verify does not. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/crypto.h"

static void assert_hex(const void *data, size_t len, const char *want)
{
    char text[512];
    assert_true(len < sizeof text / 2);
    assert_string_equal(crypto_hex(text, data, len), want);
}

/* FIPS 180-4's examples ("SHA256.pdf" of NIST's example values), and the empty text. */
static void sha256_gives_the_answers_of_fips_180(void **state)
{
    (void)state;
    uint8_t out[SHA256_LEN];
    crypto_sha256(out, "abc", 3);
    assert_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    crypto_sha256(out, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56);
    assert_hex(out, 32, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    crypto_sha256(out, NULL, 0);
    assert_hex(out, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void sha256_in_pieces_equals_sha256_at_once_and_starts_over(void **state)
{
    (void)state;
    char *text = malloc(1000000);
    memset(text, 'a', 1000000);
    struct crypto_sha256 *s = crypto_sha256_create();
    uint8_t out[SHA256_LEN];
    for (int round = 0; round < 2; round++) {
        for (size_t at = 0, step = 1; at < 1000000; at += step, step = step * 2 < 1000000 - at ? step * 2 : 1)
            crypto_sha256_update(s, text + at, step);
        crypto_sha256_final(s, out); /* FIPS 180-4's third example: a million times 'a' */
        assert_hex(out, 32, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
    crypto_sha256_free(s);
    crypto_sha256_free(NULL);
    free(text);
}

/* RFC 4231, test cases 1, 2, 3, 6 and 7. */
static void hmac_gives_the_answers_of_rfc_4231(void **state)
{
    (void)state;
    uint8_t out[SHA256_LEN], key[131], data[50];
    memset(key, 0x0b, 20);
    crypto_hmac_sha256(out, key, 20, "Hi There", 8);
    assert_hex(out, 32, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    crypto_hmac_sha256(out, "Jefe", 4, "what do ya want for nothing?", 28);
    assert_hex(out, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof key);
    memset(data, 0xdd, sizeof data);
    crypto_hmac_sha256(out, key, 20, data, 50);
    assert_hex(out, 32, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    crypto_hmac_sha256(out, key, 131, "Test Using Larger Than Block-Size Key - Hash Key First", 54);
    assert_hex(out, 32, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    static const char long_text[] =
        "This is a test using a larger than block-size key and a larger than block-size data. "
        "The key needs to be hashed before being used by the HMAC algorithm.";
    crypto_hmac_sha256(out, key, 131, long_text, strlen(long_text));
    assert_hex(out, 32, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

static void a_kept_hmac_key_gives_the_same_answers(void **state)
{
    (void)state;
    uint8_t key[200], data[300], a[SHA256_LEN], b[SHA256_LEN];
    crypto_random(key, sizeof key);
    crypto_random(data, sizeof data);
    for (size_t key_len = 0; key_len <= sizeof key; key_len += 8) {
        struct crypto_hmac *h = crypto_hmac_create(key, key_len);
        for (size_t len = 0; len <= sizeof data; len += 25) {
            crypto_hmac(h, a, data, len);
            crypto_hmac_sha256(b, key, key_len, data, len);
            assert_memory_equal(a, b, SHA256_LEN);
        }
        crypto_hmac_free(h);
    }
    crypto_hmac_free(NULL);
}

static void an_empty_hmac_key_is_not_the_key_before_it(void **state)
{
    (void)state;
    uint8_t out[SHA256_LEN];
    crypto_hmac_sha256(out, "secret", 6, "x", 1);
    crypto_hmac_sha256(out, NULL, 0, NULL, 0);
    assert_hex(out, 32, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

/* McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test cases 13 to 16 (AES-256). */
static void aes_256_gcm_gives_the_answers_of_its_specification(void **state)
{
    (void)state;
    uint8_t key[32] = {0}, nonce[12] = {0}, plain[64] = {0}, aad[20], out[64], back[64], tag[16];
    assert_int_equal(crypto_seal(key, nonce, NULL, 0, NULL, 0, NULL, tag, NULL), 0);
    assert_hex(tag, 16, "530f8afbc74536b9a963b4f1c4cb738b");
    assert_int_equal(crypto_open(key, nonce, NULL, 0, NULL, 0, NULL, tag, NULL), 0);
    assert_int_equal(crypto_seal(key, nonce, NULL, 0, plain, 16, out, tag, NULL), 0);
    assert_hex(out, 16, "cea7403d4d606b6e074ec5d3baf39d18");
    assert_hex(tag, 16, "d0d1c8a799996bf0265b98b5d48ab919");

    assert_int_equal(
        crypto_unhex(key, 32, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"), 32);
    assert_int_equal(crypto_unhex(nonce, 12, "cafebabefacedbaddecaf888"), 12);
    assert_int_equal(crypto_unhex(plain, 64,
                                  "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                                  "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"),
                     64);
    assert_int_equal(crypto_unhex(aad, 20, "feedfacedeadbeeffeedfacedeadbeefabaddad2"), 20);
    assert_int_equal(crypto_seal(key, nonce, NULL, 0, plain, 64, out, tag, NULL), 0);
    assert_hex(out, 64,
               "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
               "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad");
    assert_hex(tag, 16, "b094dac5d93471bdec1a502270e3cc6c");
    assert_int_equal(crypto_seal(key, nonce, aad, 20, plain, 60, out, tag, NULL), 0);
    assert_hex(tag, 16, "76fc6ece0f4e1768cddf8853bb2d551b");
    assert_int_equal(crypto_open(key, nonce, aad, 20, out, 60, back, tag, NULL), 0);
    assert_memory_equal(back, plain, 60);
}

static void opens_nothing_that_was_touched(void **state)
{
    (void)state;
    uint8_t key[32], nonce[12], tag[16], aad[8] = "context", data[100], sealed[100], out[100],
                                         zero[100] = {0};
    crypto_random(key, sizeof key);
    crypto_random(nonce, sizeof nonce);
    crypto_random(data, sizeof data);
    assert_int_equal(crypto_seal(key, nonce, aad, sizeof aad, data, sizeof data, sealed, tag, NULL), 0);
    uint8_t *const parts[] = {key, nonce, aad, sealed, tag};
    static const size_t sizes[] = {sizeof key, sizeof nonce, sizeof aad, sizeof sealed, sizeof tag};
    for (size_t p = 0; p < 5; p++)
        for (size_t i = 0; i < sizes[p]; i++) {
            struct err e = {0};
            parts[p][i] ^= 0x40;
            memset(out, 1, sizeof out);
            assert_int_equal(crypto_open(key, nonce, aad, sizeof aad, sealed, sizeof sealed, out, tag, &e),
                             ERR_CORRUPT);
            assert_memory_equal(out, zero, sizeof out);
            parts[p][i] ^= 0x40;
        }
    assert_int_equal(crypto_open(key, nonce, aad, sizeof aad, sealed, 99, out, tag, NULL), ERR_CORRUPT);
    assert_int_equal(crypto_open(key, nonce, aad, 7, sealed, sizeof sealed, out, tag, NULL), ERR_CORRUPT);
    assert_int_equal(crypto_open(key, nonce, aad, sizeof aad, sealed, sizeof sealed, sealed, tag, NULL), 0);
    assert_memory_equal(sealed, data, sizeof data); /* in place */
}

static void refuses_more_than_one_gcm_call_may_seal(void **state)
{
    (void)state;
    uint8_t key[32] = {0}, nonce[12] = {0}, tag[16], byte = 0;
    struct err e = {0};
    assert_int_equal(crypto_seal(key, nonce, NULL, 0, &byte, (size_t)1 << 36, &byte, tag, &e), ERR_TOO_LARGE);
    assert_int_equal(crypto_open(key, nonce, NULL, 0, &byte, (size_t)1 << 36, &byte, tag, &e), ERR_TOO_LARGE);
}

static void randomness_fills_all_of_any_length(void **state)
{
    (void)state;
    uint8_t seen[1000] = {0}, r[1000];
    for (int round = 0; round < 8; round++) { /* a byte stays 0 in all rounds once in 2^64 */
        crypto_random(r, sizeof r);
        for (size_t i = 0; i < sizeof r; i++) seen[i] |= r[i];
    }
    for (size_t i = 0; i < sizeof seen; i++) assert_int_not_equal(seen[i], 0);
}

static void compares_in_full(void **state)
{
    (void)state;
    assert_true(crypto_equal("abc", "abc", 3));
    assert_true(crypto_equal("abc", "abd", 2));
    assert_false(crypto_equal("abc", "abd", 3));
    assert_true(crypto_equal(NULL, NULL, 0));
}

/* The check value of CRC-32/ISO-HDLC, and zlib's own way of going on. */
static void crc32_is_zlibs(void **state)
{
    (void)state;
    assert_int_equal(crypto_crc32(0, "123456789", 9), 0xCBF43926);
    assert_int_equal(crypto_crc32(0, NULL, 0), 0);
    static const char text[] = "The quick brown fox jumps over the lazy dog";
    assert_int_equal(crypto_crc32(0, text, 43), 0x414FA339);
    for (size_t cut = 0; cut <= 43; cut++)
        assert_int_equal(crypto_crc32(crypto_crc32(0, text, cut), text + cut, 43 - cut), 0x414FA339);
}

static void hex_reads_back_and_refuses_the_rest(void **state)
{
    (void)state;
    uint8_t out[4];
    assert_hex("\x00\xff\x1a", 3, "00ff1a");
    assert_int_equal(crypto_unhex(out, 4, "00FFa1"), 3);
    assert_memory_equal(out, "\x00\xff\xa1", 3);
    assert_int_equal(crypto_unhex(out, 4, ""), 0);
    static const char *const bad[] = {"0", "0g", "g0", "001", "0011223344", "0x11", " 00", "00 "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_equal(crypto_unhex(out, 4, bad[i]), -1);
}

/* RFC 4648, section 10. */
static void base64_gives_the_answers_of_rfc_4648(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char text[16];
        uint8_t back[16];
        size_t len = strlen(pairs[i][0]);
        assert_string_equal(crypto_base64(text, pairs[i][0], len), pairs[i][1]);
        assert_int_equal(crypto_base64_len(len), strlen(pairs[i][1]));
        assert_int_equal(crypto_unbase64(back, sizeof back, text, strlen(text)), len);
        assert_memory_equal(back, pairs[i][0], len);
    }
    uint8_t out[8];
    static const char *const bad[] = {
        "Zg", "Zg=", "Z===", "====", "Zh==", "Zm9=", "Zg==Zg==", "Z g=", "Zm9v\n", "Zm-_", "=Zg="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (crypto_unbase64(out, sizeof out, bad[i], strlen(bad[i])) != -1)
            fail_msg("'%s' was accepted", bad[i]);
    assert_int_equal(crypto_unbase64(out, 2, "Zm9v", 4), -1);
}

static void base62_writes_256_bits_as_43_digits(void **state)
{
    (void)state;
    uint8_t bits[32] = {0};
    char text[BASE62_256_LEN + 1];
    assert_string_equal(crypto_base62(text, bits), "0000000000000000000000000000000000000000000");
    bits[31] = 61;
    assert_string_equal(crypto_base62(text, bits) + 42, "z");
    bits[31] = 62;
    assert_string_equal(crypto_base62(text, bits) + 41, "10");
    bits[30] = 1; /* 256 + 62 = 5·62 + 8 */
    assert_string_equal(crypto_base62(text, bits) + 41, "58");
    memset(bits, 0xFF, sizeof bits);
    crypto_base62(text, bits);
    assert_int_equal(strlen(text), 43);
    assert_int_not_equal(text[0], '0'); /* 62^43 > 2^256 > 62^42: all 43 digits are needed */
}

static void *hash_on_a_thread(void *arg)
{
    uint8_t out[SHA256_LEN];
    for (int i = 0; i < 200; i++) crypto_hmac_sha256(out, arg, 4, "what do ya want for nothing?", 28);
    return (void *)(uintptr_t)(out[0] == 0x5b && out[31] == 0x43);
}

static void every_thread_has_contexts_of_its_own(void **state)
{
    (void)state;
    char key[] = "Jefe";
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, hash_on_a_thread, key), 0);
    for (int i = 0; i < 4; i++) {
        void *right = NULL;
        pthread_join(threads[i], &right);
        assert_non_null(right);
    }
}

int main(void)
{
    crypto_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_gives_the_answers_of_fips_180),
        cmocka_unit_test(sha256_in_pieces_equals_sha256_at_once_and_starts_over),
        cmocka_unit_test(hmac_gives_the_answers_of_rfc_4231),
        cmocka_unit_test(a_kept_hmac_key_gives_the_same_answers),
        cmocka_unit_test(an_empty_hmac_key_is_not_the_key_before_it),
        cmocka_unit_test(aes_256_gcm_gives_the_answers_of_its_specification),
        cmocka_unit_test(opens_nothing_that_was_touched),
        cmocka_unit_test(refuses_more_than_one_gcm_call_may_seal),
        cmocka_unit_test(randomness_fills_all_of_any_length),
        cmocka_unit_test(compares_in_full),
        cmocka_unit_test(crc32_is_zlibs),
        cmocka_unit_test(hex_reads_back_and_refuses_the_rest),
        cmocka_unit_test(base64_gives_the_answers_of_rfc_4648),
        cmocka_unit_test(base62_writes_256_bits_as_43_digits),
        cmocka_unit_test(every_thread_has_contexts_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
