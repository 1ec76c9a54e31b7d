/* What a tenant's plan lets it store, and what it does: what the tenant sees, each thing with its size,
 * whether or not blobs are shared or still waiting to be collected. */
#ifndef STORE_STORAGE_INTERNAL_H
#define STORE_STORAGE_INTERNAL_H

#include <stdint.h>
#include "base/err.h"
#include "store/db.h"

struct storage {
    int64_t allowed_bytes;
    int64_t used_bytes; /* by datasets, model versions, and requests and answers of predict jobs */
};

/* Of the transaction's tenant. ERR_NOT_FOUND "tenant". */
int storage__find(struct db *db, struct storage *out, struct err *e);

#endif
