/* Here aliases are set, with a check against lost updates, and listed. */
#include "store/alias.h"
#include "store/alias_internal.h"
#include "store/audit.h"

#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/json.h"
#include "base/num.h"
#include "store/page.h"

#define ALIAS_COLUMNS                                                                                        \
    "x.name, m.name, x.number, x.etag, us(x.updated_at), x.previous, x.canary, x.canary_ppm, x.shadow, "     \
    "x.shadow_ppm, x.shadow_tolerance, x.ended->>'at_us', x.ended->>'reason', x.ended->>'arm', "             \
    "x.ended->>'version', x.ended->>'message', " ALIAS_LIMIT_COLUMNS
enum {
    C_NAME,
    C_MODEL,
    C_VERSION,
    C_ETAG,
    C_UPDATED,
    C_PREVIOUS,
    C_CANARY,
    C_CANARY_PPM,
    C_SHADOW,
    C_SHADOW_PPM,
    C_TOLERANCE,
    C_ENDED_AT,
    C_ENDED_REASON,
    C_ENDED_ARM,
    C_ENDED_VERSION,
    C_ENDED_MESSAGE,
    C_LIMITS
};

static double read_double(const struct db_rows *r, int row, int col)
{
    const char *text = db_text(r, row, col);
    double v = 0;
    num_scan(text, text + strlen(text), &v);
    return v;
}

static void read_ended(struct alias_ended *out, const struct db_rows *r, int row)
{
    out->at_us = db_int(r, row, C_ENDED_AT);
    db_copy(out->reason, sizeof out->reason, r, row, C_ENDED_REASON);
    db_copy(out->arm, sizeof out->arm, r, row, C_ENDED_ARM);
    out->version = db_int(r, row, C_ENDED_VERSION);
    db_copy(out->message, sizeof out->message, r, row, C_ENDED_MESSAGE);
}

static void read_alias(struct alias *out, const struct db_rows *r, int row)
{
    memset(out, 0, sizeof *out);
    db_copy(out->name, sizeof out->name, r, row, C_NAME);
    db_copy(out->model, sizeof out->model, r, row, C_MODEL);
    out->version = db_int(r, row, C_VERSION);
    out->etag = db_int(r, row, C_ETAG);
    out->updated_at_us = db_int(r, row, C_UPDATED);
    out->previous = db_int(r, row, C_PREVIOUS);
    out->canary = db_int(r, row, C_CANARY);
    out->canary_ppm = db_int(r, row, C_CANARY_PPM);
    out->shadow = db_int(r, row, C_SHADOW);
    out->shadow_ppm = db_int(r, row, C_SHADOW_PPM);
    if (out->shadow) out->shadow_tolerance = read_double(r, row, C_TOLERANCE);
    read_ended(&out->ended, r, row);
    alias__read_limits(&out->limits, r, row, C_LIMITS);
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
    int rc = db_exec(db,
                     "SELECT FROM model_versions WHERE tenant_id = $1 AND model_id = $2 AND number = $3 AND "
                     "deleted_at IS NULL",
                     &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_NOT_FOUND, "version", "the model has no version %lld", (long long)version);
    db_rows_free(r);
    return rc;
}

/* A call is decoded once and its answer has one shape, whichever version gets it: names and datatypes must be
 * the same, and the inputs' shapes; the outputs' shapes may differ, as a new class makes them. */
static int require_fit(struct db *db, const char *model_id, int64_t version, int64_t other, const char *field,
                       struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model_id);
    db_arg_int(&a, version);
    db_arg_int(&a, other);
    struct db_rows *r;
#define OUTPUTS(of, what) "jsonb_path_query_array(" of ".signature::jsonb, '$.outputs[*]." what "')"
    int rc = db_exec(
        db,
        "SELECT a.signature::jsonb->'inputs' = b.signature::jsonb->'inputs', " OUTPUTS(
            "a",
            "name") " = " OUTPUTS("b",
                                  "name") " AND " OUTPUTS("a",
                                                          "datatype") " = " OUTPUTS("b",
                                                                                    "datatype") " FROM "
                                                                                                "model_"
                                                                                                "versions a, "
                                                                                                "model_"
                                                                                                "versions b "
                                                                                                "WHERE "
                                                                                                "a.tenant_id "
                                                                                                "= $1 AND "
                                                                                                "b.tenant_id "
                                                                                                "= $1 AND "
                                                                                                "a.model_id "
                                                                                                "= $2 AND "
                                                                                                "b.model_id "
                                                                                                "= $2 "
                                                                                                "AND "
                                                                                                "a.number = "
                                                                                                "$3 AND "
                                                                                                "b.number = "
                                                                                                "$4",
        &a, &r, e);
    if (rc) return rc;
    bool found = db_rows_count(r) == 1, inputs = found && db_bool(r, 0, 0),
         outputs = found && db_bool(r, 0, 1);
    db_rows_free(r);
    if (inputs && outputs) return 0;
    return err_set(
        e, ERR_INVALID, field,
        "version %lld has other %s than version %lld: the same calls must fit both; move the alias "
        "itself, or give this version an alias of its own",
        (long long)other, inputs ? "outputs" : "inputs", (long long)version);
}

static int require_trial(struct db *db, const char *model_id, int64_t version, int64_t other,
                         const char *field, struct err *e)
{
    if (!other) return 0;
    int rc = require_version(db, model_id, other, e);
    return rc ? rc : require_fit(db, model_id, version, other, field, e);
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

/* What it pointed at is remembered when the version changes, and stays remembered when only the rest does. */
static int put_alias(struct db *db, const char *model_id, const char *alias, const struct alias_target *to,
                     struct err *e)
{
    struct db_args a = {0};
    char tolerance[32];
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model_id);
    db_arg_str(&a, alias);
    db_arg_int(&a, to->version);
    db_arg_int(&a, to->canary);
    db_arg_int(&a, to->canary_ppm);
    db_arg_int(&a, to->shadow);
    db_arg_int(&a, to->shadow_ppm);
    snprintf(tolerance, sizeof tolerance, "%.17g", to->shadow_tolerance);
    db_arg_opt(&a, to->shadow ? tolerance : NULL);
    alias__arg_limits(&a, &to->limits);
    return db_exec(
        db,
        "INSERT INTO aliases (tenant_id, model_id, name, number, canary, canary_ppm, shadow, "
        "shadow_ppm, shadow_tolerance, watch_window_s, watch_min_requests, watch_error_ppm, "
        "watch_latency_us, watch_disagreement_ppm) "
        "VALUES ($1, $2, $3, $4, nullif($5::bigint, 0), nullif($6::integer, 0), "
        "nullif($7::bigint, 0), nullif($8::integer, 0), $9, $10, $11, $12, $13, $14) "
        "ON CONFLICT (tenant_id, model_id, name) DO UPDATE SET number = excluded.number, "
        "previous = CASE WHEN aliases.number = excluded.number THEN aliases.previous ELSE "
        "aliases.number END, "
        "moved_at = CASE WHEN aliases.number = excluded.number THEN aliases.moved_at ELSE now() END, "
        "canary = excluded.canary, canary_ppm = excluded.canary_ppm, shadow = excluded.shadow, "
        "shadow_ppm = excluded.shadow_ppm, shadow_tolerance = excluded.shadow_tolerance, "
        "watch_window_s = excluded.watch_window_s, watch_min_requests = excluded.watch_min_requests, "
        "watch_error_ppm = excluded.watch_error_ppm, watch_latency_us = excluded.watch_latency_us, "
        "watch_disagreement_ppm = excluded.watch_disagreement_ppm, "
        "etag = aliases.etag + 1, updated_at = now()",
        &a, NULL, e);
}

static void audit_limits(struct json_writer *w, const struct alias_limits *l)
{
    jw_name(w, "rollback_on");
    jw_obj(w);
    if (l->error_ppm >= 0) jw_kint(w, "error_ppm", l->error_ppm);
    if (l->latency_us >= 0) jw_kint(w, "latency_us", l->latency_us);
    if (l->disagreement_ppm >= 0) jw_kint(w, "disagreement_ppm", l->disagreement_ppm);
    jw_kint(w, "min_requests", l->min_requests);
    jw_kint(w, "window_seconds", l->window_s);
    jw_obj_end(w);
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
    if (al->shadow) {
        jw_kint(&w, "shadow", al->shadow);
        jw_kint(&w, "shadow_ppm", al->shadow_ppm);
    }
    if (al->limits.window_s) audit_limits(&w, &al->limits);
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
    if (to->shadow && to->shadow == to->version)
        return err_set(e, ERR_INVALID, "shadow.version", "a shadow is another version than the alias's own");
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
    if (!rc) rc = require_trial(db, model_id, to->version, to->canary, "canary.version", e);
    if (!rc) rc = require_trial(db, model_id, to->version, to->shadow, "shadow.version", e);
    if (!rc && alias_find(db, model, alias, &now, e) == ERR_NOT_FOUND) now.etag = 0;
    if (!rc) rc = check_etag(expected_etag, now.etag, e);
    if (!rc) rc = put_alias(db, model_id, alias, to, e);
    if (!rc) rc = alias_find(db, model, alias, out, e);
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
    struct alias__end end = {.tenant_id = db_tenant(db),
                             .model_id = model_id,
                             .name = alias,
                             .arm = now.canary ? "canary" : "primary",
                             .reason = "requested",
                             .message = "somebody asked for it",
                             .etag = now.etag};
    bool done = false;
    if (!rc) rc = alias__end(db, &end, &done, e);
    if (!rc && !done) rc = check_etag(now.etag, now.etag + 1, e); /* the scheduler took it back just now */
    if (!rc) rc = alias_find(db, model, alias, out, e);
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
