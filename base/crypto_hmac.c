/* HMAC-SHA256 (RFC 2104) under a key that is used many times: what the key contributes is hashed once.
 *
 * On OpenSSL's plain SHA-256 functions: through its EVP layer the copies of two contexts cost several times
 * what the two blocks of a short text do. */
#define OPENSSL_API_COMPAT 0x10100000L
#include "base/crypto.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>
#include "base/mem.h"

enum { BLOCK = 64 };

struct crypto_hmac {
    SHA256_CTX inner, outer; /* with the padded key taken in */
};

static void begin(SHA256_CTX *c, const uint8_t key[BLOCK], uint8_t pad)
{
    uint8_t block[BLOCK];
    for (int i = 0; i < BLOCK; i++) block[i] = key[i] ^ pad;
    SHA256_Init(c);
    SHA256_Update(c, block, BLOCK);
    OPENSSL_cleanse(block, sizeof block);
}

struct crypto_hmac *crypto_hmac_create(const void *key, size_t len)
{
    struct crypto_hmac *h = mem_alloc(1, sizeof *h);
    uint8_t block[BLOCK] = {0};
    if (len > BLOCK)
        crypto_sha256(block, key, len);
    else if (len)
        memcpy(block, key, len);
    begin(&h->inner, block, 0x36);
    begin(&h->outer, block, 0x5c);
    OPENSSL_cleanse(block, sizeof block);
    return h;
}

void crypto_hmac(const struct crypto_hmac *h, uint8_t out[SHA256_LEN], const void *data, size_t len)
{
    SHA256_CTX c = h->inner;
    SHA256_Update(&c, data, len);
    SHA256_Final(out, &c);
    c = h->outer;
    SHA256_Update(&c, out, SHA256_LEN);
    SHA256_Final(out, &c);
    OPENSSL_cleanse(&c, sizeof c);
}

void crypto_hmac_free(struct crypto_hmac *h)
{
    if (!h) return;
    OPENSSL_cleanse(h, sizeof *h);
    mem_free(h);
}
