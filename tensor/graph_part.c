/* Copies the nodes that a value depends on into a graph of their own. */
#include "tensor/graph_part.h"

#include <stdbool.h>

#include "base/mem.h"
#include "tensor/graph_impl.h"

/* Marks the value and what it is made of; the nodes are in an order that can be executed, so that one walk
 * backwards meets every use before its producer. */
static void mark(const struct graph *g, int cut, int output, bool *needed)
{
    needed[output] = true;
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const struct node *n = &g->node[i];
        bool wanted = false;
        for (int k = 0; k < n->n_outputs; k++) wanted |= needed[n->output[k]] && n->output[k] != cut;
        for (int k = 0; wanted && k < n->n_inputs; k++) needed[n->input[k]] = true;
    }
}

static int copy_node(struct graph *to, const struct graph *from, const struct node *n, int *map,
                     struct err *e)
{
    int in[NODE_MAX_INPUTS], values[NODE_MAX_OUTPUTS];
    for (int k = 0; k < n->n_inputs; k++) in[k] = map[n->input[k]];
    int rc =
        graph__op(to, from->value[n->output[0]].name, n->op, in, n->n_inputs, n->attr, &n->rng_id, values, e);
    for (int k = 0; k < n->n_outputs && !rc; k++) map[n->output[k]] = values[k];
    return rc;
}

static int copy_value(struct graph *to, const struct graph *from, int id, int *map, struct err *e)
{
    const struct value *v = &from->value[id];
    if (v->kind == VALUE_PARAM) return graph_param(to, v->name, &from->param[v->index].spec, &map[id], e);
    return graph_input(to, v->name, v->dtype, &v->shape, &map[id], e);
}

static int copy(struct graph *to, const struct graph *from, int cut, const bool *needed, int *map,
                struct err *e)
{
    int rc = 0;
    for (int i = 0; i < from->n_values && !rc; i++)
        if (needed[i] && (i == cut || from->value[i].kind != VALUE_NODE))
            rc = copy_value(to, from, i, map, e);
    for (int i = 0; i < from->n_nodes && !rc; i++) {
        const struct node *n = &from->node[i];
        bool wanted = false;
        for (int k = 0; k < n->n_outputs; k++) wanted |= needed[n->output[k]] && n->output[k] != cut;
        if (wanted) rc = copy_node(to, from, n, map, e);
    }
    return rc;
}

int graph_part(struct graph **out, const struct graph *g, int cut, const char *name, int output,
               struct err *e)
{
    struct graph *part = NULL;
    *out = NULL;
    if (g->value[output].kind != VALUE_NODE || output == cut)
        return err_set(e, ERR_INVALID, g->value[output].name, "'%s' is not computed by a node",
                       g->value[output].name);
    bool *needed = mem_try_alloc((size_t)g->n_values, sizeof *needed);
    int *map = mem_try_alloc((size_t)g->n_values, sizeof *map);
    int rc = needed && map ? graph_create(&part, e)
                           : err_set(e, ERR_NOMEM, NULL, "no memory to take a graph apart");
    if (!rc) {
        mark(g, cut, output, needed);
        rc = copy(part, g, cut, needed, map, e);
    }
    if (!rc) rc = graph_output(part, name, map[output], e);
    mem_free(needed);
    mem_free(map);
    if (rc)
        graph_free(part);
    else
        *out = part;
    return rc;
}
