/* Writes a resolved spec's layers into a graph. */
#include "learn/family.h"

#include <string.h>

#include "learn/build.h"
#include "learn/seq2seq.h"
#include "tensor/layer.h"

/* What is minimised. Where classes count differently, each row comes with its weight. */
static int build_loss(struct graph *g, const struct training_spec *t, int x, int target, struct err *e)
{
    static const char *const objectives[] = {[OBJECTIVE_MAE] = "mae", [OBJECTIVE_HUBER] = "huber"};
    const char *loss = t->objective == OBJECTIVE_USUAL ? loss_name(t->loss) : objectives[t->objective];
    struct layer_loss_details d = {
        .label_smoothing = t->label_smoothing, .huber_delta = t->huber_delta, .weights = -1};
    struct shape rows = graph_value(g, target)->shape;
    int rc = 0;
    if (t->weighting != WEIGHTING_NONE) rc = graph_input(g, FAMILY_WEIGHT, DTYPE_F32, &rows, &d.weights, e);
    return rc ? rc : layer_loss_with(g, FAMILY_LOSS, loss, &d, x, target, e);
}

static int build(struct graph *g, const struct resolved *r, struct err *e)
{
    struct shape in = {.rank = r->input.rank + 1, .dim = {SHAPE_BATCH}},
                 target = {.rank = 1, .dim = {SHAPE_BATCH}};
    bool sparse = r->training.loss == LOSS_CROSS_ENTROPY;
    struct building b;
    enum dtype dtype = r->ids_below ? DTYPE_I32 : DTYPE_F32;
    int x, t, rc;
    memcpy(in.dim + 1, r->input.dim, (size_t)r->input.rank * sizeof *in.dim);
    if (!sparse) {
        target.rank = 2;
        target.dim[1] = r->task == TASK_REGRESSION ? r->target_width : 1;
    }
    if ((rc = graph_input(g, FAMILY_INPUT, dtype, &in, &x, e))) return rc;
    b = build_begin(g, x);
    if ((rc = build_layers(&b, r->layers, r->n_layers, e))) return rc;
    if ((rc = graph_input(g, FAMILY_TARGET, sparse ? DTYPE_I32 : DTYPE_F32, &target, &t, e)) ||
        (rc = graph_output(g, FAMILY_OUTPUT, b.x, e)))
        return rc;
    return build_loss(g, &r->training, b.x, t, e);
}

int family_graph(struct graph **out, const struct resolved *r, struct err *e)
{
    struct graph *g = NULL;
    if (r->family == FAMILY_SEQ2SEQ)
        return seq2seq_graph(out, r, r->source_text.max_ids, r->target_text.max_ids, e);
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
