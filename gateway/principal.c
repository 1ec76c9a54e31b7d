/* Makes and shares principals. */
#include "gateway/principal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

/* As draft-ietf-httpapi-ratelimit-headers has it. */
static void write_policy(struct principal *p)
{
    if (p->rate_per_second <= 0) return;
    snprintf(p->rate_policy, sizeof(p->rate_policy), "\"requests\";q=%lld;w=1",
             llround(fmin(p->rate_per_second, 1e15)));
}

struct principal *principal_create(const struct key_auth *auth)
{
    struct principal *p = mem_alloc(1, sizeof(*p));
    const struct plan *plan = &auth->tenant.plan;
    atomic_init(&p->refs, 1);
    snprintf(p->tenant_id, sizeof(p->tenant_id), "%s", auth->tenant.id);
    snprintf(p->key_id, sizeof(p->key_id), "%s", auth->key.id);
    p->scopes = auth->key.scopes;
    p->expires_at_us = auth->key.expires_at_us;
    p->rate_per_second = (double)plan->requests_per_second;
    p->burst = (double)plan->request_burst;
    p->inflight_max = plan->max_inflight_requests > INT32_MAX ? INT32_MAX : (int)plan->max_inflight_requests;
    p->request_rows_max = plan->max_request_rows;
    p->max_dataset_bytes = plan->max_dataset_bytes;
    write_policy(p);
    if (auth->key.models == NULL) return p;
    p->n_models = auth->key.n_models;
    p->models = mem_alloc((size_t)p->n_models + 1, sizeof(*p->models));
    for (int i = 0; i < p->n_models; i++) p->models[i] = mem_strdup(auth->key.models[i]);
    return p;
}

struct principal *principal_hold(struct principal *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

static void text_free(const char *owned)
{
    union {
        const char *in;
        char *out;
    } text = {owned};
    mem_free(text.out);
}

void principal_release(struct principal *p)
{
    if (p == NULL || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1) return;
    for (int i = 0; i < p->n_models; i++) text_free(p->models[i]);
    mem_free(p->models);
    mem_free(p);
}

bool principal_may_call(const struct principal *p, const char *model)
{
    if (p->models == NULL) return true;
    for (int i = 0; i < p->n_models; i++)
        if (strcmp(p->models[i], model) == 0) return true;
    return false;
}
