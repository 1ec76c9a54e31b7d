/* Here aliases are set, with a check against lost updates, and listed. */
#include "store/alias.h"
#include "store/audit.h"

#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/json.h"
#include "store/page.h"

#define ALIAS_COLUMNS "x.name, m.name, x.number, x.etag, us(x.updated_at), x.previous, x.canary, x.canary_ppm"

static void read_alias(struct alias *out, const struct db_rows *r, int row)
{
    memset(out, 0, sizeof *out);
    db_copy(out->name, sizeof out->name, r, row, 0);
    db_copy(out->model, sizeof out->model, r, row, 1);
    out->version = db_int(r, row, 2);
    out->etag = db_int(r, row, 3);
    out->updated_at_us = db_int(r, row, 4);
    out->previous = db_is_null(r, row, 5) ? 0 : db_int(r, row, 5);
    out->canary = db_is_null(r, row, 6) ? 0 : db_int(r, row, 6);
    out->canary_ppm = db_is_null(r, row, 7) ? 0 : db_int(r, row, 7);
}

/* The model's row is locked: alias changes of one model go one by one. ERR_NOT_FOUND: field "model". */
static int lock_model(struct db *db, const char *model, char model_id[ID_MAX], struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model);
    struct db_rows *r;
    int rc = db_exec(db, "SELECT id FROM models WHERE tenant_id = $1 AND name = $2 FOR UPDATE", &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_NOT_FOUND, "model", "there is no such model");
    else
        db_copy(model_id, ID_MAX, r, 0, 0);
    db_rows_free(r);
    return rc;
}

static int require_version(struct db *db, const char *model_id, int64_t version, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model_id);
    db_arg_int(&a, version);
    struct db_rows *r;
    int rc = db_exec(db, "SELECT FROM model_versions WHERE tenant_id = $1 AND model_id = $2 AND number = $3",
                     &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_NOT_FOUND, "version", "the model has no version %lld", (long long)version);
    db_rows_free(r);
    return rc;
}

int alias_find(struct db *db, const char *model, const char *alias, struct alias *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model);
    db_arg_str(&a, alias);
    struct db_rows *r;
    int rc =
        db_exec(db,
                "SELECT " ALIAS_COLUMNS " FROM models m LEFT JOIN aliases x ON x.tenant_id = m.tenant_id AND "
                "x.model_id = m.id AND x.name = $3 WHERE m.tenant_id = $1 AND m.name = $2",
                &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_NOT_FOUND, "model", "there is no such model");
    else if (db_is_null(r, 0, 0))
        rc = err_set(e, ERR_NOT_FOUND, "alias", "the model has no such alias");
    else
        read_alias(out, r, 0);
    db_rows_free(r);
    return rc;
}

/* What it pointed at is remembered when the version changes, and stays remembered when only the canary does.
 */
static int put_alias(struct db *db, const char *model_id, const char *alias, const struct alias_target *to,
                     struct alias *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model_id);
    db_arg_str(&a, alias);
    db_arg_int(&a, to->version);
    db_arg_int(&a, to->canary);
    db_arg_int(&a, to->canary_ppm);
    struct db_rows *r;
    int rc = db_exec(db,
                     "WITH x AS (INSERT INTO aliases (tenant_id, model_id, name, number, canary, canary_ppm) "
                     "VALUES ($1, $2, $3, $4, nullif($5::bigint, 0), nullif($6::integer, 0)) "
                     "ON CONFLICT (tenant_id, model_id, name) DO UPDATE SET number = excluded.number, "
                     "previous = CASE WHEN aliases.number = excluded.number THEN aliases.previous ELSE "
                     "aliases.number END, "
                     "canary = excluded.canary, canary_ppm = excluded.canary_ppm, "
                     "etag = aliases.etag + 1, updated_at = now() RETURNING *) "
                     "SELECT " ALIAS_COLUMNS
                     " FROM x JOIN models m ON m.tenant_id = x.tenant_id AND m.id = x.model_id",
                     &a, &r, e);
    if (rc) return rc;
    read_alias(out, r, 0);
    db_rows_free(r);
    return 0;
}

static int go_back(struct db *db, const char *model_id, const char *alias, int64_t version,
                   bool keep_previous, struct alias *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model_id);
    db_arg_str(&a, alias);
    db_arg_int(&a, version);
    db_arg_bool(&a, keep_previous);
    struct db_rows *r;
    int rc = db_exec(db,
                     "WITH x AS (UPDATE aliases SET number = $4, previous = CASE WHEN $5 THEN previous END, "
                     "canary = NULL, "
                     "canary_ppm = NULL, etag = etag + 1, updated_at = now() "
                     "WHERE tenant_id = $1 AND model_id = $2 AND name = $3 RETURNING *) "
                     "SELECT " ALIAS_COLUMNS
                     " FROM x JOIN models m ON m.tenant_id = x.tenant_id AND m.id = x.model_id",
                     &a, &r, e);
    if (rc) return rc;
    read_alias(out, r, 0);
    db_rows_free(r);
    return 0;
}

static int audit_alias(struct db *db, const char *action, const struct actor *by, const struct alias *al,
                       const char *model_id, struct err *e)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    jw_obj(&w);
    jw_kstr(&w, "model", al->model);
    jw_kstr(&w, "alias", al->name);
    jw_kint(&w, "version", al->version);
    if (al->canary) {
        jw_kint(&w, "canary", al->canary);
        jw_kint(&w, "canary_ppm", al->canary_ppm);
    }
    jw_obj_end(&w);
    int rc = b.failed ? err_set(e, ERR_NOMEM, NULL, "out of memory")
                      : audit_append(db, NULL, action, by, model_id, b.data, e);
    buf_dispose(&b);
    return rc;
}

static int check_target(const char *alias, const struct alias_target *to, struct err *e)
{
    if (!id_name_valid(alias))
        return err_set(e, ERR_INVALID, "alias",
                       "an alias has 1 to 64 characters of a-z 0-9 . _ - and starts with a letter or digit");
    if (to->canary && to->canary == to->version)
        return err_set(e, ERR_INVALID, "canary.version", "a canary is another version than the alias's own");
    return 0;
}

static int check_etag(int64_t expected, int64_t now, struct err *e)
{
    if (expected < 0 || expected == now) return 0;
    return err_set(e, ERR_CONFLICT, "etag",
                   "the alias was changed meanwhile (etag %lld, not %lld); read it again", (long long)now,
                   (long long)expected);
}

int alias_set(struct db *db, const char *model, const char *alias, const struct alias_target *to,
              int64_t expected_etag, const struct actor *by, struct alias *out, struct err *e)
{
    char model_id[ID_MAX];
    struct alias now = {0};
    int rc = check_target(alias, to, e);
    if (!rc) rc = lock_model(db, model, model_id, e);
    if (!rc) rc = require_version(db, model_id, to->version, e);
    if (!rc && to->canary) rc = require_version(db, model_id, to->canary, e);
    if (!rc && alias_find(db, model, alias, &now, e) == ERR_NOT_FOUND) now.etag = 0;
    if (!rc) rc = check_etag(expected_etag, now.etag, e);
    if (!rc) rc = put_alias(db, model_id, alias, to, out, e);
    return rc ? rc : audit_alias(db, "alias.set", by, out, model_id, e);
}

int alias_roll_back(struct db *db, const char *model, const char *alias, int64_t expected_etag,
                    const struct actor *by, struct alias *out, struct err *e)
{
    char model_id[ID_MAX];
    struct alias now = {0};
    int rc = lock_model(db, model, model_id, e);
    if (!rc) rc = alias_find(db, model, alias, &now, e);
    if (!rc) rc = check_etag(expected_etag, now.etag, e);
    if (!rc && !now.canary && !now.previous)
        rc = err_set(e, ERR_CONFLICT, "alias",
                     "the alias has pointed at no other version since it was made or "
                     "rolled back");
    if (!rc)
        rc = go_back(db, model_id, alias, now.canary ? now.version : now.previous, now.canary != 0, out, e);
    return rc ? rc : audit_alias(db, "alias.rolled_back", by, out, model_id, e);
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
