/* Whole runs: learning, determinism, resuming, memory, and rows that do not feel their neighbours. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "allocations.h"
#include "base/mem.h"
#include "net.h"
#include "tensor/backend.h"
#include "tensor/layer.h"
#include "tensor/place.h"

static struct plan_options training(enum optim_kind kind, int64_t batch)
{
    return (struct plan_options){.mode = PLAN_TRAIN, .max_batch = batch, .optim = optim_defaults(kind)};
}

struct outcome {
    uint64_t weights;
    float loss;
};

static struct outcome train(const struct graph *g, const struct plan_options *o, const struct net_data *d,
                            int steps, uint64_t seed, double rate)
{
    struct plan *p = net_plan(g, o);
    struct params *w = net_params(g, seed);
    struct run *r = net_run(p, w);
    struct outcome out = {.loss = net_train(r, p, d, steps, 0, rate)};
    out.weights = net_hash(w->data, w->len * sizeof(float));
    run_free(r);
    params_free(w);
    plan_free(p);
    return out;
}

static void every_optimiser_learns_on_every_backend(void **state)
{
    (void)state;
    struct graph *g = net_classifier(19, 23, "relu", 0.1, 5, 1e-5);
    struct net_data d;
    net_data_init(&d, 200, 19, 5, 1);
    for (const char *const *name = backend_names(); *name; name++)
        for (int kind = 0; kind < OPTIM_COUNT; kind++) {
            struct plan_options o = training((enum optim_kind)kind, 32);
            struct err e = {0};
            must(backend_find(&o.backend, *name, &e), &e);
            struct outcome out = train(g, &o, &d, 700, 1, kind < OPTIM_RMSPROP ? 0.05 : 0.003);
            if (!(out.loss < 0.3f))
                fail_msg("%s on %s ends at %g", optim_name((enum optim_kind)kind), *name, (double)out.loss);
        }
    net_data_dispose(&d);
    graph_free(g);
}

static void the_same_seed_gives_the_same_weights_bit_for_bit(void **state)
{
    (void)state;
    struct graph *g = net_classifier(19, 23, "tanh", 0.3, 5, 0);
    struct plan_options o = training(OPTIM_ADAM, 16);
    struct net_data d;
    net_data_init(&d, 100, 19, 5, 1);
    for (const char *const *name = backend_names(); *name; name++) {
        struct err e = {0};
        must(backend_find(&o.backend, *name, &e), &e);
        struct outcome a = train(g, &o, &d, 50, 7, 0.01), b = train(g, &o, &d, 50, 7, 0.01),
                       c = train(g, &o, &d, 50, 8, 0.01);
        assert_true(a.weights == b.weights);
        assert_true(a.weights != c.weights);
    }
    net_data_dispose(&d);
    graph_free(g);
}

static void a_poisoned_shared_arena_gives_the_bits_of_separate_memory(void **state)
{
    (void)state;
    static const char *const acts[] = {"relu",    "leaky_relu", "tanh", "sigmoid",
                                       "softmax", "gelu",       "silu", "linear"};
    struct net_data d;
    net_data_init(&d, 70, 19, 5, 1);
    for (int i = 0; i < 8; i++) {
        struct graph *g = net_classifier(19, 23, acts[i], 0.3, 5, 0);
        struct plan_options o = training(OPTIM_MOMENTUM, 16);
        o.keep_outputs = true;
        struct outcome plain = train(g, &o, &d, 12, 7, 0.01);
        o.poison = true;
        struct outcome poisoned = train(g, &o, &d, 12, 7, 0.01);
        o.no_alias = true;
        struct outcome apart = train(g, &o, &d, 12, 7, 0.01);
        assert_true(isfinite(poisoned.loss));
        assert_true(plain.weights == poisoned.weights && plain.weights == apart.weights);
        graph_free(g);
    }
    net_data_dispose(&d);
}

static void a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(void **state)
{
    (void)state;
    struct graph *g = net_classifier(11, 13, "gelu", 0.4, 4, 1e-4);
    struct net_data d;
    net_data_init(&d, 90, 11, 4, 1);
    for (int kind = 0; kind < OPTIM_COUNT; kind++) {
        struct plan_options o = training((enum optim_kind)kind, 16);
        struct plan *p = net_plan(g, &o);
        struct params *whole = net_params(g, 3), *first = net_params(g, 3), *second = net_params(g, 99);
        struct run *r = net_run(p, whole), *a = net_run(p, first), *b = net_run(p, second);
        net_train(r, p, &d, 31, 0, 0.01);
        net_train(a, p, &d, 13, 0, 0.01);
        params_copy(second, first);
        for (int s = 0; s < run_slot_count(a); s++)
            memcpy(run_slot(b, s), run_slot(a, s), first->len * sizeof(float));
        net_train(b, p, &d, 18, 13, 0.01);
        assert_memory_equal(whole->data, second->data, whole->len * sizeof(float));
        run_free(r);
        run_free(a);
        run_free(b);
        params_free(whole);
        params_free(first);
        params_free(second);
        plan_free(p);
    }
    net_data_dispose(&d);
    graph_free(g);
}

static void a_training_step_and_a_prediction_allocate_nothing(void **state)
{
    (void)state;
    if (!allocations_are_counted()) skip();
    struct graph *g = net_classifier(64, 128, "gelu", 0.5, 10, 1e-4);
    struct net_data d;
    net_data_init(&d, 100, 64, 10, 1);
    for (const char *const *name = backend_names(); *name; name++) {
        struct plan_options o = training(OPTIM_ADAMW, 32), i = {.mode = PLAN_INFER, .max_batch = 32};
        struct err e = {0};
        const void *feeds[] = {d.x};
        if (strcmp(*name, "onednn") == 0) continue; /* the library does in each of its calls */
        must(backend_find(&o.backend, *name, &e), &e);
        i.backend = o.backend;
        o.optim.clip_norm = 1;
        struct plan *p = net_plan(g, &o), *q = net_plan(g, &i);
        struct params *w = net_params(g, 3);
        must(plan_load(q, w, &e), &e);
        struct run *r = net_run(p, w), *s = net_run(q, NULL);
        net_train(r, p, &d, 1, 0, 0.01); /* OpenBLAS takes its buffer on its first call */
        size_t before = allocations_so_far();
        net_train(r, p, &d, 10, 1, 0.01);
        must(run_forward(s, feeds, 32, &e), &e);
        must(run_forward(s, feeds, 5, &e), &e);
        assert_int_equal(allocations_so_far() - before, 0);
        mem_free(mem_alloc(1, 1));
        assert_int_equal(allocations_so_far() - before, 1); /* the counter does count */
        run_free(r);
        run_free(s);
        params_free(w);
        plan_free(p);
        plan_free(q);
    }
    net_data_dispose(&d);
    graph_free(g);
}

static void a_row_is_answered_with_the_same_bits_alone_and_in_company(void **state)
{
    (void)state;
    enum { ROWS = 67, CLASSES = 7 };
    static const char *const acts[] = {"relu", "tanh", "gelu", "silu", "softmax"};
    struct net_data d;
    net_data_init(&d, ROWS, 45, CLASSES, 1);
    for (const char *const *name = backend_names(); *name; name++)
        for (int i = 0; i < 5; i++) {
            struct graph *g = net_classifier(45, 51, acts[i], 0.5, CLASSES, 0);
            struct plan_options o = {.mode = PLAN_INFER, .max_batch = ROWS};
            struct params *w = net_params(g, 3);
            struct err e = {0};
            float together[ROWS * CLASSES];
            const void *feeds[] = {d.x};
            must(backend_find(&o.backend, *name, &e), &e);
            struct plan *p = net_plan(g, &o);
            must(plan_load(p, w, &e), &e);
            struct run *r = net_run(p, NULL);
            must(run_forward(r, feeds, ROWS, &e), &e);
            memcpy(together, run_output(r, 0).data, sizeof together);
            for (int64_t rows = 1; rows <= 9; rows++)
                for (int64_t at = 0; at + rows <= ROWS; at += rows) {
                    feeds[0] = d.x + at * d.features;
                    must(run_forward(r, feeds, rows, &e), &e);
                    assert_int_equal(run_output(r, 0).shape.dim[0], rows);
                    assert_memory_equal(run_output(r, 0).data, together + at * CLASSES,
                                        (size_t)(rows * CLASSES) * sizeof(float));
                }
            run_free(r);
            plan_free(p);
            params_free(w);
            graph_free(g);
        }
    net_data_dispose(&d);
}

/* Wide enough that 256 rows do not fit a cache: they are computed in parts, and nobody can tell. */
static void a_large_batch_is_computed_in_parts_with_the_same_bits(void **state)
{
    (void)state;
    enum { ROWS = 256, HIDDEN = 6000, CLASSES = 3 };
    static const int64_t sizes[] = {ROWS, 255, 130, 65, 64, 1};
    struct net_data d;
    struct err e = {0};
    net_data_init(&d, ROWS, 20, CLASSES, 1);
    struct graph *g = net_classifier(20, HIDDEN, "relu", 0, CLASSES, 0);
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = ROWS, .poison = true};
    struct params *w = net_params(g, 3);
    struct plan *p = net_plan(g, &o);
    static float alone[ROWS * CLASSES];
    must(plan_load(p, w, &e), &e);
    assert_in_range(plan_bytes(p)->arena, 1, (size_t)2 << 20); /* of 6 MiB for all rows */
    struct run *r = net_run(p, NULL);
    for (int64_t i = 0; i < ROWS; i++) {
        must(run_forward(r, (const void *[]){d.x + i * d.features}, 1, &e), &e);
        memcpy(alone + i * CLASSES, run_output(r, 0).data, CLASSES * sizeof(float));
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        must(run_forward(r, (const void *[]){d.x}, sizes[i], &e), &e);
        assert_int_equal(run_output(r, 0).shape.dim[0], sizes[i]);
        assert_memory_equal(run_output(r, 0).data, alone, (size_t)sizes[i] * CLASSES * sizeof(float));
    }
    run_free(r);
    plan_free(p);
    params_free(w);
    graph_free(g);
    net_data_dispose(&d);
}

/* A weight that is computed cannot be packed at load; its product must still not feel the other rows. */
static void a_product_with_a_computed_weight_is_row_by_row_too(void **state)
{
    (void)state;
    enum { ROWS = 33, IN = 600, OUT = 37 };
    struct shape xs = shape_of(2, (int64_t[]){SHAPE_BATCH, IN});
    struct param_spec w = {
        .shape = shape_of(2, (int64_t[]){OUT, IN}), .init = {INIT_RANDOM_UNIFORM, 1}, .trainable = true};
    struct attr turned = {"shape", {.ints = shape_of(2, (int64_t[]){IN, OUT})}};
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = ROWS};
    struct err e = {0};
    struct graph *g;
    static float in[ROWS * IN], together[ROWS * OUT];
    int x, p, v[NODE_MAX_OUTPUTS];
    must(graph_create(&g, &e), &e);
    must(graph_input(g, "x", DTYPE_F32, &xs, &x, &e), &e);
    must(graph_param(g, "w", &w, &p, &e), &e);
    must(graph_op(g, "turned", "Reshape", &p, 1, &turned, 1, v, &e), &e);
    must(graph_op(g, "y", "MatMul", (int[]){x, v[0]}, 2, NULL, 0, v, &e), &e);
    must(graph_output(g, "y", v[0], &e), &e);
    net_random(in, ROWS * IN, 1, 1, 1);
    struct params *params = net_params(g, 1);
    for (const char *const *name = backend_names(); *name; name++) {
        must(backend_find(&o.backend, *name, &e), &e);
        struct plan *plan = net_plan(g, &o);
        must(plan_load(plan, params, &e), &e);
        struct run *r = net_run(plan, NULL);
        must(run_forward(r, (const void *[]){in}, ROWS, &e), &e);
        memcpy(together, run_output(r, 0).data, sizeof together);
        for (int i = 0; i < ROWS; i++) {
            must(run_forward(r, (const void *[]){in + (ptrdiff_t)i * IN}, 1, &e), &e);
            assert_memory_equal(run_output(r, 0).data, together + (ptrdiff_t)i * OUT, OUT * sizeof(float));
        }
        run_free(r);
        plan_free(plan);
    }
    params_free(params);
    graph_free(g);
}

/* Each thread its own run of one plan. */
struct reader {
    const struct plan *plan;
    const struct net_data *d;
    uint64_t hash;
};

static void *predict_often(void *arg)
{
    struct reader *t = arg;
    struct run *r = net_run(t->plan, NULL);
    const void *feeds[] = {t->d->x};
    for (int i = 0; i < 200; i++)
        if (run_forward(r, feeds, 32, NULL)) abort();
    struct view y = run_output(r, 0);
    t->hash = net_hash(y.data, view_count(&y) * sizeof(float));
    run_free(r);
    return NULL;
}

static void threads_share_one_plan(void **state)
{
    (void)state;
    struct graph *g = net_classifier(40, 64, "relu", 0, 10, 0);
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = 32};
    struct plan *p = net_plan(g, &o);
    struct params *w = net_params(g, 3);
    struct net_data d;
    struct err e = {0};
    pthread_t id[3];
    struct reader t[3];
    net_data_init(&d, 32, 40, 10, 1);
    must(plan_load(p, w, &e), &e);
    params_free(w); /* the plan keeps its own */
    for (int i = 0; i < 3; i++) {
        t[i] = (struct reader){.plan = p, .d = &d};
        assert_int_equal(pthread_create(&id[i], NULL, predict_often, &t[i]), 0);
    }
    for (int i = 0; i < 3; i++) pthread_join(id[i], NULL);
    assert_true(t[0].hash == t[1].hash && t[0].hash == t[2].hash);
    plan_free(p);
    net_data_dispose(&d);
    graph_free(g);
}

static void training_and_inference_see_the_same_function(void **state)
{
    (void)state;
    struct graph *g = net_classifier(19, 23, "silu", 0, 5, 0);
    struct plan_options o = training(OPTIM_SGD, 30), i = {.mode = PLAN_INFER, .max_batch = 30};
    struct net_data d;
    struct err e = {0};
    float loss;
    o.keep_outputs = true;
    net_data_init(&d, 30, 19, 5, 1);
    struct plan *p = net_plan(g, &o), *q = net_plan(g, &i);
    struct params *w = net_params(g, 3);
    const void *feeds[] = {d.x, d.label};
    must(plan_load(q, w, &e), &e);
    struct run *r = net_run(p, w), *s = net_run(q, NULL);
    must(run_gradients(r, &(struct step){feeds, 30, 1, 0, 0}, &loss, &e), &e);
    must(run_forward(s, feeds, 30, &e), &e);
    const float *a = run_output(r, 0).data, *b = run_output(s, 0).data;
    double want = 0;
    for (int k = 0; k < 30 * 5; k++) assert_true(fabs((double)(a[k] - b[k])) < 1e-6);
    for (int k = 0; k < 30; k++) want -= log((double)b[k * 5 + d.label[k]]) / 30;
    assert_true(fabs(want - (double)loss) < 1e-5);
    assert_int_equal(plan_input_count(q), 1); /* inference needs no labels */
    assert_int_equal(plan_input_find(q, "label"), -1);
    run_free(r);
    run_free(s);
    params_free(w);
    plan_free(p);
    plan_free(q);
    net_data_dispose(&d);
    graph_free(g);
}

static void memory_is_known_before_the_run_and_refused_over_the_limit(void **state)
{
    (void)state;
    struct graph *g = net_classifier(784, 128, "relu", 0, 10, 0);
    struct plan_options o = training(OPTIM_ADAM, 32);
    struct err e = {0};
    struct plan *p = net_plan(g, &o);
    const struct plan_bytes *b = plan_bytes(p);
    size_t flat = (784 * 128 + 128 + 128 * 10 + 16) * sizeof(float);
    assert_int_equal(b->params, flat);
    assert_int_equal(b->grads, flat);
    assert_in_range(b->optim, 2 * flat, 2 * flat + flat / 100);
    assert_int_equal(b->total, b->params + b->grads + b->optim + b->packed + b->arena);
    o.limit_bytes = b->total;
    plan_free(p);
    p = net_plan(g, &o);
    o.limit_bytes = plan_bytes(p)->total - 1;
    plan_free(p);
    assert_int_equal(plan_create(&p, g, &o, &e), ERR_TOO_LARGE);
    char number[32];
    snprintf(number, sizeof number, "%zu", o.limit_bytes + 1);
    assert_non_null(strstr(e.message, number));
    o.limit_bytes = 0;
    o.max_batch = o.part_rows = 1 << 28;
    p = net_plan(g, &o); /* compiling allocates none of it */
    assert_true(plan_bytes(p)->arena > (size_t)1 << 36);
    plan_free(p);
    graph_free(g);
}

static void misuse_is_refused(void **state)
{
    (void)state;
    struct graph *g = net_classifier(5, 4, "relu", 0, 3, 0), *other = net_classifier(5, 7, "relu", 0, 3, 0);
    struct plan_options o = training(OPTIM_SGD, 8), i = {.mode = PLAN_INFER, .max_batch = 8};
    struct plan *p = net_plan(g, &o), *q = net_plan(g, &i), *none;
    struct params *w = net_params(g, 1), *wrong = net_params(other, 1);
    struct run *r;
    struct err e = {0};
    float loss;
    const void *feeds[2] = {0};
    assert_int_equal(run_create(&r, p, NULL, &e), ERR_INVALID);
    assert_int_equal(run_create(&r, p, wrong, &e), ERR_INVALID);
    assert_int_equal(run_create(&r, q, NULL, &e), ERR_INVALID); /* nothing loaded */
    assert_int_equal(plan_load(q, wrong, &e), ERR_INVALID);
    r = net_run(p, w);
    assert_int_equal(run_step(r, &(struct step){feeds, 9, 1, 0, 0}, &loss, &e), ERR_INVALID);
    assert_int_equal(run_step(r, &(struct step){feeds, 0, 1, 0, 0}, &loss, &e), ERR_INVALID);
    i.threads = 2;
    assert_int_equal(plan_create(&none, g, &i, &e), ERR_UNSUPPORTED);
    o.max_batch = 0;
    assert_int_equal(plan_create(&none, g, &o, &e), ERR_INVALID);
    o.max_batch = 8;
    o.optim.momentum = 1;
    assert_int_equal(plan_create(&none, g, &o, &e), ERR_INVALID);
    assert_string_equal(e.field, "momentum");
    run_free(r);
    params_free(w);
    params_free(wrong);
    plan_free(p);
    plan_free(q);
    graph_free(g);
    graph_free(other);
}

static void linear_regression_finds_slope_and_intercept(void **state)
{
    (void)state;
    enum { N = 64 };
    struct shape s = shape_of(2, (int64_t[]){SHAPE_BATCH, 1});
    struct layer_dense d = layer_dense_defaults(1, NULL);
    struct err e = {0};
    struct graph *g;
    int x, t, y;
    float in[N], out[N], loss = 1;
    must(graph_create(&g, &e), &e);
    must(graph_input(g, "x", DTYPE_F32, &s, &x, &e), &e);
    must(graph_input(g, "t", DTYPE_F32, &s, &t, &e), &e);
    must(layer_dense(g, "line", x, &d, &y, &e), &e);
    must(graph_output(g, "y", y, &e), &e);
    must(layer_loss(g, "loss", "mse", y, t, &e), &e);
    net_random(in, N, 1, 1, 1);
    for (int i = 0; i < N; i++) out[i] = 3 * in[i] + 2;
    struct plan_options o = training(OPTIM_SGD, N);
    struct plan *p = net_plan(g, &o);
    struct params *w = net_params(g, 3);
    struct run *r = net_run(p, w);
    const void *feeds[] = {in, out};
    for (uint64_t i = 0; i < 500; i++) must(run_step(r, &(struct step){feeds, N, 1, i, 0.2}, &loss, &e), &e);
    assert_true(fabs((double)w->data[w->entry[params_find(w, "line/kernel")].offset] - 3) < 1e-3);
    assert_true(fabs((double)w->data[w->entry[params_find(w, "line/bias")].offset] - 2) < 1e-3);
    run_free(r);
    params_free(w);
    plan_free(p);
    graph_free(g);
}

static void placed_blocks_never_overlap_while_they_live(void **state)
{
    (void)state;
    enum { N = 300 };
    static struct place_block b[N];
    struct err e = {0};
    size_t arena, apart;
    for (int i = 0; i < N; i++) {
        int first = i * 37 % 100;
        b[i] = (struct place_block){.bytes = (size_t)(i * 71 % 997), .first = first, .last = first + i % 9};
    }
    must(place_blocks(b, N, true, &apart, &e), &e);
    must(place_blocks(b, N, false, &arena, &e), &e);
    assert_true(arena < apart / 4);
    for (int i = 0; i < N; i++) {
        assert_true(b[i].offset % PLACE_ALIGN == 0 && b[i].offset + b[i].bytes <= arena);
        for (int j = 0; j < i; j++) {
            bool together = b[i].first <= b[j].last && b[j].first <= b[i].last;
            bool overlap = b[i].offset < b[j].offset + b[j].bytes && b[j].offset < b[i].offset + b[i].bytes;
            assert_false(together && overlap);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_optimiser_learns_on_every_backend),
        cmocka_unit_test(the_same_seed_gives_the_same_weights_bit_for_bit),
        cmocka_unit_test(a_poisoned_shared_arena_gives_the_bits_of_separate_memory),
        cmocka_unit_test(a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one),
        cmocka_unit_test(a_training_step_and_a_prediction_allocate_nothing),
        cmocka_unit_test(a_row_is_answered_with_the_same_bits_alone_and_in_company),
        cmocka_unit_test(a_large_batch_is_computed_in_parts_with_the_same_bits),
        cmocka_unit_test(a_product_with_a_computed_weight_is_row_by_row_too),
        cmocka_unit_test(threads_share_one_plan),
        cmocka_unit_test(training_and_inference_see_the_same_function),
        cmocka_unit_test(memory_is_known_before_the_run_and_refused_over_the_limit),
        cmocka_unit_test(misuse_is_refused),
        cmocka_unit_test(linear_regression_finds_slope_and_intercept),
        cmocka_unit_test(placed_blocks_never_overlap_while_they_live),
    };
    return cmocka_run_group_tests_name("tensor/run", tests, NULL, NULL);
}
