/* Small networks and data for the tests of tensor/. */
#include "net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "base/hash.h"
#include "base/mem.h"
#include "tensor/layer.h"
#include "tensor/rng.h"

void must(int rc, const struct err *e)
{
    if (rc) fail_msg("%s: %s (%s)", err_name(rc), e->message, e->field);
}

struct graph *net_classifier(int64_t features, int64_t hidden, const char *activation, double dropout,
                             int64_t classes, double l2)
{
    struct shape xs = shape_of(2, (int64_t[]){SHAPE_BATCH, features}),
                 ls = shape_of(1, (int64_t[]){SHAPE_BATCH});
    struct layer_dense d = layer_dense_defaults(hidden, activation);
    struct err e = {0};
    struct graph *g;
    int x, label, y;
    d.l2 = l2;
    must(graph_create(&g, &e), &e);
    must(graph_input(g, "x", DTYPE_F32, &xs, &x, &e), &e);
    must(graph_input(g, "label", DTYPE_I32, &ls, &label, &e), &e);
    must(layer_dense(g, "hidden", x, &d, &y, &e), &e);
    if (dropout > 0) must(layer_dropout(g, "drop", y, dropout, &y, &e), &e);
    d = layer_dense_defaults(classes, "softmax");
    must(layer_dense(g, "head", y, &d, &y, &e), &e);
    must(graph_output(g, "probabilities", y, &e), &e);
    must(layer_loss(g, "loss", "sparse_categorical_crossentropy", y, label, &e), &e);
    return g;
}

void net_random(float *out, size_t n, double limit, uint64_t seed, uint32_t stream)
{
    struct rng_key k = {.seed = seed, .stream = stream};
    for (size_t i = 0; i < n; i++) out[i] = (float)((2 * (double)rng_uniform(&k, i) - 1) * limit);
}

void net_data_init(struct net_data *d, int64_t rows, int64_t features, int64_t classes, uint64_t seed)
{
    *d = (struct net_data){.rows = rows, .features = features};
    d->x = mem_alloc((size_t)(rows * features), sizeof *d->x);
    d->label = mem_alloc((size_t)rows, sizeof *d->label);
    net_random(d->x, (size_t)(rows * features), 1, seed, 1);
    for (int64_t i = 0; i < rows; i++) {
        d->label[i] = (int32_t)(i % classes);
        d->x[i * features + i % classes % features] += 2.0f;
    }
}

void net_data_dispose(struct net_data *d)
{
    mem_free(d->x);
    mem_free(d->label);
}

struct plan *net_plan(const struct graph *g, const struct plan_options *o)
{
    struct plan *p;
    struct err e = {0};
    must(plan_create(&p, g, o, &e), &e);
    return p;
}

struct params *net_params(const struct graph *g, uint64_t seed)
{
    struct params *p;
    struct err e = {0};
    must(params_create(&p, g, &e), &e);
    params_init(p, g, seed);
    return p;
}

struct run *net_run(const struct plan *p, struct params *params)
{
    struct run *r;
    struct err e = {0};
    must(run_create(&r, p, params, &e), &e);
    return r;
}

float net_train(struct run *r, const struct plan *p, const struct net_data *d, int steps, uint64_t first,
                double rate)
{
    struct err e = {0};
    float loss = 0;
    int64_t batch = plan_max_batch(p), batches = (d->rows + batch - 1) / batch;
    for (int s = 0; s < steps; s++) {
        int64_t at = (int64_t)((first + (uint64_t)s) % (uint64_t)batches) * batch;
        int64_t rows = d->rows - at < batch ? d->rows - at : batch;
        const void *feeds[] = {d->x + at * d->features, d->label + at};
        must(run_step(r, &(struct step){feeds, rows, 42, first + (uint64_t)s, rate}, &loss, &e), &e);
    }
    return loss;
}

uint64_t net_hash(const void *data, size_t bytes)
{
    return hash_bytes(HASH_START, data, bytes);
}
