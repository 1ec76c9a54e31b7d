/* Walks the nodes backwards, sums the gradients that arrive at each value, and asks each node's entry for
 * those of its inputs. */
#include "tensor/autodiff.h"

#include <string.h>
#include "base/mem.h"
#include "tensor/graph_impl.h"
#include "tensor/op.h"
#include "tensor/ops/families.h"

struct walk {
    struct graph *g;
    int n_values, n_nodes; /* of the forward part */
    bool *depends;         /* per value: a trainable parameter goes into it; owned */
    int *grad;             /* per value: gradient so far, -1 for none; owned */
};

/* Which forward values depend on a trainable parameter: nothing else needs a gradient. */
static void mark(struct walk *w)
{
    for (int i = 0; i < w->n_values; i++) w->grad[i] = -1;
    for (int i = 0; i < w->g->n_params; i++) w->depends[w->g->param[i].value] = w->g->param[i].spec.trainable;
    for (int i = 0; i < w->n_nodes; i++) {
        const struct node *n = &w->g->node[i];
        bool any = false;
        for (int j = 0; j < n->n_inputs; j++) any = any || w->depends[n->input[j]];
        for (int j = 0; j < n->n_outputs; j++) w->depends[n->output[j]] = any && !n->op->no_gradient;
    }
}

static int append(struct walk *w, const char *op, const int *inputs, int n, const struct attr *attrs,
                  int n_attrs, int *value, struct err *e)
{
    struct op_grad d = {.graph = w->g};
    return grad_op(&d, op, inputs, n, attrs, n_attrs, value, e);
}

static int fill_like(struct walk *w, int value, double x, int *out, struct err *e)
{
    struct attr attrs[] = {{"shape", {.ints = w->g->value[value].shape}}, {"value", {.f = x}}};
    return append(w, "Fill", NULL, 0, attrs, 2, out, e);
}

/* The product that makes dx, a gradient that nobody has read yet, goes on from the sum so far. */
static bool continue_product(struct walk *w, int sum, int dx)
{
    const struct value *v = &w->g->value[dx], *before = &w->g->value[sum];
    struct node *n = v->kind == VALUE_NODE ? &w->g->node[v->producer] : NULL;
    if (!n || n->op != &op_matmul_grad_x || n->n_inputs != 2 ||
        (before->kind == VALUE_NODE && before->producer >= v->producer))
        return false;
    n->input[n->n_inputs++] = sum;
    return true;
}

/* Adds dx to what has arrived at value so far. */
static int arrive(struct walk *w, int value, int dx, struct err *e)
{
    if (w->grad[value] < 0 || continue_product(w, w->grad[value], dx)) {
        w->grad[value] = dx;
        return 0;
    }
    return append(w, "Add", (int[]){w->grad[value], dx}, 2, NULL, 0, &w->grad[value], e);
}

static int step_back(struct walk *w, int index, struct err *e)
{
    struct op_grad d = {.graph = w->g, .node = w->g->node[index]};
    bool any_dy = false, any_want = false;
    for (int i = 0; i < d.node.n_outputs; i++) {
        d.dy[i] = w->grad[d.node.output[i]];
        any_dy = any_dy || d.dy[i] >= 0;
    }
    for (int i = 0; i < d.node.n_inputs; i++) {
        d.want[i] = w->depends[d.node.input[i]];
        d.dx[i] = -1;
        any_want = any_want || d.want[i];
    }
    if (!any_dy || !any_want || !d.node.op->backward) return 0;
    int rc = 0;
    for (int i = 0; rc == 0 && i < d.node.n_outputs; i++)
        if (d.dy[i] < 0 && i == 0) rc = fill_like(w, d.node.output[0], 0, &d.dy[0], e);
    if (rc == 0) rc = d.node.op->backward(&d, e);
    for (int i = 0; rc == 0 && i < d.node.n_inputs; i++)
        if (d.want[i] && d.dx[i] >= 0) rc = arrive(w, d.node.input[i], d.dx[i], e);
    return rc;
}

/* A gradient that is written straight into its place in the flat buffer must come from a node that writes
 * memory, and must be nobody else's. */
static bool owns_its_memory(const struct walk *w, const int *grad, int param, int value)
{
    const struct value *v = &w->g->value[value];
    if (v->kind != VALUE_NODE || v->producer < w->n_nodes || w->g->node[v->producer].op->alias ||
        v->index != 0)
        return false;
    for (int i = 0; i < param; i++)
        if (grad[i] == value) return false;
    return true;
}

static int collect(struct walk *w, int *grad, struct err *e)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < w->g->n_params; i++) {
        int value = w->g->param[i].value;
        grad[i] = -1;
        if (!w->g->param[i].spec.trainable) continue;
        if (w->grad[value] < 0) {
            rc = fill_like(w, value, 0, &grad[i], e);
            continue;
        }
        grad[i] = w->grad[value];
        if (!owns_its_memory(w, grad, i, grad[i]))
            rc = append(w, "Identity", &w->grad[value], 1, NULL, 0, &grad[i], e);
    }
    return rc;
}

int autodiff(struct graph *g, int *grad, struct err *e)
{
    struct walk w = {.g = g, .n_values = g->n_values, .n_nodes = g->n_nodes};
    int rc = 0;
    if (g->loss < 0) return err_set(e, ERR_INVALID, "loss", "the graph has no loss to train with");
    w.depends = mem_try_alloc((size_t)w.n_values + 1, sizeof *w.depends);
    w.grad = mem_try_alloc((size_t)w.n_values + 1, sizeof *w.grad);
    if (!w.depends || !w.grad) {
        rc = err_set(e, ERR_NOMEM, NULL, "no memory to differentiate the graph");
        goto done;
    }
    mark(&w);
    if (!w.depends[g->loss]) {
        rc = err_set(e, ERR_INVALID, "loss", "the loss depends on no trainable parameter");
        goto done;
    }
    rc = append(&w, "LossShare", NULL, 0, NULL, 0, &w.grad[g->loss], e);
    for (int i = w.n_nodes - 1; rc == 0 && i >= 0; i--) rc = step_back(&w, i, e);
    if (rc == 0) rc = collect(&w, grad, e);
done:
    mem_free(w.depends);
    mem_free(w.grad);
    return rc;
}
