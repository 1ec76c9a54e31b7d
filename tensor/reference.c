/* Runs references, in node order. */
#include "tensor/reference.h"

#include "base/mem.h"
#include "tensor/graph_impl.h"
#include "tensor/op.h"

struct reference {
    const struct graph *g;
    struct ref_view *view; /* per value; each data owned */
};

int reference_create(struct reference **out, const struct graph *g, int64_t rows, struct err *e)
{
    struct reference *r = mem_try_alloc(1, sizeof *r);
    if (!r) return err_set(e, ERR_NOMEM, NULL, "no memory for the reference");
    r->g = g;
    r->view = mem_try_alloc((size_t)g->n_values + 1, sizeof *r->view);
    bool ok = r->view != NULL;
    for (int i = 0; ok && i < g->n_values; i++) {
        size_t n;
        ok = shape_count(&g->value[i].shape, rows, &n);
        r->view[i].shape = shape_with_batch(&g->value[i].shape, rows);
        ok = ok && (r->view[i].data = mem_try_alloc(n, sizeof(double)));
    }
    if (!ok) {
        reference_free(r);
        return err_set(e, ERR_NOMEM, NULL, "no memory for the reference");
    }
    *out = r;
    return 0;
}

void reference_free(struct reference *r)
{
    if (!r) return;
    for (int i = 0; r->view && i < r->g->n_values; i++) mem_free(r->view[i].data);
    mem_free(r->view);
    mem_free(r);
}

double *reference_value(struct reference *r, int value)
{
    return r->view[value].data;
}

size_t reference_count(const struct reference *r, int value)
{
    return ref_count(&r->view[value]);
}

void reference_run(struct reference *r, uint64_t seed, uint64_t step)
{
    for (int i = 0; i < r->g->n_nodes; i++) {
        const struct node *n = &r->g->node[i];
        struct op_ref call = {
            .node = n, .rng = {.seed = seed, .step = (uint32_t)step, .stream = RNG_STREAM_NODE + n->rng_id}};
        for (int j = 0; j < n->n_inputs; j++) call.in[j] = r->view[n->input[j]];
        for (int j = 0; j < n->n_outputs; j++) call.out[j] = r->view[n->output[j]];
        n->op->reference(&call);
    }
}
