/* Operators with answers worked out by hand: what reference and kernel agree on must also be what the
 * operator's name means. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "net.h"

#define COUNT(A) (sizeof(A) / sizeof *(A))

struct feed {
    enum dtype dtype;
    struct shape shape; /* a row's, behind the batch */
    const void *data;
};

static struct shape dims(int rank, int64_t a, int64_t b, int64_t c)
{
    return shape_of(rank, (int64_t[]){a, b, c});
}

/* Runs one operator on inputs with a batch of `rows`, and compares its first output. Inputs behind n_feeds
 * are parameters, filled from the same list. */
static void expect(const char *op, const struct feed *in, int n_feeds, int n, int rows,
                   const struct attr *attrs, int n_attrs, const float *want, size_t count)
{
    struct graph *g;
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = rows, .poison = true};
    struct err e = {0};
    int id[NODE_MAX_INPUTS], y[NODE_MAX_OUTPUTS];
    const void *feeds[NODE_MAX_INPUTS];
    must(graph_create(&g, &e), &e);
    for (int i = 0; i < n; i++) {
        char name[] = {(char)('a' + i), 0};
        struct shape s = {.rank = in[i].shape.rank + 1, .dim = {SHAPE_BATCH}};
        struct param_spec p = {.shape = in[i].shape};
        for (int d = 0; d < in[i].shape.rank; d++) s.dim[d + 1] = in[i].shape.dim[d];
        if (i < n_feeds)
            must(graph_input(g, name, in[i].dtype, &s, &id[i], &e), &e);
        else
            must(graph_param(g, name, &p, &id[i], &e), &e);
        feeds[i] = in[i].data;
    }
    must(graph_op(g, "y", op, id, n, attrs, n_attrs, y, &e), &e);
    must(graph_output(g, "y", y[0], &e), &e);
    struct params *w = net_params(g, 1);
    for (int i = 0; i < w->n; i++)
        memcpy(w->data + w->entry[i].offset, in[n_feeds + i].data, w->entry[i].count * sizeof(float));
    struct plan *p = net_plan(g, &o);
    must(plan_load(p, w, &e), &e);
    struct run *r = net_run(p, NULL);
    must(run_forward(r, feeds, rows, &e), &e);
    struct view v = run_output(r, 0);
    assert_int_equal(view_count(&v), count);
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(((float *)v.data)[i] - want[i]) < 1e-5f))
            fail_msg("%s[%zu] is %g, not %g", op, i, (double)((float *)v.data)[i], (double)want[i]);
    run_free(r);
    plan_free(p);
    params_free(w);
    graph_free(g);
}

static const float numbers[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

static void transpose_turns_rows_into_columns(void **state)
{
    (void)state;
    struct feed in = {DTYPE_F32, dims(2, 2, 3, 0), numbers};
    struct attr perm = {"perm", {.ints = dims(3, 0, 2, 1)}};
    const float want[] = {1, 4, 2, 5, 3, 6, 7, 10, 8, 11, 9, 12};
    expect("Transpose", &in, 1, 1, 2, &perm, 1, want, COUNT(want));
}

static void concat_joins_within_a_row(void **state)
{
    (void)state;
    struct feed in[] = {{DTYPE_F32, dims(2, 1, 2, 0), numbers}, {DTYPE_F32, dims(2, 2, 2, 0), numbers + 4}};
    struct attr axis = {"axis", {.i = 1}};
    const float want[] = {1, 2, 5, 6, 7, 8, 3, 4, 9, 10, 11, 12};
    expect("Concat", in, 2, 2, 2, &axis, 1, want, COUNT(want));
}

static void slice_counts_from_either_end(void **state)
{
    (void)state;
    struct feed in = {DTYPE_F32, dims(2, 3, 2, 0), numbers};
    struct attr first[] = {{"axis", {.i = 1}}, {"start", {.i = 0}}, {"end", {.i = -1}}};
    struct attr last[] = {{"axis", {.i = -2}}, {"start", {.i = -1}}, {"end", {.i = 99}}};
    const float heads[] = {1, 2, 3, 4, 7, 8, 9, 10}, tails[] = {5, 6, 11, 12};
    expect("Slice", &in, 1, 1, 2, first, 3, heads, COUNT(heads));
    expect("Slice", &in, 1, 1, 2, last, 3, tails, COUNT(tails));
}

static void gather_takes_the_rows_that_are_named(void **state)
{
    (void)state;
    const int32_t ids[] = {2, 0, 1, 2};
    struct feed in[] = {{DTYPE_I32, dims(1, 2, 0, 0), ids}, {DTYPE_F32, dims(2, 3, 2, 0), numbers}};
    struct graph *g;
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = 2};
    struct param_spec table = {.shape = in[1].shape};
    struct shape s = shape_of(2, (int64_t[]){SHAPE_BATCH, 2});
    struct err e = {0};
    int x, t, y[NODE_MAX_OUTPUTS];
    const float want[] = {5, 6, 1, 2, 3, 4, 5, 6};
    must(graph_create(&g, &e), &e);
    must(graph_input(g, "x", DTYPE_I32, &s, &x, &e), &e);
    must(graph_param(g, "t", &table, &t, &e), &e);
    must(graph_op(g, "y", "Gather", (int[]){t, x}, 2, NULL, 0, y, &e), &e);
    must(graph_output(g, "y", y[0], &e), &e);
    struct params *w = net_params(g, 1);
    memcpy(w->data, numbers, 6 * sizeof(float));
    struct plan *p = net_plan(g, &o);
    must(plan_load(p, w, &e), &e);
    struct run *r = net_run(p, NULL);
    must(run_forward(r, (const void *[]){ids}, 2, &e), &e);
    assert_memory_equal(run_output(r, 0).data, want, sizeof want);
    run_free(r);
    plan_free(p);
    params_free(w);
    graph_free(g);
}

/* Not flipped; padded in front only; every second place. */
static void conv_slides_its_kernel_as_it_is(void **state)
{
    (void)state;
    const float kernel[] = {1, 10, 100};
    struct feed in[] = {{DTYPE_F32, dims(2, 5, 1, 0), numbers}, {DTYPE_F32, dims(3, 3, 1, 1), kernel}};
    struct attr attrs[] = {{"pads", {.ints = dims(2, 1, 0, 0)}}, {"strides", {.ints = dims(1, 2, 0, 0)}}};
    const float want[] = {210, 432};
    expect("Conv", in, 1, 2, 1, attrs, 2, want, COUNT(want));
}

static void pools_leave_the_padding_out(void **state)
{
    (void)state;
    const float x[] = {-4, -2, -6};
    struct feed in = {DTYPE_F32, dims(2, 3, 1, 0), x};
    struct attr attrs[] = {{"kernel_shape", {.ints = dims(1, 2, 0, 0)}},
                           {"pads", {.ints = dims(2, 1, 1, 0)}}};
    const float max[] = {-4, -2, -2, -6}, average[] = {-4, -3, -4, -6};
    expect("MaxPool", &in, 1, 1, 1, attrs, 2, max, COUNT(max));
    expect("AveragePool", &in, 1, 1, 1, attrs, 2, average, COUNT(average));
}

/* Equal keys: each query averages the values that it may see. */
static void attention_averages_what_it_may_see(void **state)
{
    (void)state;
    const float same[] = {1, 1, 1, 1, 1, 1}, v[] = {2, 4, 9, 2, 4, 9};
    const int32_t length[] = {3, 2};
    struct feed in[] = {{DTYPE_F32, dims(2, 3, 1, 0), same},
                        {DTYPE_F32, dims(2, 3, 1, 0), same},
                        {DTYPE_F32, dims(2, 3, 1, 0), v},
                        {DTYPE_I32, dims(0, 0, 0, 0), length}};
    struct attr attrs[] = {{"heads", {.i = 1}}, {"causal", {.i = 1}}};
    const float causal[] = {2, 3, 5, 2, 3, 3}, open[] = {5, 5, 5, 3, 3, 3};
    expect("Attention", in, 4, 4, 2, attrs, 2, causal, COUNT(causal));
    expect("Attention", in, 4, 4, 2, attrs, 1, open, COUNT(open));
}

/* Gates are forced open or shut by their biases: Keras's orders are i, f, c, o and z, r, h. */
static void recurrent_gates_stand_in_keras_order(void **state)
{
    (void)state;
    const float x[] = {0.5f, 0.25f}, none[4] = {0};
    const float kernel[] = {0, 0, 1, 0}, lstm[] = {100, 100, 0, 100}, forgets[] = {100, -100, 0, 100};
    const float gru_kernel[] = {0, 0, 1}, shut[] = {-100, -100, 0, 0, 0, 0}, keeps[] = {100, 0, 0, 0, 0, 0};
    struct feed in[] = {{DTYPE_F32, dims(2, 2, 1, 0), x},
                        {DTYPE_F32, dims(2, 1, 4, 0), kernel},
                        {DTYPE_F32, dims(2, 1, 4, 0), none},
                        {DTYPE_F32, dims(1, 4, 0, 0), lstm}};
    float t0 = tanhf(0.5f), t1 = tanhf(0.25f);
    float sums[] = {tanhf(t0), tanhf(t0 + t1)}, alone[] = {tanhf(t0), tanhf(t1)}, fresh[] = {t0, t1};
    expect("LSTM", in, 1, 4, 1, NULL, 0, sums, 2);
    in[3].data = forgets;
    expect("LSTM", in, 1, 4, 1, NULL, 0, alone, 2);
    in[1] = (struct feed){DTYPE_F32, dims(2, 1, 3, 0), gru_kernel};
    in[2].shape = in[1].shape;
    in[3] = (struct feed){DTYPE_F32, dims(2, 2, 3, 0), shut};
    expect("GRU", in, 1, 4, 1, NULL, 0, fresh, 2);
    in[3].data = keeps;
    expect("GRU", in, 1, 4, 1, NULL, 0, none, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transpose_turns_rows_into_columns),
        cmocka_unit_test(concat_joins_within_a_row),
        cmocka_unit_test(slice_counts_from_either_end),
        cmocka_unit_test(gather_takes_the_rows_that_are_named),
        cmocka_unit_test(conv_slides_its_kernel_as_it_is),
        cmocka_unit_test(pools_leave_the_padding_out),
        cmocka_unit_test(attention_averages_what_it_may_see),
        cmocka_unit_test(recurrent_gates_stand_in_keras_order),
    };
    return cmocka_run_group_tests_name("tensor/known", tests, NULL, NULL);
}
