/* Writes a resolved spec's layers into a graph. */
#include "learn/family.h"

#include <string.h>

#include "learn/build.h"
#include "tensor/layer.h"

static int build(struct graph *g, const struct resolved *r, struct err *e)
{
    struct shape in = {.rank = r->input.rank + 1, .dim = {SHAPE_BATCH}},
                 target = {.rank = 1, .dim = {SHAPE_BATCH}};
    bool sparse = r->training.loss == LOSS_CROSS_ENTROPY;
    struct building b = {.g = g, .lengths = -1};
    enum dtype dtype = r->ids_below ? DTYPE_I32 : DTYPE_F32;
    int t, rc;
    memcpy(in.dim + 1, r->input.dim, (size_t)r->input.rank * sizeof *in.dim);
    if (!sparse) {
        target.rank = 2;
        target.dim[1] = r->task == TASK_REGRESSION ? r->target_width : 1;
    }
    if ((rc = graph_input(g, FAMILY_INPUT, dtype, &in, &b.x, e))) return rc;
    for (size_t i = 0; i < r->n_layers; i++)
        if ((rc = build_layer(&b, &r->layers[i], e))) {
            err_under(e, r->layers[i].path);
            return rc;
        }
    if ((rc = graph_input(g, FAMILY_TARGET, sparse ? DTYPE_I32 : DTYPE_F32, &target, &t, e)) ||
        (rc = graph_output(g, FAMILY_OUTPUT, b.x, e)))
        return rc;
    return layer_loss(g, FAMILY_LOSS, loss_name(r->training.loss), b.x, t, e);
}

int family_graph(struct graph **out, const struct resolved *r, struct err *e)
{
    struct graph *g = NULL;
    int rc = graph_create(&g, e);
    *out = NULL;
    if (!rc) rc = build(g, r, e);
    if (rc)
        graph_free(g);
    else
        *out = g;
    return rc;
}

struct optim_spec family_optim(const struct optimizer_spec *o)
{
    int kind = optim_of(o->name);
    if (strcmp(o->name, "momentum") == 0 || (strcmp(o->name, "sgd") == 0 && o->momentum > 0))
        kind = o->nesterov ? OPTIM_NESTEROV : OPTIM_MOMENTUM;
    struct optim_spec s = optim_defaults((enum optim_kind)kind);
    s.momentum = o->momentum;
    s.rho = o->rho;
    s.beta1 = o->beta_1;
    s.beta2 = o->beta_2;
    s.epsilon = o->epsilon;
    s.weight_decay = o->weight_decay;
    s.clip_norm = o->clipnorm;
    return s;
}
