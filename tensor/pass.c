/* Prunes, drops dropout, and fuses, in one walk that copies the nodes that stay. */
#include "tensor/pass.h"

#include <string.h>
#include "base/mem.h"
#include "tensor/graph_impl.h"
#include "tensor/op.h"
#include "tensor/ops/families.h"

struct lower {
    const struct graph *from;
    struct graph *to;
    bool train;
    bool *needed; /* per value of from; owned */
    int *uses;    /* per value of from: needed readers, outputs counted; owned */
    int *reader;  /* per value of from: the last needed node that reads it; owned */
    int *map;     /* value of from → value of to, -1 when not there; owned */
};

static void need(struct lower *l, int value)
{
    l->needed[value] = true;
    l->uses[value]++;
}

static void mark(struct lower *l, bool outputs, bool loss)
{
    const struct graph *g = l->from;
    for (int i = 0; outputs && i < g->n_outputs; i++) need(l, g->output[i].value);
    if (loss && g->loss >= 0) need(l, g->loss);
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const struct node *n = &g->node[i];
        bool wanted = false;
        for (int j = 0; j < n->n_outputs; j++) wanted = wanted || l->needed[n->output[j]];
        for (int j = 0; wanted && j < n->n_inputs; j++) {
            need(l, n->input[j]);
            l->reader[n->input[j]] = i;
        }
    }
}

/* The node that alone reads value, or NULL. */
static const struct node *only_reader(const struct lower *l, int value)
{
    return l->uses[value] == 1 && l->reader[value] >= 0 ? &l->from->node[l->reader[value]] : NULL;
}

/* n is the Add that gives a MatMul or a Conv alone its bias. */
static const struct node *biased_product(const struct lower *l, const struct node *n)
{
    const struct graph *g = l->from;
    if (n->op != &op_add || g->value[n->input[0]].kind != VALUE_NODE) return NULL;
    const struct node *product = &g->node[g->value[n->input[0]].producer];
    const struct value *bias = &g->value[n->input[1]], *w;
    if ((product->op != &op_matmul && product->op != &op_conv) || only_reader(l, n->input[0]) != n ||
        bias->kind != VALUE_PARAM || bias->shape.rank != 1)
        return NULL;
    w = &g->value[product->input[1]];
    return w->shape.dim[w->shape.rank - 1] == bias->shape.dim[0] ? product : NULL;
}

static double alpha_of(const struct node *n)
{
    return n->op == &op_leaky_relu ? n->attr[0].f : 0;
}

/* The activation that can be done in the tail of the Add n. While training only those whose derivative
 * follows from y. */
static const struct node *fused_activation(const struct lower *l, const struct node *n, enum act *act)
{
    const struct node *r = only_reader(l, n->output[0]);
    if (!r || !activation_of(r->op, act)) return NULL;
    return !l->train || activation_grad_from_output(*act, alpha_of(r)) ? r : NULL;
}

/* True when the node is computed as part of a later Dense or ConvBias. */
static bool absorbed(const struct lower *l, const struct node *n)
{
    enum act act;
    const struct node *r;
    if (n->op == &op_matmul || n->op == &op_conv)
        return (r = only_reader(l, n->output[0])) && biased_product(l, r) == n;
    return biased_product(l, n) && fused_activation(l, n, &act);
}

/* The fused operators' attributes are those of the product, then act and alpha. */
static int emit_fused(struct lower *l, const struct node *n, const struct node *bias,
                      const struct node *product, enum act act, struct err *e)
{
    const struct op *op = product->op == &op_conv ? &op_conv_bias : &op_dense;
    union attr_value attrs[NODE_MAX_ATTRS];
    memcpy(attrs, product->attr, sizeof attrs);
    attrs[product->op->n_attrs].i = act;
    attrs[product->op->n_attrs + 1].f = alpha_of(n);
    int inputs[] = {l->map[product->input[0]], l->map[product->input[1]], l->map[bias->input[1]]};
    int values[NODE_MAX_OUTPUTS], rc = graph__op(l->to, n->name, op, inputs, 3, attrs, &n->rng_id, values, e);
    if (rc == 0) l->map[n->output[0]] = values[0];
    return rc;
}

/* Training writes to the state of a node, which must therefore be the parameters' own memory. */
static int check_state(const struct lower *l, const struct node *n, struct err *e)
{
    const struct graph *g = l->from;
    for (int i = 0; i < n->n_inputs; i++) {
        const struct value *v = &g->value[n->input[i]];
        if (!(n->op->state >> i & 1) || (v->kind == VALUE_PARAM && !g->param[v->index].spec.trainable))
            continue;
        return err_set(
            e, ERR_INVALID, n->name,
            "%s '%s': input %d is '%s'; expected a parameter that is not trainable, to keep state in",
            n->op->name, n->name, i, v->name);
    }
    return 0;
}

/* The node as it is, or as inference has it. */
static int emit_same(struct lower *l, const struct node *n, struct err *e)
{
    const struct op *op = n->op == &op_batch_norm && !l->train ? &op_batch_norm_infer : n->op;
    int inputs[NODE_MAX_INPUTS], values[NODE_MAX_OUTPUTS];
    int rc = l->train ? check_state(l, n, e) : 0;
    for (int i = 0; i < n->n_inputs; i++) inputs[i] = l->map[n->input[i]];
    if (rc == 0) rc = graph__op(l->to, n->name, op, inputs, n->n_inputs, n->attr, &n->rng_id, values, e);
    for (int i = 0; rc == 0 && i < op->outputs; i++) l->map[n->output[i]] = values[i];
    return rc;
}

static int emit(struct lower *l, const struct node *n, struct err *e)
{
    const struct node *product, *bias;
    enum act act = ACT_LINEAR;
    if (n->op == &op_dropout && !l->train) {
        l->map[n->output[0]] = l->map[n->input[0]];
        return 0;
    }
    if (absorbed(l, n)) return 0;
    if ((product = biased_product(l, n))) return emit_fused(l, n, n, product, ACT_LINEAR, e);
    if (activation_of(n->op, &act) && l->from->value[n->input[0]].kind == VALUE_NODE) {
        bias = &l->from->node[l->from->value[n->input[0]].producer];
        if ((product = biased_product(l, bias)) && fused_activation(l, bias, &act) == n)
            return emit_fused(l, n, bias, product, act, e);
    }
    return emit_same(l, n, e);
}

static int copy_leaves(struct lower *l, struct err *e)
{
    const struct graph *g = l->from;
    int rc = 0;
    for (int i = 0; i < g->n_values; i++) l->map[i] = -1;
    for (int i = 0; rc == 0 && i < g->n_inputs; i++) {
        const struct value *v = &g->value[g->input[i]];
        rc = graph_input(l->to, v->name, v->dtype, &v->shape, &l->map[g->input[i]], e);
    }
    for (int i = 0; rc == 0 && i < g->n_params; i++) {
        const struct param *p = &g->param[i];
        rc = graph_param(l->to, g->value[p->value].name, &p->spec, &l->map[p->value], e);
    }
    return rc;
}

static int lower(struct lower *l, bool outputs, bool loss, struct err *e)
{
    const struct graph *g = l->from;
    int rc = copy_leaves(l, e);
    mark(l, outputs, loss);
    for (int i = 0; rc == 0 && i < g->n_nodes; i++) {
        bool wanted = false;
        for (int j = 0; j < g->node[i].n_outputs; j++) wanted = wanted || l->needed[g->node[i].output[j]];
        if (wanted) rc = emit(l, &g->node[i], e);
    }
    for (int i = 0; rc == 0 && outputs && i < g->n_outputs; i++)
        rc = graph_output(l->to, g->output[i].name, l->map[g->output[i].value], e);
    if (rc == 0 && loss && g->loss >= 0) rc = graph_set_loss(l->to, l->map[g->loss], e);
    return rc;
}

int pass_lower(struct graph **out, const struct graph *g, bool train, bool outputs, bool loss, struct err *e)
{
    struct lower l = {.from = g, .train = train};
    size_t n = (size_t)g->n_values + 1;
    int rc = graph_create(&l.to, e);
    if (rc) return rc;
    l.needed = mem_try_alloc(n, sizeof *l.needed);
    l.uses = mem_try_alloc(n, sizeof *l.uses);
    l.reader = mem_try_alloc(n, sizeof *l.reader);
    l.map = mem_try_alloc(n, sizeof *l.map);
    if (!l.needed || !l.uses || !l.reader || !l.map) {
        rc = err_set(e, ERR_NOMEM, NULL, "no memory to compile the graph");
    } else {
        memset(l.reader, 0xff, n * sizeof *l.reader);
        rc = lower(&l, outputs, loss, e);
    }
    mem_free(l.needed);
    mem_free(l.uses);
    mem_free(l.reader);
    mem_free(l.map);
    if (rc)
        graph_free(l.to);
    else
        *out = l.to;
    return rc;
}
