/* Treats gradients and hands them to the optimiser. */
#include "learn/update.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "learn/family.h"
#include "tensor/backend.h"

enum { ALIGNMENT = 64 };

struct update {
    struct params view; /* the weights, with entries of its own: without L2, which run_step has added */
    struct optim_spec optim;
    double l1, clipnorm, clipvalue;
    float *slot[OPTIM_MAX_SLOTS]; /* owned, like the entries */
};

bool update_wanted(const struct training_spec *t)
{
    return t->l1 > 0 || t->optimizer.clipnorm > 0 || t->optimizer.clipvalue > 0;
}

struct optim_spec update_plain(void)
{
    return optim_defaults(OPTIM_SGD);
}

static int allocate(struct update *u, const struct params *p, size_t limit_bytes, struct err *e)
{
    size_t flat = (p->len + 16) * sizeof(float), slots = (size_t)optim_slots(u->optim.kind);
    if (limit_bytes && flat * slots > limit_bytes)
        return err_set(e, ERR_TOO_LARGE, "dataset", "the optimiser's state needs %zu bytes; %zu are allowed",
                       flat * slots, limit_bytes);
    u->view.entry = mem_try_alloc((size_t)p->n + 1, sizeof *u->view.entry);
    bool ok = u->view.entry != NULL;
    for (size_t i = 0; i < slots; i++) {
        u->slot[i] = mem_try_aligned(ALIGNMENT, flat);
        ok = ok && u->slot[i];
    }
    return ok ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for the optimiser");
}

int update_create(struct update **out, const struct training_spec *t, struct params *params,
                  size_t limit_bytes, struct err *e)
{
    struct update *u = mem_try_alloc(1, sizeof *u);
    *out = NULL;
    if (!u) return err_set(e, ERR_NOMEM, NULL, "no memory for the optimiser");
    u->optim = family_optim(&t->optimizer);
    u->optim.clip_norm = t->optimizer.global_clipnorm;
    u->l1 = t->l1;
    u->clipnorm = t->optimizer.clipnorm;
    u->clipvalue = t->optimizer.clipvalue;
    int rc = allocate(u, params, limit_bytes, e);
    if (rc) {
        update_free(u);
        return rc;
    }
    struct params_entry *entry = u->view.entry;
    u->view = *params;
    u->view.entry = entry;
    memcpy(entry, params->entry, (size_t)params->n * sizeof *entry);
    for (int i = 0; i < params->n; i++) entry[i].l2 = 0;
    *out = u;
    return 0;
}

void update_free(struct update *u)
{
    if (!u) return;
    mem_free(u->view.entry);
    for (int i = 0; i < OPTIM_MAX_SLOTS; i++) mem_free(u->slot[i]);
    mem_free(u);
}

static void add_l1(const struct params *p, float *grads, double l1)
{
    float pull = (float)l1;
    for (int i = 0; i < p->n; i++) {
        const struct params_entry *x = &p->entry[i];
        const float *w = p->data + x->offset;
        float *g = grads + x->offset;
        if (!x->trainable || !x->decay) continue; /* kernels decay, biases do not */
        for (size_t k = 0; k < x->count; k++) g[k] += w[k] > 0 ? pull : w[k] < 0 ? -pull : 0;
    }
}

void update_clip_values(const struct params *p, float *grads, double limit)
{
    float most = (float)limit;
    for (int i = 0; i < p->n; i++) {
        float *g = grads + p->entry[i].offset;
        for (size_t k = 0; k < p->entry[i].count; k++)
            g[k] = g[k] > most ? most : g[k] < -most ? -most : g[k];
    }
}

void update_clip_norms(const struct params *p, float *grads, double limit)
{
    for (int i = 0; i < p->n; i++) {
        float *g = grads + p->entry[i].offset;
        double squares = 0;
        for (size_t k = 0; k < p->entry[i].count; k++) squares += (double)g[k] * (double)g[k];
        double norm = sqrt(squares);
        if (!(norm > limit)) continue;
        float factor = (float)(limit / norm);
        for (size_t k = 0; k < p->entry[i].count; k++) g[k] *= factor;
    }
}

void update_apply(struct update *u, struct run *run, uint64_t index, double rate)
{
    float *grads = run_grads(run);
    if (u->l1 > 0) add_l1(&u->view, grads, u->l1);
    if (u->clipvalue > 0) update_clip_values(&u->view, grads, u->clipvalue);
    if (u->clipnorm > 0) update_clip_norms(&u->view, grads, u->clipnorm);
    optim_step(&u->optim, backend_auto(), &u->view, grads, u->slot, index, rate);
}
