/* Here datasets are checked against the quotas, stored with their parts, found, listed and deleted. */
#include "store/dataset.h"
#include "store/audit.h"

#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/json.h"
#include "store/page.h"
#include "store/storage_internal.h"

#define DATASET_COLUMNS "d.id, d.name, d.format, d.rows, d.bytes, d.schema, us(d.created_at)"

/* ---- quotas ---- */

struct room {
    int64_t datasets, max_datasets;
    int64_t max_bytes; /* of one */
    struct storage storage;
};

static int load_room(struct db *db, struct room *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    struct db_rows *r;
    int rc = db_exec(
        db,
        "SELECT (SELECT count(*) FROM datasets WHERE tenant_id = $1 AND deleted_at IS NULL), p.max_datasets, "
        "p.max_dataset_bytes FROM tenants t JOIN plans p ON p.name = t.plan WHERE t.id = $1",
        &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) != 1)
        rc = err_set(e, ERR_NOT_FOUND, "tenant", "there is no such tenant");
    else
        *out = (struct room){
            .datasets = db_int(r, 0, 0), .max_datasets = db_int(r, 0, 1), .max_bytes = db_int(r, 0, 2)};
    db_rows_free(r);
    return rc ? rc : storage__find(db, &out->storage, e);
}

static int check_count(const struct room *m, struct err *e)
{
    if (m->datasets < m->max_datasets) return 0;
    return err_set(e, ERR_LIMIT, "datasets", "the plan allows %lld datasets; delete one first",
                   (long long)m->max_datasets);
}

int dataset_room(struct db *db, int64_t *max_bytes, struct err *e)
{
    struct room m;
    int rc = load_room(db, &m, e);
    if (!rc) rc = check_count(&m, e);
    if (rc) return rc;
    int64_t left = m.storage.allowed_bytes - m.storage.used_bytes;
    if (left <= 0)
        return err_set(e, ERR_LIMIT, "storage",
                       "the plan's %lld bytes of storage are used up; delete a dataset first",
                       (long long)m.storage.allowed_bytes);
    *max_bytes = left < m.max_bytes ? left : m.max_bytes;
    return 0;
}

/* Under a lock per tenant: two creations at once must not both find room. */
static int check_quotas(struct db *db, int64_t bytes, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    int rc = db_exec(db, "SELECT pg_advisory_xact_lock(hashtextextended(concat('dataset ', $1::text), 0))",
                     &a, NULL, e);
    struct room m;
    if (!rc) rc = load_room(db, &m, e);
    if (!rc) rc = check_count(&m, e);
    if (rc) return rc;
    if (bytes > m.max_bytes)
        return err_set(e, ERR_TOO_LARGE, "file", "a dataset may hold %lld bytes, this one has %lld",
                       (long long)m.max_bytes, (long long)bytes);
    if (bytes > m.storage.allowed_bytes - m.storage.used_bytes)
        return err_set(e, ERR_LIMIT, "storage",
                       "the plan allows %lld bytes of storage; delete a dataset first",
                       (long long)m.storage.allowed_bytes);
    return 0;
}

/* ---- creating ---- */

static int check_new(const struct dataset_new *in, struct err *e)
{
    size_t len = in->name ? strlen(in->name) : 0;
    if (len < 1 || len >= STORE_NAME_MAX)
        return err_set(e, ERR_INVALID, "name", "a dataset's name has 1 to %d bytes", STORE_NAME_MAX - 1);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)in->name[i] < 0x20 || in->name[i] == 0x7f)
            return err_set(e, ERR_INVALID, "name", "a dataset's name holds no control characters");
    if (in->n_parts < 1 || in->n_parts > DATASET_PARTS_MAX)
        return err_set(e, ERR_INTERNAL, NULL, "a dataset has one or two parts");
    return 0;
}

static int insert_dataset(struct db *db, const struct dataset_new *in, const char *id, int64_t bytes,
                          struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    db_arg_str(&a, in->name);
    db_arg_str(&a, in->format);
    db_arg_int(&a, in->rows);
    db_arg_int(&a, bytes);
    db_arg_str(&a, in->schema);
    return db_exec(db,
                   "INSERT INTO datasets (tenant_id, id, name, format, rows, bytes, schema) VALUES "
                   "($1, $2, $3, $4, $5, $6, $7)",
                   &a, NULL, e);
}

static int insert_part(struct db *db, const char *id, const struct dataset_part *p, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    db_arg_str(&a, p->role);
    db_arg_str(&a, p->sha256);
    db_arg_int(&a, p->bytes);
    return db_exec(
        db,
        "INSERT INTO dataset_parts (tenant_id, dataset_id, role, sha256, bytes) VALUES ($1, $2, $3, $4, $5)",
        &a, NULL, e);
}

static int audit_dataset(struct db *db, const char *type, const struct actor *by, const char *id,
                         const char *name, struct err *e)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    jw_obj(&w);
    jw_kstr(&w, "name", name);
    jw_obj_end(&w);
    int rc = b.failed ? err_set(e, ERR_NOMEM, NULL, "out of memory")
                      : audit_append(db, NULL, type, by, id, b.data, e);
    buf_dispose(&b);
    return rc;
}

int dataset_create(struct db *db, const struct dataset_new *in, const struct actor *by, struct arena *a,
                   struct dataset *out, struct err *e)
{
    int rc = check_new(in, e);
    if (rc) return rc;
    int64_t bytes = 0;
    for (int i = 0; i < in->n_parts; i++) bytes += in->parts[i].bytes;
    char id[ID_MAX];
    id_new(id, "ds_");
    rc = check_quotas(db, bytes, e);
    if (!rc) rc = insert_dataset(db, in, id, bytes, e);
    for (int i = 0; i < in->n_parts && !rc; i++) rc = insert_part(db, id, &in->parts[i], e);
    if (!rc) rc = audit_dataset(db, "dataset.created", by, id, in->name, e);
    return rc ? rc : dataset_find(db, id, a, out, e);
}

/* ---- reading ---- */

static int read_dataset(void *item, struct arena *a, const struct db_rows *r, int row, struct err *e)
{
    struct dataset *out = item;
    memset(out, 0, sizeof *out);
    db_copy(out->id, sizeof out->id, r, row, 0);
    db_copy(out->name, sizeof out->name, r, row, 1);
    db_copy(out->format, sizeof out->format, r, row, 2);
    out->rows = db_int(r, row, 3);
    out->bytes = db_int(r, row, 4);
    out->created_at_us = db_int(r, row, 6);
    return db_arena_text(&out->schema, a, r, row, 5, e);
}

/* Parts of one dataset, "table" or "features" before "labels". */
static int load_parts(struct db *db, struct dataset *d, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, d->id);
    struct db_rows *r;
    int rc = db_exec(db,
                     "SELECT role, sha256, bytes FROM dataset_parts WHERE tenant_id = $1 AND dataset_id = $2 "
                     "ORDER BY role = 'labels'",
                     &a, &r, e);
    if (rc) return rc;
    for (int i = 0; i < db_rows_count(r) && i < DATASET_PARTS_MAX; i++) {
        struct dataset_part *p = &d->parts[d->n_parts++];
        db_copy(p->role, sizeof p->role, r, i, 0);
        db_copy(p->sha256, sizeof p->sha256, r, i, 1);
        p->bytes = db_int(r, i, 2);
    }
    db_rows_free(r);
    return 0;
}

int dataset_find(struct db *db, const char *id, struct arena *ar, struct dataset *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    struct db_rows *r;
    int rc = db_exec(db,
                     "SELECT " DATASET_COLUMNS " FROM datasets d WHERE d.tenant_id = $1 AND d.id = $2 "
                     "AND d.deleted_at IS NULL",
                     &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1)
        rc = read_dataset(out, ar, r, 0, e);
    else
        rc = err_set(e, ERR_NOT_FOUND, "dataset", "there is no such dataset");
    db_rows_free(r);
    return rc ? rc : load_parts(db, out, e);
}

int dataset_list(struct db *db, const struct page *p, struct arena *ar, struct dataset_list *out,
                 struct err *e)
{
    memset(out, 0, sizeof *out);
    struct page_cut c;
    struct db_args a = {0};
    int rc = page__open(&c, &a, p, "ds_", db_tenant(db), e);
    if (rc) return rc;
    struct db_rows *r;
#define DATASET_LIST                                                                                         \
    "SELECT " DATASET_COLUMNS " FROM datasets d WHERE d.tenant_id = $1 AND d.deleted_at IS NULL"
    rc = c.reversed ? db_exec(db, DATASET_LIST PAGE_OLDEST("d.id"), &a, &r, e)
                    : db_exec(db, DATASET_LIST PAGE_NEWEST("d.id"), &a, &r, e);
    if (rc) return rc;
    struct page_items got;
    rc = page__read(&got, &c, r, ar, sizeof *out->items, read_dataset, e);
    *out = (struct dataset_list){got.items, got.n, got.has_more};
    for (int i = 0; !rc && i < out->n; i++) rc = load_parts(db, &out->items[i], e);
    return rc;
}

/* ---- deleting ---- */

/* Takes the row's lock before looking for jobs: job_submit holds a share of it until it commits, so a job is
 * either seen here or finds the dataset gone. */
static int lock_dataset(struct db *db, const char *id, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    struct db_rows *r;
    int rc =
        db_exec(db, "SELECT FROM datasets WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL FOR UPDATE",
                &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0) rc = err_set(e, ERR_NOT_FOUND, "dataset", "there is no such dataset");
    db_rows_free(r);
    return rc;
}

static int refuse_if_used(struct db *db, const char *id, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    struct db_rows *r;
    int rc =
        db_exec(db,
                "SELECT id FROM jobs WHERE tenant_id = $1 AND state IN ('queued', 'retry_wait', 'running') "
                "AND (dataset_id = $2 OR test_dataset_id = $2) LIMIT 1",
                &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) > 0)
        rc = err_set(e, ERR_CONFLICT, "dataset",
                     "job %s still needs this dataset; cancel it or wait for its end", db_text(r, 0, 0));
    db_rows_free(r);
    return rc;
}

int dataset_delete(struct db *db, const char *id, const struct actor *by, struct err *e)
{
    int rc = lock_dataset(db, id, e);
    if (!rc) rc = refuse_if_used(db, id, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    rc = db_exec(db, "DELETE FROM dataset_parts WHERE tenant_id = $1 AND dataset_id = $2", &a, NULL, e);
    struct db_rows *r = NULL;
    if (!rc)
        rc = db_exec(db,
                     "UPDATE datasets SET deleted_at = now() WHERE tenant_id = $1 AND id = $2 RETURNING name",
                     &a, &r, e);
    if (!rc) rc = audit_dataset(db, "dataset.deleted", by, id, db_text(r, 0, 0), e);
    db_rows_free(r);
    return rc;
}
