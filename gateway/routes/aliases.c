/* Aliases: listed, moved, given a canary or a shadow and limits, rolled back. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "gateway/routes/aliases.h"
#include "gateway/routes/models.h"
#include "gateway/warm.h"
#include "store/alias.h"
#include "store/version.h"

enum { MILLION = 1000000 };
#define VERSION_MAX (INT64_MAX / 1024)
/* Of two numbers: what the order of summing leaves between equal networks, and far below what changes a
 * decision. */
static const double DEFAULT_TOLERANCE = 1e-3;

static double share_of(int64_t ppm)
{
    return (double)ppm / MILLION;
}

static void limits_write(struct json_writer *w, const struct alias_limits *l)
{
    jw_name(w, "rollback_on");
    if (l->window_s == 0) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    if (l->error_ppm >= 0) jw_knum(w, "error_rate", share_of(l->error_ppm));
    if (l->latency_us >= 0) jw_knum(w, "latency_ms", (double)l->latency_us / 1000);
    if (l->disagreement_ppm >= 0) jw_knum(w, "disagreement", share_of(l->disagreement_ppm));
    jw_kint(w, "min_requests", l->min_requests);
    jw_kint(w, "window_seconds", l->window_s);
    jw_obj_end(w);
}

void aliases__write_ended(struct json_writer *w, const struct alias_ended *ended)
{
    jw_name(w, "last_rollback");
    if (ended->at_us == 0) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    api_write_time(w, "time", ended->at_us);
    jw_kstr(w, "reason", ended->reason);
    jw_kstr(w, "arm", ended->arm);
    jw_kint(w, "version", ended->version);
    jw_kstr(w, "message", ended->message);
    jw_obj_end(w);
}

/* The version on trial under that name, open for more; false after writing null: there is none. */
static bool trial_write(struct json_writer *w, const char *name, int64_t version, int64_t ppm)
{
    jw_name(w, name);
    if (version == 0) {
        jw_null(w);
        return false;
    }
    jw_obj(w);
    jw_kint(w, "version", version);
    jw_knum(w, "weight", share_of(ppm));
    return true;
}

static void alias_members(struct json_writer *w, const struct alias *a)
{
    jw_kstr(w, "object", "model.alias");
    jw_kstr(w, "alias", a->name);
    jw_kstr(w, "model", a->model);
    jw_kint(w, "version", a->version);
    jw_name(w, "previous_version");
    if (a->previous)
        jw_int(w, a->previous);
    else
        jw_null(w);
    if (trial_write(w, "canary", a->canary, a->canary_ppm)) jw_obj_end(w);
    if (trial_write(w, "shadow", a->shadow, a->shadow_ppm)) {
        jw_knum(w, "tolerance", a->shadow_tolerance);
        jw_obj_end(w);
    }
    limits_write(w, &a->limits);
    aliases__write_ended(w, &a->ended);
    jw_kint_str(w, "etag", a->etag);
    api_write_time(w, "updated_at", a->updated_at_us);
}

static void alias_write(struct json_writer *w, const struct alias *a)
{
    jw_obj(w);
    alias_members(w, a);
    jw_obj_end(w);
}

int aliases_list(struct api_call *c, struct err *e)
{
    struct alias *items = NULL;
    int n = 0, rc = models__check_name(c, e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = alias_list(c->db, api_param(c, 0), c->arena, &items, &n, e);
    if ((rc = api_end(c, rc, e)) != 0) return api_not_found(rc, "model", e);
    struct json_writer *w = api_list_begin(c);
    for (int i = 0; i < n; i++) alias_write(w, &items[i]);
    api_list_end(c, n ? items[0].name : NULL, n ? items[n - 1].name : NULL, false);
    return 0;
}

int aliases_get(struct api_call *c, struct err *e)
{
    struct alias a;
    int rc = models__check_name(c, e);
    if (rc == 0) rc = api_begin(c, e);
    if (rc != 0) return rc;
    rc = alias_find(c->db, api_param(c, 0), api_param(c, 1), &a, e);
    if ((rc = api_end(c, rc, e)) != 0) return models__not_found(rc, e);
    models__tell_etag(c, a.etag);
    alias_write(api_reply(c, 200), &a);
    return 0;
}

struct move {
    struct api_call *c;
    struct alias_target to;
    int64_t etag; /* what the alias must have now; -1 for any */
    struct alias alias;
    bool warm;   /* asked for: its versions are to be loaded before it moves */
    bool warmed; /* they were */
};

static int move_tx(struct db *db, void *arg, struct err *e)
{
    struct move *m = arg;
    return alias_set(db, api_param(m->c, 0), api_param(m->c, 1), &m->to, m->etag, &m->c->by, &m->alias, e);
}

static int roll_back_tx(struct db *db, void *arg, struct err *e)
{
    struct move *m = arg;
    return alias_roll_back(db, api_param(m->c, 0), api_param(m->c, 1), m->etag, &m->c->by, &m->alias, e);
}

/* If-Match makes a read-modify-write safe; If-None-Match: * only makes new ones. */
static int read_condition(struct api_call *c, int64_t *etag, struct err *e)
{
    const char *none = request_header(c->request, "if-none-match");
    int rc = models__if_match(c, etag, e);
    if (rc != 0 || none == NULL) return rc;
    if (strcmp(none, "*") != 0) return err_set(e, ERR_INVALID, "If-None-Match", "the only value known is *");
    if (*etag < 0) *etag = 0;
    return 0;
}

static int read_weight(struct json_obj *o, int64_t most_ppm, const char *field, const char *what,
                       int64_t *ppm, struct err *e)
{
    double weight = 0;
    int rc = json_take_num(o, "weight", 0, 1, &weight, e);
    *ppm = (int64_t)(weight * MILLION + 0.5);
    if (rc == 0 && (*ppm < 1 || *ppm > most_ppm)) rc = err_set(e, ERR_INVALID, field, "%s", what);
    return rc;
}

static int read_canary(const cJSON *node, struct alias_target *to, struct err *e)
{
    struct json_obj o;
    int rc = json_obj_open(&o, node, "canary", e);
    if (rc == 0) rc = json_take_int(&o, "version", 1, VERSION_MAX, &to->canary, e);
    if (rc == 0)
        rc = read_weight(&o, MILLION - 1, "canary.weight",
                         "the weight is the canary's share of the calls: above 0, below 1", &to->canary_ppm,
                         e);
    return rc ? rc : json_obj_close(&o, e);
}

static int read_shadow(const cJSON *node, struct alias_target *to, struct err *e)
{
    struct json_obj o;
    to->shadow_tolerance = DEFAULT_TOLERANCE;
    int rc = json_obj_open(&o, node, "shadow", e);
    if (rc == 0) rc = json_take_int(&o, "version", 1, VERSION_MAX, &to->shadow, e);
    if (rc == 0)
        rc = read_weight(&o, MILLION, "shadow.weight",
                         "the weight is the share of the calls that the shadow gets too: above 0, at most 1",
                         &to->shadow_ppm, e);
    if (rc == 0) rc = json_opt_num(&o, "tolerance", 0, 1e300, &to->shadow_tolerance, e);
    return rc ? rc : json_obj_close(&o, e);
}

/* A share below 1 as millionths; -1 when it is not given. */
static int read_share(struct json_obj *o, const char *name, int64_t *ppm, struct err *e)
{
    double share = -1;
    int rc = json_opt_num(o, name, 0, 1, &share, e);
    *ppm = share < 0 ? -1 : (int64_t)(share * MILLION + 0.5);
    if (*ppm >= MILLION) *ppm = MILLION - 1;
    return rc;
}

static int read_limits(const cJSON *node, const struct alias_target *to, struct alias_limits *l,
                       struct err *e)
{
    struct json_obj o;
    double latency_ms = -1;
    l->window_s = 60;
    l->min_requests = 100;
    int rc = json_obj_open(&o, node, "rollback_on", e);
    if (rc == 0) rc = read_share(&o, "error_rate", &l->error_ppm, e);
    if (rc == 0) rc = json_opt_num(&o, "latency_ms", 0.001, 3600000, &latency_ms, e);
    if (rc == 0) rc = read_share(&o, "disagreement", &l->disagreement_ppm, e);
    if (rc == 0) rc = json_opt_int(&o, "min_requests", 1, 1000000000, &l->min_requests, e);
    if (rc == 0) rc = json_opt_int(&o, "window_seconds", 1, 86400, &l->window_s, e);
    if (rc == 0) rc = json_obj_close(&o, e);
    if (rc != 0) return rc;
    l->latency_us = latency_ms < 0 ? -1 : (int64_t)(latency_ms * 1000 + 0.5);
    if (l->error_ppm < 0 && l->latency_us < 0 && l->disagreement_ppm < 0)
        return err_set(
            e, ERR_INVALID, "rollback_on",
            "give at least one limit: error_rate, latency_ms (of the 99th percentile), disagreement");
    if (l->disagreement_ppm >= 0 && to->shadow == 0)
        return err_set(e, ERR_INVALID, "rollback_on.disagreement",
                       "only a shadow's answers are compared: give a shadow too, or leave this limit out");
    return 0;
}

/* {"version":2,"canary":{"version":3,"weight":0.1}}; what is absent, or null, is none. */
static int read_target(struct api_call *c, struct alias_target *to, bool *warm, struct err *e)
{
    struct json_obj o;
    const cJSON *canary = NULL, *shadow = NULL, *limits = NULL;
    int rc = api_body(c, &o, e);
    if (rc == 0) rc = json_take_int(&o, "version", 1, VERSION_MAX, &to->version, e);
    if (rc == 0) rc = json_opt_object(&o, "canary", &canary, e);
    if (rc == 0) rc = json_opt_object(&o, "shadow", &shadow, e);
    if (rc == 0) rc = json_opt_object(&o, "rollback_on", &limits, e);
    if (rc == 0) rc = json_opt_bool(&o, "warm", warm, e);
    if (rc == 0) rc = json_obj_close(&o, e);
    if (rc == 0 && canary != NULL) rc = read_canary(canary, to, e);
    if (rc == 0 && shadow != NULL) rc = read_shadow(shadow, to, e);
    if (rc == 0 && limits != NULL) rc = read_limits(limits, to, &to->limits, e);
    return rc;
}

/* What every gateway must hear of, and the caller. warmed: of a move, whether a worker held the versions
 * before; NULL: of a rollback, which waits for nothing. */
static int answer(struct api_call *c, const struct alias *a, const bool *warmed)
{
    struct changed what = {.kind = CHANGED_MODEL};
    snprintf(what.tenant_id, sizeof(what.tenant_id), "%s", c->who->tenant_id);
    snprintf(what.model, sizeof(what.model), "%s", api_param(c, 0));
    api_changed(c, &what);
    models__tell_etag(c, a->etag);
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    alias_members(w, a);
    if (warmed != NULL) jw_kbool(w, "warmed", *warmed);
    jw_obj_end(w);
    return 0;
}

/* What the move is about to point at, found by making it and taking it back: what the move would be refused
 * for, it is refused for now. present: answers now; "" when the alias is new. */
struct rehearsal {
    struct version to, canary; /* canary: number 0 for none */
    char present[ID_MAX];
};

static int find_present(struct move *m, char id[ID_MAX], struct err *e)
{
    struct version v;
    struct alias now;
    const char *model = api_param(m->c, 0);
    int rc = alias_find(m->c->db, model, api_param(m->c, 1), &now, e);
    id[0] = '\0';
    if (rc == 0) rc = version_find(m->c->db, model, now.version, NULL, m->c->arena, &v, e);
    if (rc == 0) snprintf(id, ID_MAX, "%s", v.id);
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int rehearse(struct move *m, struct rehearsal *r, struct err *e)
{
    struct api_call *c = m->c;
    int rc = api_begin(c, e);
    if (rc == 0) rc = find_present(m, r->present, e);
    if (rc == 0) rc = move_tx(c->db, m, e);
    if (rc == 0) rc = version_find(c->db, api_param(c, 0), m->to.version, NULL, c->arena, &r->to, e);
    if (rc == 0 && m->to.canary)
        rc = version_find(c->db, api_param(c, 0), m->to.canary, NULL, c->arena, &r->canary, e);
    db_rollback(c->db);
    return rc;
}

static int warm_one(struct move *m, const struct version *v, const char *present, int64_t deadline_ms,
                    struct err *e)
{
    enum warm_outcome outcome;
    struct warm_request q = {.tenant_id = m->c->who->tenant_id,
                             .version_id = v->id,
                             .version = v->number,
                             .bytes = (uint64_t)v->bytes,
                             .present = present,
                             .deadline_ms = deadline_ms};
    int rc = warm_version(m->c->g, m->c->redis, &q, &outcome, e);
    if (rc == 0) m->warmed = outcome == WARM_HELD;
    return rc;
}

/* The shadow is left out: nobody waits for its answers. */
static int warm_up(struct move *m, struct err *e)
{
    struct rehearsal r = {0};
    int64_t deadline_ms = clock_mono_ms() + WARM_WAIT_MS;
    int rc = rehearse(m, &r, e);
    if (rc == 0) rc = warm_one(m, &r.to, r.present[0] ? r.present : NULL, deadline_ms, e);
    if (rc == 0 && r.canary.number) rc = warm_one(m, &r.canary, NULL, deadline_ms, e);
    return rc;
}

int aliases_put(struct api_call *c, struct err *e)
{
    struct move m = {.c = c, .warm = true};
    int rc = models__check_name(c, e);
    if (rc == 0 && !id_name_valid(api_param(c, 1)))
        rc = err_set(e, ERR_INVALID, "alias",
                     "an alias is 1 to 64 characters of a-z 0-9 . _ - and starts with a letter "
                     "or digit");
    if (rc == 0) rc = read_condition(c, &m.etag, e);
    if (rc == 0) rc = read_target(c, &m.to, &m.warm, e);
    if (rc == 0 && m.warm) rc = warm_up(&m, e);
    if (rc == 0) rc = db_run(c->db, c->who->tenant_id, move_tx, &m, e);
    return rc != 0 ? models__not_found(rc, e) : answer(c, &m.alias, &m.warmed);
}

int aliases_roll_back(struct api_call *c, struct err *e)
{
    struct move m = {.c = c};
    int rc = models__check_name(c, e);
    if (rc == 0) rc = read_condition(c, &m.etag, e);
    if (rc == 0) rc = db_run(c->db, c->who->tenant_id, roll_back_tx, &m, e);
    return rc != 0 ? models__not_found(rc, e) : answer(c, &m.alias, NULL);
}
