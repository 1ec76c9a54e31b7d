/* Datasets: what a tenant uploaded, as one or two blobs and a schema. */
#ifndef STORE_DATASET_H
#define STORE_DATASET_H

#include <stdbool.h>
#include <stdint.h>
#include "base/ids.h"
#include "store/blob.h"
#include "store/db.h"

enum { DATASET_PARTS_MAX = 2 };

struct dataset_part {
    char role[16]; /* "table", "features" or "labels"; a run's order knows "model" too */
    char sha256[SHA256_HEX_LEN];
    int64_t bytes;
};

struct dataset {
    char id[ID_MAX]; /* "ds_…" */
    char name[STORE_NAME_MAX];
    char format[8]; /* "csv", "idx", "npy" */
    int64_t rows;
    int64_t bytes;
    const char *schema; /* JSON, in the arena */
    struct dataset_part parts[DATASET_PARTS_MAX];
    int n_parts;
    int64_t created_at_us;
};

struct dataset_new {
    const char *name;
    const char *format;
    int64_t rows;
    const char *schema;                           /* JSON text */
    struct dataset_part parts[DATASET_PARTS_MAX]; /* blobs that blob_put has seen */
    int n_parts;
};

/* Quota checks (ERR_LIMIT), rows, audit. bytes is the parts' sum. */
int dataset_create(struct db *db, const struct dataset_new *in, const struct actor *by, struct arena *a,
                   struct dataset *out, struct err *e);
/* Before an upload starts: would one more dataset fit? *max_bytes is the most it may hold (dataset and
 * storage quota). */
int dataset_room(struct db *db, int64_t *max_bytes, struct err *e);
int dataset_find(struct db *db, const char *id, struct arena *a, struct dataset *out,
                 struct err *e); /* ERR_NOT_FOUND */
/* ERR_CONFLICT while a job that has not ended uses it. Its blobs become collectable. */
int dataset_delete(struct db *db, const char *id, const struct actor *by, struct err *e);

struct dataset_list {
    struct dataset *items; /* in the arena */
    int n;
    bool has_more;
};
int dataset_list(struct db *db, const struct page *p, struct arena *a, struct dataset_list *out,
                 struct err *e);

#endif
