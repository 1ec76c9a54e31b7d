/* Brings a model version's artifact from the blob store into memory: the predict engine's `fetch`. One thread
 * at a time. */
#ifndef WORKER_FETCH_H
#define WORKER_FETCH_H

#include "base/buf.h"
#include "base/err.h"
#include "store/blob.h"

struct fetch;

/* postgres_url and blobs are borrowed until fetch_free. Does not connect yet. */
int fetch_create(struct fetch **out, const char *postgres_url, struct blob_store *blobs, struct err *e);
void fetch_free(struct fetch *f); /* NULL is fine */

/* Appends the artifact, decrypted and verified. ERR_NOT_FOUND when that tenant has no such version,
 * ERR_CORRUPT when its bytes fail their check,
 * ERR_TOO_LARGE when out's limit does not hold it. arg is a struct fetch. */
int fetch_version(void *arg, const char *tenant_id, const char *version_id, struct buf *out, struct err *e);

/* Appends the blob's plain bytes to out. ERR_TOO_LARGE where out has no room for them, ERR_CORRUPT. */
int fetch_blob(struct blob_store *s, const struct blob_key *key, const struct blob *blob, struct buf *out,
               struct err *e);

#endif
