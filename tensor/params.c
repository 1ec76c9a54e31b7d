/* Lays a graph's parameters out in one flat buffer. */
#include "tensor/params.h"

#include <string.h>
#include "base/mem.h"

enum { ALIGN_FLOATS = 16 };

static int lay_out(struct params *p, const struct graph *g, struct err *e)
{
    size_t at = 0;
    for (int i = 0; i < p->n; i++) {
        const struct param *q = graph_param_at(g, i);
        const struct value *v = graph_value(g, q->value);
        struct params_entry *x = &p->entry[i];
        memcpy(x->name, v->name, sizeof x->name);
        x->shape = v->shape;
        x->offset = at;
        x->count = shape_row_count(&v->shape);
        x->trainable = q->spec.trainable;
        x->decay = q->spec.decay;
        x->l2 = q->spec.l2;
        size_t room;
        if (!mem_add(x->count, ALIGN_FLOATS - 1, &room) ||
            !mem_add(at, room & ~(size_t)(ALIGN_FLOATS - 1), &at))
            return err_set(e, ERR_TOO_LARGE, v->name, "the parameters together are larger than any memory");
    }
    p->len = at;
    return 0;
}

int params_layout(struct params **out, const struct graph *g, struct err *e)
{
    struct params *p = mem_try_alloc(1, sizeof *p);
    struct params_entry *entry = mem_try_alloc((size_t)graph_param_count(g) + 1, sizeof *entry);
    if (!p || !entry) {
        mem_free(p);
        mem_free(entry);
        err_set(e, ERR_NOMEM, NULL, "no memory for the parameters");
        return ERR_NOMEM;
    }
    p->n = graph_param_count(g);
    p->entry = entry;
    *out = p;
    int rc = lay_out(p, g, e);
    if (rc) params_free(p);
    return rc;
}

bool params_same_layout(const struct params *a, const struct params *b)
{
    bool same = a->n == b->n && a->len == b->len;
    for (int i = 0; same && i < a->n; i++)
        same = strcmp(a->entry[i].name, b->entry[i].name) == 0 &&
               shape_equal(&a->entry[i].shape, &b->entry[i].shape);
    return same;
}

int params_create(struct params **out, const struct graph *g, struct err *e)
{
    struct params *p;
    int rc = params_layout(&p, g, e);
    if (rc) return rc;
    size_t bytes;
    if (!mem_mul(p->len + ALIGN_FLOATS, sizeof(float), &bytes) || !(p->data = mem_try_aligned(64, bytes))) {
        rc = err_set(e, ERR_NOMEM, NULL, "no memory for %zu parameter values (%zu bytes)", p->len,
                     p->len * sizeof(float));
        params_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void params_free(struct params *p)
{
    if (!p) return;
    mem_free(p->data);
    mem_free(p->entry);
    mem_free(p);
}

void params_init(struct params *p, const struct graph *g, uint64_t seed)
{
    for (int i = 0; i < p->n; i++)
        init_fill(p->data + p->entry[i].offset, &p->entry[i].shape, &graph_param_at(g, i)->spec.init, seed,
                  (uint32_t)i);
}

int params_find(const struct params *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->entry[i].name, name) == 0) return i;
    return -1;
}

void params_copy(struct params *to, const struct params *from)
{
    memcpy(to->data, from->data, from->len * sizeof(float));
}

struct view params_view(const struct params *p, int i, float *buf)
{
    return (struct view){.dtype = DTYPE_F32, .shape = p->entry[i].shape, .data = buf + p->entry[i].offset};
}

double params_penalty(const struct params *p)
{
    double sum = 0;
    for (int i = 0; i < p->n; i++) {
        const struct params_entry *x = &p->entry[i];
        if (x->l2 == 0) continue;
        double squares = 0;
        for (size_t j = 0; j < x->count; j++)
            squares += (double)p->data[x->offset + j] * (double)p->data[x->offset + j];
        sum += x->l2 * squares;
    }
    return sum;
}
