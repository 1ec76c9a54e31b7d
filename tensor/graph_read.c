/* Reading a graph: look-ups and totals. */
#include "tensor/graph_impl.h"

#include <string.h>
#include "tensor/op.h"

int graph_value_count(const struct graph *g)
{
    return g->n_values;
}

const struct value *graph_value(const struct graph *g, int id)
{
    return &g->value[id];
}

size_t graph_bytes(const struct graph *g)
{
    return sizeof *g + (size_t)g->cap_values * sizeof *g->value + (size_t)g->cap_nodes * sizeof *g->node +
           (size_t)g->cap_inputs * sizeof *g->input + (size_t)g->cap_params * sizeof *g->param +
           (size_t)g->n_buckets * sizeof *g->bucket;
}

int graph_node_count(const struct graph *g)
{
    return g->n_nodes;
}

const struct node *graph_node(const struct graph *g, int index)
{
    return &g->node[index];
}

int graph_input_count(const struct graph *g)
{
    return g->n_inputs;
}

int graph_input_value(const struct graph *g, int index)
{
    return g->input[index];
}

int graph_input_find(const struct graph *g, const char *name)
{
    int id = graph_value_find(g, name);
    return id >= 0 && g->value[id].kind == VALUE_INPUT ? g->value[id].index : -1;
}

int graph_param_count(const struct graph *g)
{
    return g->n_params;
}

const struct param *graph_param_at(const struct graph *g, int index)
{
    return &g->param[index];
}

int graph_output_count(const struct graph *g)
{
    return g->n_outputs;
}

int graph_output_value(const struct graph *g, int index)
{
    return g->output[index].value;
}

const char *graph_output_name(const struct graph *g, int index)
{
    return g->output[index].name;
}

int graph_output_find(const struct graph *g, const char *name)
{
    for (int i = 0; i < g->n_outputs; i++)
        if (strcmp(g->output[i].name, name) == 0) return i;
    return -1;
}

int graph_loss(const struct graph *g)
{
    return g->loss;
}

int64_t graph_param_scalars(const struct graph *g)
{
    int64_t n = 0;
    for (int i = 0; i < g->n_params; i++)
        if (g->param[i].spec.trainable) n += (int64_t)shape_row_count(&g->param[i].spec.shape);
    return n;
}

int64_t graph_flops(const struct graph *g, int64_t rows)
{
    double total = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->node[i];
        struct op_shapes s = {.node = n};
        for (int j = 0; j < n->n_inputs; j++) {
            const struct value *v = &g->value[n->input[j]];
            s.in[j] = (struct typed_shape){v->dtype, shape_with_batch(&v->shape, rows)};
        }
        for (int j = 0; j < n->n_outputs; j++) {
            const struct value *v = &g->value[n->output[j]];
            s.out[j] = (struct typed_shape){v->dtype, shape_with_batch(&v->shape, rows)};
        }
        total += n->op->flops(&s);
    }
    return total < 0x1p62 ? (int64_t)total : INT64_MAX;
}
