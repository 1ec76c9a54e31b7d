/* Here the root key and the peppers are read from their files, and keys are wrapped and unwrapped. */
#include "store/keyring.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/fs.h"
#include "base/num.h"

enum { SECRET_FILE_MAX = 16 * 1024, HEX_DIGITS = 64 };

static bool unhex_key(uint8_t out[32], const char *text)
{
    return strlen(text) == HEX_DIGITS && crypto_unhex(out, 32, text) == 32;
}

/* Cuts trailing white space: files end in a newline. */
static void trim(char *line)
{
    size_t len = strlen(line);
    while (len > 0 && strchr(" \t\r\n", line[len - 1])) line[--len] = '\0';
}

static int load_root(struct keyring *k, const char *path, struct err *e)
{
    struct buf b = {0};
    int rc = fs_read_all(&b, path, SECRET_FILE_MAX, e);
    if (!rc) {
        if (b.data) trim(b.data);
        if (!b.data || !unhex_key(k->root, b.data))
            rc = err_set(e, ERR_INVALID, "root-key-file", "%s must hold exactly 64 hex digits", path);
    }
    if (b.data) explicit_bzero(b.data, b.len);
    buf_dispose(&b);
    return rc;
}

static int add_pepper(struct keyring *k, char *line, const char *path, int number, struct err *e)
{
    trim(line);
    if (!line[0] || line[0] == '#') return 0;
    char *colon = strchr(line, ':');
    int64_t version = 0;
    if (colon) *colon = '\0';
    if (!colon || !num_parse_i64(line, 1, 1000000, &version) || keyring_pepper(k, (int)version))
        return err_set(e, ERR_INVALID, "pepper-file", "%s line %d: expected a new version:64 hex digits",
                       path, number);
    if (k->n_peppers == KEYRING_PEPPERS_MAX)
        return err_set(e, ERR_INVALID, "pepper-file", "%s: at most %d peppers", path, KEYRING_PEPPERS_MAX);
    if (!unhex_key(k->pepper[k->n_peppers], colon + 1))
        return err_set(e, ERR_INVALID, "pepper-file", "%s line %d: expected 64 hex digits after the colon",
                       path, number);
    k->pepper_version[k->n_peppers++] = (int)version;
    return 0;
}

static int load_peppers(struct keyring *k, const char *path, struct err *e)
{
    struct buf b = {0};
    int rc = fs_read_all(&b, path, SECRET_FILE_MAX, e);
    int number = 0;
    char *rest = b.data, *line;
    while (!rc && (line = strsep(&rest, "\n"))) rc = add_pepper(k, line, path, ++number, e);
    if (!rc && k->n_peppers == 0) rc = err_set(e, ERR_INVALID, "pepper-file", "%s holds no pepper", path);
    if (b.data) explicit_bzero(b.data, b.len);
    buf_dispose(&b);
    return rc;
}

int keyring_load(struct keyring *k, const char *root_file, const char *pepper_file, struct err *e)
{
    memset(k, 0, sizeof *k);
    int rc = root_file ? load_root(k, root_file, e) : 0;
    if (!rc && pepper_file) rc = load_peppers(k, pepper_file, e);
    if (rc) keyring_wipe(k);
    return rc;
}

void keyring_wipe(struct keyring *k)
{
    explicit_bzero(k, sizeof *k);
}

const uint8_t *keyring_pepper(const struct keyring *k, int version)
{
    for (int i = 0; i < k->n_peppers; i++)
        if (k->pepper_version[i] == version) return k->pepper[i];
    return NULL;
}

int keyring_newest(const struct keyring *k)
{
    int newest = 0;
    for (int i = 0; i < k->n_peppers; i++)
        if (k->pepper_version[i] > newest) newest = k->pepper_version[i];
    return newest;
}

int keyring_wrap(uint8_t out[KEYRING_WRAPPED_LEN], const uint8_t under[AES_KEY_LEN], const char *context,
                 const uint8_t key[AES_KEY_LEN], struct err *e)
{
    crypto_random(out, GCM_NONCE_LEN);
    return crypto_seal(under, out, context, strlen(context), key, AES_KEY_LEN, out + GCM_NONCE_LEN,
                       out + GCM_NONCE_LEN + AES_KEY_LEN, e);
}

int keyring_unwrap(uint8_t key[AES_KEY_LEN], const uint8_t under[AES_KEY_LEN], const char *context,
                   const uint8_t in[KEYRING_WRAPPED_LEN], struct err *e)
{
    int rc = crypto_open(under, in, context, strlen(context), in + GCM_NONCE_LEN, AES_KEY_LEN, key,
                         in + GCM_NONCE_LEN + AES_KEY_LEN, e);
    if (!rc) return 0;
    return err_set(e, ERR_CORRUPT, NULL, "the key of %s was wrapped under another key", context);
}
