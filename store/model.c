/* Here models are found and listed, each with its aliases, and their settings are changed. */
#include "store/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "store/alias.h"
#include "store/audit.h"
#include "store/page.h"

#define MODEL_COLUMNS                                                                                        \
    "m.id, m.name, (SELECT coalesce(max(v.number), 0) FROM model_versions v WHERE v.tenant_id = "            \
    "m.tenant_id "                                                                                           \
    "AND v.model_id = m.id AND v.deleted_at IS NULL), us(m.created_at), m.etag, "                            \
    "coalesce(m.max_batch_rows, 0), coalesce(m.max_queue_delay_us, -1), coalesce(m.policy_latest, 0), "      \
    "array_to_string(m.policy_versions, ',')"

static void read_policy(struct version_policy *out, int64_t latest, const char *versions)
{
    memset(out, 0, sizeof *out);
    if (latest) {
        out->kind = VERSIONS_LATEST;
        out->num_versions = latest;
    }
    if (!*versions) return;
    out->kind = VERSIONS_SPECIFIC;
    for (char *end; *versions && out->n_versions < MODEL_POLICY_VERSIONS_MAX; versions = end + (*end == ','))
        out->versions[out->n_versions++] = strtoll(versions, &end, 10);
}

static int read_model(void *item, struct arena *a, const struct db_rows *r, int row, struct err *e)
{
    (void)a, (void)e;
    struct model *out = item;
    memset(out, 0, sizeof *out);
    db_copy(out->id, sizeof out->id, r, row, 0);
    db_copy(out->name, sizeof out->name, r, row, 1);
    out->latest_version = db_int(r, row, 2);
    out->created_at_us = db_int(r, row, 3);
    out->etag = db_int(r, row, 4);
    out->settings.batching.max_batch_rows = db_int(r, row, 5);
    out->settings.batching.max_queue_delay_us = db_int(r, row, 6);
    read_policy(&out->settings.policy, db_int(r, row, 7), db_text(r, row, 8));
    return 0;
}

/* The one row found, with its aliases. */
static int take_model(struct db *db, struct db_rows *r, struct arena *ar, struct model *out, struct err *e)
{
    int rc = db_rows_count(r) == 1 ? read_model(out, ar, r, 0, e)
                                   : err_set(e, ERR_NOT_FOUND, "model", "there is no such model");
    db_rows_free(r);
    return rc ? rc : alias_list(db, out->name, ar, &out->aliases, &out->n_aliases, e);
}

#define MODEL_BY_NAME "SELECT " MODEL_COLUMNS " FROM models m WHERE m.tenant_id = $1 AND m.name = $2"

int model_find(struct db *db, const char *name, struct arena *ar, struct model *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, name);
    struct db_rows *r;
    int rc = db_exec(db, MODEL_BY_NAME, &a, &r, e);
    return rc ? rc : take_model(db, r, ar, out, e);
}

int model_lock(struct db *db, const char *name, struct arena *ar, struct model *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, name);
    struct db_rows *r;
    int rc = db_exec(db, MODEL_BY_NAME " FOR UPDATE OF m", &a, &r, e);
    return rc ? rc : take_model(db, r, ar, out, e);
}

int model_list(struct db *db, const struct page *p, struct arena *ar, struct model_list *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    struct page_cut c;
    struct db_args a = {0};
    int rc = page__open(&c, &a, p, "mdl_", db_tenant(db), e);
    if (rc) return rc;
    struct db_rows *r;
#define MODEL_LIST "SELECT " MODEL_COLUMNS " FROM models m WHERE m.tenant_id = $1"
    rc = c.reversed ? db_exec(db, MODEL_LIST PAGE_OLDEST("m.id"), &a, &r, e)
                    : db_exec(db, MODEL_LIST PAGE_NEWEST("m.id"), &a, &r, e);
    if (rc) return rc;
    struct page_items got;
    rc = page__read(&got, &c, r, ar, sizeof *out->items, read_model, e);
    *out = (struct model_list){got.items, got.n, got.has_more};
    for (struct model *m = out->items; !rc && m < out->items + out->n; m++)
        rc = alias_list(db, m->name, ar, &m->aliases, &m->n_aliases, e);
    return rc;
}

/* ---- settings ---- */

static void write_batching(struct json_writer *w, const struct model_batching *b)
{
    jw_name(w, "batching");
    jw_obj(w);
    jw_name(w, "max_batch_rows");
    if (b->max_batch_rows)
        jw_int(w, b->max_batch_rows);
    else
        jw_null(w);
    jw_name(w, "max_queue_delay_us");
    if (b->max_queue_delay_us >= 0)
        jw_int(w, b->max_queue_delay_us);
    else
        jw_null(w);
    jw_obj_end(w);
}

void model_settings_write(struct json_writer *w, const struct model_settings *s)
{
    static const char *const names[] = {
        [VERSIONS_ALL] = "all", [VERSIONS_LATEST] = "latest", [VERSIONS_SPECIFIC] = "specific"};
    const struct version_policy *p = &s->policy;
    write_batching(w, &s->batching);
    jw_name(w, "version_policy");
    jw_obj(w);
    jw_name(w, names[p->kind]);
    jw_obj(w);
    if (p->kind == VERSIONS_LATEST) jw_kint(w, "num_versions", p->num_versions);
    if (p->kind == VERSIONS_SPECIFIC) {
        jw_name(w, "versions");
        jw_arr(w);
        for (int i = 0; i < p->n_versions; i++) jw_int(w, p->versions[i]);
        jw_arr_end(w);
    }
    jw_obj_end(w);
    jw_obj_end(w);
}

static bool same_settings(const struct model_settings *a, const struct model_settings *b)
{
    const struct version_policy *p = &a->policy, *q = &b->policy;
    return a->batching.max_batch_rows == b->batching.max_batch_rows &&
           a->batching.max_queue_delay_us == b->batching.max_queue_delay_us && p->kind == q->kind &&
           p->num_versions == q->num_versions && p->n_versions == q->n_versions &&
           memcmp(p->versions, q->versions, (size_t)p->n_versions * sizeof *p->versions) == 0;
}

static int check_version(struct db *db, const char *model_id, int64_t number, int index, struct err *e)
{
    struct db_args a = {0};
    char path[64];
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model_id);
    db_arg_int(&a, number);
    struct db_rows *r;
    int rc = db_exec(db,
                     "SELECT FROM model_versions WHERE tenant_id = $1 AND model_id = $2 AND number = $3 AND "
                     "deleted_at IS NULL",
                     &a, &r, e);
    if (rc) return rc;
    snprintf(path, sizeof path, "version_policy.specific.versions[%d]", index);
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_INVALID, path, "the model has no version %lld", (long long)number);
    db_rows_free(r);
    return rc;
}

static int check_settings(struct db *db, const char *model_id, const struct model_settings *s, struct err *e)
{
    const struct model_batching *b = &s->batching;
    const struct version_policy *p = &s->policy;
    if (b->max_batch_rows < 0 || b->max_batch_rows > MODEL_BATCH_ROWS_MAX)
        return err_set(e, ERR_INVALID, "batching.max_batch_rows", "1 to %d rows, or null",
                       MODEL_BATCH_ROWS_MAX);
    if (b->max_queue_delay_us < -1 || b->max_queue_delay_us > MODEL_QUEUE_DELAY_MAX_US)
        return err_set(e, ERR_INVALID, "batching.max_queue_delay_us", "0 to %d microseconds, or null",
                       MODEL_QUEUE_DELAY_MAX_US);
    if (p->kind == VERSIONS_LATEST && (p->num_versions < 1 || p->num_versions > INT32_MAX))
        return err_set(e, ERR_INVALID, "version_policy.latest.num_versions", "at least 1 version");
    if (p->kind == VERSIONS_SPECIFIC && p->n_versions < 1)
        return err_set(e, ERR_INVALID, "version_policy.specific.versions", "at least 1 version");
    int rc = 0;
    for (int i = 0; i < p->n_versions && !rc; i++) rc = check_version(db, model_id, p->versions[i], i, e);
    return rc;
}

static int put_settings(struct db *db, const char *model_id, const struct model_settings *s, struct err *e)
{
    const struct version_policy *p = &s->policy;
    struct buf versions = {0};
    struct db_args a = {0};
    for (int i = 0; i < p->n_versions; i++)
        buf_printf(&versions, "%c%lld", i ? ',' : '{', (long long)p->versions[i]);
    if (p->n_versions) buf_str(&versions, "}");
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model_id);
    db_arg_int(&a, s->batching.max_batch_rows);
    db_arg_int(&a, s->batching.max_queue_delay_us);
    db_arg_int(&a, p->kind == VERSIONS_LATEST ? p->num_versions : 0);
    db_arg_str(&a, p->kind == VERSIONS_SPECIFIC ? versions.data : NULL);
    int rc = versions.failed
                 ? err_set(e, ERR_NOMEM, NULL, "no memory for the settings")
                 : db_exec(db,
                           "UPDATE models SET max_batch_rows = nullif($3::integer, 0), max_queue_delay_us = "
                           "nullif($4::integer, -1), policy_latest = nullif($5::integer, 0), "
                           "policy_versions = $6::bigint[], etag = etag + 1 WHERE tenant_id = $1 AND id = $2",
                           &a, NULL, e);
    buf_dispose(&versions);
    return rc;
}

static int audit_settings(struct db *db, const struct actor *by, const struct model *m, struct err *e)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    jw_obj(&w);
    jw_kstr(&w, "model", m->name);
    model_settings_write(&w, &m->settings);
    jw_obj_end(&w);
    int rc = b.failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the audit row")
                      : audit_append(db, NULL, "model.set", by, m->id, b.data, e);
    buf_dispose(&b);
    return rc;
}

int model_set(struct db *db, const char *name, const struct model_settings *to, int64_t expected_etag,
              const struct actor *by, struct arena *ar, struct model *out, struct err *e)
{
    int rc = model_lock(db, name, ar, out, e);
    if (rc || same_settings(&out->settings, to)) return rc;
    if (expected_etag >= 0 && expected_etag != out->etag)
        return err_set(e, ERR_CONFLICT, "etag",
                       "the model was changed meanwhile (etag %lld, not %lld); read it again",
                       (long long)out->etag, (long long)expected_etag);
    if ((rc = check_settings(db, out->id, to, e))) return rc;
    if ((rc = put_settings(db, out->id, to, e))) return rc;
    out->settings = *to;
    out->etag++;
    return audit_settings(db, by, out, e);
}
