/* Here what is on trial behind aliases is found for the scheduler, and trials end, once and with their
 * reason. */
#include "store/alias_watch.h"
#include "store/alias_internal.h"

#include <string.h>
#include "base/buf.h"
#include "base/json.h"
#include "store/audit.h"
#include "store/page.h"

/* Counts reach Redis a moment after the calls, and the scheduler a moment after that: a version that was
 * moved to is watched for so much longer than its window. */
#define AFTER "interval '3 seconds'"

void alias__read_limits(struct alias_limits *out, const struct db_rows *r, int row, int col)
{
    out->window_s = db_int(r, row, col);
    out->min_requests = db_int(r, row, col + 1);
    out->error_ppm = db_is_null(r, row, col + 2) ? -1 : db_int(r, row, col + 2);
    out->latency_us = db_is_null(r, row, col + 3) ? -1 : db_int(r, row, col + 3);
    out->disagreement_ppm = db_is_null(r, row, col + 4) ? -1 : db_int(r, row, col + 4);
}

static void arg_limit(struct db_args *a, bool set, int64_t v)
{
    if (set)
        db_arg_int(a, v);
    else
        db_arg_null(a);
}

void alias__arg_limits(struct db_args *a, const struct alias_limits *l)
{
    bool watched = l->window_s > 0;
    arg_limit(a, watched, l->window_s);
    arg_limit(a, watched, l->min_requests);
    arg_limit(a, watched && l->error_ppm >= 0, l->error_ppm);
    arg_limit(a, watched && l->latency_us >= 0, l->latency_us);
    arg_limit(a, watched && l->disagreement_ppm >= 0, l->disagreement_ppm);
}

enum {
    C_TENANT,
    C_MODEL_ID,
    C_MODEL,
    C_NAME,
    C_VERSION,
    C_CANARY,
    C_SHADOW,
    C_PREVIOUS,
    C_ETAG,
    C_AGE,
    C_LIMITS
};

static void read_watched(struct alias_watched *out, const struct db_rows *r, int row)
{
    db_copy(out->tenant_id, sizeof out->tenant_id, r, row, C_TENANT);
    db_copy(out->model_id, sizeof out->model_id, r, row, C_MODEL_ID);
    db_copy(out->model, sizeof out->model, r, row, C_MODEL);
    db_copy(out->name, sizeof out->name, r, row, C_NAME);
    out->version = db_int(r, row, C_VERSION);
    out->canary = db_int(r, row, C_CANARY);
    out->shadow = db_int(r, row, C_SHADOW);
    out->previous = db_int(r, row, C_PREVIOUS);
    out->etag = db_int(r, row, C_ETAG);
    out->age_ms = db_int(r, row, C_AGE);
    alias__read_limits(&out->limits, r, row, C_LIMITS);
}

int alias_watched(struct db *db, struct arena *ar, struct alias_watched **out, int *n, struct err *e)
{
    *out = NULL;
    *n = 0;
    struct db_rows *r;
#define MOVED_LATELY                                                                                         \
    "(x.previous IS NOT NULL AND x.moved_at + x.watch_window_s * interval '1 second' + " AFTER " > now())"
    int rc = db_exec(db,
                     "SELECT x.tenant_id, x.model_id, m.name, x.name, x.number, x.canary, x.shadow, "
                     "CASE WHEN " MOVED_LATELY " THEN x.previous END, x.etag, "
                     "greatest(0, (us(now()) - us(x.updated_at)) / 1000), " ALIAS_LIMIT_COLUMNS
                     " FROM aliases x JOIN models m ON m.tenant_id = x.tenant_id AND m.id = x.model_id "
                     "WHERE x.watch_window_s IS NOT NULL AND (x.canary IS NOT NULL OR x.shadow IS NOT NULL "
                     "OR " MOVED_LATELY ") ORDER BY x.tenant_id, x.model_id, x.name",
                     NULL, &r, e);
    if (rc) return rc;
    void *items = NULL;
    rc = page__items(&items, ar, db_rows_count(r), sizeof **out, e);
    *out = items;
    if (!rc)
        for (; *n < db_rows_count(r); ++*n) read_watched(&(*out)[*n], r, *n);
    db_rows_free(r);
    return rc;
}

int alias__end(struct db *db, const struct alias__end *end, bool *done, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, end->tenant_id);
    db_arg_str(&a, end->model_id);
    db_arg_str(&a, end->name);
    db_arg_int(&a, end->etag);
    db_arg_str(&a, end->arm);
    db_arg_str(&a, end->reason);
    db_arg_str(&a, end->message);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "UPDATE aliases SET number = CASE WHEN $5::text = 'primary' THEN previous ELSE number END, "
        "previous = CASE WHEN $5 <> 'primary' THEN previous END, "
        "moved_at = CASE WHEN $5 = 'primary' THEN now() ELSE moved_at END, "
        "canary = CASE WHEN $5 = 'shadow' THEN canary END, "
        "canary_ppm = CASE WHEN $5 = 'shadow' THEN canary_ppm END, "
        "shadow = CASE WHEN $5 = 'canary' THEN shadow END, "
        "shadow_ppm = CASE WHEN $5 = 'canary' THEN shadow_ppm END, "
        "shadow_tolerance = CASE WHEN $5 = 'canary' THEN shadow_tolerance END, "
        "ended = jsonb_build_object('at_us', us(now()), 'reason', $6::text, 'arm', $5, 'version', "
        "CASE $5 WHEN 'canary' THEN canary WHEN 'shadow' THEN shadow ELSE number END, 'message', $7::text), "
        "etag = etag + 1, updated_at = now() "
        "WHERE tenant_id = $1 AND model_id = $2 AND name = $3 AND etag = $4 "
        "AND CASE $5 WHEN 'canary' THEN canary WHEN 'shadow' THEN shadow ELSE previous END IS NOT NULL",
        &a, &r, e);
    if (rc) return rc;
    *done = db_rows_affected(r) == 1;
    db_rows_free(r);
    return 0;
}

static int audit_end(struct db *db, const struct alias_end *what, const struct actor *by, struct err *e)
{
    const struct alias_watched *x = what->alias;
    struct buf b = {0};
    struct json_writer w;
    bool primary = strcmp(what->arm, "primary") == 0;
    jw_init(&w, &b);
    jw_obj(&w);
    jw_kstr(&w, "model", x->model);
    jw_kstr(&w, "alias", x->name);
    jw_kint(&w, "version", primary ? x->previous : x->version);
    jw_kstr(&w, "arm", what->arm);
    jw_kint(&w, "ended_version",
            primary                            ? x->version
            : strcmp(what->arm, "canary") == 0 ? x->canary
                                               : x->shadow);
    jw_kstr(&w, "reason", what->reason);
    jw_kstr(&w, "message", what->message);
    jw_name(&w, "numbers");
    jw_raw(&w, what->numbers, strlen(what->numbers));
    jw_obj_end(&w);
    int rc = b.failed ? err_set(e, ERR_NOMEM, NULL, "out of memory")
                      : audit_append(db, x->tenant_id, "alias.rolled_back", by, x->model_id, b.data, e);
    buf_dispose(&b);
    return rc;
}

int alias_end(struct db *db, const struct alias_end *what, const struct actor *by, bool *done, struct err *e)
{
    const struct alias_watched *x = what->alias;
    struct alias__end end = {.tenant_id = x->tenant_id,
                             .model_id = x->model_id,
                             .name = x->name,
                             .arm = what->arm,
                             .reason = what->reason,
                             .message = what->message,
                             .etag = x->etag};
    int rc = alias__end(db, &end, done, e);
    if (rc || !*done) return rc;
    return audit_end(db, what, by, e);
}
