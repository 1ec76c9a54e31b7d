/* Here versions are found in each way that a request may name them, sized for placement, and listed. */
#include "store/version.h"
#include "store/blob_internal.h"

#include <string.h>
#include "store/page.h"

#define VERSION_COLUMNS                                                                                      \
    "v.id, m.name, v.number, v.bytes, v.sha256, v.memory_bytes, v.job_id, us(v.created_at), v.metrics, "     \
    "v.signature"
#define VERSION_FROM                                                                                         \
    " FROM model_versions v JOIN models m ON m.tenant_id = v.tenant_id AND m.id = v.model_id "

static int read_version(struct version *out, struct arena *a, const struct db_rows *r, int row, struct err *e)
{
    memset(out, 0, sizeof *out);
    db_copy(out->id, sizeof out->id, r, row, 0);
    db_copy(out->model, sizeof out->model, r, row, 1);
    out->number = db_int(r, row, 2);
    out->bytes = db_int(r, row, 3);
    db_copy(out->sha256, sizeof out->sha256, r, row, 4);
    out->memory_bytes = db_int(r, row, 5);
    db_copy(out->job_id, sizeof out->job_id, r, row, 6);
    out->created_at_us = db_int(r, row, 7);
    int rc = db_arena_text(&out->metrics, a, r, row, 8, e);
    return rc ? rc : db_arena_text(&out->signature, a, r, row, 9, e);
}

/* The number that the request means. */
static int resolve(struct db *db, const char *model, const char *alias, int64_t *number, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model);
    db_arg_str(&a, alias ? alias : "live");
    struct db_rows *r;
    int rc = db_exec(db,
                     "SELECT m.latest_version, (SELECT x.number FROM aliases x WHERE x.tenant_id = $1 AND "
                     "x.model_id = m.id "
                     "AND x.name = $3) FROM models m WHERE m.tenant_id = $1 AND m.name = $2",
                     &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_NOT_FOUND, "model", "there is no such model");
    else if (!db_is_null(r, 0, 1))
        *number = db_int(r, 0, 1);
    else if (!alias)
        *number = db_int(r, 0, 0);
    else
        rc = err_set(e, ERR_NOT_FOUND, "alias", "the model has no such alias");
    db_rows_free(r);
    return rc;
}

int version_find(struct db *db, const char *model, int64_t number, const char *alias, struct arena *ar,
                 struct version *out, struct err *e)
{
    int64_t resolved = number;
    int rc = resolve(db, model, number > 0 ? NULL : alias, &resolved, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model);
    db_arg_int(&a, number > 0 ? number : resolved);
    struct db_rows *r;
    rc = db_exec(
        db, "SELECT " VERSION_COLUMNS VERSION_FROM "WHERE v.tenant_id = $1 AND m.name = $2 AND v.number = $3",
        &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1)
        rc = read_version(out, ar, r, 0, e);
    else
        rc = err_set(e, ERR_NOT_FOUND, "version", "the model has no such version");
    db_rows_free(r);
    return rc;
}

int version_find_id(struct db *db, const char *version_id, struct arena *ar, struct version *out,
                    struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, version_id);
    struct db_rows *r;
    int rc =
        db_exec(db, "SELECT " VERSION_COLUMNS VERSION_FROM "WHERE v.tenant_id = $1 AND v.id = $2", &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1)
        rc = read_version(out, ar, r, 0, e);
    else
        rc = err_set(e, ERR_NOT_FOUND, "version", "there is no such version");
    db_rows_free(r);
    return rc;
}

int version_blob(struct db *db, const char *version_id, struct blob *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, version_id);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "SELECT b.sha256, b.bytes, b.file, encode(b.wrapped_key, 'hex') FROM model_versions v JOIN blobs b "
        "ON b.tenant_id = v.tenant_id AND b.sha256 = v.sha256 WHERE v.tenant_id = $1 AND v.id = $2",
        &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1)
        rc = blob__read(out, r, 0, 0, e);
    else
        rc = err_set(e, ERR_NOT_FOUND, "version", "there is no such version");
    db_rows_free(r);
    return rc;
}

int version_size(struct db *db, const char *tenant_id, const char *version_id, int64_t *bytes,
                 int64_t *memory_bytes, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_str(&a, version_id);
    struct db_rows *r;
    int rc = db_exec(db, "SELECT bytes, memory_bytes FROM model_versions WHERE tenant_id = $1 AND id = $2",
                     &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1) {
        *bytes = db_int(r, 0, 0);
        *memory_bytes = db_int(r, 0, 1);
    } else
        rc = err_set(e, ERR_NOT_FOUND, "version", "there is no such version");
    db_rows_free(r);
    return rc;
}

int version_list(struct db *db, const char *model, const struct page *p, struct arena *ar,
                 struct version_list *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    struct page_cut c;
    int64_t newest;
    int rc = page__cut(&c, p, "ver_", e);
    if (!rc) rc = resolve(db, model, NULL, &newest, e); /* tells a model without versions from none */
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, c.cursor);
    db_arg_int(&a, c.limit + 1);
    db_arg_str(&a, model);
    struct db_rows *r;
#define VERSION_LIST "SELECT " VERSION_COLUMNS VERSION_FROM "WHERE v.tenant_id = $1 AND m.name = $4"
    rc = c.reversed ? db_exec(db, VERSION_LIST PAGE_OLDEST("v.id"), &a, &r, e)
                    : db_exec(db, VERSION_LIST PAGE_NEWEST("v.id"), &a, &r, e);
    if (rc) return rc;
    int n = page__keep(&c, db_rows_count(r), &out->has_more);
    void *items;
    rc = page__items(&items, ar, n, sizeof *out->items, e);
    out->items = items;
    for (; !rc && out->n < n; out->n++)
        rc = read_version(&out->items[out->n], ar, r, page__row(&c, n, out->n), e);
    db_rows_free(r);
    return rc;
}
