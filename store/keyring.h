/* The secrets that live outside the database: the root key, which wraps each tenant's key, and the peppers,
 * under which API keys are hashed. Read once at start, then read-only: any thread may use it. */
#ifndef STORE_KEYRING_H
#define STORE_KEYRING_H

#include <stdint.h>
#include "base/crypto.h"
#include "base/err.h"

enum { KEYRING_PEPPERS_MAX = 8, KEYRING_WRAPPED_LEN = GCM_NONCE_LEN + AES_KEY_LEN + GCM_TAG_LEN };

struct keyring {
    uint8_t root[AES_KEY_LEN];
    int n_peppers;
    int pepper_version[KEYRING_PEPPERS_MAX]; /* the greatest one hashes new keys */
    uint8_t pepper[KEYRING_PEPPERS_MAX][SHA256_LEN];
};

/* root_file: 64 hex digits. pepper_file: lines "version:64 hex". Either may be NULL (then those keys are
 * absent, n_peppers 0 or an all-zero root that wraps nothing). ERR_INVALID names the file and the line; an
 * unreadable file fails as fs_read_all. */
int keyring_load(struct keyring *k, const char *root_file, const char *pepper_file, struct err *e);
void keyring_wipe(struct keyring *k);

const uint8_t *keyring_pepper(const struct keyring *k, int version); /* NULL when that version is absent */
int keyring_newest(const struct keyring *k);                         /* its version; 0 when there is none */

/* Wraps a 32-byte key under another one, bound to a context (a tenant's id): nonce, ciphertext, tag. */
int keyring_wrap(uint8_t out[KEYRING_WRAPPED_LEN], const uint8_t under[AES_KEY_LEN], const char *context,
                 const uint8_t key[AES_KEY_LEN], struct err *e);
/* ERR_CORRUPT when it was wrapped under another key or for another context. */
int keyring_unwrap(uint8_t key[AES_KEY_LEN], const uint8_t under[AES_KEY_LEN], const char *context,
                   const uint8_t in[KEYRING_WRAPPED_LEN], struct err *e);

#endif
