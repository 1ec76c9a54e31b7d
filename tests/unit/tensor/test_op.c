/* Every operator of the table: its reference's gradient against central differences in double, and its
 * kernels, on every backend, against its reference. A case is a small graph around one operator; an operator
 * without a case fails. */
#include <assert.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "cases.h"
#include "net.h"
#include "tensor/autodiff.h"
#include "tensor/backend.h"
#include "tensor/op.h"
#include "tensor/plan_impl.h"
#include "tensor/reference.h"
#include "tensor/rng.h"

static const struct op_case *const groups[] = {cases_basic, cases_image, cases_arrange, cases_sequence};
enum { N_GROUPS = sizeof groups / sizeof groups[0] };

/* Case number `which`, or NULL behind the last. */
static const struct op_case *case_at(int which)
{
    for (int g = 0; g < N_GROUPS; g++)
        for (const struct op_case *c = groups[g]; c->name; c++)
            if (which-- == 0) return c;
    return NULL;
}

static struct graph *build(const struct op_case *c, int64_t n)
{
    struct at t = {.n = n};
    must(graph_create(&t.g, &t.e), &t.e);
    int x = case_input(&t, "x", DTYPE_F32, case_batch_of(n));
    t.x = case_op(&t, "shifted", "Add", (int[]){x, case_param(&t, "shift", shape_of(1, &n))}, 2, NULL, 0);
    int y = c->build(&t), loss = y;
    const struct value *v = graph_value(t.g, y);
    if (v->shape.rank > 0)
        loss = case_op(&t, "loss", "MeanSquaredError",
                       (int[]){y, case_input(&t, "target", DTYPE_F32, v->shape)}, 2, NULL, 0);
    must(graph_output(t.g, "y", y, &t.e), &t.e);
    must(graph_set_loss(t.g, loss, &t.e), &t.e);
    return t.g;
}

/* One graph with values for all its leaves, in double and, exactly the same numbers, in float. */
struct trial {
    struct graph *g;
    int64_t rows;
    struct params *params;
    const void *feeds[CASE_MAX_INPUTS];
};

static void trial_init(struct trial *t, const struct op_case *c, int64_t n, int64_t rows)
{
    *t = (struct trial){.g = build(c, n), .rows = rows};
    t->params = net_params(t->g, 3);
    for (int i = 0; i < graph_input_count(t->g); i++) {
        const struct value *v = graph_value(t->g, graph_input_value(t->g, i));
        size_t count = shape_row_count(&v->shape) * (size_t)rows;
        float *data = mem_alloc(count + 1, sizeof *data);
        net_random(data, count, 1, 17, (uint32_t)i);
        if (v->dtype == DTYPE_I32)
            for (size_t j = 0; j < count; j++)
                memcpy(&data[j], &(int32_t){(int32_t)(j * 5 % (size_t)n)}, sizeof(int32_t));
        t->feeds[i] = data;
    }
}

static void trial_dispose(struct trial *t)
{
    for (int i = 0; i < graph_input_count(t->g); i++) mem_free((void *)(uintptr_t)t->feeds[i]);
    params_free(t->params);
    graph_free(t->g);
}

static void fill_reference(const struct trial *t, const struct graph *g, struct reference *r)
{
    for (int i = 0; i < graph_input_count(g); i++) {
        int id = graph_input_value(g, i);
        double *to = reference_value(r, id);
        const void *from = t->feeds[i];
        assert(from);
        bool whole = graph_value(g, id)->dtype == DTYPE_I32;
        for (size_t j = 0; j < reference_count(r, id); j++) {
            int32_t label;
            float x;
            memcpy(&label, (const char *)from + j * 4, 4);
            memcpy(&x, (const char *)from + j * 4, 4);
            to[j] = whole ? (double)label : (double)x;
        }
    }
    for (int i = 0; i < graph_param_count(g); i++) {
        double *to = reference_value(r, graph_param_at(g, i)->value);
        for (size_t j = 0; j < t->params->entry[i].count; j++)
            to[j] = (double)t->params->data[t->params->entry[i].offset + j];
    }
}

enum { SEED = 5, STEP = 9 };

static void check_differences(const struct trial *t, const struct op_case *c)
{
    const double eps = 1e-6;
    struct graph *d;
    struct reference *r;
    struct err e = {0};
    int grad[CASE_MAX_PARAMS];
    must(graph_copy(&d, t->g, &e), &e);
    must(autodiff(d, grad, &e), &e);
    must(reference_create(&r, d, t->rows, &e), &e);
    fill_reference(t, d, r);
    reference_run(r, SEED, STEP);
    for (int i = 0; i < graph_param_count(d); i++) {
        double *w = reference_value(r, graph_param_at(d, i)->value);
        if (grad[i] < 0) continue;
        for (size_t j = 0; j < t->params->entry[i].count; j += 1 + t->params->entry[i].count / 24) {
            double keep = w[j], want, up, down;
            reference_run(r, SEED, STEP);
            want = reference_value(r, grad[i])[j];
            w[j] = keep + eps;
            reference_run(r, SEED, STEP);
            up = *reference_value(r, graph_loss(d));
            w[j] = keep - eps;
            reference_run(r, SEED, STEP);
            down = *reference_value(r, graph_loss(d));
            w[j] = keep;
            if (!(fabs((up - down) / (2 * eps) - want) <= 1e-8 + 1e-6 * fabs(want)))
                fail_msg("%s, %s[%zu]: gradient %.12g, difference %.12g", c->name, t->params->entry[i].name,
                         j, want, (up - down) / (2 * eps));
        }
    }
    reference_free(r);
    graph_free(d);
}

static void gradients_agree_with_central_differences(void **state)
{
    (void)state;
    static const int sizes[] = {1, 2, 3, 5, 17};
    int which = 0;
    for (const struct op_case *c; (c = case_at(which)); which++)
        for (int s = 0; s < 5; s++) {
            struct trial t;
            trial_init(&t, c, sizes[s], 1 + s % 3);
            check_differences(&t, c);
            trial_dispose(&t);
        }
}

/* Normalised mean square error. */
static double nmse(const float *got, const double *want, size_t n)
{
    double error = 0, power = 1e-20;
    for (size_t i = 0; i < n; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        power += want[i] * want[i];
    }
    return error / power;
}

static bool seen[128];

static void mark_seen(const struct plan *p)
{
    for (int i = 0; i < graph_node_count(p->graph); i++)
        for (int j = 0; j < op_count(); j++)
            if (op_at(j) == graph_node(p->graph, i)->op) seen[j] = true;
}

/* Every row alone, against the bits that it had in company. */
static void check_rows_alone(const struct trial *t, const struct op_case *c, const struct plan *p,
                             struct run *run)
{
    struct view y = run_output(run, 0);
    struct err e = {0};
    if (!shape_batched(&plan_output(p, 0)->shape)) return;
    size_t bytes = view_count(&y) / (size_t)t->rows * sizeof(float);
    char *together = mem_alloc((size_t)t->rows, bytes);
    memcpy(together, y.data, (size_t)t->rows * bytes);
    for (int64_t row = 0; row < t->rows; row++) {
        const void *feeds[CASE_MAX_INPUTS];
        for (int i = 0; i < plan_input_count(p); i++) {
            const struct value *v = plan_input(p, i);
            feeds[i] = (const char *)t->feeds[graph_input_find(t->g, v->name)] +
                       (size_t)row * shape_row_count(&v->shape) * dtype_bytes(v->dtype);
        }
        must(run_forward(run, feeds, 1, &e), &e);
        y = run_output(run, 0);
        if (memcmp(y.data, together + (size_t)row * bytes, bytes) != 0)
            fail_msg("%s: row %d differs when it is alone", c->name, (int)row);
    }
    mem_free(together);
}

/* The mean square error that a result may have, relative to its own mean square. Rounding to bf16 errs by
 * 2^-9 in each operand, what is dropped of split operands by 2^-18 of a product; either grows on the way
 * through a network. */
static double allowed(const struct backend *b, double f32)
{
    return b->rounds ? 5e-3 : b->tiles ? 200 * f32 : f32;
}

/* The same numbers from an inference plan, against the reference of the graph that it was lowered to. */
static void check_inference(const struct trial *t, const struct op_case *c, const struct backend *backend)
{
    struct plan_options o = {
        .mode = PLAN_INFER, .max_batch = t->rows + 2, .backend = backend, .poison = true};
    struct plan *p = net_plan(t->g, &o);
    struct reference *r;
    struct err e = {0};
    const void *feeds[CASE_MAX_INPUTS];
    must(plan_load(p, t->params, &e), &e);
    must(reference_create(&r, p->graph, t->rows, &e), &e);
    fill_reference(t, p->graph, r);
    reference_run(r, SEED, STEP);
    struct run *run = net_run(p, NULL);
    for (int i = 0; i < plan_input_count(p); i++)
        feeds[i] = t->feeds[graph_input_find(t->g, plan_input(p, i)->name)];
    must(run_forward(run, feeds, t->rows, &e), &e);
    mark_seen(p);
    struct view y = run_output(run, 0);
    double error = nmse(y.data, reference_value(r, graph_output_value(p->graph, 0)), view_count(&y));
    if (!(error < allowed(backend, 1e-11)))
        fail_msg("%s on %s: inference is off by %g", c->name, backend->name, error);
    check_rows_alone(t, c, p, run);
    run_free(run);
    reference_free(r); /* before the plan, whose graph it runs */
    plan_free(p);
}

/* The labels' range would be checked against numbers that are not there in a batch of the maximum: rows <
 * max_batch. */
static void check_kernels(const struct trial *t, const struct op_case *c, const char *backend)
{
    struct plan_options o = {
        .mode = PLAN_TRAIN, .max_batch = t->rows + 2, .keep_outputs = true, .poison = true};
    struct graph *d;
    struct reference *r;
    struct err e = {0};
    int grad[CASE_MAX_PARAMS];
    float loss;
    o.optim = optim_defaults(OPTIM_SGD);
    must(backend_find(&o.backend, backend, &e), &e);
    must(graph_copy(&d, t->g, &e), &e);
    must(autodiff(d, grad, &e), &e);
    must(reference_create(&r, d, t->rows, &e), &e);
    fill_reference(t, d, r);
    reference_run(r, SEED, STEP);
    struct plan *p = net_plan(t->g, &o);
    struct run *run = net_run(p, t->params);
    const void *feeds[CASE_MAX_INPUTS];
    for (int i = 0; i < plan_input_count(p); i++)
        feeds[i] = t->feeds[graph_input_find(t->g, plan_input(p, i)->name)];
    must(run_gradients(run, &(struct step){feeds, t->rows, SEED, STEP, 0}, &loss, &e), &e);
    mark_seen(p);
    struct view y = run_output(run, 0);
    double error = nmse(y.data, reference_value(r, graph_output_value(d, 0)), view_count(&y));
    if (!(error < allowed(o.backend, 1e-11)))
        fail_msg("%s on %s: output is off by %g", c->name, backend, error);
    if (!(nmse(&loss, reference_value(r, graph_loss(d)), 1) < allowed(o.backend, 1e-10)))
        fail_msg("%s on %s: loss", c->name, backend);
    for (int i = 0; i < t->params->n; i++) {
        struct view v = params_view(t->params, i, run_grads(run));
        if (grad[i] < 0) continue;
        error = nmse(v.data, reference_value(r, grad[i]), view_count(&v));
        if (!(error < allowed(o.backend, 1e-10)))
            fail_msg("%s on %s: gradient of %s is off by %g", c->name, backend, t->params->entry[i].name,
                     error);
    }
    run_free(run);
    plan_free(p);
    reference_free(r);
    graph_free(d);
    check_inference(t, c, o.backend);
}

/* The gradients with every intermediate in memory of its own. */
static void gradients_apart(const struct trial *t, bool apart, float *out)
{
    struct plan_options o = {.mode = PLAN_TRAIN,
                             .max_batch = t->rows,
                             .optim = optim_defaults(OPTIM_SGD),
                             .poison = true,
                             .no_alias = apart};
    struct plan *p = net_plan(t->g, &o);
    struct run *run = net_run(p, t->params);
    const void *feeds[CASE_MAX_INPUTS];
    struct err e = {0};
    float loss;
    for (int i = 0; i < plan_input_count(p); i++)
        feeds[i] = t->feeds[graph_input_find(t->g, plan_input(p, i)->name)];
    must(run_gradients(run, &(struct step){feeds, t->rows, SEED, STEP, 0}, &loss, &e), &e);
    memcpy(out, run_grads(run), t->params->len * sizeof(float));
    run_free(run);
    plan_free(p);
}

static void a_poisoned_shared_arena_gives_every_case_the_bits_of_separate_memory(void **state)
{
    (void)state;
    int which = 0;
    for (const struct op_case *c; (c = case_at(which)); which++)
        for (int n = 1; n < 20; n += 6) {
            struct trial t;
            trial_init(&t, c, n, 3);
            float *grads = mem_alloc(2 * t.params->len, sizeof *grads);
            gradients_apart(&t, false, grads);
            gradients_apart(&t, true, grads + t.params->len);
            if (memcmp(grads, grads + t.params->len, t.params->len * sizeof *grads) != 0)
                fail_msg("%s: sharing memory changes the gradients", c->name);
            mem_free(grads);
            trial_dispose(&t);
        }
}

static void kernels_of_every_backend_match_the_references_at_odd_sizes(void **state)
{
    (void)state;
    static const int sizes[] = {1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 67};
    int which = 0;
    for (const struct op_case *c; (c = case_at(which)); which++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
            for (const char *const *name = backend_names(); *name; name++) {
                struct trial t;
                trial_init(&t, c, sizes[s], 1 + (int64_t)(s * 7 % 11));
                check_kernels(&t, c, *name);
                trial_dispose(&t);
            }
}

/* Runs after the others: they mark what they met. */
static void every_operator_of_the_table_is_whole_and_has_a_case(void **state)
{
    (void)state;
    assert_true(op_count() <= (int)(sizeof seen / sizeof seen[0]));
    for (int i = 0; i < op_count(); i++) {
        const struct op *op = op_at(i);
        bool lowered_away = op->alias; /* has no kernel of its own, and may be met only in aliases */
        if (!op->name || !op->infer || !op->forward || !op->reference || !op->flops || op->outputs < 1)
            fail_msg("operator %d lacks a part", i);
        if (!op->backward != op->no_gradient)
            fail_msg("%s must have a gradient or say that it has none", op->name);
        if (op_find(op->name) != op) fail_msg("%s stands in the table twice", op->name);
        if (!seen[i] && !lowered_away) fail_msg("%s has no case", op->name);
    }
}

static void labels_out_of_range_are_refused_with_the_row(void **state)
{
    (void)state;
    struct net_data d;
    struct graph *g = net_classifier(5, 4, "relu", 0, 3, 0);
    struct plan_options o = {.mode = PLAN_TRAIN, .max_batch = 6, .optim = optim_defaults(OPTIM_SGD)};
    struct plan *p = net_plan(g, &o);
    struct params *w = net_params(g, 1);
    struct run *r = net_run(p, w);
    struct err e = {0};
    float loss;
    net_data_init(&d, 6, 5, 3, 1);
    for (int bad = -1; bad <= 3; bad += 4) {
        d.label[4] = bad;
        const void *feeds[] = {d.x, d.label};
        assert_int_equal(run_step(r, &(struct step){feeds, 6, 1, 0, 0.1}, &loss, &e), ERR_INVALID);
        assert_non_null(strstr(e.message, "row 4"));
    }
    net_data_dispose(&d);
    run_free(r);
    params_free(w);
    plan_free(p);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_agree_with_central_differences),
        cmocka_unit_test(kernels_of_every_backend_match_the_references_at_odd_sizes),
        cmocka_unit_test(a_poisoned_shared_arena_gives_every_case_the_bits_of_separate_memory),
        cmocka_unit_test(every_operator_of_the_table_is_whole_and_has_a_case),
        cmocka_unit_test(labels_out_of_range_are_refused_with_the_row),
    };
    return cmocka_run_group_tests_name("tensor/op", tests, NULL, NULL);
}
