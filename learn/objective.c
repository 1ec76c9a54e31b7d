/* Losses and their slopes, row by row, and the graph that carries a slope into the network. */
#include "learn/objective.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "learn/family.h"
#include "tensor/op.h"

static const double LEAST = 1e-15; /* a probability below it counts as this much */

bool objective_wanted(const struct training_spec *t)
{
    return t->objective != OBJECTIVE_USUAL || t->label_smoothing > 0 || t->weighting != WEIGHTING_NONE;
}

int objective_init(struct objective *o, const struct resolved *r, const int64_t *counts, size_t width,
                   struct err *e)
{
    const struct training_spec *t = &r->training;
    double rows = 0;
    *o = (struct objective){
        .kind = t->objective, .delta = t->huber_delta, .smoothing = t->label_smoothing, .width = width};
    if (t->weighting == WEIGHTING_NONE) return 0;
    o->weights = mem_try_alloc(r->n_classes, sizeof *o->weights);
    if (!o->weights) return err_set(e, ERR_NOMEM, NULL, "no memory for the class weights");
    for (size_t c = 0; c < r->n_classes; c++) rows += (double)counts[c];
    for (size_t c = 0; c < r->n_classes; c++)
        if (t->weighting == WEIGHTING_GIVEN)
            o->weights[c] = t->class_weights[c];
        else if (counts[c] > 0)
            o->weights[c] = rows / ((double)r->n_classes * (double)counts[c]);
    return 0;
}

void objective_dispose(struct objective *o)
{
    mem_free(o->weights);
    *o = (struct objective){0};
}

/* ---- the graph ---- */

/* With classes the value that the output's softmax or sigmoid is made of, else the output itself. */
static int before_output(const struct graph *g, int output, bool classes)
{
    const struct value *v = graph_value(g, output);
    if (!classes || v->producer < 0) return output;
    const struct node *n = graph_node(g, v->producer);
    bool through = strcmp(n->op->name, "Softmax") == 0 || strcmp(n->op->name, "Sigmoid") == 0;
    return through ? n->input[0] : output;
}

/* mean(log(1 + eᶻ)) less mean(log(1 + eᶻ) − pull·z) is mean(pull·z), and rounds well for any z. */
static int add_loss(struct graph *g, int z, struct err *e)
{
    struct shape shape = graph_value(g, z)->shape;
    int zero, pull, a[NODE_MAX_OUTPUTS], b[NODE_MAX_OUTPUTS], loss[NODE_MAX_OUTPUTS], rc;
    if ((rc = graph_input(g, OBJECTIVE_ZERO, DTYPE_F32, &shape, &zero, e)) ||
        (rc = graph_input(g, OBJECTIVE_PULL, DTYPE_F32, &shape, &pull, e)) ||
        (rc = graph_op(g, "data/base", "SigmoidCrossEntropy", (int[]){z, zero}, 2, NULL, 0, a, e)) ||
        (rc = graph_op(g, "data/pulled", "SigmoidCrossEntropy", (int[]){z, pull}, 2, NULL, 0, b, e)) ||
        (rc = graph_op(g, "data/slope", "Sub", (int[]){a[0], b[0]}, 2, NULL, 0, loss, e)))
        return rc;
    return graph_set_loss(g, loss[0], e);
}

int objective_graph(struct graph **out, const struct graph *g, bool classes, struct err *e)
{
    int index = graph_output_find(g, FAMILY_OUTPUT), rc;
    *out = NULL;
    if ((rc = graph_copy(out, g, e))) return rc;
    rc = add_loss(*out, before_output(*out, graph_output_value(*out, index), classes), e);
    if (rc) {
        graph_free(*out);
        *out = NULL;
    }
    return rc;
}

/* ---- losses ---- */

static double log_of(double p)
{
    return log(p < LEAST ? LEAST : p); /* NaN stays NaN */
}

/* One probability p of the second class; q is the smoothed truth. */
static double sigmoid_row(const struct objective *o, double p, int32_t class, float *pull)
{
    double q = (1 - o->smoothing) * class + o->smoothing / 2;
    double weight = o->weights ? o->weights[class] : 1;
    *pull = (float)(weight * (p - q));
    return -weight * (q * log_of(p) + (1 - q) * log_of(1 - p));
}

static double softmax_row(const struct objective *o, const float *p, int32_t class, float *pull)
{
    double weight = o->weights ? o->weights[class] : 1, even = o->smoothing / (double)o->width, loss = 0;
    for (size_t k = 0; k < o->width; k++) {
        double q = even + (k == (size_t) class ? 1 - o->smoothing : 0);
        if (q > 0) loss -= q * log_of((double)p[k]);
        pull[k] = (float)(weight * ((double)p[k] - q) * (double)o->width);
    }
    return weight * loss;
}

double objective_classes(const struct objective *o, const float *output, const int32_t *classes, size_t n,
                         float *pull)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += o->width == 1 ? sigmoid_row(o, (double)output[i], classes[i], pull + i)
                             : softmax_row(o, output + i * o->width, classes[i], pull + i * o->width);
    return sum / (double)n;
}

double objective_values(const struct objective *o, const float *output, const float *values, size_t n,
                        float *pull)
{
    double sum = 0;
    for (size_t i = 0; i < n * o->width; i++) {
        double r = (double)output[i] - (double)values[i], a = fabs(r);
        if (o->kind == OBJECTIVE_MAE) {
            sum += a;
            pull[i] = r > 0 ? 1 : r < 0 ? -1 : 0;
        } else {
            bool near = a <= o->delta;
            sum += near ? 0.5 * r * r : o->delta * (a - 0.5 * o->delta);
            pull[i] = (float)(near ? r : r > 0 ? o->delta : -o->delta);
        }
    }
    return sum / ((double)n * (double)o->width);
}
