/* Losses as users name them, in operators of tensor/ops/loss*.c. */
#include "tensor/layer_impl.h"

#include <string.h>
#include "tensor/op.h"

static const struct loss {
    const char *name, *op;
    const char *activation; /* the operator that must have made the output; NULL: any */
    bool smooths, weighs, bends;
} losses[] = {
    {"mse", "MeanSquaredError", NULL, false, false, false},
    {"mae", "MeanAbsoluteError", NULL, false, false, false},
    {"huber", "Huber", NULL, false, false, true},
    {"sparse_categorical_crossentropy", "SoftmaxCrossEntropy", "Softmax", true, true, false},
    {"binary_crossentropy", "SigmoidCrossEntropy", "Sigmoid", true, true, false},
    {"sequence_crossentropy", "SequenceCrossEntropy", "Softmax", false, false, false},
};
enum { N_LOSSES = sizeof losses / sizeof losses[0] };

static int find(const struct loss **out, const char *name, struct err *e)
{
    for (int i = 0; i < N_LOSSES; i++)
        if (strcmp(losses[i].name, name) == 0) {
            *out = &losses[i];
            return 0;
        }
    return err_set(e, ERR_INVALID, "loss",
                   "unknown loss '%.40s'; expected mse, mae, huber, sparse_categorical_crossentropy, "
                   "binary_crossentropy or sequence_crossentropy",
                   name);
}

/* What the activation that made x was given. */
static int logits_of(const struct graph *g, const struct loss *loss, int x, int *logits, struct err *e)
{
    const struct value *v = graph_value(g, x);
    const struct node *n = v->kind == VALUE_NODE ? graph_node(g, v->producer) : NULL;
    if (!n || n->op != op_find(loss->activation))
        return err_set(e, ERR_INVALID, "loss",
                       "the loss %s needs an output layer with activation %s; '%s' has another", loss->name,
                       strcmp(loss->activation, "Softmax") == 0 ? "softmax" : "sigmoid", v->name);
    *logits = n->input[0];
    return 0;
}

int layer_loss_with(struct graph *g, const char *name, const char *loss, const struct layer_loss_details *d,
                    int x, int target, struct err *e)
{
    const struct loss *l;
    struct attr attr = {"label_smoothing", {.f = d->label_smoothing}};
    int rc = find(&l, loss, e), y;
    if (rc || (l->activation && (rc = logits_of(g, l, x, &x, e)))) return rc;
    if ((d->label_smoothing > 0 && !l->smooths) || (d->weights >= 0 && !l->weighs))
        return err_set(e, ERR_INVALID, "loss", "the loss %s takes no label smoothing and no weights",
                       l->name);
    if (l->bends) attr = (struct attr){"delta", {.f = d->huber_delta}};
    rc = layer__op(g, name, l->op, (int[]){x, target, d->weights}, d->weights >= 0 ? 3 : 2, &attr,
                   l->bends || l->smooths, &y, e);
    return rc ? rc : graph_set_loss(g, y, e);
}

int layer_loss(struct graph *g, const char *name, const char *loss, int x, int target, struct err *e)
{
    struct layer_loss_details plain = {.huber_delta = 1, .weights = -1};
    return layer_loss_with(g, name, loss, &plain, x, target, e);
}
