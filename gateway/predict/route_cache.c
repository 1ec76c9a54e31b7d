/* The route cache: entries by name in a hash, in order of making, each with the waiters of a look-up under
 * way. */
#include "gateway/predict/route_cache.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"

enum { BUCKETS = 1024, NAME_MAX_BYTES = 65, SIGNATURE_TOKENS = 200000 };

struct waiter {
    struct waiter *next;
    route_found_fn fn;
    void *arg;
    uint64_t token;
};

/* One look-up's life: it is the entry, and outlives its place in the cache when it is dropped while looking.
 */
struct route_lookup {
    char tenant_id[ID_MAX];
    char model[NAME_MAX_BYTES], text[NAME_MAX_BYTES];
    struct model_ref ref;
    bool looking, dropped;
    struct waiter *first, *last;
    struct shared_route *route; /* NULL: missing */
    struct err missing;
    int64_t expires_ms;
    struct route_lookup *hash_next, *older, *newer;
};

struct route_cache {
    struct predict *owner;
    struct arms_book *book;
    const struct predict_config *config;
    struct route_lookup *buckets[BUCKETS];
    struct route_lookup *oldest, *newest;
    size_t count;
};

void shared_route_release(struct shared_route *r)
{
    if (!r || --r->refs > 0) return;
    signature_free(r->route.signature);
    shared_route_release(r->canary);
    shared_route_release(r->shadow);
    arms_close(r->arms);
    mem_free(r);
}

struct shared_route *shared_route_turn(struct shared_route *r)
{
    if (!r->canary) return r;
    r->arms->canary_due += r->canary_share;
    if (r->arms->canary_due < 1) return r;
    r->arms->canary_due -= 1;
    return r->canary;
}

struct shared_route *shared_route_shadow(struct shared_route *r)
{
    if (!r->shadow) return NULL;
    r->arms->shadow_due += r->shadow_share;
    if (r->arms->shadow_due < 1) return NULL;
    r->arms->shadow_due -= 1;
    return r->shadow;
}

/* ---- entries
 * -------------------------------------------------------------------------------------------------------- */

static bool is_of(const struct route_lookup *l, const char *tenant_id, const struct model_ref *ref)
{
    return l->ref.kind == ref->kind && strcmp(l->model, ref->model) == 0 &&
           strcmp(l->tenant_id, tenant_id) == 0 && strcmp(l->text, ref->text ? ref->text : "") == 0;
}

static struct route_lookup **slot_of(struct route_cache *c, const char *tenant_id,
                                     const struct model_ref *ref)
{
    uint64_t h = hash_text(hash_id(HASH_START, tenant_id), ref->model);
    if (ref->text) h = hash_text(h, ref->text);
    struct route_lookup **slot = &c->buckets[hash_fold(h) % BUCKETS];
    while (*slot && !is_of(*slot, tenant_id, ref)) slot = &(*slot)->hash_next;
    return slot;
}

static void entry_free(struct route_lookup *l)
{
    shared_route_release(l->route);
    mem_free(l);
}

/* Out of the cache; freed now, or by route_cache_done when a look-up is under way. */
static void entry_drop(struct route_cache *c, struct route_lookup *l)
{
    struct route_lookup **slot = slot_of(c, l->tenant_id, &l->ref);
    *slot = l->hash_next;
    *(l->older ? &l->older->newer : &c->oldest) = l->newer;
    *(l->newer ? &l->newer->older : &c->newest) = l->older;
    c->count--;
    l->dropped = true;
    if (!l->looking) entry_free(l);
}

static struct route_lookup *entry_add(struct route_cache *c, struct route_lookup **slot,
                                      const char *tenant_id, const struct model_ref *ref)
{
    struct route_lookup *l = mem_alloc(1, sizeof *l);
    snprintf(l->tenant_id, ID_MAX, "%s", tenant_id);
    snprintf(l->model, sizeof l->model, "%s", ref->model);
    snprintf(l->text, sizeof l->text, "%s", ref->text ? ref->text : "");
    l->ref = (struct model_ref){.model = l->model, .kind = ref->kind, .text = ref->text ? l->text : NULL};
    *slot = l;
    l->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = l;
    c->newest = l;
    c->count++;
    return l;
}

static void tell(const struct route_lookup *l, route_found_fn fn, void *arg, uint64_t token)
{
    if (l->route)
        fn(arg, token, 0, l->route, NULL);
    else
        fn(arg, token, l->missing.code, NULL, &l->missing);
}

/* ---- finding
 * -------------------------------------------------------------------------------------------------------- */

/* A name that no model can have is not looked for. */
static bool is_possible(const struct model_ref *ref)
{
    int64_t number;
    if (!id_name_valid(ref->model)) return false;
    if (ref->kind == MODEL_REF_DEFAULT) return true;
    if (!ref->text) return false;
    if (ref->kind == MODEL_REF_ALIAS) return id_name_valid(ref->text);
    /* Leading zeros are let pass, but not more than an entry can hold. */
    return strlen(ref->text) < NAME_MAX_BYTES && num_parse_i64(ref->text, 1, INT32_MAX, &number);
}

int route_not_found(const struct model_ref *ref, struct err *e)
{
    if (ref->kind == MODEL_REF_DEFAULT)
        return err_set(e, ERR_NOT_FOUND, "model", "no model \"%.64s\"", ref->model);
    return err_set(e, ERR_NOT_FOUND, "model", "no %s \"%.64s\" of a model \"%.64s\"",
                   ref->kind == MODEL_REF_ALIAS ? "alias" : "version", ref->text ? ref->text : "",
                   ref->model);
}

void route_cache_find(struct route_cache *c, const char *tenant_id, const struct model_ref *ref,
                      route_found_fn fn, void *arg, uint64_t token)
{
    struct err e = {0};
    if (!is_possible(ref)) {
        fn(arg, token, route_not_found(ref, &e), NULL, &e);
        return;
    }
    struct route_lookup **slot = slot_of(c, tenant_id, ref), *l = *slot;
    if (l && !l->looking && l->expires_ms <= clock_mono_ms()) {
        entry_drop(c, l);
        l = NULL;
    }
    if (l && !l->looking) {
        tell(l, fn, arg, token);
        return;
    }
    bool is_new = !l;
    if (is_new) {
        while (c->count >= ROUTES_MAX) entry_drop(c, c->oldest);
        l = entry_add(c, slot_of(c, tenant_id, ref), tenant_id, ref);
    }
    struct waiter *w = mem_alloc(1, sizeof *w);
    *w = (struct waiter){.fn = fn, .arg = arg, .token = token};
    *(l->last ? &l->last->next : &l->first) = w;
    l->last = w;
    if (!is_new) return;
    l->looking = true;
    c->config->resolve(c->config->arg, c->owner, l, l->tenant_id, &l->ref);
}

static int make_route(struct shared_route **out, const char *tenant_id, const struct route_answer *a,
                      struct err *e)
{
    cJSON *root;
    struct signature *signature = NULL;
    int rc = json_parse(&root, a->signature_json, a->signature_len, SIGNATURE_TOKENS, e);
    if (rc == 0) {
        rc = signature_from_json(&signature, root, "signature", e);
        cJSON_Delete(root);
    }
    if (rc)
        return err_set(e, ERR_CORRUPT, NULL, "the stored signature of version %s is malformed",
                       a->version_id);
    *out = mem_alloc(1, sizeof **out);
    (*out)->refs = 1;
    struct model_route *r = &(*out)->route;
    memcpy(r->tenant_id, tenant_id, ID_MAX);
    memcpy(r->model, a->model, sizeof r->model);
    memcpy(r->version_id, a->version_id, ID_MAX);
    r->version = a->version;
    r->bytes = a->bytes;
    r->batching = a->batching;
    r->signature = signature;
    return 0;
}

static int make_side(struct shared_route **out, const char *tenant_id, const struct route_answer *a,
                     struct err *e)
{
    return a ? make_route(out, tenant_id, a, e) : 0;
}

/* The route, with those that share its calls and what is counted of them. */
static int make_routes(struct route_cache *c, struct route_lookup *l, const struct route_answer *a,
                       struct err *e)
{
    int rc = make_route(&l->route, l->tenant_id, a, e);
    if (rc || a->etag == 0) return rc;
    struct shared_route *r = l->route;
    rc = make_side(&r->canary, l->tenant_id, a->canary, e);
    if (!rc) rc = make_side(&r->shadow, l->tenant_id, a->shadow, e);
    if (rc) {
        shared_route_release(r);
        l->route = NULL;
        return rc;
    }
    r->canary_share = a->canary_share;
    r->shadow_share = a->shadow_share;
    if (r->shadow) r->shadow->tolerance = a->shadow_tolerance;
    struct rollout_id id = {.etag = a->etag};
    snprintf(id.tenant_id, ID_MAX, "%s", l->tenant_id);
    snprintf(id.model, sizeof id.model, "%s", a->model);
    snprintf(id.alias, sizeof id.alias, "%s", a->alias);
    r->arms = arms_open(c->book, &id, a->slow_us);
    return 0;
}

void route_cache_done(struct route_cache *c, struct route_lookup *l, int rc, const struct route_answer *a,
                      const struct err *e)
{
    if (rc == 0)
        rc = make_routes(c, l, a, &l->missing);
    else if (rc == ERR_NOT_FOUND && strcmp(e->field, "version_policy") != 0)
        route_not_found(&l->ref, &l->missing);
    else
        l->missing = *e;
    l->missing.code = rc;
    l->expires_ms = clock_mono_ms() + (rc == 0 ? ROUTE_LIFE_MS : ROUTE_MISSING_MS);
    /* A waiter may look again or drop the entry from inside its call: while `looking`, it joins the list or
     * frees nothing. */
    for (struct waiter *w; (w = l->first);) {
        l->first = w->next;
        if (!l->first) l->last = NULL;
        tell(l, w->fn, w->arg, w->token);
        mem_free(w);
    }
    l->looking = false;
    if (l->dropped)
        entry_free(l);
    else if (rc && rc != ERR_NOT_FOUND)
        entry_drop(c, l);
}

void route_cache_drop(struct route_cache *c, const struct changed *what)
{
    if (what->kind == CHANGED_KEY) return;
    for (struct route_lookup *l = c->oldest, *next; l; l = next) {
        next = l->newer;
        bool hit = what->kind == CHANGED_ALL ||
                   (strcmp(l->tenant_id, what->tenant_id) == 0 &&
                    (what->kind == CHANGED_TENANT || strcmp(l->model, what->model) == 0));
        if (hit) entry_drop(c, l);
    }
}

struct route_cache *route_cache_create(struct predict *owner, const struct predict_config *config,
                                       struct arms_book *book)
{
    struct route_cache *c = mem_alloc(1, sizeof *c);
    c->owner = owner;
    c->book = book;
    c->config = config;
    return c;
}

/* By now no pool thread answers any more: look-ups under way end here. */
void route_cache_free(struct route_cache *c)
{
    if (!c) return;
    struct err e = {0};
    err_set(&e, ERR_UNAVAILABLE, NULL, "the gateway is stopping");
    for (struct route_lookup *l = c->oldest, *next; l; l = next) {
        next = l->newer;
        for (struct waiter *w = l->first, *after; w; w = after) {
            after = w->next;
            w->fn(w->arg, w->token, e.code, NULL, &e);
            mem_free(w);
        }
        entry_free(l);
    }
    mem_free(c);
}
