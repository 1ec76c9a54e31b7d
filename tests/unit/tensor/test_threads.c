/* Training runs of several threads: the bits of a repetition, the numbers of one thread, and no surprise when
 * something fails on one of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "allocations.h"
#include "base/mem.h"
#include "tensor/backend.h"
#include "tensor/layer.h"
#include "tensor/rng.h"
#include "trial.h"

enum { MAX_THREADS = 3 };

static uint64_t trained(int net, const struct plan_options *o)
{
    struct trial t;
    struct err e = {0};
    float loss;
    trial_open(&t, net, o);
    for (uint64_t i = 0; i < 7; i++) {
        int64_t rows = i % 3 == 2 ? (o->max_batch + 1) / 2 : o->max_batch; /* a last batch is smaller */
        must(run_step(t.run, &(struct step){t.feeds, rows, 42, i, 0.01}, &loss, &e), &e);
        assert_true(isfinite(loss));
    }
    uint64_t hash = net_hash(t.params->data, t.params->len * sizeof(float));
    trial_close(&t);
    return hash;
}

static void a_repeated_run_has_the_same_bits_for_each_number_of_threads(void **state)
{
    static const int64_t batches[] = {1, 3, 32};
    (void)state;
    for (int net = 0; net < TRIAL_NETS; net++)
        for (int b = 0; b < 3; b++)
            for (int kind = 0; kind < OPTIM_COUNT; kind++)
                for (int threads = 1; threads <= MAX_THREADS; threads++) {
                    struct plan_options o = trial_options((enum optim_kind)kind, batches[b], threads);
                    o.optim.clip_norm = kind % 2 ? 0.5 : 0;
                    uint64_t first = trained(net, &o);
                    o.poison = true;
                    if (first != trained(net, &o))
                        fail_msg("%s, %s, batch %d, %d threads", trial_nets[net].name,
                                 optim_name((enum optim_kind)kind), (int)batches[b], threads);
                }
}

static void threads_agree_on_loss_gradients_and_outputs(void **state)
{
    (void)state;
    for (const char *const *name = backend_names(); *name; name++)
        for (int net = 0; net < TRIAL_NETS; net++)
            for (int threads = 2; threads <= MAX_THREADS; threads++)
                for (int64_t rows = 1; rows <= 33; rows += rows < 9 ? 1 : 12) {
                    struct plan_options o = trial_options(OPTIM_SGD, 33, 1);
                    struct trial alone, shared;
                    struct err e = {0};
                    float a, b;
                    must(backend_find(&o.backend, *name, &e), &e);
                    double near = o.backend->rounds ? 2e-2 : 1e-5;
                    o.keep_outputs = true;
                    trial_open(&alone, net, &o);
                    o.threads = threads;
                    trial_open(&shared, net, &o);
                    assert_int_equal(plan_threads(shared.plan), threads);
                    must(run_gradients(alone.run, &(struct step){alone.feeds, rows, 7, 3, 0}, &a, &e), &e);
                    must(run_gradients(shared.run, &(struct step){shared.feeds, rows, 7, 3, 0}, &b, &e), &e);
                    assert_true(fabs((double)(a - b)) < near);
                    for (size_t i = 0; i < alone.params->len; i++)
                        assert_true(fabs((double)(run_grads(alone.run)[i] - run_grads(shared.run)[i])) <
                                    near);
                    struct view y = run_output(alone.run, 0), z = run_output(shared.run, 0);
                    assert_int_equal(z.shape.dim[0], rows);
                    for (size_t i = 0; i < view_count(&y); i++)
                        assert_true(fabs((double)(((float *)y.data)[i] - ((float *)z.data)[i])) < near);
                    trial_close(&alone);
                    trial_close(&shared);
                }
}

static void a_step_is_gradients_and_an_update(void **state)
{
    (void)state;
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        struct plan_options o = trial_options(OPTIM_ADAMW, 32, threads);
        struct trial whole, parts;
        struct err e = {0};
        float loss;
        o.optim.clip_norm = 0.1;
        trial_open(&whole, 0, &o);
        trial_open(&parts, 0, &o);
        for (uint64_t i = 0; i < 5; i++) {
            struct step s = {whole.feeds, 31, 1, i, 0.01};
            must(run_step(whole.run, &s, &loss, &e), &e);
            must(run_gradients(parts.run, &s, &loss, &e), &e);
            run_update(parts.run, &s);
            assert_true(run_grad_norm(whole.run) > 0.1);
            assert_true(run_grad_norm(whole.run) == run_grad_norm(parts.run));
        }
        assert_memory_equal(whole.params->data, parts.params->data, whole.params->len * sizeof(float));
        trial_close(&whole);
        trial_close(&parts);
    }
}

static void a_resumed_run_has_the_bits_of_an_uninterrupted_one(void **state)
{
    struct plan_options o = trial_options(OPTIM_ADAM, 32, 2);
    struct trial whole, first, second;
    struct err e = {0};
    float loss;
    (void)state;
    trial_open(&whole, 2, &o);
    trial_open(&first, 2, &o);
    trial_open(&second, 2, &o);
    for (uint64_t i = 0; i < 9; i++) {
        struct step s = {whole.feeds, 30, 1, i, 0.01};
        must(run_step(whole.run, &s, &loss, &e), &e);
        must(run_step(i < 4 ? first.run : second.run, &s, &loss, &e), &e);
        if (i != 3) continue;
        params_copy(second.params, first.params);
        for (int k = 0; k < run_slot_count(first.run); k++)
            memcpy(run_slot(second.run, k), run_slot(first.run, k), first.params->len * sizeof(float));
    }
    assert_memory_equal(whole.params->data, second.params->data, whole.params->len * sizeof(float));
    trial_close(&whole);
    trial_close(&first);
    trial_close(&second);
}

static void a_label_out_of_range_comes_back_from_whichever_thread_and_changes_nothing(void **state)
{
    static int32_t label[32];
    (void)state;
    for (int at = 0; at < 32; at++) {
        struct plan_options o = trial_options(OPTIM_SGD, 32, 3);
        struct trial t;
        struct err e = {0};
        float loss;
        trial_open(&t, 0, &o);
        memcpy(label, trial_data.label, sizeof label);
        t.feeds[1] = label;
        uint64_t before = net_hash(t.params->data, t.params->len * sizeof(float));
        label[at] = TRIAL_CLASSES;
        assert_int_equal(run_step(t.run, &(struct step){t.feeds, 32, 1, 0, 0.1}, &loss, &e), ERR_INVALID);
        assert_string_equal(e.field, "labels");
        assert_non_null(strstr(e.message, "label 5"));
        assert_true(net_hash(t.params->data, t.params->len * sizeof(float)) == before);
        int rc = run_step(t.run, &(struct step){t.feeds, 1, 1, 0, 0.1}, &loss, &e); /* row 0 alone */
        assert_int_equal(rc, at == 0 ? ERR_INVALID : 0);
        trial_close(&t);
    }
}

static void a_step_of_several_threads_allocates_nothing(void **state)
{
    (void)state;
    if (!allocations_are_counted()) skip();
    for (int net = 0; net < TRIAL_NETS; net++) {
        struct plan_options o = trial_options(OPTIM_ADAMW, 32, 3);
        struct trial t;
        struct err e = {0};
        float loss;
        o.optim.clip_norm = 1;
        o.keep_outputs = true;
        trial_open(&t, net, &o);
        must(run_step(t.run, &(struct step){t.feeds, 32, 1, 0, 0.01}, &loss, &e), &e);
        size_t before = allocations_of_all_threads();
        for (uint64_t i = 1; i < 6; i++)
            must(run_step(t.run, &(struct step){t.feeds, (int64_t)(7 * i - 4), 1, i, 0.01}, &loss, &e), &e);
        assert_int_equal(allocations_of_all_threads() - before, 0);
        trial_close(&t);
    }
}

static void what_needs_the_whole_batch_stays_on_one_thread(void **state)
{
    struct err e = {0};
    struct plan_options o = trial_options(OPTIM_SGD, 32, 2);
    int loss[NODE_MAX_OUTPUTS];
    (void)state;
    struct graph *g = trial_whole_batch_net();
    struct plan *p = net_plan(g, &o);
    assert_int_equal(plan_threads(p), 1);
    assert_string_equal(plan_whole_batch(p), "BatchNormalization");
    plan_free(p);
    graph_free(g);
    /* The square of a mean is not the mean of squares; the difference of means is that of differences. */
    for (int affine = 0; affine < 2; affine++) {
        g = trial_nets[0].make();
        int mean = graph_loss(g);
        must(graph_op(g, "twice", affine ? "Add" : "Mul", (int[]){mean, mean}, 2, NULL, 0, loss, &e), &e);
        must(graph_set_loss(g, loss[0], &e), &e);
        p = net_plan(g, &o);
        assert_int_equal(plan_threads(p), affine ? 2 : 1);
        if (affine)
            assert_null(plan_whole_batch(p));
        else
            assert_string_equal(plan_whole_batch(p), "Mul");
        plan_free(p);
        graph_free(g);
    }
}

static int planned_threads(int64_t batch, int threads, int64_t thread_flops)
{
    struct graph *g = trial_nets[0].make();
    struct plan_options o = trial_options(OPTIM_SGD, batch, threads);
    o.thread_flops = thread_flops;
    struct plan *p = net_plan(g, &o);
    int n = plan_threads(p);
    plan_free(p);
    graph_free(g);
    return n;
}

static void threads_are_used_where_there_is_work_for_them(void **state)
{
    (void)state;
    assert_int_equal(planned_threads(32, 0, 1), 1);
    assert_int_equal(planned_threads(32, 2, 1), 2);
    assert_int_equal(planned_threads(1, 2, 1), 1);
    assert_int_equal(planned_threads(3, 64, 1), 3);
    assert_int_equal(planned_threads(1 << 20, 1000, 1), TEAM_MAX_MEMBERS);
    assert_int_equal(planned_threads(32, 2, 0), 1); /* a tenth of a megaflop */
    assert_int_equal(planned_threads(4096, 2, 0), 2);
    struct plan_options o = {
        .mode = PLAN_TRAIN, .threads = 2, .max_batch = 32, .optim = optim_defaults(OPTIM_SGD)};
    struct graph *g =
        net_classifier(784, 1024, "relu", 0, 10, 0); /* many weights, and little to do with each */
    struct plan *few = net_plan(g, &o);
    o.max_batch = 256;
    struct plan *many = net_plan(g, &o);
    assert_int_equal(plan_threads(few), 1);
    assert_int_equal(plan_threads(many), 2);
    plan_free(few);
    plan_free(many);
    graph_free(g);
}

static void memory_is_counted_for_each_thread(void **state)
{
    struct graph *g = net_classifier(300, 200, "relu", 0, 10, 0);
    struct plan_options o = trial_options(OPTIM_ADAM, 64, 1);
    struct plan *one, *two;
    (void)state;
    o.keep_outputs = true;
    one = net_plan(g, &o);
    o.threads = 2;
    two = net_plan(g, &o);
    const struct plan_bytes *a = plan_bytes(one), *b = plan_bytes(two);
    assert_int_equal(b->grads, 2 * a->grads);
    assert_int_equal(b->params, a->params);
    assert_true(b->arena < a->arena + a->arena / 4 && b->arena > a->arena * 3 / 4); /* half the rows each */
    assert_int_equal(b->total, b->params + b->grads + b->optim + b->packed + b->arena);
    plan_free(one);
    plan_free(two);
    graph_free(g);
}

static void a_run_that_cannot_be_made_leaves_nothing_behind(void **state)
{
    struct graph *g = trial_nets[0].make();
    struct plan_options o = trial_options(OPTIM_ADAM, 32, 3);
    (void)state;
    o.keep_outputs = true;
    struct plan *p = net_plan(g, &o);
    struct params *w = net_params(g, 1);
    int failures = 0;
    for (size_t nth = 1;; nth++) {
        struct run *r = NULL;
        struct err e = {0};
        mem_fail_at(nth, false);
        int rc = run_create(&r, p, w, &e);
        mem_fail_at(0, false);
        if (rc == 0) {
            run_free(r);
            break;
        }
        assert_int_equal(rc, ERR_NOMEM);
        failures++;
    }
    assert_true(failures > 10);
    params_free(w);
    plan_free(p);
    graph_free(g);
}

/* ---- rows shared ---- */

struct shared {
    int8_t seen[64];
    int64_t bad;
};

static int see(void *ctx, int64_t first, int64_t rows, struct err *e)
{
    struct shared *s = ctx;
    for (int64_t i = first; i < first + rows; i++) {
        if (i >= s->bad) return err_set(e, ERR_IO, "row", "row %lld", (long long)i);
        s->seen[i]++;
    }
    return 0;
}

static void rows_are_shared_out_once_and_the_first_error_comes_back(void **state)
{
    (void)state;
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        struct plan_options o = trial_options(OPTIM_SGD, 50, threads);
        struct trial t;
        struct err e = {0};
        trial_open(&t, 0, &o);
        for (int64_t rows = 1; rows <= 50; rows++) {
            struct shared s = {.bad = 64};
            must(run_share(t.run, rows, see, &s, &e), &e);
            for (int64_t i = 0; i < 64; i++) assert_int_equal(s.seen[i], i < rows);
            s.bad = rows / 2;
            char want[32];
            snprintf(want, sizeof want, "row %lld", (long long)s.bad);
            assert_int_equal(run_share(t.run, rows, see, &s, &e), ERR_IO);
            assert_string_equal(e.message, want);
        }
        assert_int_equal(run_share(t.run, 51, see, NULL, &e), ERR_INVALID);
        trial_close(&t);
    }
}

/* ---- denormal numbers ---- */

static void denormal_numbers_are_nothing_in_a_step_and_something_after_it(void **state)
{
#if defined(__x86_64__)
    volatile float tiny = 1e-40F, one = 1;
    (void)state;
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        struct plan_options o = trial_options(OPTIM_MOMENTUM, 32, threads);
        struct trial t;
        struct err e = {0};
        float loss;
        trial_open(&t, 0, &o);
        float *m = run_slot(t.run, 0);
        for (size_t i = 0; i < t.params->len; i++) m[i] = 1e-40F;
        memset(t.params->data, 0,
               t.params->len * sizeof(float)); /* no hidden unit, no gradient of its weights */
        must(run_step(t.run, &(struct step){t.feeds, 32, 1, 0, 0.01}, &loss, &e), &e);
        const struct params_entry *x = &t.params->entry[params_find(t.params, "hidden/kernel")];
        for (size_t i = 0; i < x->count; i++) assert_true(m[x->offset + i] == 0);
        assert_true(tiny * one > 0);
        trial_close(&t);
    }
#else
    (void)state;
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_repeated_run_has_the_same_bits_for_each_number_of_threads),
        cmocka_unit_test(threads_agree_on_loss_gradients_and_outputs),
        cmocka_unit_test(a_step_is_gradients_and_an_update),
        cmocka_unit_test(a_resumed_run_has_the_bits_of_an_uninterrupted_one),
        cmocka_unit_test(a_label_out_of_range_comes_back_from_whichever_thread_and_changes_nothing),
        cmocka_unit_test(a_step_of_several_threads_allocates_nothing),
        cmocka_unit_test(what_needs_the_whole_batch_stays_on_one_thread),
        cmocka_unit_test(threads_are_used_where_there_is_work_for_them),
        cmocka_unit_test(memory_is_counted_for_each_thread),
        cmocka_unit_test(a_run_that_cannot_be_made_leaves_nothing_behind),
        cmocka_unit_test(rows_are_shared_out_once_and_the_first_error_comes_back),
        cmocka_unit_test(denormal_numbers_are_nothing_in_a_step_and_something_after_it),
    };
    return cmocka_run_group_tests_name("tensor/threads", tests, trial_make_data, trial_drop_data);
}
