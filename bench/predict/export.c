/* Writes a model version's artifact, decrypted, to standard output: so that another program can answer with
 * the same weights.
 *
 *   export POSTGRES_URL BLOB_DIR ROOT_KEY_FILE TENANT_ID VERSION_ID > model.safetensors
 *
 * It is the worker's own fetch, with the worker's own configuration; a benchmark's tool, installed nowhere.
 */
#include <stdio.h>
#include "base/crypto.h"
#include "base/mem.h"
#include "store/blob.h"
#include "store/keyring.h"
#include "worker/fetch.h"

static int export_version(char **argv, struct err *e)
{
    struct keyring keyring;
    struct blob_store *blobs = NULL;
    struct fetch *fetch = NULL;
    struct buf artifact = {0};
    int rc = keyring_load(&keyring, argv[3], NULL, e);
    if (rc == 0) rc = blob_store_open(&blobs, argv[2], &keyring, e);
    if (rc == 0) rc = fetch_create(&fetch, argv[1], blobs, e);
    if (rc == 0) rc = fetch_version(fetch, argv[4], argv[5], &artifact, e);
    if (rc == 0 && (fwrite(artifact.data, 1, artifact.len, stdout) != artifact.len || fflush(stdout) != 0))
        rc = err_errno(e, ERR_IO, "write the artifact");
    buf_dispose(&artifact);
    fetch_free(fetch);
    blob_store_free(blobs);
    keyring_wipe(&keyring);
    return rc;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    if (argc != 6) {
        fprintf(stderr, "usage: export POSTGRES_URL BLOB_DIR ROOT_KEY_FILE TENANT_ID VERSION_ID\n");
        return 2;
    }
    crypto_init();
    if (export_version(argv, &e) == 0) return 0;
    fprintf(stderr, "export: %s\n", e.message);
    return 1;
}
