/* Gives every value of a compiled graph its place: feeds, parameters, gradients, or the arena by lifetime. */
#include "tensor/plan_impl.h"

#include "base/mem.h"
#include "tensor/graph_impl.h"
#include "tensor/op.h"
#include "tensor/place.h"

struct placing {
    struct plan *plan;
    const struct graph *g;
    int *root; /* per value: the value whose memory it shares; owned */
    int *last; /* per root: last node that reads it; n_nodes when it outlives the run; owned */
    struct place_block *blocks; /* owned */
    int *block_of;              /* per value: its block or -1; owned */
    int *work_block;            /* per node: its workspace's block or -1; owned */
    int n_blocks;
};

static int value_bytes(const struct placing *p, int value, size_t *out, struct err *e)
{
    const struct value *v = &p->g->value[value];
    size_t n;
    if (!shape_count(&v->shape, p->plan->part_rows, &n))
        return err_set(e, ERR_TOO_LARGE, v->name, "'%s' with %lld rows is larger than any memory", v->name,
                       (long long)p->plan->part_rows);
    *out = n * dtype_bytes(v->dtype);
    return 0;
}

static void place_leaves(struct placing *p)
{
    struct value_place *place = p->plan->value;
    for (int i = 0; i < p->plan->n_inputs; i++)
        place[p->g->input[p->plan->input[i]]] = (struct value_place){.where = WHERE_FEED, .index = i};
    for (int i = 0; i < p->g->n_params; i++)
        place[p->g->param[i].value] =
            (struct value_place){.where = WHERE_PARAM, .offset = p->plan->layout->entry[i].offset};
}

/* Gradients are written where the optimiser finds them. What several parts add up there must be added by its
 * operator, and read by nobody else; another goes through the arena and is added by the shard. */
static void place_gradients(struct placing *p)
{
    bool parts = p->plan->part_rows < p->plan->shard_rows;
    for (int i = 0; p->plan->grad && i < p->g->n_params; i++) {
        int value = p->plan->grad[i], producer = value >= 0 ? p->g->value[value].producer : -1;
        const struct params_entry *entry = &p->plan->layout->entry[i];
        if (value < 0) continue;
        struct node_place *n = &p->plan->node[producer];
        n->adds = parts && p->g->node[producer].op->adds && p->last[value] == producer;
        if (parts && !n->adds) {
            n->join_at = entry->offset;
            n->join_len = entry->count;
        } else {
            p->plan->value[value] = (struct value_place){.where = WHERE_GRAD, .offset = entry->offset};
        }
    }
}

static void place_marks(struct plan *p)
{
    p->marks_len = 0;
    for (int i = 0; p->grad && i < p->graph->n_params; i++) {
        int value = p->grad[i];
        bool marks = value >= 0 && p->value[value].where == WHERE_GRAD &&
                     p->graph->node[p->graph->value[value].producer].op->marks &&
                     p->graph->param[i].spec.shape.dim[1] <= OPTIM_CHUNK;
        p->mark_at[i] = marks ? (int64_t)p->marks_len : -1;
        if (marks) p->marks_len += (size_t)p->graph->param[i].spec.shape.dim[0];
    }
}

static void find_roots(struct placing *p)
{
    for (int i = 0; i < p->g->n_values; i++) {
        p->root[i] = i;
        p->last[i] = -1;
    }
    for (int i = 0; i < p->g->n_nodes; i++) {
        const struct node *n = &p->g->node[i];
        if (n->op->alias) p->root[n->output[0]] = p->root[n->input[0]];
    }
    for (int i = 0; i < p->g->n_nodes; i++) {
        const struct node *n = &p->g->node[i];
        for (int j = 0; j < n->n_outputs; j++)
            if (p->last[p->root[n->output[j]]] < i) p->last[p->root[n->output[j]]] = i;
        for (int j = 0; j < n->n_inputs; j++) p->last[p->root[n->input[j]]] = i;
    }
    for (int i = 0; i < p->g->n_nodes; i++)
        for (int j = 1; p->g->node[i].op->keep && j < p->g->node[i].n_outputs; j++)
            p->last[p->root[p->g->node[i].output[j]]] = p->g->n_nodes;
    for (int i = 0; i < p->g->n_outputs; i++) p->last[p->root[p->g->output[i].value]] = p->g->n_nodes;
    if (p->g->loss >= 0) p->last[p->root[p->g->loss]] = p->g->n_nodes;
}

static int new_block(struct placing *p, size_t bytes, int first, int last)
{
    p->blocks[p->n_blocks] = (struct place_block){.bytes = bytes, .first = first, .last = last};
    return p->n_blocks++;
}

/* The block of an input that dies at node i and that output 0 may be written over, or -1. */
static int block_to_reuse(const struct placing *p, int i, size_t bytes)
{
    const struct node *n = &p->g->node[i];
    if (p->plan->options.no_alias) return -1;
    for (int j = 0; j < n->n_inputs; j++) {
        int root = p->root[n->input[j]], block = p->block_of[root];
        if ((n->op->in_place >> j & 1) && block >= 0 && p->blocks[block].last == i &&
            p->blocks[block].bytes == bytes)
            return block;
    }
    return -1;
}

static int add_output(struct placing *p, int i, int j, struct err *e)
{
    int value = p->g->node[i].output[j];
    size_t bytes = 0;
    int rc = value_bytes(p, value, &bytes, e);
    if (rc || p->root[value] != value || p->plan->value[value].where == WHERE_GRAD) return rc;
    int block = j == 0 ? block_to_reuse(p, i, bytes) : -1;
    if (block >= 0)
        p->blocks[block].last = p->last[value];
    else
        block = new_block(p, bytes, i, p->last[value]);
    p->block_of[value] = block;
    return 0;
}

static void shapes_of(const struct placing *p, int i, struct op_shapes *s)
{
    const struct node *n = &p->g->node[i];
    int64_t rows = p->plan->part_rows;
    s->node = n;
    for (int j = 0; j < n->n_inputs; j++) {
        const struct value *v = &p->g->value[n->input[j]];
        s->in[j] = (struct typed_shape){v->dtype, shape_with_batch(&v->shape, rows)};
    }
    for (int j = 0; j < n->n_outputs; j++) {
        const struct value *v = &p->g->value[n->output[j]];
        s->out[j] = (struct typed_shape){v->dtype, shape_with_batch(&v->shape, rows)};
    }
}

static int add_blocks(struct placing *p, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < p->g->n_values; i++) p->block_of[i] = -1;
    for (int i = 0; rc == 0 && i < p->g->n_inputs; i++) {
        size_t unused;
        rc = value_bytes(p, p->g->input[i], &unused, e);
    }
    for (int i = 0; rc == 0 && i < p->g->n_nodes; i++) {
        struct op_shapes s;
        p->work_block[i] = -1;
        for (int j = 0; rc == 0 && j < p->g->node[i].n_outputs; j++) rc = add_output(p, i, j, e);
        if (rc || !p->g->node[i].op->workspace) continue;
        shapes_of(p, i, &s);
        p->work_block[i] = new_block(p, p->g->node[i].op->workspace(&s), i, i);
    }
    return rc;
}

static void write_places(struct placing *p)
{
    for (int i = 0; i < p->g->n_values; i++) {
        struct value_place *v = &p->plan->value[i];
        if (p->block_of[i] >= 0)
            *v = (struct value_place){.where = WHERE_ARENA, .offset = p->blocks[p->block_of[i]].offset};
    }
    for (int i = 0; i < p->g->n_values; i++)
        if (p->root[i] != i) p->plan->value[i] = p->plan->value[p->root[i]];
    for (int i = 0; i < p->g->n_nodes; i++)
        if (p->work_block[i] >= 0) p->plan->node[i].work_offset = p->blocks[p->work_block[i]].offset;
}

static bool packed(const struct node *n, int input, const struct shape *s)
{
    return input > 0 && input == n->op->pack_input && s->rank >= 2 && (!n->op->packs || n->op->packs(n));
}

/* A packed place for node i's weight, from *at on. */
static void place_packed(struct placing *p, int i, const struct shape *s, size_t *at)
{
    bool trans = p->g->node[i].op->pack_trans;
    size_t rows, cols;
    op_split_rows(s, &rows, &cols);
    size_t len =
        p->plan->backend->kernels->packed_len((int64_t)(trans ? cols : rows), (int64_t)(trans ? rows : cols));
    p->plan->node[i].packed = true;
    p->plan->node[i].packed_offset = *at;
    *at += (len + 15) & ~(size_t)15;
}

/* Training in parts: the weights that each part would pack alike. */
static void place_step_packs(struct placing *p)
{
    struct plan *plan = p->plan;
    size_t at = 0;
    bool parts = plan->part_rows < plan->shard_rows;
    for (int i = 0; parts && plan->backend->own && i < p->g->n_nodes; i++) {
        const struct node *n = &p->g->node[i];
        const struct value *v = n->op->pack_steps ? &p->g->value[n->input[n->op->pack_input]] : NULL;
        if (v && v->kind == VALUE_PARAM) place_packed(p, i, &v->shape, &at);
    }
    plan->weights_len = at;
}

/* Inference: every parameter that some node wants packed gets a packed place per such node; the others, and
 * those that are read raw too, a raw place. */
static void place_weights(struct placing *p)
{
    struct plan *plan = p->plan;
    size_t at = 0;
    for (int i = 0; i < p->g->n_params; i++) plan->value[p->g->param[i].value].where = WHERE_NOWHERE;
    for (int i = 0; i < p->g->n_nodes; i++) {
        const struct node *n = &p->g->node[i];
        for (int j = 0; j < n->n_inputs; j++) {
            const struct value *v = &p->g->value[n->input[j]];
            if (v->kind != VALUE_PARAM) continue;
            if (packed(n, j, &v->shape)) {
                place_packed(p, i, &v->shape, &at);
            } else {
                plan->value[n->input[j]].where = WHERE_PARAM;
            }
        }
    }
    for (int i = 0; i < p->g->n_outputs; i++) {
        int root = p->root[p->g->output[i].value];
        if (p->g->value[root].kind == VALUE_PARAM) plan->value[root].where = WHERE_PARAM;
    }
    for (int i = 0; i < p->g->n_params; i++) {
        struct value_place *v = &plan->value[p->g->param[i].value];
        if (v->where != WHERE_PARAM) continue;
        v->offset = at;
        at += (plan->layout->entry[i].count + 15) & ~(size_t)15;
    }
    plan->weights_len = at;
}

static int place_all(struct placing *p, struct err *e)
{
    place_leaves(p);
    find_roots(p);
    place_gradients(p);
    place_marks(p->plan);
    int rc = add_blocks(p, e);
    if (rc == 0)
        rc = place_blocks(p->blocks, p->n_blocks, p->plan->options.no_alias, &p->plan->bytes.arena, e);
    if (rc) return rc;
    if (p->plan->options.mode == PLAN_INFER)
        place_weights(p);
    else
        place_step_packs(p);
    write_places(p);
    return 0;
}

int plan__place(struct plan *plan, struct err *e)
{
    struct placing p = {.plan = plan, .g = plan->graph};
    size_t values = (size_t)p.g->n_values + 1, nodes = (size_t)p.g->n_nodes + 1;
    plan->value = mem_try_alloc(values, sizeof *plan->value);
    plan->node = mem_try_alloc(nodes, sizeof *plan->node);
    p.root = mem_try_alloc(values, sizeof *p.root);
    p.last = mem_try_alloc(values, sizeof *p.last);
    p.block_of = mem_try_alloc(values, sizeof *p.block_of);
    p.work_block = mem_try_alloc(nodes, sizeof *p.work_block);
    p.blocks = mem_try_alloc(values + nodes, sizeof *p.blocks);
    int rc = plan->value && plan->node && p.root && p.last && p.block_of && p.work_block && p.blocks
                 ? place_all(&p, e)
                 : err_set(e, ERR_NOMEM, NULL, "no memory to plan the run");
    mem_free(p.root);
    mem_free(p.last);
    mem_free(p.block_of);
    mem_free(p.work_block);
    mem_free(p.blocks);
    return rc;
}
