/* One update of all parameters, chunk by chunk: gradients of the shards summed, treated, and spent while they
 * are in the cache. */
#include "tensor/optim.h"

#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "tensor/kernel.h"

enum { ALIGNMENT = 64 };

/* Part of one trainable parameter. */
struct chunk {
    int entry;
    size_t at, len; /* in floats, in the flat buffers */
};

struct optim {
    struct optim_spec spec;
    const struct kernels *kernels;
    struct params *params; /* borrowed */
    float *slot[OPTIM_MAX_SLOTS];
    struct chunk *chunk;     /* owned, in the parameters' order */
    double *squares;         /* owned; per chunk: of its gradient, when norms are needed */
    size_t n_chunks, floats; /* of all chunks */
    double norm;
};

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
        (rc = check_range("weight_decay", s->weight_decay, 0, 1e6, false, e)) ||
        (rc = check_range("l1", s->l1, 0, 1e6, false, e)) ||
        (rc = check_range("clip_value", s->clip_value, 0, 1e30, false, e)) ||
        (rc = check_range("clip_each", s->clip_each, 0, 1e30, false, e)))
        return rc;
    return check_range("clip_norm", s->clip_norm, 0, 1e30, false, e);
}

/* ---- set-up ---- */

/* Whole rows where they are not longer. */
static size_t chunk_len(const struct params_entry *x)
{
    size_t width = x->shape.rank > 1 ? (size_t)x->shape.dim[x->shape.rank - 1] : 1;
    return width < OPTIM_CHUNK ? OPTIM_CHUNK / width * width : OPTIM_CHUNK;
}

static size_t chunks_of(const struct params_entry *x)
{
    return x->trainable ? (x->count + chunk_len(x) - 1) / chunk_len(x) : 0;
}

static size_t count_chunks(const struct params *p)
{
    size_t n = 0;
    for (int i = 0; i < p->n; i++) n += chunks_of(&p->entry[i]);
    return n;
}

size_t optim_bytes(const struct optim_spec *spec, const struct params *layout)
{
    return layout->len * sizeof(float) * (size_t)optim_slots(spec->kind) +
           count_chunks(layout) * (sizeof(struct chunk) + sizeof(double));
}

static void cut(struct optim *o)
{
    const struct params *p = o->params;
    for (int i = 0; i < p->n; i++)
        for (size_t at = 0, len; p->entry[i].trainable && at < p->entry[i].count; at += len) {
            size_t left = p->entry[i].count - at;
            len = chunk_len(&p->entry[i]) < left ? chunk_len(&p->entry[i]) : left;
            o->chunk[o->n_chunks++] = (struct chunk){.entry = i, .at = p->entry[i].offset + at, .len = len};
            o->floats += len;
        }
}

int optim_create(struct optim **out, const struct optim_spec *spec, const struct backend *b, struct params *p,
                 struct err *e)
{
    struct optim *o = mem_try_alloc(1, sizeof *o);
    *out = NULL;
    if (!o) return err_set(e, ERR_NOMEM, NULL, "no memory for the optimiser");
    o->spec = *spec;
    o->kernels = b->kernels;
    o->params = p;
    o->chunk = mem_try_alloc(count_chunks(p) + 1, sizeof *o->chunk);
    o->squares = mem_try_alloc(count_chunks(p) + 1, sizeof *o->squares);
    bool ok = o->chunk && o->squares;
    for (int i = 0; i < optim_slots(spec->kind); i++)
        ok = ok && (o->slot[i] = mem_try_aligned(ALIGNMENT, (p->len + 16) * sizeof(float)));
    if (!ok) {
        optim_free(o);
        return err_set(e, ERR_NOMEM, NULL, "no memory for the optimiser (%zu bytes)", optim_bytes(spec, p));
    }
    cut(o);
    *out = o;
    return 0;
}

void optim_free(struct optim *o)
{
    if (!o) return;
    for (int i = 0; i < OPTIM_MAX_SLOTS; i++) mem_free(o->slot[i]);
    mem_free(o->chunk);
    mem_free(o->squares);
    mem_free(o);
}

float *optim_slot(struct optim *o, int slot)
{
    return o->slot[slot];
}

bool optim_needs_norms(const struct optim *o)
{
    return o->spec.clip_norm > 0 || o->spec.clip_each > 0;
}

double optim_norm(const struct optim *o)
{
    return o->norm;
}

/* ---- one chunk ---- */

/* part[0] = Σ weight·part. A single part is the mean already. */
static void average(const struct optim *o, const struct optim_grads *g, size_t at, size_t len)
{
    for (int s = 1; s < g->n; s++)
        o->kernels->blend(s == 1 ? g->weight[0] : 1.0f, g->part[0] + at, g->weight[s], g->part[s] + at, len);
}

/* Rows of a chunk whose gradient is a table's: their first in the marks, how many, and how long. */
struct rows {
    size_t first, count, width;
};

static bool marked_rows(const struct optim *o, const struct optim_grads *g, const struct chunk *c,
                        struct rows *r)
{
    const struct params_entry *x = &o->params->entry[c->entry];
    if (!g->mark_at || g->mark_at[c->entry] < 0) return false;
    r->width = (size_t)x->shape.dim[1];
    r->first = (size_t)g->mark_at[c->entry] + (c->at - x->offset) / r->width;
    r->count = c->len / r->width;
    return true;
}

/* As average, but for rows that are 0 in all parts. */
static void average_rows(const struct optim *o, const struct optim_grads *g, size_t at, const struct rows *r)
{
    for (size_t i = 0; g->n > 1 && i < r->count; i++) {
        uint8_t *mark = &g->mark[0][r->first + i];
        for (int s = 1; s < g->n; s++) *mark |= g->mark[s][r->first + i];
        if (*mark) average(o, g, at + i * r->width, r->width);
    }
}

static void average_chunk(const struct optim *o, const struct optim_grads *g, const struct chunk *c)
{
    struct rows r;
    if (marked_rows(o, g, c, &r))
        average_rows(o, g, c->at, &r);
    else
        average(o, g, c->at, c->len);
}

/* The chunk's gradient of part[0] after penalties and clipping by number. */
static void treat(const struct optim *o, const struct optim_grads *grads, const struct chunk *c)
{
    float *g = grads->part[0] + c->at;
    struct rows r;
    const struct params_entry *x = &o->params->entry[c->entry];
    const float *w = o->params->data + c->at;
    float square = (float)(2 * x->l2), pull = (float)o->spec.l1, most = (float)o->spec.clip_value;
    bool pulled = x->l2 > 0 || (pull > 0 && x->decay);
    if (pulled && marked_rows(o, grads, c, &r)) memset(grads->mark[0] + r.first, 1, r.count);
    if (x->l2 > 0)
        for (size_t i = 0; i < c->len; i++) g[i] += square * w[i];
    if (pull > 0 && x->decay)
        for (size_t i = 0; i < c->len; i++) g[i] += w[i] > 0 ? pull : w[i] < 0 ? -pull : 0;
    if (most > 0)
        for (size_t i = 0; i < c->len; i++) g[i] = g[i] > most ? most : g[i] < -most ? -most : g[i];
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

static void move(const struct optim *o, const struct chunk *c, float *g, const struct optim_turn *t)
{
    const struct optim_spec *s = &o->spec;
    const struct kernels *k = o->kernels;
    float *w = o->params->data + c->at, *a = kinds[s->kind].slots > 0 ? o->slot[0] + c->at : NULL;
    if (s->kind == OPTIM_SGD) {
        k->sgd(w, g, (float)t->rate, c->len);
    } else if (s->kind == OPTIM_MOMENTUM || s->kind == OPTIM_NESTEROV) {
        k->momentum(w, g, a, (float)t->rate, (float)s->momentum, s->kind == OPTIM_NESTEROV, c->len);
    } else if (s->kind == OPTIM_RMSPROP) {
        k->rmsprop(w, g, a, (float)t->rate, (float)s->rho, (float)s->epsilon, c->len);
    } else {
        bool decay = s->kind == OPTIM_ADAMW && o->params->entry[c->entry].decay;
        struct adam_step step = adam_coefficients(s, t->step, t->rate, decay);
        k->adam(w, g, a, o->slot[1] + c->at, &step, c->len);
    }
}

/* ---- norms ---- */

/* What clipping each parameter by itself scales the one of chunk `first` by. *squares: of its gradient. */
static double factor_of(const struct optim *o, size_t first, double *squares)
{
    *squares = 0;
    for (size_t i = first; i < o->n_chunks && o->chunk[i].entry == o->chunk[first].entry; i++)
        *squares += o->squares[i];
    double norm = sqrt(*squares);
    return o->spec.clip_each > 0 && norm > o->spec.clip_each ? o->spec.clip_each / norm : 1;
}

static bool begins_entry(const struct optim *o, size_t i)
{
    return i == 0 || o->chunk[i - 1].entry != o->chunk[i].entry;
}

/* Every member adds up the same numbers in the same order, and needs no other to tell it. */
static double whole_norm(const struct optim *o)
{
    double sum = 0, squares;
    for (size_t i = 0; i < o->n_chunks; i++) {
        if (!begins_entry(o, i)) continue;
        double factor = factor_of(o, i, &squares);
        sum += factor * factor * squares;
    }
    return sqrt(sum);
}

/* ---- all chunks of one member ---- */

struct range {
    size_t from, to;
};

/* Members take consecutive chunks, as many floats each as the cuts allow. */
static struct range share(const struct optim *o, const struct optim_turn *t)
{
    size_t members = (size_t)t->members, first = o->floats / members * (size_t)t->member;
    size_t end = t->member + 1 == t->members ? o->floats : o->floats / members * ((size_t)t->member + 1);
    struct range r = {o->n_chunks, o->n_chunks};
    for (size_t i = 0, at = 0; i < o->n_chunks; at += o->chunk[i++].len) {
        if (at >= first && r.from == o->n_chunks) r.from = i;
        if (at >= end) {
            r.to = i;
            break;
        }
    }
    return r;
}

void optim_mean(struct optim *o, const struct optim_grads *g, const struct optim_turn *t)
{
    struct range r = share(o, t);
    for (size_t i = r.from; i < r.to; i++) average_chunk(o, g, &o->chunk[i]);
}

void optim_gather(struct optim *o, const struct optim_grads *g, const struct optim_turn *t)
{
    struct range r = share(o, t);
    for (size_t i = r.from; i < r.to; i++) {
        const struct chunk *c = &o->chunk[i];
        average_chunk(o, g, c);
        treat(o, g, c);
        if (optim_needs_norms(o)) o->squares[i] = o->kernels->sum_squares(g->part[0] + c->at, c->len);
    }
}

void optim_move(struct optim *o, const struct optim_grads *g, const struct optim_turn *t)
{
    struct range r = share(o, t);
    double norm = o->spec.clip_norm > 0 ? whole_norm(o) : 0, own = 1, squares;
    double all = norm > o->spec.clip_norm && norm > 0 ? o->spec.clip_norm / norm : 1;
    if (t->member == 0) o->norm = norm;
    for (size_t i = r.from; i < r.to; i++) {
        const struct chunk *c = &o->chunk[i];
        float *grads = g->part[0] + c->at;
        size_t first = i;
        if (o->spec.clip_each > 0 && (i == r.from || begins_entry(o, i))) {
            while (!begins_entry(o, first)) first--;
            own = factor_of(o, first, &squares);
        }
        if (own * all < 1) o->kernels->scale((float)(own * all), grads, grads, c->len);
        move(o, c, grads, t);
    }
}

void optim_gather_and_move(struct optim *o, const struct optim_grads *g, const struct optim_turn *t)
{
    struct range r = share(o, t);
    for (size_t i = r.from; i < r.to; i++) {
        const struct chunk *c = &o->chunk[i];
        average_chunk(o, g, c);
        treat(o, g, c);
        move(o, c, g->part[0] + c->at, t);
    }
}

double optim_step(struct optim *o, float *grads, uint64_t step, double rate)
{
    struct optim_grads g = {.n = 1, .part = {grads}, .weight = {1}};
    struct optim_turn t = {.members = 1, .step = step, .rate = rate};
    optim_gather(o, &g, &t);
    optim_move(o, &g, &t);
    return optim_norm(o);
}
