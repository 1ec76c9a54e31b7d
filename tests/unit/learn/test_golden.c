/* What PyTorch computed for small networks (tests/golden/make.py): the same weights give the same answers,
 * gradients and, with each optimiser, the same ten steps here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "learn/safetensors.h"
#include "tensor/backend.h"
#include "tensor/layer.h"
#include "tensor/plan.h"
#include "tensor/run.h"

enum { STEPS = 10, MAX_BATCH = 8 };

static const double ONE_PASS = 1e-5;  /* of a tensor's largest number */
static const double TEN_STEPS = 1e-7; /* normalised mean square error */

static void must(int rc, const struct err *e)
{
    if (rc) fail_msg("%s: %s (%s)", err_name(rc), e->message, e->field);
}

/* ---- the networks, as make.py describes them ---- */

/* A graph while it is written; y is the last value. The first failure stays in rc. */
struct net {
    struct graph *g;
    int y, rc;
    struct err e;
};

static void begin(struct net *n, enum dtype dtype, int rank, const int64_t *row)
{
    struct shape s = {.rank = rank + 1, .dim = {SHAPE_BATCH}};
    for (int i = 0; i < rank; i++) s.dim[i + 1] = row[i];
    n->rc = graph_create(&n->g, &n->e);
    if (!n->rc) n->rc = graph_input(n->g, "x", dtype, &s, &n->y, &n->e);
}

static void dense(struct net *n, const char *name, int64_t units, const char *activation, bool bias)
{
    struct layer_dense d = layer_dense_defaults(units, activation);
    d.bias = bias;
    if (!n->rc) n->rc = layer_dense(n->g, name, n->y, &d, &n->y, &n->e);
}

static void build_mlp(struct net *n)
{
    begin(n, DTYPE_F32, 1, (int64_t[]){5});
    dense(n, "one", 7, "relu", true);
    dense(n, "two", 6, "gelu", true);
    dense(n, "three", 5, "tanh", true);
}

static void build_cnn(struct net *n)
{
    struct layer_conv one = layer_conv_defaults(4, 3, "relu"), two = layer_conv_defaults(6, 2, "silu");
    struct layer_pool pool = {.kind = LAYER_POOL_MAX, .size = {2, 2}};
    begin(n, DTYPE_F32, 3, (int64_t[]){8, 7, 2});
    one.padding = "same";
    two.groups = two.dilation[0] = two.dilation[1] = 2;
    if (!n->rc) n->rc = layer_conv(n->g, "one", n->y, &one, &n->y, &n->e);
    if (!n->rc) n->rc = layer_pool(n->g, "pool", n->y, &pool, &n->y, &n->e);
    if (!n->rc) n->rc = layer_conv(n->g, "two", n->y, &two, &n->y, &n->e);
    if (!n->rc) n->rc = layer_flatten(n->g, "flat", n->y, &n->y, &n->e);
}

static void recurrent(struct net *n, const char *name, const struct layer_recurrent *r)
{
    if (!n->rc) n->rc = layer_recurrent(n->g, name, n->y, r, &n->y, &n->e);
}

static void build_lstm(struct net *n)
{
    struct layer_recurrent r = layer_recurrent_defaults(LAYER_LSTM, 3);
    begin(n, DTYPE_F32, 2, (int64_t[]){4, 3});
    r.return_sequences = r.bidirectional = true;
    recurrent(n, "one", &r);
    r.return_sequences = r.bidirectional = false;
    recurrent(n, "two", &r);
}

static void build_gru(struct net *n)
{
    struct layer_recurrent one = layer_recurrent_defaults(LAYER_GRU, 4),
                           two = layer_recurrent_defaults(LAYER_GRU, 3);
    begin(n, DTYPE_F32, 2, (int64_t[]){4, 3});
    one.return_sequences = true;
    recurrent(n, "one", &one);
    recurrent(n, "two", &two);
}

static void build_batch_norm(struct net *n)
{
    begin(n, DTYPE_F32, 1, (int64_t[]){5});
    dense(n, "one", 6, NULL, false);
    if (!n->rc) n->rc = layer_batch_norm(n->g, "norm", n->y, 0.9, 1e-3, &n->y, &n->e);
    if (!n->rc) n->rc = layer_activation(n->g, "act", n->y, "relu", &n->y, &n->e);
}

static void attend(struct net *n, const char *norm, const char *name, const char *add, int lengths,
                   bool causal)
{
    struct layer_attention a = {.heads = 2, .memory = -1, .lengths = lengths, .causal = causal};
    int h;
    if (!n->rc) n->rc = layer_layer_norm(n->g, norm, n->y, 1e-5, &h, &n->e);
    if (!n->rc) n->rc = layer_attention(n->g, name, h, &a, &h, &n->e);
    if (!n->rc) n->rc = layer_add(n->g, add, n->y, h, &n->y, &n->e);
}

static void build_attention(struct net *n)
{
    struct init_spec start = {.kind = INIT_RANDOM_NORMAL, .a = 0.02};
    int lengths = -1;
    begin(n, DTYPE_I32, 1, (int64_t[]){5});
    if (!n->rc) n->rc = layer_lengths(n->g, "lengths", n->y, 0, &lengths, &n->e);
    if (!n->rc) n->rc = layer_embedding(n->g, "words", n->y, 9, 4, &n->y, &n->e);
    if (!n->rc) n->rc = layer_positions(n->g, "places", n->y, &start, &n->y, &n->e);
    attend(n, "norm1", "see", "add1", lengths, false);
    attend(n, "norm2", "past", "add2", lengths, true);
    if (!n->rc) n->rc = layer_sequence_mean(n->g, "mean", n->y, lengths, &n->y, &n->e);
}

static const struct {
    const char *name;
    void (*build)(struct net *n);
} networks[] = {{"mlp", build_mlp},
                {"cnn", build_cnn},
                {"lstm", build_lstm},
                {"gru", build_gru},
                {"batch_norm", build_batch_norm},
                {"attention", build_attention}};
enum { N_NETWORKS = sizeof networks / sizeof networks[0] };

static struct graph *finish(struct net *n)
{
    struct shape rows = shape_of(1, (int64_t[]){SHAPE_BATCH});
    int label = -1;
    dense(n, "head", 3, "softmax", true);
    if (!n->rc) n->rc = graph_output(n->g, "probabilities", n->y, &n->e);
    if (!n->rc) n->rc = graph_input(n->g, "label", DTYPE_I32, &rows, &label, &n->e);
    if (!n->rc) n->rc = layer_loss(n->g, "loss", "sparse_categorical_crossentropy", n->y, label, &n->e);
    must(n->rc, &n->e);
    return n->g;
}

/* ---- a golden file and the network it is about ---- */

struct golden {
    struct buf bytes;
    struct safetensors *file;
    struct graph *graph;
    struct params *params;
    float *x; /* numbers of the batch, i32 for ids */
    int32_t label[MAX_BATCH];
    int64_t rows;
    const char *name;
};

static const struct safetensor *get(const struct golden *g, const char *kind, const char *name)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s%s", kind, *name ? "/" : "", name);
    const struct safetensor *t = safetensors_find(g->file, full);
    if (!t) fail_msg("%s has no %s", g->name, full);
    return t;
}

static float number(const struct safetensor *t, size_t i)
{
    float v;
    memcpy(&v, (const char *)t->data + i * sizeof v, sizeof v);
    return v;
}

static void load_params(struct golden *g)
{
    int given = 0;
    for (size_t i = 0; i < safetensors_count(g->file); i++) {
        const struct safetensor *t = safetensors_at(g->file, i);
        if (strncmp(t->name, "param/", 6) != 0) continue;
        int at = params_find(g->params, t->name + 6);
        if (at < 0) fail_msg("%s: no weight %s here", g->name, t->name);
        const struct params_entry *p = &g->params->entry[at];
        assert_int_equal(t->bytes, p->count * sizeof(float));
        for (int d = 0; d < t->rank; d++) assert_int_equal(t->dim[d], p->shape.dim[d]);
        memcpy(g->params->data + p->offset, t->data, t->bytes);
        given++;
    }
    assert_int_equal(given, g->params->n);
}

static void open_file(struct golden *g)
{
    struct err e = {0};
    char path[256];
    snprintf(path, sizeof path, "tests/golden/%s.safetensors", g->name);
    must(fs_read_all(&g->bytes, path, 1 << 20, &e), &e);
    must(safetensors_open(&g->file, g->bytes.data, g->bytes.len, &e), &e);
}

static void open_golden(struct golden *g, int network)
{
    struct net n = {0};
    struct err e = {0};
    *g = (struct golden){.name = networks[network].name};
    open_file(g);
    networks[network].build(&n);
    g->graph = finish(&n);
    must(params_create(&g->params, g->graph, &e), &e);
    load_params(g);
    const struct safetensor *x = get(g, "x", ""), *label = get(g, "label", "");
    g->rows = label->dim[0];
    assert_in_range(g->rows, 1, MAX_BATCH);
    memcpy(g->label, label->data, label->bytes);
    g->x = mem_alloc(x->bytes, 1);
    memcpy(g->x, x->data, x->bytes);
}

static void golden_dispose(struct golden *g)
{
    safetensors_free(g->file);
    buf_dispose(&g->bytes);
    params_free(g->params);
    graph_free(g->graph);
    mem_free(g->x);
}

/* ---- comparing ---- */

static void expect_near(const struct golden *g, const char *what, const float *ours,
                        const struct safetensor *golden)
{
    size_t n = golden->bytes / sizeof(float);
    double largest = 1e-3, worst = 0; /* a tensor of zeros is zero up to rounding of its summands */
    for (size_t i = 0; i < n; i++) {
        double theirs = (double)number(golden, i), off = fabs((double)ours[i] - theirs);
        largest = fmax(largest, fabs(theirs));
        if (!(off <= worst)) worst = off;
    }
    if (!(worst <= ONE_PASS * largest))
        fail_msg("%s, %s, %s: off by %g of %g", g->name, what, golden->name, worst, largest);
}

/* All weights against the golden ones, which stand one after another in the order of param/. */
static void expect_weights(const struct golden *g, const char *optimiser)
{
    const struct safetensor *after = get(g, "after", optimiser);
    double squares = 0, error = 0;
    size_t at = 0;
    for (size_t i = 0; i < safetensors_count(g->file); i++) {
        const struct safetensor *t = safetensors_at(g->file, i);
        if (strncmp(t->name, "param/", 6) != 0) continue;
        const float *ours = g->params->data + g->params->entry[params_find(g->params, t->name + 6)].offset;
        for (size_t k = 0; k < t->bytes / sizeof(float); k++, at++) {
            double theirs = (double)number(after, at), off = (double)ours[k] - theirs;
            squares += theirs * theirs;
            error += off * off;
        }
    }
    assert_int_equal(at * sizeof(float), after->bytes);
    if (!(error <= TEN_STEPS * squares))
        fail_msg("%s, %s: weights are off by an NMSE of %g", g->name, optimiser, error / squares);
}

static void check_pass(const struct golden *g, const char *backend)
{
    struct plan_options o = {
        .mode = PLAN_TRAIN, .max_batch = g->rows, .keep_outputs = true, .optim = optim_defaults(OPTIM_SGD)};
    struct step s = {.feeds = (const void *[]){g->x, g->label}, .rows = g->rows};
    struct plan *p = NULL;
    struct run *r = NULL;
    struct err e = {0};
    float loss;
    must(backend_find(&o.backend, backend, &e), &e);
    must(plan_create(&p, g->graph, &o, &e), &e);
    must(run_create(&r, p, g->params, &e), &e);
    must(run_gradients(r, &s, &loss, &e), &e);
    expect_near(g, backend, &loss, get(g, "loss", ""));
    expect_near(g, backend, run_output(r, 0).data, get(g, "train", ""));
    for (int i = 0; i < g->params->n; i++) {
        const struct params_entry *t = &g->params->entry[i];
        if (t->trainable) expect_near(g, backend, run_grads(r) + t->offset, get(g, "grad", t->name));
    }
    run_free(r);
    plan_free(p);
}

static void check_answers(const struct golden *g, const char *backend)
{
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = g->rows};
    struct plan *p = NULL;
    struct run *r = NULL;
    struct err e = {0};
    must(backend_find(&o.backend, backend, &e), &e);
    must(plan_create(&p, g->graph, &o, &e), &e);
    must(plan_load(p, g->params, &e), &e);
    must(run_create(&r, p, NULL, &e), &e);
    must(run_forward(r, (const void *[]){g->x}, g->rows, &e), &e);
    expect_near(g, backend, run_output(r, 0).data, get(g, "infer", ""));
    run_free(r);
    plan_free(p);
}

static void check_steps(struct golden *g, const char *backend, struct optim_spec optim, double rate)
{
    struct plan_options o = {.mode = PLAN_TRAIN, .max_batch = g->rows, .optim = optim};
    const char *name = optim_name(optim.kind);
    const struct safetensor *losses = get(g, "losses", name);
    struct plan *p = NULL;
    struct run *r = NULL;
    struct err e = {0};
    float loss[STEPS];
    load_params(g);
    must(backend_find(&o.backend, backend, &e), &e);
    must(plan_create(&p, g->graph, &o, &e), &e);
    must(run_create(&r, p, g->params, &e), &e);
    for (uint64_t i = 0; i < STEPS; i++) {
        struct step s = {
            .feeds = (const void *[]){g->x, g->label}, .rows = g->rows, .index = i, .rate = rate};
        must(run_step(r, &s, &loss[i], &e), &e);
    }
    expect_weights(g, name);
    for (size_t i = 0; i < STEPS; i++)
        if (!(fabs((double)loss[i] - (double)number(losses, i)) <= 1e-4))
            fail_msg("%s, %s, step %zu: loss %g, golden %g", g->name, name, i, (double)loss[i],
                     (double)number(losses, i));
    run_free(r);
    plan_free(p);
}

/* ---- losses: one Dense layer ---- */

static const struct {
    const char *name, *activation, *target, *weight; /* target, weight: tensors of the file */
    double smoothing;
} loss_cases[] = {
    {"sparse_categorical_crossentropy", "softmax", "label", "row_weight", 0.2},
    {"binary_crossentropy", "sigmoid", "truth", "weight", 0.2},
    {"mse", "linear", "target", NULL, 0},
    {"mae", "linear", "target", NULL, 0},
    {"huber", "linear", "target", NULL, 0},
};
enum { N_LOSS_CASES = sizeof loss_cases / sizeof loss_cases[0] };

static int file_input(struct net *n, const struct golden *g, const char *name)
{
    const struct safetensor *t = get(g, name, "");
    struct shape s = {.rank = t->rank, .dim = {SHAPE_BATCH}};
    int value = -1;
    for (int i = 1; i < t->rank; i++) s.dim[i] = t->dim[i];
    enum dtype dtype = strcmp(t->dtype, "I32") == 0 ? DTYPE_I32 : DTYPE_F32;
    if (!n->rc) n->rc = graph_input(n->g, name, dtype, &s, &value, &n->e);
    return value;
}

static void build_loss(struct golden *g, int which)
{
    struct net n = {0};
    struct layer_loss_details d = {
        .label_smoothing = loss_cases[which].smoothing, .huber_delta = 0.7, .weights = -1};
    begin(&n, DTYPE_F32, 1, (int64_t[]){4});
    dense(&n, "head", 3, loss_cases[which].activation, true);
    if (!n.rc) n.rc = graph_output(n.g, "y", n.y, &n.e);
    int target = file_input(&n, g, loss_cases[which].target);
    if (loss_cases[which].weight) d.weights = file_input(&n, g, loss_cases[which].weight);
    if (!n.rc) n.rc = layer_loss_with(n.g, "loss", loss_cases[which].name, &d, n.y, target, &n.e);
    must(n.rc, &n.e);
    g->graph = n.g;
}

static void check_loss(struct golden *g, int which, const char *backend)
{
    struct plan_options o = {.mode = PLAN_TRAIN, .max_batch = 6, .optim = optim_defaults(OPTIM_SGD)};
    const char *weight = loss_cases[which].weight;
    const void *feeds[] = {get(g, "x", "")->data, get(g, loss_cases[which].target, "")->data,
                           weight ? get(g, weight, "")->data : NULL};
    struct step s = {.feeds = feeds, .rows = 6};
    struct plan *p = NULL;
    struct run *r = NULL;
    struct err e = {0};
    float loss;
    must(backend_find(&o.backend, backend, &e), &e);
    must(plan_create(&p, g->graph, &o, &e), &e);
    must(run_create(&r, p, g->params, &e), &e);
    must(run_gradients(r, &s, &loss, &e), &e);
    expect_near(g, backend, &loss, get(g, "loss", loss_cases[which].name));
    int kernel = params_find(g->params, "head/kernel");
    expect_near(g, backend, run_grads(r) + g->params->entry[kernel].offset,
                get(g, "grad", loss_cases[which].name));
    run_free(r);
    plan_free(p);
}

/* ---- tests ---- */

/* The next backend of this machine that computes in f32, from *at on; NULL behind the last. Others round on
 * purpose. */
static const char *next_backend(const char *const **at)
{
    const struct backend *b;
    struct err e = {0};
    for (; **at; (*at)++) {
        must(backend_find(&b, **at, &e), &e);
        if (!b->rounds) return *(*at)++;
    }
    return NULL;
}

static void answers_and_gradients_are_those_of_pytorch(void **state)
{
    (void)state;
    for (int i = 0; i < N_NETWORKS; i++) {
        struct golden g;
        open_golden(&g, i);
        const char *const *at = backend_names();
        for (const char *backend; (backend = next_backend(&at));) {
            check_pass(&g, backend);
            check_answers(&g, backend);
        }
        golden_dispose(&g);
    }
}

static void ten_steps_of_every_optimiser_end_where_pytorch_ends(void **state)
{
    static const double rate[OPTIM_COUNT] = {
        [OPTIM_SGD] = 0.1,       [OPTIM_MOMENTUM] = 0.05, [OPTIM_NESTEROV] = 0.05,
        [OPTIM_RMSPROP] = 0.005, [OPTIM_ADAM] = 0.005,    [OPTIM_ADAMW] = 0.005};
    (void)state;
    for (int i = 0; i < N_NETWORKS; i++) {
        struct golden g;
        open_golden(&g, i);
        const char *const *at = backend_names();
        for (const char *backend; (backend = next_backend(&at));)
            for (int k = 0; k < OPTIM_COUNT; k++) {
                struct optim_spec optim = optim_defaults((enum optim_kind)k);
                if (k == OPTIM_ADAMW) optim.weight_decay = 0.1;
                check_steps(&g, backend, optim, rate[k]);
            }
        golden_dispose(&g);
    }
}

static void losses_smoothed_weighted_and_bent_are_those_of_pytorch(void **state)
{
    (void)state;
    for (int i = 0; i < N_LOSS_CASES; i++) {
        struct golden g = {.name = "losses"};
        struct err e = {0};
        open_file(&g);
        build_loss(&g, i);
        must(params_create(&g.params, g.graph, &e), &e);
        load_params(&g);
        const char *const *at = backend_names();
        for (const char *backend; (backend = next_backend(&at));) check_loss(&g, i, backend);
        golden_dispose(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_and_gradients_are_those_of_pytorch),
        cmocka_unit_test(losses_smoothed_weighted_and_bent_are_those_of_pytorch),
        cmocka_unit_test(ten_steps_of_every_optimiser_end_where_pytorch_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
