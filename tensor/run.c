/* Carries plans out: binds memory once, then walks the nodes. */
#include "tensor/run.h"

#include <string.h>
#include "base/mem.h"
#include "tensor/graph_impl.h"
#include "tensor/op.h"
#include "tensor/place.h"
#include "tensor/plan_impl.h"

struct run {
    const struct plan *plan; /* borrowed */
    struct params *params;   /* borrowed; NULL in inference */
    unsigned char *arena;    /* owned; so are the others */
    float *grads;
    float *slot[OPTIM_MAX_SLOTS];
    struct view *view;    /* per value */
    struct op_call *call; /* per node */
    int64_t rows;         /* that the views are shaped for; 0 at first */
    double grad_norm;
};

static int allocate(struct run *r, struct err *e)
{
    const struct plan *p = r->plan;
    size_t flat = (p->layout->len + 16) * sizeof(float);
    r->view = mem_try_alloc((size_t)p->graph->n_values + 1, sizeof *r->view);
    r->call = mem_try_alloc((size_t)p->graph->n_nodes + 1, sizeof *r->call);
    r->arena = mem_try_aligned(PLACE_ALIGN, p->bytes.arena + PLACE_ALIGN);
    bool ok = r->view && r->call && r->arena;
    if (p->options.mode == PLAN_TRAIN) {
        ok = ok && (r->grads = mem_try_aligned(PLACE_ALIGN, flat));
        for (int i = 0; i < optim_slots(p->options.optim.kind); i++)
            ok = ok && (r->slot[i] = mem_try_aligned(PLACE_ALIGN, flat));
    }
    if (ok) return 0;
    return err_set(e, ERR_NOMEM, NULL, "no memory for the run (%zu bytes)", p->bytes.total);
}

static void *memory_of(const struct run *r, const struct value_place *v)
{
    switch (v->where) {
    case WHERE_PARAM:
        return (r->params ? r->params->data : r->plan->weights) + v->offset;
    case WHERE_GRAD:
        return r->grads + v->offset;
    case WHERE_ARENA:
        return r->arena + v->offset;
    case WHERE_FEED:
    case WHERE_NOWHERE:
        break;
    }
    return NULL;
}

static void bind(struct run *r)
{
    const struct plan *p = r->plan;
    for (int i = 0; i < p->graph->n_values; i++) {
        const struct value *v = &p->graph->value[i];
        r->view[i] = (struct view){.dtype = v->dtype, .shape = v->shape, .data = memory_of(r, &p->value[i])};
    }
    for (int i = 0; i < p->graph->n_nodes; i++) {
        const struct node *n = &p->graph->node[i];
        struct op_call *c = &r->call[i];
        c->node = n;
        for (int j = 0; j < n->n_inputs; j++) c->in[j] = &r->view[n->input[j]];
        for (int j = 0; j < n->n_outputs; j++) c->out[j] = &r->view[n->output[j]];
        c->packed = p->node[i].packed ? p->weights + p->node[i].packed_offset : NULL;
        c->work = r->arena + p->node[i].work_offset;
        c->backend = p->backend;
        c->inference = p->options.mode == PLAN_INFER;
        c->rng.stream = RNG_STREAM_NODE + n->rng_id;
    }
}

int run_create(struct run **out, const struct plan *plan, struct params *params, struct err *e)
{
    bool train = plan->options.mode == PLAN_TRAIN;
    if (train != (params != NULL) || (train && !params_same_layout(plan->layout, params)))
        return err_set(e, ERR_INVALID, "params", "these weights do not belong to the graph of this plan");
    if (!train && !plan->weights)
        return err_set(e, ERR_INVALID, "params", "the plan has no weights yet; load them first");
    struct run *r = mem_try_alloc(1, sizeof *r);
    if (!r) return err_set(e, ERR_NOMEM, NULL, "no memory for the run");
    r->plan = plan;
    r->params = params;
    int rc = allocate(r, e);
    if (rc) {
        run_free(r);
        return rc;
    }
    bind(r);
    *out = r;
    return 0;
}

void run_free(struct run *r)
{
    if (!r) return;
    mem_free(r->arena);
    mem_free(r->grads);
    for (int i = 0; i < OPTIM_MAX_SLOTS; i++) mem_free(r->slot[i]);
    mem_free(r->view);
    mem_free(r->call);
    mem_free(r);
}

static void set_rows(struct run *r, int64_t rows)
{
    const struct graph *g = r->plan->graph;
    for (int i = 0; i < g->n_values; i++) r->view[i].shape = shape_with_batch(&g->value[i].shape, rows);
    r->rows = rows;
}

static int begin(struct run *r, const void *const *feeds, int64_t rows, struct err *e)
{
    const struct plan *p = r->plan;
    if (rows < 1 || rows > p->options.max_batch)
        return err_set(e, ERR_INVALID, "rows", "%lld rows; this plan takes 1 to %lld", (long long)rows,
                       (long long)p->options.max_batch);
    if (rows != r->rows) set_rows(r, rows);
    for (int i = 0; i < p->graph->n_values; i++)
        if (p->value[i].where == WHERE_FEED) r->view[i].data = (void *)(uintptr_t)feeds[p->value[i].index];
    if (p->options.poison) memset(r->arena, 0xff, p->bytes.arena);
    return 0;
}

static int execute(struct run *r, struct err *e)
{
    for (int i = 0; i < r->plan->graph->n_nodes; i++) {
        int rc = r->call[i].node->op->forward(&r->call[i], e);
        if (rc) return rc;
    }
    return 0;
}

int run_forward(struct run *r, const void *const *feeds, int64_t rows, struct err *e)
{
    int rc = begin(r, feeds, rows, e);
    return rc ? rc : execute(r, e);
}

int run_gradients(struct run *r, const struct step *s, float *loss, struct err *e)
{
    if (r->plan->options.mode != PLAN_TRAIN)
        return err_set(e, ERR_INVALID, "mode", "this plan was compiled for inference");
    int rc = begin(r, s->feeds, s->rows, e);
    if (rc) return rc;
    for (int i = 0; i < r->plan->graph->n_nodes; i++) {
        r->call[i].rng.seed = s->seed;
        r->call[i].rng.step = (uint32_t)s->index;
    }
    if ((rc = execute(r, e))) return rc;
    *loss = *(const float *)r->view[r->plan->graph->loss].data;
    return 0;
}

int run_step(struct run *r, const struct step *s, float *loss, struct err *e)
{
    int rc = run_gradients(r, s, loss, e);
    if (rc) return rc;
    r->grad_norm = optim_step(&r->plan->options.optim, r->plan->backend, r->params, r->grads, r->slot,
                              s->index, s->rate);
    for (int i = 0; i < r->plan->graph->n_nodes; i++)
        if (r->call[i].node->op->keep) r->call[i].node->op->keep(&r->call[i]);
    return 0;
}

struct view run_output(const struct run *r, int index)
{
    return r->view[graph_output_value(r->plan->graph, index)];
}

float *run_grads(struct run *r)
{
    return r->grads;
}

int run_slot_count(const struct run *r)
{
    return r->plan->options.mode == PLAN_TRAIN ? optim_slots(r->plan->options.optim.kind) : 0;
}

const char *run_slot_name(const struct run *r, int slot)
{
    return optim_slot_name(r->plan->options.optim.kind, slot);
}

float *run_slot(struct run *r, int slot)
{
    return r->slot[slot];
}

double run_grad_norm(const struct run *r)
{
    return r->grad_norm;
}
