/* The cryptography that Tenor uses, over OpenSSL 3, with algorithms fetched once and contexts kept per
 * thread. */
#ifndef BASE_CRYPTO_H
#define BASE_CRYPTO_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"

enum {
    SHA256_LEN = 32,
    SHA256_HEX_LEN = 65,
    AES_KEY_LEN = 32,
    GCM_NONCE_LEN = 12,
    GCM_TAG_LEN = 16,
    BASE62_256_LEN = 43
};

/* Once per process, before threads. Dies with a message when OpenSSL cannot provide an algorithm. */
void crypto_init(void);

void crypto_random(void *out, size_t len); /* dies when the kernel gives none */
void crypto_sha256(uint8_t out[SHA256_LEN], const void *data, size_t len);
void crypto_hmac_sha256(uint8_t out[SHA256_LEN], const void *key, size_t key_len, const void *data,
                        size_t len);
/* The same under a key that is used often. Any thread, also at the same time. */
struct crypto_hmac;
struct crypto_hmac *crypto_hmac_create(const void *key, size_t len);
void crypto_hmac(const struct crypto_hmac *h, uint8_t out[SHA256_LEN], const void *data, size_t len);
void crypto_hmac_free(struct crypto_hmac *h);

bool crypto_equal(const void *a, const void *b, size_t len);       /* constant time */
uint32_t crypto_crc32(uint32_t crc, const void *data, size_t len); /* zlib's CRC-32; start from 0 */

struct crypto_sha256;
struct crypto_sha256 *crypto_sha256_create(void);
void crypto_sha256_update(struct crypto_sha256 *s, const void *data, size_t len);
void crypto_sha256_final(struct crypto_sha256 *s, uint8_t out[SHA256_LEN]);
void crypto_sha256_free(struct crypto_sha256 *s);

/* AES-256-GCM. seal writes len bytes and the tag; open writes len bytes only if the tag holds, else
 * ERR_CORRUPT. In place (out == in) is allowed; after a failed open, out is wiped. At most 2^36 - 32 bytes a
 * call. */
int crypto_seal(const uint8_t key[AES_KEY_LEN], const uint8_t nonce[GCM_NONCE_LEN], const void *aad,
                size_t aad_len, const void *in, size_t len, void *out, uint8_t tag[GCM_TAG_LEN],
                struct err *e);
int crypto_open(const uint8_t key[AES_KEY_LEN], const uint8_t nonce[GCM_NONCE_LEN], const void *aad,
                size_t aad_len, const void *in, size_t len, void *out, const uint8_t tag[GCM_TAG_LEN],
                struct err *e);

/* Text forms. hex: out has 2·len+1 bytes. base64: out has crypto_base64_len(len)+1 bytes. base62: 256 bits →
 * 43 characters. Each returns out or, for decoding, the number of bytes or -1 when the text is malformed. */
char *crypto_hex(char *out, const void *data, size_t len);
int crypto_unhex(uint8_t *out, size_t cap, const char *text);
size_t crypto_base64_len(size_t len);
char *crypto_base64(char *out, const void *data, size_t len);
long crypto_unbase64(uint8_t *out, size_t cap, const char *text, size_t text_len);
char *crypto_base62(char out[BASE62_256_LEN + 1],
                    const uint8_t bits[32]); /* 0-9A-Za-z, most significant first */

#endif
