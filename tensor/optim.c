/* One update of all parameters, a flat loop a parameter. */
#include "tensor/optim.h"

#include <math.h>
#include <string.h>
#include "tensor/backend.h"
#include "tensor/kernel.h"

static const struct {
    const char *name;
    int slots;
    const char *slot[OPTIM_MAX_SLOTS];
    double rate;
} kinds[OPTIM_COUNT] = {
    [OPTIM_SGD] = {.name = "sgd", .rate = 0.01},
    [OPTIM_MOMENTUM] = {.name = "momentum", .slots = 1, .slot = {"m"}, .rate = 0.01},
    [OPTIM_NESTEROV] = {.name = "nesterov", .slots = 1, .slot = {"m"}, .rate = 0.01},
    [OPTIM_RMSPROP] = {.name = "rmsprop", .slots = 1, .slot = {"v"}, .rate = 0.001},
    [OPTIM_ADAM] = {.name = "adam", .slots = 2, .slot = {"m", "v"}, .rate = 0.001},
    [OPTIM_ADAMW] = {.name = "adamw", .slots = 2, .slot = {"m", "v"}, .rate = 0.001},
};

const char *optim_name(enum optim_kind kind)
{
    return kinds[kind].name;
}

int optim_of(const char *name)
{
    for (int i = 0; i < OPTIM_COUNT; i++)
        if (strcmp(kinds[i].name, name) == 0) return i;
    return -1;
}

struct optim_spec optim_defaults(enum optim_kind kind)
{
    return (struct optim_spec){.kind = kind,
                               .momentum = 0.9,
                               .rho = 0.9,
                               .beta1 = 0.9,
                               .beta2 = 0.999,
                               .epsilon = 1e-7,
                               .weight_decay = kind == OPTIM_ADAMW ? 0.01 : 0};
}

double optim_default_rate(enum optim_kind kind)
{
    return kinds[kind].rate;
}

int optim_slots(enum optim_kind kind)
{
    return kinds[kind].slots;
}

const char *optim_slot_name(enum optim_kind kind, int slot)
{
    return kinds[kind].slot[slot];
}

static int check_range(const char *name, double v, double min, double max, bool open, struct err *e)
{
    if (v >= min && (open ? v < max : v <= max)) return 0;
    return err_set(e, ERR_INVALID, name, "%s is %g; expected from %g to %s%g", name, v, min,
                   open ? "below " : "", max);
}

int optim_check(const struct optim_spec *s, struct err *e)
{
    int rc;
    if ((int)s->kind < 0 || s->kind >= OPTIM_COUNT)
        return err_set(e, ERR_INVALID, "name", "unknown optimiser");
    if ((rc = check_range("momentum", s->momentum, 0, 1, true, e)) ||
        (rc = check_range("rho", s->rho, 0, 1, true, e)) ||
        (rc = check_range("beta1", s->beta1, 0, 1, true, e)) ||
        (rc = check_range("beta2", s->beta2, 0, 1, true, e)) ||
        (rc = check_range("epsilon", s->epsilon, 1e-30, 1, false, e)) ||
        (rc = check_range("weight_decay", s->weight_decay, 0, 1e6, false, e)))
        return rc;
    return check_range("clip_norm", s->clip_norm, 0, 1e30, false, e);
}

/* Adam's bias corrections go into the rate and the root, so that the loop has two multiplications less. */
static struct adam_step adam_coefficients(const struct optim_spec *s, uint64_t step, double rate, bool decay)
{
    double t = (double)step + 1, c1 = 1 - pow(s->beta1, t), c2 = 1 - pow(s->beta2, t);
    return (struct adam_step){.b1 = (float)s->beta1,
                              .b2 = (float)s->beta2,
                              .rate = (float)(rate / c1),
                              .root = (float)(1 / sqrt(c2)),
                              .epsilon = (float)s->epsilon,
                              .keep = (float)(decay ? 1 - rate * s->weight_decay : 1)};
}

/* g += 2·l2·w */
static void add_penalty(const float *w, float *g, double l2, size_t n)
{
    float factor = (float)(2 * l2);
    for (size_t i = 0; i < n; i++) g[i] += factor * w[i];
}

static double clip(const struct kernels *k, const struct optim_spec *s, const struct params *p, float *grads)
{
    double squares = 0;
    for (int i = 0; i < p->n; i++)
        if (p->entry[i].trainable) squares += k->sum_squares(grads + p->entry[i].offset, p->entry[i].count);
    double norm = sqrt(squares);
    if (norm > s->clip_norm) k->scale((float)(s->clip_norm / norm), grads, grads, p->len);
    return norm;
}

double optim_step(const struct optim_spec *s, const struct backend *b, struct params *p, float *grads,
                  float *const *slot, uint64_t step, double rate)
{
    const struct kernels *k = b->kernels;
    double norm = 0;
    for (int i = 0; i < p->n; i++) {
        const struct params_entry *x = &p->entry[i];
        if (x->trainable && x->l2 > 0) add_penalty(p->data + x->offset, grads + x->offset, x->l2, x->count);
    }
    if (s->clip_norm > 0) norm = clip(k, s, p, grads);
    for (int i = 0; i < p->n; i++) {
        const struct params_entry *x = &p->entry[i];
        float *w = p->data + x->offset, *g = grads + x->offset;
        float *a = kinds[s->kind].slots > 0 ? slot[0] + x->offset : NULL;
        if (!x->trainable) continue;
        if (s->kind == OPTIM_SGD) {
            k->sgd(w, g, (float)rate, x->count);
        } else if (s->kind == OPTIM_MOMENTUM || s->kind == OPTIM_NESTEROV) {
            k->momentum(w, g, a, (float)rate, (float)s->momentum, s->kind == OPTIM_NESTEROV, x->count);
        } else if (s->kind == OPTIM_RMSPROP) {
            k->rmsprop(w, g, a, (float)rate, (float)s->rho, (float)s->epsilon, x->count);
        } else {
            struct adam_step c = adam_coefficients(s, step, rate, s->kind == OPTIM_ADAMW && x->decay);
            k->adam(w, g, a, slot[1] + x->offset, &c, x->count);
        }
    }
    return norm;
}
