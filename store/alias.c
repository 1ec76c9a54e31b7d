/* Here aliases are set, with a check against lost updates, and listed. */
#include "store/alias.h"
#include "store/audit.h"

#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/json.h"
#include "store/page.h"

#define ALIAS_COLUMNS "x.name, m.name, x.number, x.etag, us(x.updated_at)"

static void read_alias(struct alias *out, const struct db_rows *r, int row)
{
    memset(out, 0, sizeof *out);
    db_copy(out->name, sizeof out->name, r, row, 0);
    db_copy(out->model, sizeof out->model, r, row, 1);
    out->version = db_int(r, row, 2);
    out->etag = db_int(r, row, 3);
    out->updated_at_us = db_int(r, row, 4);
}

/* ERR_NOT_FOUND with field "model" or "version". The model's row is locked: alias changes of one model go one
 * by one. */
static int lock_target(struct db *db, const char *model, int64_t version, char model_id[ID_MAX],
                       struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model);
    db_arg_int(&a, version);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "SELECT m.id, EXISTS (SELECT FROM model_versions v WHERE v.tenant_id = $1 AND v.model_id = m.id AND "
        "v.number = $3) FROM models m WHERE m.tenant_id = $1 AND m.name = $2 FOR UPDATE",
        &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_NOT_FOUND, "model", "there is no such model");
    else if (!db_bool(r, 0, 1))
        rc = err_set(e, ERR_NOT_FOUND, "version", "the model has no version %lld", (long long)version);
    else
        db_copy(model_id, ID_MAX, r, 0, 0);
    db_rows_free(r);
    return rc;
}

/* The alias as it is now; its etag, or 0 when there is none. */
static int load_etag(struct db *db, const char *model_id, const char *alias, int64_t *etag, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model_id);
    db_arg_str(&a, alias);
    struct db_rows *r;
    int rc = db_exec(db, "SELECT etag FROM aliases WHERE tenant_id = $1 AND model_id = $2 AND name = $3", &a,
                     &r, e);
    if (rc) return rc;
    *etag = db_rows_count(r) == 1 ? db_int(r, 0, 0) : 0;
    db_rows_free(r);
    return 0;
}

static int put_alias(struct db *db, const char *model_id, const char *alias, int64_t version,
                     struct alias *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model_id);
    db_arg_str(&a, alias);
    db_arg_int(&a, version);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "WITH x AS (INSERT INTO aliases (tenant_id, model_id, name, number) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (tenant_id, model_id, name) DO UPDATE SET number = excluded.number, "
        "etag = aliases.etag + 1, updated_at = now() RETURNING *) "
        "SELECT " ALIAS_COLUMNS " FROM x JOIN models m ON m.tenant_id = x.tenant_id AND m.id = x.model_id",
        &a, &r, e);
    if (rc) return rc;
    read_alias(out, r, 0);
    db_rows_free(r);
    return 0;
}

static int audit_alias(struct db *db, const struct actor *by, const struct alias *al, const char *model_id,
                       struct err *e)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    jw_obj(&w);
    jw_kstr(&w, "model", al->model);
    jw_kstr(&w, "alias", al->name);
    jw_kint(&w, "version", al->version);
    jw_obj_end(&w);
    int rc = b.failed ? err_set(e, ERR_NOMEM, NULL, "out of memory")
                      : audit_append(db, NULL, "alias.set", by, model_id, b.data, e);
    buf_dispose(&b);
    return rc;
}

int alias_set(struct db *db, const char *model, const char *alias, int64_t version, int64_t expected_etag,
              const struct actor *by, struct alias *out, struct err *e)
{
    if (!id_name_valid(alias))
        return err_set(e, ERR_INVALID, "alias",
                       "an alias has 1 to 64 characters of a-z 0-9 . _ - and starts with a letter or digit");
    char model_id[ID_MAX];
    int64_t etag;
    int rc = lock_target(db, model, version, model_id, e);
    if (!rc) rc = load_etag(db, model_id, alias, &etag, e);
    if (rc) return rc;
    if (expected_etag >= 0 && expected_etag != etag)
        return err_set(e, ERR_CONFLICT, "etag",
                       "the alias was changed meanwhile (etag %lld, not %lld); read it again",
                       (long long)etag, (long long)expected_etag);
    rc = put_alias(db, model_id, alias, version, out, e);
    return rc ? rc : audit_alias(db, by, out, model_id, e);
}

int alias_list(struct db *db, const char *model, struct arena *ar, struct alias **out, int *n, struct err *e)
{
    *out = NULL;
    *n = 0;
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model);
    struct db_rows *r;
    /* The model itself comes first, as a row without an alias: none of them differs from no model. */
    int rc =
        db_exec(db,
                "SELECT " ALIAS_COLUMNS " FROM models m LEFT JOIN aliases x ON x.tenant_id = m.tenant_id AND "
                "x.model_id = m.id WHERE m.tenant_id = $1 AND m.name = $2 ORDER BY x.name",
                &a, &r, e);
    if (rc) return rc;
    void *items = NULL;
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_NOT_FOUND, "model", "there is no such model");
    else
        rc = page__items(&items, ar, db_rows_count(r), sizeof **out, e);
    *out = items;
    if (!rc && !db_is_null(r, 0, 0))
        for (; *n < db_rows_count(r); ++*n) read_alias(&(*out)[*n], r, *n);
    db_rows_free(r);
    return rc;
}
