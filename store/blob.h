/* Blobs: encrypted, content-addressed files, a row for each.
 *
 *   blob_writer_create ─▶ append … ─▶ finish (fsync, rename) ─▶ blob_put (row; in a transaction with what
 * refers to it) └──────────── blob_writer_free at any time removes what has no final name blob_find ─▶
 * blob_reader_open ─▶ read … (each chunk verified before a byte of it is handed out) ─▶ free
 *
 * File: <dir>/<tenant>/<2 hex>/<sha256>-<16 hex>: header (magic, chunk size), then chunks of 64 KiB plain
 * text under AES-256-GCM with a data key of the blob's own; nonce = chunk number, associated data = chunk
 * number and a last-chunk flag. The data key stands in the row, wrapped under the tenant's key, which is
 * wrapped under the root key. The same content uploaded twice by one tenant is one row; tenants share
 * nothing.
 *
 * A store may be used by any thread; a writer or reader by one at a time. Blocking. */
#ifndef STORE_BLOB_H
#define STORE_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/crypto.h"
#include "base/ids.h"
#include "store/db.h"
#include "store/keyring.h"

enum { BLOB_CHUNK_BYTES = 64 * 1024, BLOB_FILE_MAX = 96 };

struct blob_store;
/* keyring is borrowed for the store's life. Makes dir (0700) when it is absent. */
int blob_store_open(struct blob_store **out, const char *dir, const struct keyring *keyring, struct err *e);
void blob_store_free(struct blob_store *s);

/* A tenant's key, loaded once per upload or load: then the stream needs no database. Wipe it when done. */
struct blob_key {
    char tenant_id[ID_MAX];
    uint8_t key[AES_KEY_LEN];
};
int blob_key_load(struct db *db, struct blob_store *s, struct blob_key *out,
                  struct err *e); /* the transaction's tenant */
void blob_key_wipe(struct blob_key *k);

struct blob {
    char sha256[SHA256_HEX_LEN]; /* of the plain bytes: its id inside the tenant */
    int64_t bytes;               /* plain */
    char file[BLOB_FILE_MAX];    /* name below the tenant's folder */
    uint8_t wrapped_key[KEYRING_WRAPPED_LEN];
};

struct blob_writer;
/* ERR_TOO_LARGE from append once more than max_bytes came. */
int blob_writer_create(struct blob_writer **out, struct blob_store *s, const struct blob_key *k,
                       int64_t max_bytes, struct err *e);
int blob_writer_append(struct blob_writer *w, const void *data, size_t len, struct err *e);
int64_t blob_writer_bytes(const struct blob_writer *w);
int blob_writer_finish(struct blob_writer *w, struct blob *out,
                       struct err *e); /* durable under its final name */
void blob_writer_free(struct blob_writer *w);

/* Row for a finished file. When the tenant has the content already, *b becomes what the row says and our file
 * is removed after use (it is unreferenced: the collector takes it). */
int blob_put(struct db *db, struct blob *b, struct err *e);
int blob_find(struct db *db, const char *sha256, struct blob *out, struct err *e); /* ERR_NOT_FOUND */
/* Removes a finished file at once that no transaction has put which may have committed; what stays behind is
 * the collector's. */
void blob_discard(const struct blob_store *s, const char *tenant_id, const struct blob *b);

struct blob_reader;
/* ERR_CORRUPT when the file is missing, cut, longer than it should be, or bears another key. */
int blob_reader_open(struct blob_reader **out, struct blob_store *s, const struct blob_key *k,
                     const struct blob *b, struct err *e);
/* Up to cap bytes into out; *got = 0 at the verified end. ERR_CORRUPT names the chunk. */
int blob_reader_read(struct blob_reader *r, void *out, size_t cap, size_t *got, struct err *e);
void blob_reader_free(struct blob_reader *r);

/* System, outside a transaction (it makes its own). Deletes rows that nothing refers to and that nobody has
 * put for grace_s seconds, then files without a row that are older than that. Safe beside running writers.
 * *removed counts files. */
int blob_collect(struct db *db, struct blob_store *s, int64_t grace_s, int64_t *removed, struct err *e);

#endif
