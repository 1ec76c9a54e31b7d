/* Wraps OpenSSL 3: algorithms are fetched once per process, contexts are made once per thread and freed at
 * its end.
 *
 * Fetching and context set-up dominate the cost of hashing something short, hence both caches. The per-thread
 * contexts hang on a pthread key, whose destructor runs when the thread ends. */
#include "base/crypto.h"
#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct contexts {
    EVP_MD_CTX *sha256;
    EVP_MAC_CTX *hmac;
    EVP_CIPHER_CTX *gcm;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t contexts_key;
static EVP_MD *sha256_md;
static EVP_MAC *hmac_mac;
static EVP_CIPHER *gcm_cipher;
static _Thread_local struct contexts *mine;

/* OpenSSL refuses only when it is broken or out of memory; carrying on without cryptography is no option. */
static _Noreturn void die(const char *what)
{
    char reason[256];
    ERR_error_string_n(ERR_get_error(), reason, sizeof reason);
    fprintf(stderr, "cryptography is not available: %s: %s\n", what, reason);
    abort();
}

static void contexts_free(void *arg)
{
    struct contexts *c = arg;
    EVP_MD_CTX_free(c->sha256);
    EVP_MAC_CTX_free(c->hmac);
    EVP_CIPHER_CTX_free(c->gcm);
    mem_free(c);
}

static void fetch_all(void)
{
    sha256_md = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    hmac_mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    gcm_cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    if (!sha256_md || !hmac_mac || !gcm_cipher) die("fetch of SHA2-256, HMAC and AES-256-GCM");
    if (pthread_key_create(&contexts_key, contexts_free) != 0) die("pthread_key_create");
}

static struct contexts *contexts_get(void)
{
    if (mine) return mine;
    pthread_once(&once, fetch_all);
    struct contexts *c = mem_alloc(1, sizeof *c);
    c->sha256 = EVP_MD_CTX_new();
    c->hmac = EVP_MAC_CTX_new(hmac_mac);
    c->gcm = EVP_CIPHER_CTX_new();
    if (!c->sha256 || !c->hmac || !c->gcm) die("contexts of a thread");
    char digest[] = "SHA2-256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_END};
    if (!EVP_MAC_CTX_set_params(c->hmac, params)) die("HMAC with SHA2-256");
    pthread_setspecific(contexts_key, c);
    mine = c;
    return c;
}

void crypto_init(void)
{
    contexts_get();
}

void crypto_random(void *out, size_t len)
{
    uint8_t *p = out;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) die("getrandom");
        p += n;
        len -= (size_t)n;
    }
}

void crypto_sha256(uint8_t out[SHA256_LEN], const void *data, size_t len)
{
    EVP_MD_CTX *c = contexts_get()->sha256;
    if (!EVP_DigestInit_ex2(c, sha256_md, NULL) || !EVP_DigestUpdate(c, data, len) ||
        !EVP_DigestFinal_ex(c, out, NULL))
        die("SHA2-256");
}

void crypto_hmac_sha256(uint8_t out[SHA256_LEN], const void *key, size_t key_len, const void *data,
                        size_t len)
{
    EVP_MAC_CTX *c = contexts_get()->hmac;
    size_t n = 0;
    /* A NULL key would mean "the one before" to OpenSSL. */
    if (!EVP_MAC_init(c, key ? key : "", key ? key_len : 0, NULL) || !EVP_MAC_update(c, data, len) ||
        !EVP_MAC_final(c, out, &n, SHA256_LEN) || n != SHA256_LEN)
        die("HMAC");
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

struct crypto_sha256 {
    EVP_MD_CTX *ctx; /* owned */
};

struct crypto_sha256 *crypto_sha256_create(void)
{
    pthread_once(&once, fetch_all);
    struct crypto_sha256 *s = mem_alloc(1, sizeof *s);
    s->ctx = EVP_MD_CTX_new();
    if (!s->ctx || !EVP_DigestInit_ex2(s->ctx, sha256_md, NULL)) die("SHA2-256");
    return s;
}

void crypto_sha256_update(struct crypto_sha256 *s, const void *data, size_t len)
{
    if (!EVP_DigestUpdate(s->ctx, data, len)) die("SHA2-256");
}

void crypto_sha256_final(struct crypto_sha256 *s, uint8_t out[SHA256_LEN])
{
    if (!EVP_DigestFinal_ex(s->ctx, out, NULL) || !EVP_DigestInit_ex2(s->ctx, sha256_md, NULL))
        die("SHA2-256");
}

void crypto_sha256_free(struct crypto_sha256 *s)
{
    if (!s) return;
    EVP_MD_CTX_free(s->ctx);
    mem_free(s);
}

/* ---- AES-256-GCM ---- */

enum { GCM_STEP = 1 << 30 };                             /* OpenSSL's lengths are int */
static const uint64_t gcm_max_bytes = (1ull << 36) - 32; /* NIST SP 800-38D, 5.2.1.1 */

/* Feeds len bytes through the cipher; out may be NULL for additional data. */
static bool gcm_feed(EVP_CIPHER_CTX *c, bool sealing, uint8_t *out, const uint8_t *in, size_t len)
{
    while (len > 0) {
        int step = len > GCM_STEP ? GCM_STEP : (int)len, n = 0;
        int ok = sealing ? EVP_EncryptUpdate(c, out, &n, in, step) : EVP_DecryptUpdate(c, out, &n, in, step);
        if (!ok || n != step) return false;
        in += step;
        len -= (size_t)step;
        if (out) out += step;
    }
    return true;
}

int crypto_seal(const uint8_t key[AES_KEY_LEN], const uint8_t nonce[GCM_NONCE_LEN], const void *aad,
                size_t aad_len, const void *in, size_t len, void *out, uint8_t tag[GCM_TAG_LEN],
                struct err *e)
{
    if (len > gcm_max_bytes)
        return err_set(e, ERR_TOO_LARGE, NULL, "%zu bytes are too many for one AES-GCM seal", len);
    EVP_CIPHER_CTX *c = contexts_get()->gcm;
    uint8_t rest[16];
    int n = 0;
    bool ok = EVP_EncryptInit_ex2(c, gcm_cipher, key, nonce, NULL) && gcm_feed(c, true, NULL, aad, aad_len) &&
              gcm_feed(c, true, out, in, len) && EVP_EncryptFinal_ex(c, rest, &n) &&
              EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, GCM_TAG_LEN, tag);
    EVP_CIPHER_CTX_reset(c); /* the expanded key does not outlive the call */
    return ok ? 0 : err_set(e, ERR_INTERNAL, NULL, "AES-256-GCM encryption of %zu bytes failed", len);
}

int crypto_open(const uint8_t key[AES_KEY_LEN], const uint8_t nonce[GCM_NONCE_LEN], const void *aad,
                size_t aad_len, const void *in, size_t len, void *out, const uint8_t tag[GCM_TAG_LEN],
                struct err *e)
{
    if (len > gcm_max_bytes)
        return err_set(e, ERR_TOO_LARGE, NULL, "%zu bytes are too many for one AES-GCM seal", len);
    EVP_CIPHER_CTX *c = contexts_get()->gcm;
    uint8_t rest[16], expected[GCM_TAG_LEN];
    int n = 0;
    memcpy(expected, tag, sizeof expected);
    bool ok = EVP_DecryptInit_ex2(c, gcm_cipher, key, nonce, NULL) &&
              gcm_feed(c, false, NULL, aad, aad_len) && gcm_feed(c, false, out, in, len) &&
              EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, GCM_TAG_LEN, expected) &&
              EVP_DecryptFinal_ex(c, rest, &n);
    EVP_CIPHER_CTX_reset(c);
    if (ok) return 0;
    ERR_clear_error();
    if (len) OPENSSL_cleanse(out, len); /* nobody gets to use what was not proved authentic */
    return err_set(e, ERR_CORRUPT, NULL, "%zu encrypted bytes fail their authentication tag", len);
}
