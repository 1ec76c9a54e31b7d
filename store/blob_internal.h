/* What blob.c (store, rows, collector) and blob_file.c (the encrypted files) share. Nobody else includes
 * this. */
#ifndef STORE_BLOB_INTERNAL_H
#define STORE_BLOB_INTERNAL_H

#include "store/blob.h"

#define BLOB_TMP_PREFIX ".tmp-"

enum { BLOB_DIR_MAX = 1023, BLOB_PATH_MAX = BLOB_DIR_MAX + 1 + ID_MAX + 1 + 300 };

struct blob_store {
    char dir[BLOB_DIR_MAX + 1];
    const struct keyring *keyring; /* borrowed */
};

/* Columns sha256, bytes, file, encode(wrapped_key, 'hex') from first_col on. */
int blob__read(struct blob *out, const struct db_rows *r, int row, int first_col, struct err *e);

#endif
