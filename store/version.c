/* Here versions are found in each way that a request may name them, sized for placement, listed and deleted.
 */
#include "store/version.h"
#include "store/blob_internal.h"

#include <string.h>
#include "store/audit.h"
#include "store/page.h"

/* Whether version v of model m answers calls. */
#define VERSION_SERVED                                                                                       \
    "((CASE WHEN m.policy_latest IS NOT NULL THEN v.number >= coalesce((SELECT n.number FROM "               \
    "model_versions n WHERE n.tenant_id = v.tenant_id AND n.model_id = v.model_id AND n.deleted_at IS NULL " \
    "ORDER BY n.number DESC OFFSET m.policy_latest - 1 LIMIT 1), 0) "                                        \
    "WHEN m.policy_versions IS NOT NULL THEN v.number = ANY (m.policy_versions) ELSE true END) "             \
    "OR EXISTS (SELECT FROM aliases s WHERE s.tenant_id = v.tenant_id AND s.model_id = v.model_id AND "      \
    "v.number IN (s.number, s.previous, s.canary, s.shadow)))"
#define VERSION_COLUMNS                                                                                      \
    "v.id, m.name, v.number, v.bytes, v.sha256, v.memory_bytes, v.job_id, us(v.created_at), v.metrics, "     \
    "v.signature, " VERSION_SERVED ", coalesce(m.max_batch_rows, 0), coalesce(m.max_queue_delay_us, -1)"
#define VERSION_FROM                                                                                         \
    " FROM model_versions v JOIN models m ON m.tenant_id = v.tenant_id AND m.id = v.model_id AND "           \
    "v.deleted_at IS NULL "

static int read_version(void *item, struct arena *a, const struct db_rows *r, int row, struct err *e)
{
    struct version *out = item;
    memset(out, 0, sizeof *out);
    db_copy(out->id, sizeof out->id, r, row, 0);
    db_copy(out->model, sizeof out->model, r, row, 1);
    out->number = db_int(r, row, 2);
    out->bytes = db_int(r, row, 3);
    db_copy(out->sha256, sizeof out->sha256, r, row, 4);
    out->memory_bytes = db_int(r, row, 5);
    db_copy(out->job_id, sizeof out->job_id, r, row, 6);
    out->created_at_us = db_int(r, row, 7);
    out->served = db_bool(r, row, 10);
    out->batching.max_batch_rows = db_int(r, row, 11);
    out->batching.max_queue_delay_us = db_int(r, row, 12);
    int rc = db_arena_text(&out->metrics, a, r, row, 8, e);
    return rc ? rc : db_arena_text(&out->signature, a, r, row, 9, e);
}

int version_require_served(const struct version *v, struct err *e)
{
    if (v->served) return 0;
    return err_set(
        e, ERR_NOT_FOUND, "version_policy",
        "version %lld is not served: the model's version_policy leaves it out, and no alias points "
        "at it; PATCH the model to serve it again",
        (long long)v->number);
}

/* The number that the request means. */
static int resolve(struct db *db, const char *model, const char *alias, int64_t *number, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model);
    db_arg_str(&a, alias ? alias : "live");
    db_arg_bool(&a, alias == NULL);
    struct db_rows *r;
    int rc = db_exec(db,
                     "SELECT coalesce((SELECT x.number FROM aliases x WHERE x.tenant_id = $1 AND "
                     "x.model_id = m.id AND x.name = $3), CASE WHEN $4 THEN (SELECT v.number FROM "
                     "model_versions v WHERE v.tenant_id = $1 AND v.model_id = m.id AND v.deleted_at IS NULL "
                     "AND " VERSION_SERVED " ORDER BY v.number DESC LIMIT 1) END) "
                     "FROM models m WHERE m.tenant_id = $1 AND m.name = $2",
                     &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_NOT_FOUND, "model", "there is no such model");
    else if (!db_is_null(r, 0, 0))
        *number = db_int(r, 0, 0);
    else if (alias)
        rc = err_set(e, ERR_NOT_FOUND, "alias", "the model has no such alias");
    else
        rc = err_set(e, ERR_NOT_FOUND, "version_policy",
                     "the model's version_policy serves no version that it has; PATCH the model");
    db_rows_free(r);
    return rc;
}

/* Its id. ERR_NOT_FOUND: field "model". */
static int find_model(struct db *db, const char *model, char id[ID_MAX], struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model);
    struct db_rows *r;
    int rc = db_exec(db, "SELECT id FROM models WHERE tenant_id = $1 AND name = $2", &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_NOT_FOUND, "model", "there is no such model");
    else
        db_copy(id, ID_MAX, r, 0, 0);
    db_rows_free(r);
    return rc;
}

int version_find(struct db *db, const char *model, int64_t number, const char *alias, struct arena *ar,
                 struct version *out, struct err *e)
{
    int64_t resolved = number;
    char model_id[ID_MAX];
    int rc = number > 0 ? find_model(db, model, model_id, e) : resolve(db, model, alias, &resolved, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model);
    db_arg_int(&a, resolved);
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
    int rc = db_exec(db,
                     "SELECT bytes, memory_bytes FROM model_versions WHERE tenant_id = $1 AND id = $2 "
                     "AND deleted_at IS NULL",
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
    struct db_args a = {0};
    char model_id[ID_MAX];
    int rc = page__open(&c, &a, p, "ver_", db_tenant(db), e);
    if (!rc) rc = find_model(db, model, model_id, e); /* tells a model without versions from none */
    if (rc) return rc;
    db_arg_str(&a, model);
    struct db_rows *r;
#define VERSION_LIST "SELECT " VERSION_COLUMNS VERSION_FROM "WHERE v.tenant_id = $1 AND m.name = $4"
    rc = c.reversed ? db_exec(db, VERSION_LIST PAGE_OLDEST("v.id"), &a, &r, e)
                    : db_exec(db, VERSION_LIST PAGE_NEWEST("v.id"), &a, &r, e);
    if (rc) return rc;
    struct page_items got;
    rc = page__read(&got, &c, r, ar, sizeof *out->items, read_version, e);
    *out = (struct version_list){got.items, got.n, got.has_more};
    return rc;
}

/* ---- deleting ---- */

/* Takes the model's row, as alias changes do: none of them comes between this look and the deletion. */
static int lock_version(struct db *db, const char *model_id, int64_t number, char id[ID_MAX], struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model_id);
    db_arg_int(&a, number);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "SELECT v.id FROM models m JOIN model_versions v ON v.tenant_id = m.tenant_id AND v.model_id = "
        "m.id WHERE m.tenant_id = $1 AND m.id = $2 AND v.number = $3 AND v.deleted_at IS NULL "
        "FOR UPDATE",
        &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_NOT_FOUND, "version", "the model has no such version");
    else
        db_copy(id, ID_MAX, r, 0, 0);
    db_rows_free(r);
    return rc;
}

static int refuse_if_used(struct db *db, const char *model_id, int64_t number, const char *id, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model_id);
    db_arg_int(&a, number);
    db_arg_str(&a, id);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "SELECT (SELECT min(x.name) FROM aliases x WHERE x.tenant_id = $1 AND x.model_id = $2 AND "
        "$3::bigint IN (x.number, x.previous, x.canary, x.shadow)), (SELECT min(j.id) FROM jobs j WHERE "
        "j.tenant_id = $1 AND j.version_id = $4 AND j.finished_at IS NULL), EXISTS (SELECT FROM models m "
        "WHERE "
        "m.tenant_id = $1 AND m.id = $2 AND $3::bigint = ANY (m.policy_versions))",
        &a, &r, e);
    if (rc) return rc;
    if (!db_is_null(r, 0, 0))
        rc = err_set(e, ERR_CONFLICT, "version",
                     "the alias %s points at version %lld, or would go back to it; move the alias first",
                     db_text(r, 0, 0), (long long)number);
    else if (!db_is_null(r, 0, 1))
        rc = err_set(e, ERR_CONFLICT, "version",
                     "the job %s reads version %lld; wait until it has ended, or cancel it", db_text(r, 0, 1),
                     (long long)number);
    else if (db_bool(r, 0, 2))
        rc = err_set(e, ERR_CONFLICT, "version",
                     "the model's version_policy names version %lld; PATCH the model first",
                     (long long)number);
    db_rows_free(r);
    return rc;
}

static int audit_delete(struct db *db, const struct actor *by, const char *model, int64_t number,
                        const char *id, struct err *e)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    jw_obj(&w);
    jw_kstr(&w, "model", model);
    jw_kint(&w, "version", number);
    jw_obj_end(&w);
    int rc = b.failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the audit row")
                      : audit_append(db, NULL, "version.deleted", by, id, b.data, e);
    buf_dispose(&b);
    return rc;
}

int version_delete(struct db *db, const char *model, int64_t number, const struct actor *by, char id[ID_MAX],
                   struct err *e)
{
    char model_id[ID_MAX];
    int rc = find_model(db, model, model_id, e);
    if (!rc) rc = lock_version(db, model_id, number, id, e);
    if (!rc) rc = refuse_if_used(db, model_id, number, id, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    rc = db_exec(
        db, "UPDATE model_versions SET deleted_at = now(), sha256 = NULL WHERE tenant_id = $1 AND id = $2",
        &a, NULL, e);
    return rc ? rc : audit_delete(db, by, model, number, id, e);
}
