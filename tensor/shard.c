/* Binds the values of a plan to memory once, then walks its nodes as often as asked. */
#include "tensor/shard.h"

#include <string.h>
#include "base/mem.h"
#include "tensor/graph_impl.h"
#include "tensor/place.h"

static void *memory_of(const struct shard *s, const struct params *params, const struct value_place *v)
{
    switch (v->where) {
    case WHERE_PARAM:
        return (params ? params->data : s->plan->weights) + v->offset;
    case WHERE_GRAD:
        return s->grads + v->offset;
    case WHERE_ARENA:
        return s->arena + v->offset;
    case WHERE_FEED:
    case WHERE_NOWHERE:
        break;
    }
    return NULL;
}

static void bind(struct shard *s, const struct params *params, const float *packed)
{
    const struct plan *p = s->plan;
    for (int i = 0; i < p->graph->n_values; i++) {
        const struct value *v = &p->graph->value[i];
        s->view[i] =
            (struct view){.dtype = v->dtype, .shape = v->shape, .data = memory_of(s, params, &p->value[i])};
    }
    for (int i = 0; i < p->graph->n_nodes; i++) {
        const struct node *n = &p->graph->node[i];
        struct op_call *c = &s->call[i];
        c->node = n;
        for (int j = 0; j < n->n_inputs; j++) c->in[j] = &s->view[n->input[j]];
        for (int j = 0; j < n->n_outputs; j++) c->out[j] = &s->view[n->output[j]];
        c->packed = p->node[i].packed ? packed + p->node[i].packed_offset : NULL;
        c->work = s->arena + p->node[i].work_offset;
        c->backend = p->backend;
        c->inference = p->options.mode == PLAN_INFER;
        c->rng.stream = RNG_STREAM_NODE + n->rng_id;
        c->share = 1;
    }
    for (int i = 0; s->marks && i < p->graph->n_params; i++)
        if (p->mark_at[i] >= 0)
            s->call[p->graph->value[p->grad[i]].producer].marks = s->marks + p->mark_at[i];
}

int shard_init(struct shard *s, const struct plan *p, struct params *params, const float *packed,
               struct err *e)
{
    size_t flat = (p->layout->len + 16) * sizeof(float);
    *s = (struct shard){.plan = p};
    s->view = mem_try_alloc((size_t)p->graph->n_values + 1, sizeof *s->view);
    s->call = mem_try_alloc((size_t)p->graph->n_nodes + 1, sizeof *s->call);
    s->arena = mem_try_aligned(PLACE_ALIGN, p->shard_arena + PLACE_ALIGN);
    bool ok = s->view && s->call && s->arena;
    if (p->options.mode == PLAN_TRAIN)
        ok = ok && (s->grads = mem_try_aligned(PLACE_ALIGN, flat)) &&
             (s->marks = mem_try_alloc(p->marks_len + 1, sizeof *s->marks));
    if (!ok) return err_set(e, ERR_NOMEM, NULL, "no memory for the run (%zu bytes)", p->bytes.total);
    bind(s, params, packed);
    return 0;
}

void shard_dispose(struct shard *s)
{
    mem_free(s->arena);
    mem_free(s->grads);
    mem_free(s->marks);
    mem_free(s->view);
    mem_free(s->call);
}

static void reshape(struct shard *s, int64_t first, int64_t rows)
{
    const struct graph *g = s->plan->graph;
    for (int i = 0; i < g->n_values; i++) s->view[i].shape = shape_with_batch(&g->value[i].shape, rows);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->node[i];
        bool has_rows = n->n_inputs > 0 && shape_batched(&g->value[n->input[0]].shape);
        s->call[i].first_row = has_rows ? first : 0;
    }
    s->first = first;
    s->rows = rows;
}

void shard_aim(struct shard *s, const void *const *feeds, int64_t first, int64_t rows)
{
    const struct plan *p = s->plan;
    if (rows != s->rows || first != s->first) reshape(s, first, rows);
    for (int i = 0; i < p->graph->n_values; i++) {
        const struct value *v = &p->graph->value[i];
        if (p->value[i].where != WHERE_FEED) continue;
        size_t skip = shape_batched(&v->shape) ? (size_t)first * shape_row_count(&v->shape) : 0;
        uintptr_t feed = (uintptr_t)feeds[p->value[i].index];
        s->view[i].data = (void *)(feed + skip * dtype_bytes(v->dtype));
    }
}

void shard_seed(struct shard *s, uint64_t seed, uint64_t step)
{
    for (int i = 0; i < s->plan->graph->n_nodes; i++) {
        s->call[i].rng.seed = seed;
        s->call[i].rng.step = (uint32_t)step;
    }
}

void shard_part(struct shard *s, double share, bool adds)
{
    s->adds = adds;
    for (int i = 0; i < s->plan->graph->n_nodes; i++) {
        s->call[i].share = share;
        s->call[i].adds = adds && s->plan->node[i].adds;
    }
}

/* A gradient that its operator cannot add up. */
static void join(struct shard *s, int node)
{
    const struct node_place *n = &s->plan->node[node];
    const float *from = s->call[node].out[0]->data;
    if (s->adds)
        s->plan->backend->kernels->add(from, s->grads + n->join_at, s->grads + n->join_at, n->join_len);
    else
        memcpy(s->grads + n->join_at, from, n->join_len * sizeof *from);
}

/* NaN wherever this walk must write before it reads. */
static void poison(struct shard *s)
{
    const struct params *layout = s->plan->layout;
    memset(s->arena, 0xff, s->plan->shard_arena);
    for (int i = 0; s->grads && !s->adds && i < layout->n; i++)
        if (layout->entry[i].trainable)
            memset(s->grads + layout->entry[i].offset, 0xff, layout->entry[i].count * sizeof(float));
    if (s->grads && !s->adds) memset(s->marks, 1, s->plan->marks_len);
}

int shard_execute(struct shard *s, struct err *e)
{
    const struct plan *p = s->plan;
    if (p->options.poison) poison(s);
    for (int i = 0; i < p->graph->n_nodes; i++) {
        int rc = s->call[i].node->op->forward(&s->call[i], e);
        if (rc) return rc;
        if (p->node[i].join_len > 0) join(s, i);
    }
    return 0;
}

void shard_keep(struct shard *s)
{
    for (int i = 0; i < s->plan->graph->n_nodes; i++)
        if (s->call[i].node->op->keep) s->call[i].node->op->keep(&s->call[i]);
}
