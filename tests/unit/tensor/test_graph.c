/* Building graphs, and graphs as JSON, friendly and hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "net.h"
#include "tensor/layer.h"
#include "tensor/plan.h"

static char *to_json(const struct graph *g)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    graph_to_json(g, &w);
    return buf_steal(&b);
}

static int from_json(struct graph **g, const char *text, struct err *e)
{
    cJSON *tree = NULL;
    int rc = json_parse(&tree, text, strlen(text), 100000, e);
    if (rc) return rc;
    rc = graph_from_json(g, tree, "graph", e);
    cJSON_Delete(tree);
    return rc;
}

static void a_graph_comes_back_from_its_json(void **state)
{
    (void)state;
    struct graph *g = net_classifier(7, 5, "leaky_relu", 0.25, 3, 0.001), *back = NULL;
    struct err e = {0};
    char *text = to_json(g), *again;
    must(from_json(&back, text, &e), &e);
    again = to_json(back);
    assert_string_equal(text, again);
    assert_int_equal(graph_loss(back), graph_loss(g));
    assert_int_equal(graph_param_scalars(back), 7 * 5 + 5 + 5 * 3 + 3);
    mem_free(text);
    mem_free(again);
    graph_free(g);
    graph_free(back);
}

static void a_graph_from_json_trains_to_the_same_bits(void **state)
{
    (void)state;
    struct graph *g[2] = {net_classifier(7, 5, "gelu", 0.25, 3, 0.001)};
    struct plan_options o = {.mode = PLAN_TRAIN, .max_batch = 8, .optim = optim_defaults(OPTIM_ADAM)};
    struct net_data d;
    struct err e = {0};
    uint64_t hash[2];
    char *text = to_json(g[0]);
    must(from_json(&g[1], text, &e), &e);
    net_data_init(&d, 30, 7, 3, 1);
    for (int i = 0; i < 2; i++) {
        struct plan *p = net_plan(g[i], &o);
        struct params *w = net_params(g[i], 9);
        struct run *r = net_run(p, w);
        net_train(r, p, &d, 20, 0, 0.01);
        hash[i] = net_hash(w->data, w->len * sizeof(float));
        run_free(r);
        params_free(w);
        plan_free(p);
        graph_free(g[i]);
    }
    assert_true(hash[0] == hash[1]);
    net_data_dispose(&d);
    mem_free(text);
}

/* What must be refused, and a word of the refusal. */
static const struct {
    const char *json, *field;
} hostile[] = {
    {"[]", ""},
    {"{}", "format"},
    {"{\"format\":\"other\"}", "format"},
    {"{\"format\":\"tenor.graph.1\"}", "inputs"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[],\"params\":[],\"nodes\":[],\"outputs\":[],\"extra\":1}",
     "extra"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[1],\"params\":[],\"nodes\":[],\"outputs\":[]}", "inputs[0]"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[{\"name\":\"x\",\"dtype\":\"f64\",\"shape\":[-1]}],"
     "\"params\":[],\"nodes\":[],"
     "\"outputs\":[]}",
     "dtype"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[{\"name\":\"x\",\"dtype\":\"f32\",\"shape\":[-1,0]}],"
     "\"params\":[],\"nodes\":[],"
     "\"outputs\":[]}",
     "inputs[0]"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[{\"name\":\"x\",\"dtype\":\"f32\",\"shape\":[-1,2147483647,"
     "2147483647,9]}],"
     "\"params\":[],\"nodes\":[],\"outputs\":[]}",
     "inputs[0]"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[{\"name\":\"x\",\"dtype\":\"f32\",\"shape\":[-1,1.5]}],"
     "\"params\":[],\"nodes\":[],"
     "\"outputs\":[]}",
     "shape"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[{\"name\":\"x\",\"dtype\":\"f32\",\"shape\":[1e300]}],"
     "\"params\":[],\"nodes\":[],"
     "\"outputs\":[]}",
     "shape"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[{\"name\":\"x\",\"dtype\":\"f32\",\"shape\":[-1,2,2,2,2,2,2]}"
     "],\"params\":[],"
     "\"nodes\":[],\"outputs\":[]}",
     "shape"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[{\"name\":\"x "
     "y\",\"dtype\":\"f32\",\"shape\":[-1,2]}],\"params\":[],\"nodes\":[],"
     "\"outputs\":[]}",
     "name"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[],\"params\":[{\"name\":\"w\",\"shape\":[-1]}],\"nodes\":[],"
     "\"outputs\":[]}",
     "params[0]"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[],\"params\":[{\"name\":\"w\",\"shape\":[2],\"init\":"
     "\"evil\"}],\"nodes\":[],"
     "\"outputs\":[]}",
     "init"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[],\"params\":[{\"name\":\"w\",\"shape\":[2],\"l2\":-1}],"
     "\"nodes\":[],"
     "\"outputs\":[]}",
     "l2"},
    {"{\"format\":\"tenor.graph.1\",\"inputs\":[],\"params\":[{\"name\":\"w\",\"shape\":[2]},{\"name\":\"w\","
     "\"shape\":[2]}],"
     "\"nodes\":[],\"outputs\":[]}",
     "params[1]"},
};

#define LEAVES                                                                                               \
    "{\"format\":\"tenor.graph.1\",\"inputs\":["                                                             \
    "{\"name\":\"x\",\"dtype\":\"f32\",\"shape\":[-1,4]},{\"name\":\"z\",\"dtype\":\"f32\",\"shape\":[-1,5," \
    "6,2]},"                                                                                                 \
    "{\"name\":\"s\",\"dtype\":\"f32\",\"shape\":[-1,7,4]},{\"name\":\"ids\",\"dtype\":\"i32\",\"shape\":[-" \
    "1,7]}],"                                                                                                \
    "\"params\":[{\"name\":\"w\",\"shape\":[4,3]},{\"name\":\"b\",\"shape\":[4]},"                           \
    "{\"name\":\"k\",\"shape\":[3,3,2,4]},{\"name\":\"kernel\",\"shape\":[4,8]},"                            \
    "{\"name\":\"recurrent\",\"shape\":[2,8]},{\"name\":\"bias\",\"shape\":[8]}],"

/* Nodes on top of these leaves. */
static const struct {
    const char *nodes, *field;
} hostile_nodes[] = {
    {"{\"name\":\"y\",\"op\":\"System\",\"inputs\":[\"x\"]}", "op"},
    {"{\"name\":\"y\",\"op\":\"ActivateGrad\",\"inputs\":[\"x\",\"x\"]}", "op"},
    {"{\"name\":\"y\",\"op\":\"Dense\",\"inputs\":[\"x\",\"w\",\"w\"]}", "op"},
    {"{\"name\":\"y\",\"op\":\"Relu\",\"inputs\":[]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Relu\",\"inputs\":[\"x\",\"x\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Relu\",\"inputs\":[\"y\"]}", "inputs[0]"},
    {"{\"name\":\"y\",\"op\":\"Relu\",\"inputs\":[3]}", "inputs[0]"},
    {"{\"name\":\"x\",\"op\":\"Relu\",\"inputs\":[\"x\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"MatMul\",\"inputs\":[\"w\",\"x\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"MatMul\",\"inputs\":[\"x\",\"x\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Add\",\"inputs\":[\"x\",\"w\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Dropout\",\"inputs\":[\"x\"],\"attrs\":{\"rate\":1}}", "rate"},
    {"{\"name\":\"y\",\"op\":\"Dropout\",\"inputs\":[\"x\"],\"attrs\":{\"rate\":\"0\"}}", "rate"},
    {"{\"name\":\"y\",\"op\":\"Dropout\",\"inputs\":[\"x\"],\"attrs\":{\"speed\":0}}", "speed"},
    {"{\"name\":\"y\",\"op\":\"Reshape\",\"inputs\":[\"x\"]}", "shape"},
    {"{\"name\":\"y\",\"op\":\"Reshape\",\"inputs\":[\"x\"],\"attrs\":{\"shape\":[-1,5]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Reshape\",\"inputs\":[\"x\"],\"attrs\":{\"shape\":[-1,-1,-4]}}", "shape"},
    {"{\"name\":\"y\",\"op\":\"Reshape\",\"inputs\":[\"x\"],\"attrs\":{\"shape\":[-1,-1,4]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Reshape\",\"inputs\":[\"x\"],\"attrs\":{\"shape\":[2147483647,2147483647,"
     "2147483647]}}",
     "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"SoftmaxCrossEntropy\",\"inputs\":[\"x\",\"x\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"MeanSquaredError\",\"inputs\":[\"x\",\"w\"]}", "nodes[0]"},
    {"7", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Conv\",\"inputs\":[\"x\",\"w\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Conv\",\"inputs\":[\"z\",\"z\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Conv\",\"inputs\":[\"k\",\"z\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"ConvBias\",\"inputs\":[\"z\",\"k\",\"w\"]}", "op"},
    {"{\"name\":\"y\",\"op\":\"Conv\",\"inputs\":[\"z\",\"k\"],\"attrs\":{\"strides\":[0,1]}}", "strides"},
    {"{\"name\":\"y\",\"op\":\"Conv\",\"inputs\":[\"z\",\"k\"],\"attrs\":{\"strides\":[1]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Conv\",\"inputs\":[\"z\",\"k\"],\"attrs\":{\"pads\":[1,1]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Conv\",\"inputs\":[\"z\",\"k\"],\"attrs\":{\"pads\":[3,0,0,0]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Conv\",\"inputs\":[\"z\",\"k\"],\"attrs\":{\"pads\":[-1,0,0,0]}}", "pads"},
    {"{\"name\":\"y\",\"op\":\"Conv\",\"inputs\":[\"z\",\"k\"],\"attrs\":{\"dilations\":[3,1]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Conv\",\"inputs\":[\"z\",\"k\"],\"attrs\":{\"group\":0}}", "group"},
    {"{\"name\":\"y\",\"op\":\"Conv\",\"inputs\":[\"z\",\"k\"],\"attrs\":{\"group\":2}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"MaxPool\",\"inputs\":[\"z\"]}", "kernel_shape"},
    {"{\"name\":\"y\",\"op\":\"MaxPool\",\"inputs\":[\"x\"],\"attrs\":{\"kernel_shape\":[2]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"MaxPool\",\"inputs\":[\"z\"],\"attrs\":{\"kernel_shape\":[2]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"MaxPool\",\"inputs\":[\"z\"],\"attrs\":{\"kernel_shape\":[6,1]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"MaxPool\",\"inputs\":[\"z\"],\"attrs\":{\"kernel_shape\":[2,2],\"dilations\":["
     "2,1]}}",
     "dilations"},
    {"{\"name\":\"y\",\"op\":\"AveragePool\",\"inputs\":[\"z\"],\"attrs\":{\"kernel_shape\":[2147483647,1],"
     "\"pads\":[4096,0,4096,0]}}",
     "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"BatchNormalization\",\"inputs\":[\"x\",\"b\",\"b\",\"b\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"BatchNormalization\",\"inputs\":[\"x\",\"b\",\"b\",\"b\",\"w\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"BatchNormalization\",\"inputs\":[\"ids\",\"b\",\"b\",\"b\",\"b\"]}",
     "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"BatchNormalization\",\"inputs\":[\"x\",\"b\",\"b\",\"b\",\"b\"],\"attrs\":{"
     "\"epsilon\":0}}",
     "epsilon"},
    {"{\"name\":\"y\",\"op\":\"BatchNormInfer\",\"inputs\":[\"x\",\"b\",\"b\",\"b\",\"b\"]}", "op"},
    {"{\"name\":\"y\",\"op\":\"LayerNormalization\",\"inputs\":[\"x\",\"w\",\"b\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"LayerNormalization\",\"inputs\":[\"x\",\"b\",\"b\"],\"attrs\":{\"epsilon\":-1}"
     "}",
     "epsilon"},
    {"{\"name\":\"y\",\"op\":\"Gather\",\"inputs\":[\"w\",\"x\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Gather\",\"inputs\":[\"x\",\"ids\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Gather\",\"inputs\":[\"k\",\"ids\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"GatherGrad\",\"inputs\":[\"x\",\"ids\"],\"attrs\":{\"shape\":[1,1]}}", "op"},
    {"{\"name\":\"y\",\"op\":\"Transpose\",\"inputs\":[\"z\"],\"attrs\":{\"perm\":[1,0,2,3]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Transpose\",\"inputs\":[\"z\"],\"attrs\":{\"perm\":[0,1,1,3]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Transpose\",\"inputs\":[\"z\"],\"attrs\":{\"perm\":[0,1,2]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Transpose\",\"inputs\":[\"z\"],\"attrs\":{\"perm\":[0,1,2,9]}}", "perm"},
    {"{\"name\":\"y\",\"op\":\"Transpose\",\"inputs\":[\"z\"],\"attrs\":{\"perm\":[0,1,2,5]}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Concat\",\"inputs\":[\"x\",\"w\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Concat\",\"inputs\":[\"x\",\"x\"],\"attrs\":{\"axis\":0}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Concat\",\"inputs\":[\"x\",\"ids\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Concat\",\"inputs\":[\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\"]}",
     "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Slice\",\"inputs\":[\"x\"],\"attrs\":{\"axis\":0,\"start\":0,\"end\":1}}",
     "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Slice\",\"inputs\":[\"x\"],\"attrs\":{\"axis\":1,\"start\":3,\"end\":3}}",
     "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Slice\",\"inputs\":[\"x\"],\"attrs\":{\"axis\":1,\"start\":-5,\"end\":3}}",
     "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Slice\",\"inputs\":[\"x\"],\"attrs\":{\"axis\":4,\"start\":0,\"end\":1}}",
     "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Slice\",\"inputs\":[\"x\"],\"attrs\":{\"axis\":1,\"start\":0}}", "end"},
    {"{\"name\":\"y\",\"op\":\"LSTM\",\"inputs\":[\"z\",\"w\",\"w\",\"b\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"LSTM\",\"inputs\":[\"s\",\"w\",\"w\",\"b\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"LSTM\",\"inputs\":[\"s\",\"kernel\",\"k\",\"bias\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"LSTM\",\"inputs\":[\"s\",\"kernel\",\"recurrent\",\"b\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"LSTM\",\"inputs\":[\"s\",\"kernel\",\"recurrent\",\"bias\",\"x\"]}",
     "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"LSTM\",\"inputs\":[\"s\",\"kernel\",\"recurrent\",\"bias\"],\"attrs\":{"
     "\"reverse\":2}}",
     "reverse"},
    {"{\"name\":\"y\",\"op\":\"GRU\",\"inputs\":[\"s\",\"kernel\",\"recurrent\",\"bias\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"RNN\",\"inputs\":[\"s\",\"kernel\",\"recurrent\",\"bias\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"RecurrentGrad\",\"inputs\":[\"s\",\"s\",\"kernel\",\"recurrent\",\"s\",\"s\"],"
     "\"attrs\":{\"kind\":2}}",
     "op"},
    {"{\"name\":\"y\",\"op\":\"Attention\",\"inputs\":[\"s\",\"s\"],\"attrs\":{\"heads\":2}}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Attention\",\"inputs\":[\"s\",\"s\",\"s\"]}", "heads"},
    {"{\"name\":\"y\",\"op\":\"Attention\",\"inputs\":[\"s\",\"s\",\"s\"],\"attrs\":{\"heads\":3}}",
     "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Attention\",\"inputs\":[\"s\",\"s\",\"s\"],\"attrs\":{\"heads\":0}}", "heads"},
    {"{\"name\":\"y\",\"op\":\"Attention\",\"inputs\":[\"s\",\"s\",\"x\"],\"attrs\":{\"heads\":1}}",
     "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"Attention\",\"inputs\":[\"s\",\"s\",\"s\",\"x\"],\"attrs\":{\"heads\":1}}",
     "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"SequenceLengths\",\"inputs\":[\"x\"]}", "nodes[0]"},
    {"{\"name\":\"y\",\"op\":\"SequenceLengths\",\"inputs\":[\"ids\"],\"attrs\":{\"pad\":1e300}}", "pad"},
    {"{\"name\":\"y\",\"op\":\"SequenceMean\",\"inputs\":[\"s\",\"ids\"]}", "nodes[0]"},
};

static void expect_refusal(const char *text, const char *field)
{
    struct graph *g = NULL;
    struct err e = {0};
    if (from_json(&g, text, &e) == 0) fail_msg("accepted: %s", text);
    assert_true(e.message[0] != 0);
    if (!strstr(e.field, field)) fail_msg("field '%s' lacks '%s': %s\n%s", e.field, field, e.message, text);
    assert_int_not_equal(from_json(&g, text, NULL), 0);
}

static void hostile_json_is_refused_by_the_path_of_what_is_wrong(void **state)
{
    (void)state;
    char text[2048];
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++)
        expect_refusal(hostile[i].json, hostile[i].field);
    for (size_t i = 0; i < sizeof hostile_nodes / sizeof hostile_nodes[0]; i++) {
        snprintf(text, sizeof text, LEAVES "\"nodes\":[%s],\"outputs\":[]}", hostile_nodes[i].nodes);
        expect_refusal(text, hostile_nodes[i].field);
    }
}

/* Every prefix and every single-byte change of a good graph either fails or gives a graph that compiles or is
 * refused. */
static void damaged_json_never_does_harm(void **state)
{
    (void)state;
    struct graph *g = net_classifier(3, 2, "relu", 0.5, 2, 0), *back;
    char *text = to_json(g);
    size_t len = strlen(text);
    static const char swaps[] = "019-.e\"[]{},:x";
    for (size_t i = 0; i < len; i++)
        for (const char *s = swaps; *s; s++) {
            char keep = text[i];
            text[i] = *s;
            if (from_json(&back, text, NULL) == 0) {
                struct plan_options o = {.mode = PLAN_INFER, .max_batch = 2, .limit_bytes = 1 << 20};
                struct plan *p;
                if (plan_create(&p, back, &o, NULL) == 0) plan_free(p);
                graph_free(back);
            }
            text[i] = keep;
        }
    mem_free(text);
    graph_free(g);
}

static void names_are_unique_and_plain(void **state)
{
    (void)state;
    struct shape s = shape_of(2, (int64_t[]){SHAPE_BATCH, 3});
    struct err e = {0};
    struct graph *g;
    int x;
    char longest[GRAPH_NAME_MAX + 1];
    memset(longest, 'a', GRAPH_NAME_MAX);
    longest[GRAPH_NAME_MAX] = 0;
    must(graph_create(&g, &e), &e);
    must(graph_input(g, "x", DTYPE_F32, &s, &x, &e), &e);
    assert_int_equal(graph_input(g, "x", DTYPE_F32, &s, &x, &e), ERR_INVALID);
    assert_int_equal(graph_input(g, "", DTYPE_F32, &s, &x, &e), ERR_INVALID);
    assert_int_equal(graph_input(g, "a b", DTYPE_F32, &s, &x, &e), ERR_INVALID);
    assert_int_equal(graph_input(g, longest, DTYPE_F32, &s, &x, &e), ERR_INVALID);
    longest[GRAPH_NAME_MAX - 1] = 0;
    must(graph_input(g, longest, DTYPE_F32, &s, &x, &e), &e);
    assert_int_equal(graph_value_count(g), 2);
    graph_free(g);
}

static void attributes_are_known_and_given_once(void **state)
{
    (void)state;
    struct graph *g = net_classifier(3, 2, "relu", 0, 2, 0);
    struct attr twice[] = {{"rate", {.f = 0.1}}, {"rate", {.f = 0.2}}}, unknown = {"speed", {.f = 1}};
    struct err e = {0};
    int x = graph_value_find(g, "x"), y[NODE_MAX_OUTPUTS], before = graph_value_count(g);
    assert_int_equal(graph_op(g, "d", "Dropout", &x, 1, twice, 2, y, &e), ERR_INVALID);
    assert_string_equal(e.field, "rate");
    assert_int_equal(graph_op(g, "d", "Dropout", &x, 1, &unknown, 1, y, &e), ERR_INVALID);
    assert_string_equal(e.field, "speed");
    assert_int_equal(graph_value_count(g), before);
    graph_free(g);
}

static void a_dense_layer_that_does_not_fit_says_its_name(void **state)
{
    (void)state;
    struct shape s = shape_of(1, (int64_t[]){SHAPE_BATCH});
    struct layer_dense d = layer_dense_defaults(4, "relu");
    struct err e = {0};
    struct graph *g;
    int x, y;
    must(graph_create(&g, &e), &e);
    must(graph_input(g, "x", DTYPE_F32, &s, &x, &e), &e);
    assert_int_equal(layer_dense(g, "first", x, &d, &y, &e), ERR_INVALID);
    assert_non_null(strstr(e.message, "first"));
    d.activation = "swoosh";
    assert_int_equal(layer_dense(g, "second", x, &d, &y, &e), ERR_INVALID);
    assert_non_null(strstr(e.message, "swoosh"));
    graph_free(g);
}

static void a_cross_entropy_needs_its_activation(void **state)
{
    (void)state;
    struct graph *g = net_classifier(3, 2, "relu", 0, 2, 0);
    struct err e = {0};
    int hidden = graph_value_find(g, "hidden"), label = graph_value_find(g, "label");
    assert_int_equal(layer_loss(g, "l2", "sparse_categorical_crossentropy", hidden, label, &e), ERR_INVALID);
    assert_non_null(strstr(e.message, "softmax"));
    assert_int_equal(layer_loss(g, "l3", "hinge", hidden, label, &e), ERR_INVALID);
    graph_free(g);
}

static void every_refused_allocation_is_an_error_and_nothing_worse(void **state)
{
    (void)state;
    struct graph *g = net_classifier(3, 2, "relu", 0.5, 2, 0);
    struct plan_options o = {.mode = PLAN_TRAIN, .max_batch = 2, .optim = optim_defaults(OPTIM_ADAM)};
    char *text = to_json(g);
    for (int forever = 0; forever < 2; forever++)
        for (size_t nth = 1, refused = 1; refused; nth++) {
            struct graph *back = NULL;
            struct plan *p = NULL;
            struct params *w = NULL;
            struct run *r = NULL;
            struct err e = {0};
            cJSON *tree;
            must(json_parse(&tree, text, strlen(text), 10000, &e), &e);
            mem_fail_at(nth, forever);
            int rc = graph_from_json(&back, tree, "", &e);
            if (rc == 0) rc = plan_create(&p, back, &o, &e);
            if (rc == 0) rc = params_create(&w, back, &e);
            if (rc == 0) rc = run_create(&r, p, w, &e);
            mem_fail_at(0, false);
            refused = rc != 0;
            if (refused) assert_int_equal(rc, ERR_NOMEM);
            run_free(r);
            params_free(w);
            plan_free(p);
            graph_free(back);
            cJSON_Delete(tree);
        }
    mem_free(text);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_graph_comes_back_from_its_json),
        cmocka_unit_test(a_graph_from_json_trains_to_the_same_bits),
        cmocka_unit_test(hostile_json_is_refused_by_the_path_of_what_is_wrong),
        cmocka_unit_test(damaged_json_never_does_harm),
        cmocka_unit_test(names_are_unique_and_plain),
        cmocka_unit_test(attributes_are_known_and_given_once),
        cmocka_unit_test(a_dense_layer_that_does_not_fit_says_its_name),
        cmocka_unit_test(a_cross_entropy_needs_its_activation),
        cmocka_unit_test(every_refused_allocation_is_an_error_and_nothing_worse),
    };
    return cmocka_run_group_tests_name("tensor/graph", tests, NULL, NULL);
}
