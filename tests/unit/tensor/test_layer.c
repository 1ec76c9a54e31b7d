/* Layers: the shapes that they give, their parameters, and what they refuse. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "net.h"
#include "tensor/layer.h"

/* A graph with one input of this row; its value. */
static int begin(struct graph **g, int rank, const int64_t *row)
{
    struct shape s = {.rank = rank + 1, .dim = {SHAPE_BATCH}};
    struct err e = {0};
    int x;
    for (int i = 0; i < rank; i++) s.dim[i + 1] = row[i];
    must(graph_create(g, &e), &e);
    must(graph_input(*g, "x", DTYPE_F32, &s, &x, &e), &e);
    return x;
}

static void expect_shape(const struct graph *g, int value, int rank, const int64_t *row)
{
    const struct shape *s = &graph_value(g, value)->shape;
    assert_true(shape_batched(s));
    assert_int_equal(s->rank, rank + 1);
    for (int i = 0; i < rank; i++) assert_int_equal(s->dim[i + 1], row[i]);
}

static void convolutions_pad_as_keras_does(void **state)
{
    (void)state;
    static const struct {
        const char *padding;
        int64_t kernel, stride, dilation, h, w;
    } rows[] = {
        {"valid", 3, 1, 1, 26, 25}, {"same", 3, 1, 1, 28, 27},  {"same", 3, 2, 1, 14, 14},
        {"same", 2, 3, 1, 10, 9},   {"valid", 5, 2, 1, 12, 12}, {"same", 3, 1, 2, 28, 27},
        {"valid", 3, 1, 3, 22, 21}, {"same", 1, 4, 1, 7, 7},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct graph *g;
        struct err e = {0};
        int y, x = begin(&g, 3, (int64_t[]){28, 27, 6});
        struct layer_conv c = layer_conv_defaults(8, rows[i].kernel, "relu");
        c.padding = rows[i].padding;
        c.groups = 2;
        for (int d = 0; d < 2; d++) {
            c.strides[d] = rows[i].stride;
            c.dilation[d] = rows[i].dilation;
        }
        must(layer_conv(g, "conv", x, &c, &y, &e), &e);
        expect_shape(g, y, 3, (int64_t[]){rows[i].h, rows[i].w, 8});
        assert_int_equal(graph_param_scalars(g), rows[i].kernel * rows[i].kernel * 3 * 8 + 8);
        assert_string_equal(graph_value(g, y)->name, "conv");
        graph_free(g);
    }
}

static void a_causal_convolution_keeps_the_length(void **state)
{
    (void)state;
    struct graph *g;
    struct err e = {0};
    int y, x = begin(&g, 2, (int64_t[]){17, 3});
    struct layer_conv c = layer_conv_defaults(5, 4, NULL);
    c.padding = "causal";
    c.dilation[0] = 3;
    c.bias = false;
    must(layer_conv(g, "conv", x, &c, &y, &e), &e);
    expect_shape(g, y, 2, (int64_t[]){17, 5});
    assert_string_equal(graph_value(g, y)->name, "conv");
    graph_free(g);
}

static void pools_stride_by_their_size_unless_told(void **state)
{
    (void)state;
    struct graph *g;
    struct err e = {0};
    int y, x = begin(&g, 3, (int64_t[]){13, 10, 4});
    struct layer_pool p = {.kind = LAYER_POOL_MAX, .size = {2, 3}};
    must(layer_pool(g, "a", x, &p, &y, &e), &e);
    expect_shape(g, y, 3, (int64_t[]){6, 3, 4});
    p.padding = "same";
    must(layer_pool(g, "b", x, &p, &y, &e), &e);
    expect_shape(g, y, 3, (int64_t[]){7, 4, 4});
    p.kind = LAYER_POOL_AVERAGE;
    p.strides[0] = p.strides[1] = 1;
    must(layer_pool(g, "c", x, &p, &y, &e), &e);
    expect_shape(g, y, 3, (int64_t[]){13, 10, 4});
    must(layer_global_pool(g, "d", x, LAYER_POOL_AVERAGE, &y, &e), &e);
    expect_shape(g, y, 1, (int64_t[]){4});
    graph_free(g);
}

static void image_layers_that_do_not_fit_name_what_is_wrong(void **state)
{
    (void)state;
    struct graph *g;
    struct err e = {0};
    int y, x = begin(&g, 3, (int64_t[]){5, 5, 4}), flat;
    struct layer_conv c = layer_conv_defaults(8, 3, "relu");
    struct layer_pool p = {.kind = LAYER_POOL_MAX, .size = {6, 6}};
    must(layer_flatten(g, "flat", x, &flat, &e), &e);
    assert_int_equal(layer_conv(g, "a", flat, &c, &y, &e), ERR_INVALID);
    assert_non_null(strstr(e.message, "[batch, 100]"));
    c.padding = "causal";
    assert_int_equal(layer_conv(g, "b", x, &c, &y, &e), ERR_INVALID);
    assert_string_equal(e.field, "padding");
    c.padding = "valid";
    c.groups = 3;
    assert_int_equal(layer_conv(g, "c", x, &c, &y, &e), ERR_INVALID);
    assert_string_equal(e.field, "groups");
    c.groups = 1;
    c.strides[1] = 0;
    assert_int_equal(layer_conv(g, "d", x, &c, &y, &e), ERR_INVALID);
    assert_string_equal(e.field, "strides");
    c.strides[1] = 1;
    c.kernel[0] = 7;
    assert_int_equal(layer_conv(g, "e", x, &c, &y, &e), ERR_INVALID);
    assert_int_equal(layer_pool(g, "f", x, &p, &y, &e), ERR_INVALID);
    assert_int_equal(layer_global_pool(g, "g", flat, LAYER_POOL_MAX, &y, &e), ERR_INVALID);
    graph_free(g);
}

static void expect_param(const struct graph *g, const char *name, int rank, const int64_t *dim,
                         bool trainable)
{
    int id = graph_value_find(g, name);
    if (id < 0) fail_msg("there is no parameter %s", name);
    const struct value *v = graph_value(g, id);
    struct shape s = shape_of(rank, dim);
    if (!shape_equal(&v->shape, &s)) fail_msg("%s has another shape", name);
    assert_int_equal(graph_param_at(g, v->index)->spec.trainable, trainable);
}

static void recurrent_layers_have_keras_parameters_and_shapes(void **state)
{
    (void)state;
    struct graph *g;
    struct err e = {0};
    int y, x = begin(&g, 2, (int64_t[]){9, 5});
    struct layer_recurrent r = layer_recurrent_defaults(LAYER_LSTM, 6);
    must(layer_recurrent(g, "lstm", x, &r, &y, &e), &e);
    expect_shape(g, y, 1, (int64_t[]){6});
    assert_string_equal(graph_value(g, y)->name, "lstm");
    expect_param(g, "lstm/kernel", 2, (int64_t[]){5, 24}, true);
    expect_param(g, "lstm/recurrent_kernel", 2, (int64_t[]){6, 24}, true);
    expect_param(g, "lstm/bias", 1, (int64_t[]){24}, true);
    r.cell = LAYER_GRU;
    r.bidirectional = true;
    must(layer_recurrent(g, "gru", x, &r, &y, &e), &e);
    expect_shape(g, y, 1, (int64_t[]){12});
    expect_param(g, "gru/forward/bias", 2, (int64_t[]){2, 18}, true);
    expect_param(g, "gru/backward/kernel", 2, (int64_t[]){5, 18}, true);
    r.cell = LAYER_RNN;
    r.return_sequences = true;
    must(layer_recurrent(g, "rnn", x, &r, &y, &e), &e);
    expect_shape(g, y, 2, (int64_t[]){9, 12});
    assert_string_equal(graph_value(g, y)->name, "rnn");
    r.units = 0;
    assert_int_equal(layer_recurrent(g, "none", x, &r, &y, &e), ERR_INVALID);
    assert_string_equal(e.field, "units");
    graph_free(g);
}

static void attention_projects_its_size_and_may_look_at_another_sequence(void **state)
{
    (void)state;
    struct graph *g;
    struct err e = {0};
    struct shape s = shape_of(3, (int64_t[]){SHAPE_BATCH, 4, 10});
    int y, x = begin(&g, 2, (int64_t[]){9, 6});
    struct layer_attention a = {.heads = 3, .lengths = -1};
    must(graph_input(g, "memory", DTYPE_F32, &s, &a.memory, &e), &e);
    must(layer_attention(g, "cross", x, &a, &y, &e), &e);
    expect_shape(g, y, 2, (int64_t[]){9, 6});
    expect_param(g, "cross/query/kernel", 2, (int64_t[]){6, 6}, true);
    expect_param(g, "cross/key/kernel", 2, (int64_t[]){10, 6}, true);
    expect_param(g, "cross/output/bias", 1, (int64_t[]){6}, true);
    a.heads = 4;
    assert_int_equal(layer_attention(g, "odd", x, &a, &y, &e), ERR_INVALID);
    assert_string_equal(e.field, "heads");
    a.heads = 3;
    a.causal = true;
    assert_int_equal(layer_attention(g, "causal", x, &a, &y, &e), ERR_INVALID);
    graph_free(g);
}

static void normalising_layers_keep_their_running_moments_out_of_training(void **state)
{
    (void)state;
    struct graph *g;
    struct err e = {0};
    int y, x = begin(&g, 2, (int64_t[]){9, 6});
    must(layer_batch_norm(g, "bn", x, 0.99, 1e-3, &y, &e), &e);
    expect_shape(g, y, 2, (int64_t[]){9, 6});
    expect_param(g, "bn/gamma", 1, (int64_t[]){6}, true);
    expect_param(g, "bn/moving_mean", 1, (int64_t[]){6}, false);
    expect_param(g, "bn/moving_variance", 1, (int64_t[]){6}, false);
    must(layer_layer_norm(g, "ln", x, 1e-3, &y, &e), &e);
    assert_int_equal(graph_param_scalars(g), 4 * 6);
    assert_int_equal(layer_batch_norm(g, "bad", x, 1.5, 1e-3, &y, &e), ERR_INVALID);
    assert_string_equal(e.field, "momentum");
    graph_free(g);
}

static void parameters_start_as_their_layers_want(void **state)
{
    (void)state;
    float bias[8], place[2 * 4];
    struct shape b = shape_of(1, (int64_t[]){8}), p = shape_of(2, (int64_t[]){2, 4});
    init_fill(bias, &b, &(struct init_spec){.kind = INIT_FORGET_BIAS}, 1, 0);
    for (int i = 0; i < 8; i++) assert_true(bias[i] == (i == 2 || i == 3 ? 1 : 0));
    init_fill(place, &p, &(struct init_spec){.kind = INIT_SINUSOIDAL}, 1, 0);
    static const double want[] = {0, 1, 0, 1, 0.841470985, 0.540302306, 0.009999833, 0.999950000};
    for (int i = 0; i < 8; i++) assert_true(fabs((double)place[i] - want[i]) < 1e-6);
}

/* Rows of out, or its columns where those are fewer, at right angles and of length 1. */
static void expect_orthonormal(int64_t rows, int64_t cols)
{
    struct shape s = shape_of(2, (int64_t[]){rows, cols});
    float *m = mem_alloc((size_t)(rows * cols), sizeof *m);
    init_fill(m, &s, &(struct init_spec){.kind = INIT_ORTHOGONAL}, 3, 2);
    bool wide = rows <= cols;
    int64_t n = wide ? rows : cols, len = wide ? cols : rows;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double dot = 0;
            for (int64_t k = 0; k < len; k++)
                dot += (double)(wide ? m[i * cols + k] : m[k * cols + i]) *
                       (double)(wide ? m[j * cols + k] : m[k * cols + j]);
            if (fabs(dot - (i == j)) > 1e-6)
                fail_msg("%lld x %lld: %lld·%lld = %g", (long long)rows, (long long)cols, (long long)i,
                         (long long)j, dot);
        }
    mem_free(m);
}

static void orthogonal_kernels_are_orthonormal_in_every_shape(void **state)
{
    (void)state;
    expect_orthonormal(1, 1);
    expect_orthonormal(7, 7);
    expect_orthonormal(32, 128);
    expect_orthonormal(67, 5);
    float a[6], b[6];
    struct shape s = shape_of(2, (int64_t[]){2, 3});
    init_fill(a, &s, &(struct init_spec){.kind = INIT_ORTHOGONAL}, 3, 2);
    init_fill(b, &s, &(struct init_spec){.kind = INIT_ORTHOGONAL}, 4, 2);
    assert_true(memcmp(a, b, sizeof a) != 0);
}

static void a_transformer_block_has_its_parts_parameters_and_keeps_the_shape(void **state)
{
    (void)state;
    struct graph *g;
    struct err e = {0};
    struct shape s = shape_of(3, (int64_t[]){SHAPE_BATCH, 4, 10});
    int y, memory, x = begin(&g, 2, (int64_t[]){9, 6});
    struct layer_transformer t = layer_transformer_defaults(3, 20);
    must(layer_transformer(g, "encoder", x, &t, &y, &e), &e);
    expect_shape(g, y, 2, (int64_t[]){9, 6});
    expect_param(g, "encoder/attention/query/kernel", 2, (int64_t[]){6, 6}, true);
    expect_param(g, "encoder/attention_norm/gamma", 1, (int64_t[]){6}, true);
    expect_param(g, "encoder/hidden/kernel", 2, (int64_t[]){6, 20}, true);
    expect_param(g, "encoder/result/bias", 1, (int64_t[]){6}, true);
    assert_int_equal(graph_value_find(g, "encoder/cross/query/kernel"), -1);
    must(graph_input(g, "memory", DTYPE_F32, &s, &memory, &e), &e);
    t.memory = memory;
    t.causal = true;
    t.dropout = 0.1;
    t.key_dim = 5;
    must(layer_transformer(g, "decoder", y, &t, &y, &e), &e);
    expect_shape(g, y, 2, (int64_t[]){9, 6});
    expect_param(g, "decoder/cross/key/kernel", 2, (int64_t[]){10, 15}, true);
    expect_param(g, "decoder/cross_norm/beta", 1, (int64_t[]){6}, true);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_pad_as_keras_does),
        cmocka_unit_test(a_causal_convolution_keeps_the_length),
        cmocka_unit_test(pools_stride_by_their_size_unless_told),
        cmocka_unit_test(image_layers_that_do_not_fit_name_what_is_wrong),
        cmocka_unit_test(recurrent_layers_have_keras_parameters_and_shapes),
        cmocka_unit_test(attention_projects_its_size_and_may_look_at_another_sequence),
        cmocka_unit_test(normalising_layers_keep_their_running_moments_out_of_training),
        cmocka_unit_test(parameters_start_as_their_layers_want),
        cmocka_unit_test(orthogonal_kernels_are_orthonormal_in_every_shape),
        cmocka_unit_test(a_transformer_block_has_its_parts_parameters_and_keeps_the_shape),
    };
    return cmocka_run_group_tests_name("tensor/layer", tests, NULL, NULL);
}
