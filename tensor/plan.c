/* Compiles a graph: lower, differentiate, place, and say what it costs. */
#include "tensor/plan_impl.h"

#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "tensor/autodiff.h"
#include "tensor/graph_impl.h"
#include "tensor/kernel.h"
#include "tensor/op.h"
#include "tensor/pass.h"
#include "tensor/ops/families.h"
#include "tensor/place.h"

static int check_options(const struct plan_options *o, const struct graph *g, struct err *e)
{
    if (o->max_batch < 1 || o->max_batch > INT32_MAX)
        return err_set(e, ERR_INVALID, "max_batch", "max_batch is %lld; expected 1 to %d",
                       (long long)o->max_batch, INT32_MAX);
    if (o->threads < 0 || (o->threads > 1 && o->mode == PLAN_INFER))
        return err_set(e, ERR_UNSUPPORTED, "threads", "%d threads; a run of inference has one", o->threads);
    if (o->mode == PLAN_INFER && g->n_outputs == 0)
        return err_set(e, ERR_INVALID, "outputs", "the graph has no output to infer");
    if (o->part_rows < 0) return err_set(e, ERR_INVALID, "part_rows", "part_rows is negative");
    return o->mode == PLAN_TRAIN ? optim_check(&o->optim, e) : 0;
}

/* ---- threads ---- */

/* A thread must have much more to do than a hand-over costs, which is a microsecond or two, and than it costs
 * to fetch from the other cores' caches the weights that they have moved and the gradients that they have
 * found: per weight about as long as a hundred operations (docs/decisions/0008). */
static const int64_t THREAD_FLOPS = 2000000, WEIGHT_FLOPS = 100;

/* Whether the node may be given some rows of a batch at a time. mean: per value, whether it is a mean over
 * the rows, or made of such; the results' are set. */
static bool rows_stand_apart(const struct graph *g, const struct node *n, bool train, bool *mean)
{
    bool has_rows = false, has_mean = false;
    if (train && n->op->rows == OP_ROWS_TOGETHER) return false; /* what it keeps is used in inference */
    for (int j = 0; j < n->n_inputs; j++) {
        has_rows = has_rows || shape_batched(&g->value[n->input[j]].shape);
        has_mean = has_mean || mean[n->input[j]];
    }
    if (has_mean && (has_rows || n->op->rows != OP_ROWS_AFFINE)) return false;
    for (int j = 0; j < n->n_outputs; j++) {
        bool loses_rows = has_rows && !shape_batched(&g->value[n->output[j]].shape);
        if (loses_rows && (j > 0 || n->op->rows != OP_ROWS_MEAN)) return false;
        mean[n->output[j]] = has_mean || loses_rows;
    }
    return true;
}

/* Sets p->together. The graph is lowered, and not yet differentiated. */
static int find_together(struct plan *p, struct err *e)
{
    const struct graph *g = p->graph;
    bool *mean = mem_try_alloc((size_t)g->n_values + 1, sizeof *mean);
    if (!mean) return err_set(e, ERR_NOMEM, NULL, "no memory to compile the graph");
    for (int i = 0; i < g->n_nodes && !p->together; i++)
        if (!rows_stand_apart(g, &g->node[i], p->options.mode == PLAN_TRAIN, mean))
            p->together = g->node[i].op->name;
    for (int i = 0; i < g->n_outputs && !p->together; i++)
        if (mean[g->output[i].value]) p->together = g->node[g->value[g->output[i].value].producer].op->name;
    mem_free(mean);
    return 0;
}

static void choose_threads(struct plan *p)
{
    int64_t usual = THREAD_FLOPS + WEIGHT_FLOPS * graph_param_scalars(p->graph);
    int64_t each = p->options.thread_flops > 0 ? p->options.thread_flops : usual;
    int64_t rows = p->options.max_batch, most = graph_flops(p->graph, rows) / each;
    int64_t n = p->options.threads < TEAM_MAX_MEMBERS ? p->options.threads : TEAM_MAX_MEMBERS;
    if (n > rows) n = rows;
    if (n > most) n = most;
    if (n < 1 || p->together) n = 1;
    p->threads = (int)n;
    p->shard_rows = p->part_rows = (rows + n - 1) / n;
}

/* ---- parts of a shard ---- */

/* What one part's intermediates should take: they stay in a core's second-level cache, and what one layer
 * writes the next one finds there. PART_ROWS of an inference: fewer make the products inefficient. PART_FLOPS
 * of a training step for each weight, of which every part packs some and moves the gradient: a product of 256
 * lines has 1,536. */
static const size_t PART_BYTES = 1536 << 10;
static const double PART_FLOPS = 1500;
enum { PART_ROWS = 16 };

/* The fewest rows of a part of a step that repay its handling; 0 when only the whole does. Tables count by
 * their lines, which are few. */
static int64_t least_part_of_step(const struct plan *p)
{
    double weights = 0, flops = (double)graph_flops(p->graph, 1);
    for (int i = 0; i < p->graph->n_nodes; i++)
        if (p->graph->node[i].op->all_rows) return 0;
    for (int i = 0; i < p->graph->n_params; i++) {
        int grad = p->grad[i];
        if (grad >= 0 && p->graph->node[p->graph->value[grad].producer].op != &op_gather_grad)
            weights += (double)shape_row_count(&p->graph->param[i].spec.shape);
    }
    return flops > 0 ? (int64_t)ceil(PART_FLOPS * weights / flops) : 0;
}

static int64_t choose_part(const struct plan *p)
{
    bool train = p->options.mode == PLAN_TRAIN;
    int64_t rows = p->shard_rows, least = PART_ROWS, multiple = train ? 1 : PART_ROWS;
    if (p->together) return rows;
    if (train && p->options.part_rows > 0) return p->options.part_rows < rows ? p->options.part_rows : rows;
    if (p->bytes.arena <= PART_BYTES || (train && (least = least_part_of_step(p)) == 0)) return rows;
    int64_t fit = (int64_t)((double)rows * (double)PART_BYTES / (double)p->bytes.arena) / multiple * multiple;
    if (fit < least) fit = least;
    if (fit >= rows) return rows;
    int64_t parts = rows / fit; /* of a step: none smaller than what repays it */
    return train ? (rows + parts - 1) / parts : fit;
}

/* Lays the plan out again for parts of its rows, when the whole does not fit. The rows of a part of an
 * inference are computed as they would be in any other company, so that nobody sees the difference. */
static int place_parts(struct plan *p, struct err *e)
{
    p->part_rows = choose_part(p);
    if (p->part_rows == p->shard_rows) return 0;
    mem_free(p->value);
    mem_free(p->node);
    p->value = NULL;
    p->node = NULL;
    return plan__place(p, e);
}

/* ---- compiling ---- */

static int differentiate(struct plan *p, struct err *e)
{
    p->grad = mem_try_alloc((size_t)p->graph->n_params + 1, sizeof *p->grad);
    p->mark_at = mem_try_alloc((size_t)p->graph->n_params + 1, sizeof *p->mark_at);
    if (!p->grad || !p->mark_at) return err_set(e, ERR_NOMEM, NULL, "no memory to differentiate the graph");
    return autodiff(p->graph, p->grad, e);
}

/* The plan's inputs: those that a node reads or that are outputs themselves. */
static int collect_inputs(struct plan *p, struct err *e)
{
    const struct graph *g = p->graph;
    bool *read = mem_try_alloc((size_t)g->n_values + 1, sizeof *read);
    p->input = mem_try_alloc((size_t)g->n_inputs + 1, sizeof *p->input);
    if (!read || !p->input) {
        mem_free(read);
        return err_set(e, ERR_NOMEM, NULL, "no memory to compile the graph");
    }
    for (int i = 0; i < g->n_nodes; i++)
        for (int j = 0; j < g->node[i].n_inputs; j++) read[g->node[i].input[j]] = true;
    for (int i = 0; i < g->n_outputs; i++) read[g->output[i].value] = true;
    for (int i = 0; i < g->n_inputs; i++)
        if (read[g->input[i]]) p->input[p->n_inputs++] = i;
    mem_free(read);
    return 0;
}

static int count_bytes(struct plan *p, struct err *e)
{
    struct plan_bytes *b = &p->bytes;
    size_t flat = p->layout->len * sizeof(float);
    size_t outputs;
    int rc = plan__output_bytes(p, &outputs, e);
    if (rc) return rc;
    p->shard_arena = b->arena;
    if (p->options.mode == PLAN_TRAIN) {
        b->params = flat;
        b->optim = optim_bytes(&p->options.optim, p->layout);
        if (!mem_mul(flat + p->marks_len, (size_t)p->threads, &b->grads) ||
            !mem_mul(b->arena, (size_t)p->threads, &b->arena) || !mem_add(b->arena, outputs, &b->arena))
            return err_set(e, ERR_TOO_LARGE, "memory", "%d threads need more than any memory", p->threads);
    } else {
        b->arena += outputs;
    }
    b->packed = p->weights_len * sizeof(float);
    b->total = b->params + b->grads + b->optim + b->packed + b->arena;
    if (p->options.limit_bytes > 0 && b->total > p->options.limit_bytes)
        return err_set(e, ERR_TOO_LARGE, "memory", "the run needs %zu bytes of memory; the limit is %zu",
                       b->total, p->options.limit_bytes);
    return 0;
}

static int compile(struct plan *p, const struct graph *g, struct err *e)
{
    bool train = p->options.mode == PLAN_TRAIN;
    int rc;
    if ((rc = pass_lower(&p->graph, g, train, !train || p->options.keep_outputs, train, e))) return rc;
    if ((rc = find_together(p, e)) || (train && (rc = differentiate(p, e)))) return rc;
    choose_threads(p);
    if ((rc = params_layout(&p->layout, p->graph, e)) || (rc = collect_inputs(p, e)) ||
        (rc = plan__place(p, e)) || (rc = place_parts(p, e)))
        return rc;
    return count_bytes(p, e);
}

int plan_create(struct plan **out, const struct graph *g, const struct plan_options *o, struct err *e)
{
    int rc = check_options(o, g, e);
    if (rc) return rc;
    struct plan *p = mem_try_alloc(1, sizeof *p);
    if (!p) return err_set(e, ERR_NOMEM, NULL, "no memory for the plan");
    p->options = *o;
    p->backend = o->backend ? o->backend : backend_auto();
    if ((rc = compile(p, g, e)))
        plan_free(p);
    else
        *out = p;
    return rc;
}

void plan_free(struct plan *p)
{
    if (!p) return;
    graph_free(p->graph);
    params_free(p->layout);
    mem_free(p->input);
    mem_free(p->grad);
    mem_free(p->mark_at);
    mem_free(p->value);
    mem_free(p->node);
    mem_free(p->weights);
    mem_free(p);
}

const struct plan_bytes *plan_bytes(const struct plan *p)
{
    return &p->bytes;
}

size_t plan_own_bytes(const struct plan *p)
{
    return sizeof *p + graph_bytes(p->graph) + (size_t)graph_value_count(p->graph) * sizeof *p->value +
           (size_t)graph_node_count(p->graph) * sizeof *p->node +
           (size_t)p->layout->n * sizeof *p->layout->entry;
}

int64_t plan_max_batch(const struct plan *p)
{
    return p->options.max_batch;
}

int64_t plan_flops(const struct plan *p, int64_t rows)
{
    return graph_flops(p->graph, rows);
}

int plan_threads(const struct plan *p)
{
    return p->threads;
}

int64_t plan_part_rows(const struct plan *p)
{
    return p->part_rows;
}

const char *plan_whole_batch(const struct plan *p)
{
    return p->together;
}

void plan__pack(const struct plan *p, int i, const float *data, float *to)
{
    const struct node *n = &p->graph->node[i];
    const struct params_entry *w = &p->layout->entry[p->graph->value[n->input[n->op->pack_input]].index];
    bool trans = n->op->pack_trans;
    size_t rows, cols;
    op_split_rows(&w->shape, &rows, &cols);
    p->backend->kernels->pack(data + w->offset, (int64_t)cols, trans, (int64_t)(trans ? cols : rows),
                              (int64_t)(trans ? rows : cols), to + p->node[i].packed_offset);
}

int plan_load(struct plan *p, const struct params *params, struct err *e)
{
    if (p->options.mode != PLAN_INFER || !params_same_layout(p->layout, params))
        return err_set(e, ERR_INVALID, "params", "these weights do not belong to the graph of this plan");
    if (!p->weights && !(p->weights = mem_try_aligned(PLACE_ALIGN, (p->weights_len + 16) * sizeof(float))))
        return err_set(e, ERR_NOMEM, NULL, "no memory for %zu bytes of weights",
                       p->weights_len * sizeof(float));
    for (int i = 0; i < params->n; i++) {
        const struct value_place *v = &p->value[p->graph->param[i].value];
        if (v->where == WHERE_PARAM)
            memcpy(p->weights + v->offset, params->data + params->entry[i].offset,
                   params->entry[i].count * sizeof(float));
    }
    for (int i = 0; i < p->graph->n_nodes; i++)
        if (p->node[i].packed) plan__pack(p, i, params->data, p->weights);
    return 0;
}

int plan_input_count(const struct plan *p)
{
    return p->n_inputs;
}

const struct value *plan_input(const struct plan *p, int index)
{
    return graph_value(p->graph, p->graph->input[p->input[index]]);
}

int plan_input_find(const struct plan *p, const char *name)
{
    for (int i = 0; i < p->n_inputs; i++)
        if (strcmp(plan_input(p, i)->name, name) == 0) return i;
    return -1;
}

int plan_output_count(const struct plan *p)
{
    return graph_output_count(p->graph);
}

const char *plan_output_name(const struct plan *p, int index)
{
    return graph_output_name(p->graph, index);
}

const struct value *plan_output(const struct plan *p, int index)
{
    return graph_value(p->graph, graph_output_value(p->graph, index));
}

int plan_output_find(const struct plan *p, const char *name)
{
    return graph_output_find(p->graph, name);
}
