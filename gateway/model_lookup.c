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
    struct version version, canary; /* texts in arena; canary: number 0 for none */
    double canary_share;
    struct arena arena;
};

/* Version numbers in paths are plain decimals; anything else is a version that does not exist. */
static int number_of(const struct model_ref *ref, int64_t *out, struct err *e)
{
    *out = 0;
    if (ref->kind != MODEL_REF_VERSION || num_parse_i64(ref->text, 1, INT64_MAX, out)) return 0;
    return err_set(e, ERR_NOT_FOUND, "version", "no such version");
}

/* A model without an alias "live" has no canary; one whose alias moved since is what the alias says now. */
static int find_canary(struct model_lookup *m, struct db *db, const char *alias, struct err *e)
{
    struct alias a;
    int rc = alias_find(db, m->ref.model, alias, &a, e);
    if (rc == ERR_NOT_FOUND || (rc == 0 && a.canary == 0)) return 0;
    if (rc == 0) rc = version_find(db, m->ref.model, a.canary, NULL, &m->arena, &m->canary, e);
    m->canary_share = (double)a.canary_ppm / 1e6;
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
    if (rc == 0 && number == 0) rc = find_canary(m, state->db, alias ? alias : "live", e);
    if (rc == 0) return db_commit(state->db, e);
    db_rollback(state->db);
    return rc;
}

static void lookup_work(struct trip *t, struct pool_state *state)
{
    struct model_lookup *m = (struct model_lookup *)t;
    m->rc = find(m, state);
    if (m->rc == 0) return;
    const char *noun = m->err.field[0] != '\0' ? m->err.field : "model";
    char field[16];
    snprintf(field, sizeof(field), "%.15s", noun);
    api_not_found(m->rc, field, &m->err);
    api_public_err(&m->err, t->home->g->inc);
    m->rc = m->err.code;
}

static void answer_of(struct route_answer *a, const struct version *v)
{
    snprintf(a->model, sizeof(a->model), "%s", v->model);
    snprintf(a->version_id, sizeof(a->version_id), "%s", v->id);
    a->version = v->number;
    a->bytes = (uint64_t)v->bytes;
    a->signature_json = v->signature;
    a->signature_len = strlen(v->signature);
}

static void lookup_done(struct trip *t)
{
    struct model_lookup *m = (struct model_lookup *)t;
    struct route_answer a = {0}, canary = {0};
    if (m->rc == 0) answer_of(&a, &m->version);
    if (m->rc == 0 && m->canary.number > 0) {
        answer_of(&canary, &m->canary);
        a.canary = &canary;
        a.canary_share = m->canary_share;
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
