/* Parts of graphs: an encoder and a decoder taken out of what was built as one. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "net.h"
#include "tensor/graph_part.h"
#include "tensor/layer.h"
#include "tensor/plan.h"
#include "tensor/run.h"

enum { ROWS = 3, IN = 5, HIDDEN = 4, OUT = 2 };

/* x → hidden → y, which takes the input "more" too, and a side path that y does not need. */
static struct graph *whole(int *hidden, int *y)
{
    struct graph *g;
    struct err e = {0};
    struct layer_dense d = layer_dense_defaults(HIDDEN, "tanh");
    int x, more, sum, side;
    struct shape in = shape_of(2, (int64_t[]){SHAPE_BATCH, IN}),
                 at = shape_of(2, (int64_t[]){SHAPE_BATCH, HIDDEN});
    must(graph_create(&g, &e), &e);
    must(graph_input(g, "x", DTYPE_F32, &in, &x, &e), &e);
    must(graph_input(g, "more", DTYPE_F32, &at, &more, &e), &e);
    must(layer_dense(g, "hidden", x, &d, hidden, &e), &e);
    must(layer_dense(g, "side", x, &d, &side, &e), &e);
    must(layer_add(g, "sum", *hidden, more, &sum, &e), &e);
    d = layer_dense_defaults(OUT, "softmax");
    must(layer_dense(g, "y", sum, &d, y, &e), &e);
    must(graph_output(g, "y", *y, &e), &e);
    return g;
}

/* The one output of g, with the weights of w. feeds are in g's own order of inputs. */
static void compute(const struct graph *g, const struct params *w, const void *const *feeds, float *out,
                    size_t n)
{
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = ROWS};
    struct plan *p = net_plan(g, &o);
    struct params *own;
    struct err e = {0};
    must(params_create(&own, g, &e), &e);
    for (int i = 0; i < own->n; i++)
        memcpy(own->data + own->entry[i].offset,
               w->data + w->entry[params_find(w, own->entry[i].name)].offset,
               own->entry[i].count * sizeof(float));
    must(plan_load(p, own, &e), &e);
    struct run *r = net_run(p, NULL);
    must(run_forward(r, feeds, ROWS, &e), &e);
    memcpy(out, run_output(r, 0).data, n * sizeof *out);
    run_free(r);
    params_free(own);
    plan_free(p);
}

static void two_parts_compute_what_the_whole_does(void **state)
{
    int hidden, y;
    struct graph *g = whole(&hidden, &y), *first, *second;
    struct params *w = net_params(g, 7);
    struct err e = {0};
    float x[ROWS * IN], more[ROWS * HIDDEN], middle[ROWS * HIDDEN], want[ROWS * OUT], got[ROWS * OUT];
    (void)state;
    net_random(x, ROWS * IN, 1, 1, 1);
    net_random(more, ROWS * HIDDEN, 2, 1, 1);
    must(graph_part(&first, g, -1, "middle", hidden, &e), &e);
    must(graph_part(&second, g, hidden, "y", y, &e), &e);
    compute(g, w, (const void *[]){x, more}, want, ROWS * OUT);
    compute(first, w, (const void *[]){x}, middle, ROWS * HIDDEN);
    int at = graph_input_find(second, "hidden");
    assert_int_equal(graph_input_count(second), 2);
    assert_true(at >= 0);
    const void *feeds[2];
    feeds[at] = middle;
    feeds[1 - at] = more;
    compute(second, w, feeds, got, ROWS * OUT);
    assert_memory_equal(got, want, sizeof want);
    params_free(w);
    graph_free(g);
    graph_free(first);
    graph_free(second);
}

static void a_part_holds_nothing_that_it_does_not_need(void **state)
{
    int hidden, y;
    struct graph *g = whole(&hidden, &y), *first, *second;
    struct err e = {0};
    (void)state;
    must(graph_part(&first, g, -1, "middle", hidden, &e), &e);
    must(graph_part(&second, g, hidden, "y", y, &e), &e);
    assert_int_equal(graph_input_count(first), 1);
    assert_int_equal(graph_param_scalars(first), (IN + 1) * HIDDEN);
    assert_int_equal(graph_param_scalars(second), (HIDDEN + 1) * OUT);
    assert_int_equal(graph_value_find(first, "side"), -1);
    assert_int_equal(graph_value_find(second, "x"), -1);
    graph_free(g);
    graph_free(first);
    graph_free(second);
}

static void what_no_node_computes_is_no_part(void **state)
{
    int hidden, y;
    struct graph *g = whole(&hidden, &y), *part = NULL;
    struct err e = {0};
    (void)state;
    assert_int_equal(graph_part(&part, g, -1, "x", graph_value_find(g, "x"), &e), ERR_INVALID);
    assert_string_equal(e.field, "x");
    assert_int_equal(graph_part(&part, g, hidden, "hidden", hidden, &e), ERR_INVALID);
    assert_null(part);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_parts_compute_what_the_whole_does),
        cmocka_unit_test(a_part_holds_nothing_that_it_does_not_need),
        cmocka_unit_test(what_no_node_computes_is_no_part),
    };
    return cmocka_run_group_tests_name("tensor/graph_part", tests, NULL, NULL);
}
