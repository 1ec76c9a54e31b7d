/* Each optimiser against its formula in double, many steps, with L2, decay and clipping. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "net.h"
#include "tensor/optim.h"

enum { N = 37 };

struct oracle {
    double w[2][N], m[2][N], v[2][N];
};

static double norm_of(double g[2][N], int first, int last)
{
    double squares = 0;
    for (int p = first; p <= last; p++)
        for (int i = 0; i < N; i++) squares += g[p][i] * g[p][i];
    return sqrt(squares);
}

static void scale_down(double g[2][N], int first, int last, double limit)
{
    double norm = norm_of(g, first, last);
    for (int p = first; p <= last && limit > 0 && norm > limit; p++)
        for (int i = 0; i < N; i++) g[p][i] *= limit / norm;
}

/* In the order of the header. */
static void treat(const struct optim_spec *s, const struct oracle *o, double l2, double g[2][N])
{
    for (int i = 0; i < N; i++) {
        double w = o->w[0][i];
        g[0][i] += 2 * l2 * w + s->l1 * (w > 0 ? 1 : w < 0 ? -1 : 0);
    }
    for (int p = 0; p < 2 && s->clip_value > 0; p++)
        for (int i = 0; i < N; i++) g[p][i] = fmax(-s->clip_value, fmin(s->clip_value, g[p][i]));
    scale_down(g, 0, 0, s->clip_each);
    scale_down(g, 1, 1, s->clip_each);
    scale_down(g, 0, 1, s->clip_norm);
}

/* The formulas as the header states them; parameter 0 decays and has l2, parameter 1 has neither. */
static void oracle_step(struct oracle *o, const struct optim_spec *s, const float *grad[2], double l2,
                        int step, double rate)
{
    double g[2][N];
    for (int p = 0; p < 2; p++)
        for (int i = 0; i < N; i++) g[p][i] = (double)grad[p][i];
    treat(s, o, l2, g);
    for (int p = 0; p < 2; p++)
        for (int i = 0; i < N; i++) {
            double x = g[p][i], *w = &o->w[p][i], *m = &o->m[p][i], *v = &o->v[p][i];
            if (s->kind == OPTIM_SGD) {
                *w -= rate * x;
            } else if (s->kind == OPTIM_MOMENTUM || s->kind == OPTIM_NESTEROV) {
                *m = s->momentum * *m + x;
                *w -= rate * (s->kind == OPTIM_NESTEROV ? x + s->momentum * *m : *m);
            } else if (s->kind == OPTIM_RMSPROP) {
                *v = s->rho * *v + (1 - s->rho) * x * x;
                *w -= rate * x / (sqrt(*v) + s->epsilon);
            } else {
                if (s->kind == OPTIM_ADAMW && p == 0) *w -= rate * s->weight_decay * *w;
                *m = s->beta1 * *m + (1 - s->beta1) * x;
                *v = s->beta2 * *v + (1 - s->beta2) * x * x;
                double mh = *m / (1 - pow(s->beta1, step + 1)), vh = *v / (1 - pow(s->beta2, step + 1));
                *w -= rate * mh / (sqrt(vh) + s->epsilon);
            }
        }
}

static struct graph *two_params(double l2)
{
    int64_t n = N;
    struct param_spec a = {.shape = shape_of(1, &n),
                           .init = {INIT_RANDOM_NORMAL, 1},
                           .trainable = true,
                           .decay = true,
                           .l2 = l2};
    struct param_spec b = {.shape = shape_of(1, &n), .init = {INIT_RANDOM_NORMAL, 1}, .trainable = true};
    struct param_spec frozen = {.shape = shape_of(1, &n), .init = {INIT_ONES, 0}, .l2 = l2};
    struct graph *g;
    struct err e = {0};
    int value;
    must(graph_create(&g, &e), &e);
    must(graph_param(g, "a", &a, &value, &e), &e);
    must(graph_param(g, "b", &b, &value, &e), &e);
    must(graph_param(g, "frozen", &frozen, &value, &e), &e);
    return g;
}

static void compare(const struct params *p, const struct oracle *o, const char *what)
{
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < N; i++) {
            double got = (double)p->data[p->entry[k].offset + (size_t)i];
            if (!(fabs(got - o->w[k][i]) < 2e-5))
                fail_msg("%s: parameter %d[%d] is %g, not %g", what, k, i, got, o->w[k][i]);
        }
    for (size_t i = 0; i < N; i++) assert_true(p->data[p->entry[2].offset + i] == 1.0f);
    for (size_t i = p->entry[0].count; i < p->entry[1].offset; i++) assert_true(p->data[i] == 0.0f);
}

static void run_trial(const struct optim_spec *s, double l2, const char *backend)
{
    struct graph *g = two_params(l2);
    struct params *p = net_params(g, 2);
    struct optim *optim;
    const struct backend *b;
    struct err e = {0};
    struct oracle o = {0};
    float *grads = mem_alloc(p->len, sizeof *grads);
    must(backend_find(&b, backend, &e), &e);
    must(optim_create(&optim, s, b, p, &e), &e);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < N; i++) o.w[k][i] = (double)p->data[p->entry[k].offset + (size_t)i];
    for (int step = 0; step < 40; step++) {
        const float *view[2] = {grads + p->entry[0].offset, grads + p->entry[1].offset};
        for (int k = 0; k < 2; k++) net_random(grads + p->entry[k].offset, N, 1, (uint64_t)step, (uint32_t)k);
        oracle_step(&o, s, view, l2, step, 0.01);
        double norm = optim_step(optim, grads, (uint64_t)step, 0.01);
        assert_true(s->clip_norm > 0 ? norm > 0 : norm == 0);
    }
    compare(p, &o, optim_name(s->kind));
    mem_free(grads);
    optim_free(optim);
    params_free(p);
    graph_free(g);
}

static void each_optimiser_follows_its_formula(void **state)
{
    (void)state;
    for (const char *const *name = backend_names(); *name; name++)
        for (int kind = 0; kind < OPTIM_COUNT; kind++) {
            struct optim_spec s = optim_defaults((enum optim_kind)kind);
            run_trial(&s, 0, *name);
            run_trial(&s, 0.02, *name);
            s.clip_norm = 0.5;
            run_trial(&s, 0.02, *name);
        }
}

static void penalties_and_clipping_follow_one_another_in_order(void **state)
{
    (void)state;
    struct optim_spec s = optim_defaults(OPTIM_MOMENTUM);
    s.l1 = 0.3;
    run_trial(&s, 0.02, "portable");
    s.clip_value = 0.4;
    run_trial(&s, 0.02, "portable");
    s.clip_each = 1.5;
    run_trial(&s, 0.02, "portable");
    s.clip_norm = 2;
    run_trial(&s, 0.02, "portable");
    s.clip_value = 0;
    run_trial(&s, 0.02, "portable");
}

/* Gradients of several shards, in buffers of several chunks, moved by several members one after the other. */
static void the_update_has_the_same_bits_for_any_number_of_members(void **state)
{
    (void)state;
    struct shape sizes[] = {shape_of(2, (int64_t[]){301, 173}), shape_of(1, (int64_t[]){5}),
                            shape_of(2, (int64_t[]){64, 128})};
    struct graph *g;
    struct err e = {0};
    int value;
    uint64_t hash[4] = {0};
    must(graph_create(&g, &e), &e);
    for (int i = 0; i < 3; i++) {
        struct param_spec spec = {.shape = sizes[i],
                                  .init = {INIT_RANDOM_NORMAL, 1},
                                  .trainable = true,
                                  .decay = i != 1,
                                  .l2 = 0.01};
        must(graph_param(g, (const char *[]){"a", "b", "c"}[i], &spec, &value, &e), &e);
    }
    for (int members = 1; members <= 4; members++) {
        struct params *p = net_params(g, 2);
        struct optim_spec s = optim_defaults(OPTIM_ADAMW);
        struct optim *o;
        float *part = mem_alloc(p->len, 4), *other = mem_alloc(p->len, 4);
        s.clip_each = 40;
        s.clip_norm = 50;
        must(optim_create(&o, &s, backend_auto(), p, &e), &e);
        for (uint64_t step = 0; step < 5; step++) {
            struct optim_grads grads = {.n = 2, .part = {part, other}, .weight = {0.25F, 0.75F}};
            net_random(part, p->len, 1, step, 1);
            net_random(other, p->len, 1, step, 2);
            for (int m = 0; m < 2 * members; m++) {
                struct optim_turn t = {.member = m % members, .members = members, .step = step, .rate = 0.01};
                if (m < members)
                    optim_gather(o, &grads, &t);
                else
                    optim_move(o, &grads, &t);
            }
            assert_true(optim_norm(o) > 50 && optim_norm(o) < 80);
        }
        hash[members - 1] = net_hash(p->data, p->len * sizeof(float));
        assert_true(hash[members - 1] == hash[0]);
        mem_free(part);
        mem_free(other);
        optim_free(o);
        params_free(p);
    }
    graph_free(g);
}

static void each_optimiser_is_found_by_its_name(void **state)
{
    (void)state;
    for (int i = 0; i < OPTIM_COUNT; i++) assert_int_equal(optim_of(optim_name((enum optim_kind)i)), i);
    assert_int_equal(optim_of("lion"), -1);
}

static void settings_out_of_range_are_named(void **state)
{
    (void)state;
    struct optim_spec s = optim_defaults(OPTIM_ADAM);
    struct err e = {0};
    assert_int_equal(optim_check(&s, &e), 0);
    s.beta2 = 1;
    assert_int_equal(optim_check(&s, &e), ERR_INVALID);
    assert_string_equal(e.field, "beta2");
    s = optim_defaults(OPTIM_ADAM);
    s.epsilon = NAN;
    assert_int_equal(optim_check(&s, &e), ERR_INVALID);
    assert_string_equal(e.field, "epsilon");
}

static void the_penalty_is_the_sum_of_squares(void **state)
{
    (void)state;
    struct graph *g = two_params(0.5);
    struct params *p = net_params(g, 2);
    double want = 0.5 * N; /* the frozen ones */
    for (int i = 0; i < N; i++) want += 0.5 * (double)p->data[i] * (double)p->data[i];
    assert_true(fabs(params_penalty(p) - want) < 1e-9);
    params_free(p);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_optimiser_follows_its_formula),
        cmocka_unit_test(penalties_and_clipping_follow_one_another_in_order),
        cmocka_unit_test(the_update_has_the_same_bits_for_any_number_of_members),
        cmocka_unit_test(each_optimiser_is_found_by_its_name),
        cmocka_unit_test(settings_out_of_range_are_named),
        cmocka_unit_test(the_penalty_is_the_sum_of_squares),
    };
    return cmocka_run_group_tests_name("tensor/optim", tests, NULL, NULL);
}
