/* Resolves (tenant, model, version or alias) to a version on a pool thread. */
#include "gateway/model_lookup.h"

#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/num.h"
#include "gateway/api_call.h"
#include "gateway/trip.h"
#include "store/alias.h"
#include "store/version.h"

struct model_lookup {
    struct trip trip; /* first: this is freed as a trip */
    struct predict *predict;
    struct route_lookup *lookup; /* the road's; alive until predict_route_done */
    const char *tenant_id;       /* borrowed from lookup, as is ref's text */
    struct model_ref ref;
    int rc;
    struct err err;
    struct version version, canary, shadow; /* texts in arena; the last two: number 0 for none */
    struct alias alias;                     /* what is on trial behind it; etag 0: nothing */
    struct arena arena;
};

/* Version numbers in paths are plain decimals; anything else is a version that does not exist. */
static int number_of(const struct model_ref *ref, int64_t *out, struct err *e)
{
    *out = 0;
    if (ref->kind != MODEL_REF_VERSION || num_parse_i64(ref->text, 1, INT64_MAX, out)) return 0;
    return err_set(e, ERR_NOT_FOUND, "version", "no such version");
}

static int find_side(struct model_lookup *m, struct db *db, int64_t number, struct version *out,
                     struct err *e)
{
    return number > 0 ? version_find(db, m->ref.model, number, NULL, &m->arena, out, e) : 0;
}

/* A model without an alias "live" has nothing on trial, and so has one whose alias moved since the version
 * was found: the gateways will hear of that in a moment. */
static int find_trial(struct model_lookup *m, struct db *db, const char *alias, struct err *e)
{
    struct alias a;
    int rc = alias_find(db, m->ref.model, alias, &a, e);
    if (rc == ERR_NOT_FOUND || (rc == 0 && a.version != m->version.number)) return 0;
    if (rc == 0 && a.canary == 0 && a.shadow == 0 && a.limits.window_s == 0) return 0;
    if (rc == 0) rc = find_side(m, db, a.canary, &m->canary, e);
    if (rc == 0) rc = find_side(m, db, a.shadow, &m->shadow, e);
    if (rc == 0) m->alias = a;
    return rc;
}

static int find(struct model_lookup *m, struct pool_state *state)
{
    int64_t number;
    struct err *e = &m->err;
    if (state->db == NULL) return err_set(e, ERR_UNAVAILABLE, NULL, "the database cannot be reached");
    if (!id_name_valid(m->ref.model)) return err_set(e, ERR_NOT_FOUND, "model", "no such model");
    int rc = number_of(&m->ref, &number, e);
    if (rc == 0) rc = db_begin(state->db, m->tenant_id, e);
    if (rc != 0) return rc;
    const char *alias = m->ref.kind == MODEL_REF_ALIAS ? m->ref.text : NULL;
    rc = version_find(state->db, m->ref.model, number, alias, &m->arena, &m->version, e);
    if (rc == 0) rc = version_require_served(&m->version, e); /* an alias's always is */
    if (rc == 0 && number == 0) rc = find_trial(m, state->db, alias ? alias : "live", e);
    if (rc == 0) return db_commit(state->db, e);
    db_rollback(state->db);
    return rc;
}

static void lookup_work(struct trip *t, struct pool_state *state)
{
    struct model_lookup *m = (struct model_lookup *)t;
    m->rc = find(m, state);
    if (m->rc == 0) return;
    if (strcmp(m->err.field, "version_policy") != 0) {
        const char *noun = m->err.field[0] != '\0' ? m->err.field : "model";
        char field[16];
        snprintf(field, sizeof(field), "%.15s", noun);
        api_not_found(m->rc, field, &m->err);
    }
    api_public_err(&m->err, t->home->g->inc);
    m->rc = m->err.code;
}

static void answer_of(struct route_answer *a, const struct version *v)
{
    snprintf(a->model, sizeof(a->model), "%s", v->model);
    snprintf(a->version_id, sizeof(a->version_id), "%s", v->id);
    a->version = v->number;
    a->bytes = (uint64_t)v->bytes;
    a->batching.max_rows = (uint32_t)v->batching.max_batch_rows;
    if (v->batching.max_queue_delay_us > 0)
        a->batching.max_delay_us = (uint32_t)v->batching.max_queue_delay_us;
    a->signature_json = v->signature;
    a->signature_len = strlen(v->signature);
}

/* canary and shadow: room for their answers. */
static void trial_of(struct route_answer *a, const struct model_lookup *m, struct route_answer *canary,
                     struct route_answer *shadow)
{
    if (m->alias.etag == 0) return;
    snprintf(a->alias, sizeof(a->alias), "%s", m->alias.name);
    a->etag = m->alias.etag;
    a->slow_us = m->alias.limits.window_s > 0 ? m->alias.limits.latency_us : 0;
    if (m->canary.number > 0) {
        answer_of(canary, &m->canary);
        a->canary = canary;
        a->canary_share = (double)m->alias.canary_ppm / 1e6;
    }
    if (m->shadow.number > 0) {
        answer_of(shadow, &m->shadow);
        a->shadow = shadow;
        a->shadow_share = (double)m->alias.shadow_ppm / 1e6;
        a->shadow_tolerance = m->alias.shadow_tolerance;
    }
}

static void lookup_done(struct trip *t)
{
    struct model_lookup *m = (struct model_lookup *)t;
    struct route_answer a = {0}, canary = {0}, shadow = {0};
    if (m->rc == 0) {
        answer_of(&a, &m->version);
        trial_of(&a, m, &canary, &shadow);
    }
    predict_route_done(m->predict, m->lookup, m->rc, m->rc == 0 ? &a : NULL, m->rc != 0 ? &m->err : NULL);
}

static void lookup_dispose(struct trip *t)
{
    struct model_lookup *m = (struct model_lookup *)t;
    arena_dispose(&m->arena);
}

void model_lookup_resolve(void *arg, struct predict *p, struct route_lookup *lookup, const char *tenant_id,
                          const struct model_ref *ref)
{
    struct gateway_loop *l = arg;
    struct err e = {0};
    struct model_lookup *m = mem_alloc(1, sizeof(*m));
    m->trip = (struct trip){.work = lookup_work, .done = lookup_done, .dispose = lookup_dispose};
    m->predict = p;
    m->lookup = lookup;
    m->tenant_id = tenant_id;
    m->ref = *ref;
    arena_init(&m->arena, 4 << 20);
    int rc = trip_start(l, &m->trip, &e);
    if (rc == 0) return;
    arena_dispose(&m->arena);
    mem_free(m);
    predict_route_done(p, lookup, rc, NULL, &e);
}
