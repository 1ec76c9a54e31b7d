/* Building a graph: every append checks names, attributes and shapes, so that what exists is sound. */
#include "tensor/graph_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/hash.h"
#include "base/mem.h"
#include "tensor/op.h"

static int no_memory(struct err *e)
{
    return err_set(e, ERR_NOMEM, NULL, "no memory for the graph");
}

int graph_create(struct graph **out, struct err *e)
{
    struct graph *g = mem_try_alloc(1, sizeof *g);
    if (!g) return no_memory(e);
    g->loss = -1;
    *out = g;
    return 0;
}

void graph_free(struct graph *g)
{
    if (!g) return;
    mem_free(g->value);
    mem_free(g->node);
    mem_free(g->input);
    mem_free(g->param);
    mem_free(g->bucket);
    mem_free(g);
}

static void *copy_array(const void *from, int n, size_t size)
{
    void *to = mem_try_alloc((size_t)n + 1, size);
    if (to && n > 0) memcpy(to, from, (size_t)n * size);
    return to;
}

int graph_copy(struct graph **out, const struct graph *g, struct err *e)
{
    struct graph *c = mem_try_alloc(1, sizeof *c);
    if (!c) return no_memory(e);
    *c = *g;
    c->value = copy_array(g->value, g->n_values, sizeof *g->value);
    c->node = copy_array(g->node, g->n_nodes, sizeof *g->node);
    c->input = copy_array(g->input, g->n_inputs, sizeof *g->input);
    c->param = copy_array(g->param, g->n_params, sizeof *g->param);
    c->bucket = copy_array(g->bucket, g->n_buckets, sizeof *g->bucket);
    c->cap_values = g->n_values;
    c->cap_nodes = g->n_nodes;
    c->cap_inputs = g->n_inputs;
    c->cap_params = g->n_params;
    if (!c->value || !c->node || !c->input || !c->param || !c->bucket) {
        graph_free(c);
        return no_memory(e);
    }
    *out = c;
    return 0;
}

/* ---- names ---- */

static uint32_t name_hash(const char *s)
{
    return (uint32_t)hash_fold(hash_text(HASH_START, s));
}

int graph_value_find(const struct graph *g, const char *name)
{
    if (g->n_buckets == 0) return -1;
    uint32_t mask = (uint32_t)g->n_buckets - 1;
    for (uint32_t i = name_hash(name) & mask; g->bucket[i] != 0; i = (i + 1) & mask)
        if (strcmp(g->value[g->bucket[i] - 1].name, name) == 0) return g->bucket[i] - 1;
    return -1;
}

static void index_name(struct graph *g, int id)
{
    uint32_t mask = (uint32_t)g->n_buckets - 1;
    uint32_t i = name_hash(g->value[id].name) & mask;
    while (g->bucket[i] != 0) i = (i + 1) & mask;
    g->bucket[i] = id + 1;
}

static int grow_index(struct graph *g, struct err *e)
{
    if (2 * (g->n_values + NODE_MAX_OUTPUTS) < g->n_buckets) return 0;
    int n = g->n_buckets > 0 ? 2 * g->n_buckets : 64;
    int *bucket = mem_try_alloc((size_t)n, sizeof *bucket);
    if (!bucket) return no_memory(e);
    mem_free(g->bucket);
    g->bucket = bucket;
    g->n_buckets = n;
    for (int i = 0; i < g->n_values; i++) index_name(g, i);
    return 0;
}

static int check_name(const char *name, struct err *e)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:-";
    size_t len = strlen(name);
    if (len == 0 || len >= GRAPH_NAME_MAX || strspn(name, allowed) != len)
        return err_set(e, ERR_INVALID, "name",
                       "the name '%.40s' is not allowed; expected 1 to %d of A-Z a-z 0-9 _ . / : -", name,
                       GRAPH_NAME_MAX - 1);
    return 0;
}

static int check_new_name(const struct graph *g, const char *name, struct err *e)
{
    int rc = check_name(name, e);
    if (rc == 0 && graph_value_find(g, name) >= 0)
        rc = err_set(e, ERR_INVALID, name, "the name '%s' is used twice in the graph", name);
    return rc;
}

void graph__fresh_name(const struct graph *g, char out[GRAPH_NAME_MAX], const char *stem)
{
    int n = g->n_values;
    do {
        snprintf(out, GRAPH_NAME_MAX, "%.60s.%d", stem, n++);
    } while (graph_value_find(g, out) >= 0);
}

/* ---- values ---- */

/* Room for one more item in a growing array; *array may move. */
static int make_room(void *array, int n, int *cap, size_t size, int max, const char *what, struct err *e)
{
    if (n < *cap) return 0;
    if (n >= max) return err_set(e, ERR_TOO_LARGE, NULL, "the graph has more than %d %s", max, what);
    int want = n < 8 ? 16 : 2 * n;
    void *old, *grown;
    memcpy(&old, array, sizeof old);
    grown = mem_try_realloc(old, (size_t)want, size);
    if (!grown) return no_memory(e);
    memcpy(array, &grown, sizeof grown);
    *cap = want;
    return 0;
}

static int check_shape(const struct shape *s, const char *name, bool batch_allowed, struct err *e)
{
    size_t n;
    if (s->rank < 0 || s->rank > TENSOR_MAX_RANK)
        return err_set(e, ERR_INVALID, name, "'%s' has %d dimensions; expected at most %d", name, s->rank,
                       TENSOR_MAX_RANK);
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] >= 1 && s->dim[i] <= INT32_MAX) continue;
        if (i == 0 && batch_allowed && s->dim[0] == SHAPE_BATCH) continue;
        return err_set(e, ERR_INVALID, name, "'%s': dimension %d is %lld; expected 1 to %d%s", name, i,
                       (long long)s->dim[i], INT32_MAX,
                       i == 0 && batch_allowed ? ", or -1 for the batch" : "");
    }
    if (!shape_count(s, 1, &n))
        return err_set(e, ERR_TOO_LARGE, name, "'%s' is larger than any memory", name);
    return 0;
}

static int reserve_values(struct graph *g, int n, struct err *e)
{
    int rc = grow_index(g, e);
    for (int i = 0; rc == 0 && i < n; i++)
        rc = make_room(&g->value, g->n_values + i, &g->cap_values, sizeof *g->value, GRAPH_MAX_VALUES,
                       "values", e);
    return rc;
}

static int add_value(struct graph *g, const char *name, enum value_kind kind, enum dtype dtype,
                     const struct shape *shape, int producer, int index)
{
    struct value *v = &g->value[g->n_values];
    *v = (struct value){.kind = kind, .dtype = dtype, .shape = *shape, .producer = producer, .index = index};
    snprintf(v->name, sizeof v->name, "%s", name);
    index_name(g, g->n_values);
    return g->n_values++;
}

int graph_input(struct graph *g, const char *name, enum dtype dtype, const struct shape *shape, int *value,
                struct err *e)
{
    int rc;
    if ((rc = check_new_name(g, name, e)) || (rc = check_shape(shape, name, true, e))) return rc;
    if (!shape_batched(shape))
        return err_set(e, ERR_INVALID, name, "input '%s' has no batch dimension; expected -1 as its first",
                       name);
    if ((rc = reserve_values(g, 1, e)) ||
        (rc = make_room(&g->input, g->n_inputs, &g->cap_inputs, sizeof *g->input, 256, "inputs", e)))
        return rc;
    *value = add_value(g, name, VALUE_INPUT, dtype, shape, -1, g->n_inputs);
    g->input[g->n_inputs++] = *value;
    return 0;
}

int graph_param(struct graph *g, const char *name, const struct param_spec *spec, int *value, struct err *e)
{
    int rc;
    if ((rc = check_new_name(g, name, e)) || (rc = check_shape(&spec->shape, name, false, e))) return rc;
    if (!(spec->l2 >= 0) || !isfinite(spec->l2))
        return err_set(e, ERR_INVALID, "l2", "'%s': l2 is %g; expected 0 or more", name, spec->l2);
    if ((int)spec->init.kind < 0 || spec->init.kind >= INIT_COUNT || !isfinite(spec->init.a))
        return err_set(e, ERR_INVALID, "init", "'%s': its initialiser is unknown", name);
    if ((rc = reserve_values(g, 1, e)) ||
        (rc = make_room(&g->param, g->n_params, &g->cap_params, sizeof *g->param, GRAPH_MAX_NODES,
                        "parameters", e)))
        return rc;
    *value = add_value(g, name, VALUE_PARAM, DTYPE_F32, &spec->shape, -1, g->n_params);
    g->param[g->n_params++] = (struct param){.value = *value, .spec = *spec};
    return 0;
}

/* ---- nodes ---- */

static int check_inputs(const struct graph *g, const struct op *op, const char *name, const int *inputs,
                        int n, struct err *e)
{
    if (n < op->min_inputs || n > op->max_inputs)
        return err_set(e, ERR_INVALID, name, "%s '%s' has %d inputs; expected %d to %d", op->name, name, n,
                       op->min_inputs, op->max_inputs);
    for (int i = 0; i < n; i++)
        if (inputs[i] < 0 || inputs[i] >= g->n_values)
            return err_set(e, ERR_INVALID, name, "%s '%s': input %d is no value of the graph", op->name, name,
                           i);
    return 0;
}

static int infer(const struct graph *g, const struct node *n, struct op_shapes *s, struct err *e)
{
    s->node = n;
    for (int i = 0; i < n->n_inputs; i++) {
        const struct value *v = &g->value[n->input[i]];
        s->in[i] = (struct typed_shape){v->dtype, v->shape};
    }
    int rc = n->op->infer(s, e);
    for (int i = 0; rc == 0 && i < n->n_outputs; i++) rc = check_shape(&s->out[i].shape, n->name, true, e);
    return rc;
}

static void output_name(char out[GRAPH_NAME_MAX], const char *node, int i)
{
    if (i == 0)
        snprintf(out, GRAPH_NAME_MAX, "%s", node);
    else
        snprintf(out, GRAPH_NAME_MAX, "%.90s:%c", node, '0' + i);
}

int graph__op(struct graph *g, const char *name, const struct op *op, const int *inputs, int n_inputs,
              const union attr_value *attrs, const uint32_t *rng_id, int *values, struct err *e)
{
    struct op_shapes shapes;
    struct node n = {.op = op, .n_inputs = n_inputs, .n_outputs = op->outputs};
    int rc;
    if ((rc = check_name(name, e)) || (rc = check_inputs(g, op, name, inputs, n_inputs, e))) return rc;
    snprintf(n.name, sizeof n.name, "%s", name);
    for (int i = 0; i < n_inputs; i++) n.input[i] = inputs[i];
    memcpy(n.attr, attrs, sizeof n.attr);
    n.rng_id = rng_id ? *rng_id : (uint32_t)g->n_nodes;
    char outputs[NODE_MAX_OUTPUTS][GRAPH_NAME_MAX];
    for (int i = 0; i < op->outputs; i++) {
        output_name(outputs[i], name, i);
        if ((rc = check_new_name(g, outputs[i], e))) return rc;
    }
    if ((rc = infer(g, &n, &shapes, e)) || (rc = reserve_values(g, op->outputs, e)) ||
        (rc = make_room(&g->node, g->n_nodes, &g->cap_nodes, sizeof *g->node, GRAPH_MAX_NODES, "nodes", e)))
        return rc;
    for (int i = 0; i < op->outputs; i++)
        values[i] = n.output[i] =
            add_value(g, outputs[i], VALUE_NODE, shapes.out[i].dtype, &shapes.out[i].shape, g->n_nodes, i);
    g->node[g->n_nodes++] = n;
    return 0;
}

static int check_attr(const struct op *op, const char *node, const struct op_attr *spec,
                      const union attr_value *v, struct err *e)
{
    int count = spec->type == ATTR_INTS ? v->ints.rank : 1;
    if (count < 0 || count > TENSOR_MAX_RANK)
        return err_set(e, ERR_INVALID, spec->name, "%s '%s': %s has %d numbers; expected at most %d",
                       op->name, node, spec->name, count, TENSOR_MAX_RANK);
    for (int i = 0; i < count; i++) {
        double x = spec->type == ATTR_INT     ? (double)v->i
                   : spec->type == ATTR_FLOAT ? v->f
                                              : (double)v->ints.dim[i];
        if (!(x >= spec->min && x <= spec->max))
            return err_set(e, ERR_INVALID, spec->name, "%s '%s': %s is %g; expected %g to %g", op->name, node,
                           spec->name, x, spec->min, spec->max);
    }
    return 0;
}

static int fill_attrs(const struct op *op, const char *node, const struct attr *attrs, int n_attrs,
                      union attr_value *out, struct err *e)
{
    bool given[NODE_MAX_ATTRS] = {0};
    for (int i = 0; i < op->n_attrs; i++) out[i] = op->attrs[i].fallback;
    for (int a = 0; a < n_attrs; a++) {
        int i = 0;
        while (i < op->n_attrs && strcmp(op->attrs[i].name, attrs[a].name) != 0) i++;
        if (i == op->n_attrs || given[i])
            return err_set(e, ERR_INVALID, attrs[a].name, "%s '%s': attribute '%s' is %s", op->name, node,
                           attrs[a].name, i == op->n_attrs ? "unknown" : "given twice");
        given[i] = true;
        int rc = check_attr(op, node, &op->attrs[i], &attrs[a].value, e);
        if (rc) return rc;
        out[i] = attrs[a].value;
    }
    for (int i = 0; i < op->n_attrs; i++)
        if (op->attrs[i].required && !given[i])
            return err_set(e, ERR_INVALID, op->attrs[i].name, "%s '%s' lacks its attribute '%s'", op->name,
                           node, op->attrs[i].name);
    return 0;
}

int graph_op(struct graph *g, const char *name, const char *op, const int *inputs, int n_inputs,
             const struct attr *attrs, int n_attrs, int *values, struct err *e)
{
    union attr_value list[NODE_MAX_ATTRS] = {0};
    const struct op *o = op_find(op);
    if (!o || o->internal)
        return err_set(e, ERR_INVALID, "op", "'%s': there is no operator '%.40s'", name, op);
    int rc = fill_attrs(o, name, attrs, n_attrs, list, e);
    return rc ? rc : graph__op(g, name, o, inputs, n_inputs, list, NULL, values, e);
}

/* ---- results ---- */

int graph_output(struct graph *g, const char *name, int value, struct err *e)
{
    int rc = check_name(name, e);
    if (rc) return rc;
    if (value < 0 || value >= g->n_values)
        return err_set(e, ERR_INVALID, name, "output '%s' is no value of the graph", name);
    if (graph_output_find(g, name) >= 0)
        return err_set(e, ERR_INVALID, name, "the output name '%s' is used twice", name);
    if (g->n_outputs == GRAPH_MAX_OUTPUTS)
        return err_set(e, ERR_TOO_LARGE, name, "the graph has more than %d outputs", GRAPH_MAX_OUTPUTS);
    struct named_output *o = &g->output[g->n_outputs++];
    snprintf(o->name, sizeof o->name, "%s", name);
    o->value = value;
    return 0;
}

int graph_set_loss(struct graph *g, int value, struct err *e)
{
    if (value < 0 || value >= g->n_values || g->value[value].shape.rank != 0 ||
        g->value[value].dtype != DTYPE_F32)
        return err_set(e, ERR_INVALID, "loss",
                       "the loss must be a value of the graph that is one f32 number");
    g->loss = value;
    return 0;
}
