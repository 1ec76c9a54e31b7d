/* A step whose rows are computed a few at a time, their gradients added up: it is the step of all rows at
 * once. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "allocations.h"
#include "tensor/backend.h"
#include "tensor/layer.h"
#include "trial.h"

enum { BATCH = 33 };

static struct plan_options in_parts(enum optim_kind kind, int64_t part_rows, int threads)
{
    struct plan_options o = trial_options(kind, BATCH, threads);
    o.part_rows = part_rows;
    o.keep_outputs = true;
    return o;
}

static void assert_near(const float *a, const float *b, size_t n, double near)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)(a[i] - b[i])) < near))
            fail_msg("number %d of %d: %g and %g", (int)i, (int)n, (double)a[i], (double)b[i]);
}

/* Loss, gradients and outputs of one step. */
static void assert_same_step(struct trial *whole, struct trial *parts, int64_t rows, double near)
{
    struct err e = {0};
    float a, b;
    must(run_gradients(whole->run, &(struct step){whole->feeds, rows, 7, 3, 0}, &a, &e), &e);
    must(run_gradients(parts->run, &(struct step){parts->feeds, rows, 7, 3, 0}, &b, &e), &e);
    assert_near(&a, &b, 1, near);
    assert_near(run_grads(whole->run), run_grads(parts->run), whole->params->len, near);
    struct view y = run_output(whole->run, 0), z = run_output(parts->run, 0);
    assert_int_equal(z.shape.dim[0], rows);
    assert_near(y.data, z.data, view_count(&y), near);
}

static void parts_of_any_size_add_up_to_the_whole_batch(void **state)
{
    (void)state;
    for (const char *const *name = backend_names(); *name; name++)
        for (int net = 0; net < TRIAL_NETS; net++)
            for (int64_t size = 1; size < BATCH; size += size < 4 ? 1 : 9) {
                struct plan_options o = in_parts(OPTIM_SGD, BATCH, 1);
                struct trial whole, parts;
                struct err e = {0};
                must(backend_find(&o.backend, *name, &e), &e);
                double near = o.backend->rounds ? 2e-2 : o.backend->tiles ? 1e-4 : 1e-5;
                trial_open(&whole, net, &o);
                o.part_rows = size;
                o.poison = true;
                trial_open(&parts, net, &o);
                assert_int_equal(plan_part_rows(whole.plan), BATCH);
                assert_int_equal(plan_part_rows(parts.plan), size);
                for (int64_t rows = 1; rows <= BATCH; rows += 8) assert_same_step(&whole, &parts, rows, near);
                trial_close(&whole);
                trial_close(&parts);
            }
}

static uint64_t trained(int net, const struct plan_options *o)
{
    struct trial t;
    struct err e = {0};
    float loss;
    trial_open(&t, net, o);
    for (uint64_t i = 0; i < 5; i++)
        must(run_step(t.run, &(struct step){t.feeds, i % 2 ? BATCH : 20, 42, i, 0.01}, &loss, &e), &e);
    uint64_t hash = net_hash(t.params->data, t.params->len * sizeof(float));
    trial_close(&t);
    return hash;
}

static void a_repeated_run_has_the_same_bits_whatever_memory_held_before(void **state)
{
    (void)state;
    for (int net = 0; net < TRIAL_NETS; net++)
        for (int threads = 1; threads <= 3; threads++) {
            struct plan_options o = in_parts(OPTIM_ADAM, 4, threads);
            o.optim.clip_norm = threads > 1 ? 0.5 : 0;
            uint64_t first = trained(net, &o);
            o.poison = o.no_alias = true;
            if (first != trained(net, &o)) fail_msg("%s, %d threads", trial_nets[net].name, threads);
        }
}

/* Batches of three rows move over the data, so that each names other rows of the table than the one before. A
 * poisoned run clears and sums up whole tables. */
static uint64_t trained_on_words(const struct plan_options *o)
{
    struct trial t;
    struct err e = {0};
    float loss;
    trial_open(&t, 3, o);
    const int32_t *words = t.feeds[0];
    for (uint64_t i = 0; i < 20; i++) {
        size_t from = i * 3 % (TRIAL_ROWS - 3);
        const void *feeds[] = {words + from * TRIAL_STEPS, trial_data.label + from};
        must(run_step(t.run, &(struct step){feeds, 3, 42, i, 0.01}, &loss, &e), &e);
    }
    uint64_t hash = net_hash(t.params->data, t.params->len * sizeof(float));
    trial_close(&t);
    return hash;
}

static void what_an_earlier_step_left_in_a_table_s_gradient_counts_no_more(void **state)
{
    (void)state;
    for (int kind = 0; kind < 8; kind++)
        for (int threads = 1; threads <= 3; threads++) {
            struct plan_options o = in_parts(OPTIM_ADAM, kind & 1 ? 1 : BATCH, threads);
            o.max_batch = 3;
            o.optim.l1 = kind & 2 ? 1e-3 : 0;
            o.optim.clip_norm = kind & 4 ? 0.1 : 0;
            uint64_t marked = trained_on_words(&o);
            o.poison = true;
            if (marked != trained_on_words(&o)) fail_msg("kind %d, %d threads", kind, threads);
        }
}

/* A weight that two layers share, and one whose gradient another's is a copy of. */
static struct graph *tied_net(void)
{
    struct graph *g;
    struct err e = {0};
    struct shape rows = shape_of(1, (int64_t[]){SHAPE_BATCH});
    struct shape x_shape = shape_of(2, (int64_t[]){SHAPE_BATCH, TRIAL_FEATURES});
    struct param_spec square = {.shape = shape_of(2, (int64_t[]){TRIAL_FEATURES, TRIAL_FEATURES}),
                                .init = {INIT_RANDOM_NORMAL, 0.1},
                                .trainable = true};
    int x, label, w, v, sum, y[NODE_MAX_OUTPUTS];
    struct layer_dense d = layer_dense_defaults(TRIAL_CLASSES, "softmax");
    must(graph_create(&g, &e), &e);
    must(graph_input(g, "x", DTYPE_F32, &x_shape, &x, &e), &e);
    must(graph_input(g, "label", DTYPE_I32, &rows, &label, &e), &e);
    must(graph_param(g, "w", &square, &w, &e), &e);
    must(graph_param(g, "v", &square, &v, &e), &e);
    must(graph_op(g, "sum", "Add", (int[]){w, v}, 2, NULL, 0, y, &e), &e);
    sum = y[0];
    must(graph_op(g, "first", "MatMul", (int[]){x, sum}, 2, NULL, 0, y, &e), &e);
    must(graph_op(g, "second", "MatMul", (int[]){y[0], w}, 2, NULL, 0, y, &e), &e);
    must(layer_dense(g, "head", y[0], &d, &y[0], &e), &e);
    must(graph_output(g, "probabilities", y[0], &e), &e);
    must(layer_loss(g, "loss", "sparse_categorical_crossentropy", y[0], label, &e), &e);
    return g;
}

static void shared_and_summed_weights_count_once_a_part(void **state)
{
    struct trial t[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct plan_options o = in_parts(OPTIM_SGD, i ? 5 : BATCH, 1);
        t[i].g = tied_net();
        t[i].plan = net_plan(t[i].g, &o);
        t[i].params = net_params(t[i].g, 3);
        t[i].run = net_run(t[i].plan, t[i].params);
        t[i].feeds[0] = trial_data.x;
        t[i].feeds[1] = trial_data.label;
    }
    assert_same_step(&t[0], &t[1], BATCH, 1e-5);
    assert_same_step(&t[0], &t[1], 7, 1e-5);
    trial_close(&t[0]);
    trial_close(&t[1]);
}

static void a_label_out_of_range_comes_back_from_whichever_part_with_its_row(void **state)
{
    static int32_t label[BATCH];
    (void)state;
    for (int at = 0; at < BATCH; at++) {
        struct plan_options o = in_parts(OPTIM_SGD, 3, 2);
        struct trial t;
        struct err e = {0};
        float loss;
        char rows[64];
        trial_open(&t, 0, &o);
        memcpy(label, trial_data.label, sizeof label);
        t.feeds[1] = label;
        uint64_t before = net_hash(t.params->data, t.params->len * sizeof(float));
        label[at] = TRIAL_CLASSES;
        assert_int_equal(run_step(t.run, &(struct step){t.feeds, 30, 1, 0, 0.1}, &loss, &e),
                         at < 30 ? ERR_INVALID : 0);
        snprintf(rows, sizeof rows, "rows from %d of the batch", at / 3 * 3);
        if (at < 30) assert_true(at < 3 ? !strstr(e.message, "rows from") : !!strstr(e.message, rows));
        if (at < 30) assert_true(net_hash(t.params->data, t.params->len * sizeof(float)) == before);
        trial_close(&t);
    }
}

static void a_step_in_parts_allocates_nothing_and_takes_less_memory(void **state)
{
    (void)state;
    if (!allocations_are_counted()) skip();
    for (int net = 0; net < TRIAL_NETS; net++) {
        struct plan_options o = in_parts(OPTIM_ADAM, BATCH, 2);
        struct trial whole, t;
        struct err e = {0};
        float loss;
        trial_open(&whole, net, &o);
        o.part_rows = 2;
        trial_open(&t, net, &o);
        assert_true(plan_bytes(t.plan)->arena < plan_bytes(whole.plan)->arena);
        must(run_step(t.run, &(struct step){t.feeds, BATCH, 1, 0, 0.01}, &loss, &e), &e);
        size_t before = allocations_of_all_threads();
        for (uint64_t i = 1; i < 5; i++)
            must(run_step(t.run, &(struct step){t.feeds, (int64_t)(8 * i - 3), 1, i, 0.01}, &loss, &e), &e);
        assert_int_equal(allocations_of_all_threads() - before, 0);
        trial_close(&whole);
        trial_close(&t);
    }
}

/* What a layer does with the whole batch at once it still does with the whole batch. */
static void only_what_takes_rows_apart_is_computed_in_parts(void **state)
{
    struct plan_options o = in_parts(OPTIM_SGD, 4, 1);
    struct graph *g = trial_whole_batch_net();
    (void)state;
    struct plan *p = net_plan(g, &o);
    assert_int_equal(plan_part_rows(p), BATCH);
    assert_string_equal(plan_whole_batch(p), "BatchNormalization");
    plan_free(p);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_of_any_size_add_up_to_the_whole_batch),
        cmocka_unit_test(a_repeated_run_has_the_same_bits_whatever_memory_held_before),
        cmocka_unit_test(shared_and_summed_weights_count_once_a_part),
        cmocka_unit_test(what_an_earlier_step_left_in_a_table_s_gradient_counts_no_more),
        cmocka_unit_test(a_label_out_of_range_comes_back_from_whichever_part_with_its_row),
        cmocka_unit_test(a_step_in_parts_allocates_nothing_and_takes_less_memory),
        cmocka_unit_test(only_what_takes_rows_apart_is_computed_in_parts),
    };
    return cmocka_run_group_tests_name("tensor/parts", tests, trial_make_data, trial_drop_data);
}
