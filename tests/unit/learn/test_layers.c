/* Layers of specs: what they take, what they cost, and that the tensor core builds what was settled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "learn/family.h"
#include "learn/model.h"
#include "tensor/plan.h"
#include "tests/unit/learn/settle_aid.h"

enum { ROWS = 200, CLASSES = 10 };

/* IDX files: rows of bytes with the given shape, the byte at i being i·i % below, in ten classes. */
static void bytes(struct buf *features, struct buf *labels, int rank, const uint32_t *dim, uint32_t below)
{
    uint32_t all[4] = {ROWS};
    struct buf data = {0}, classes = {0};
    uint32_t n = ROWS;
    for (int i = 0; i < rank; i++) {
        all[i + 1] = dim[i];
        n *= dim[i];
    }
    for (uint32_t i = 0; i < n; i++) buf_char(&data, (char)(i * 7 % below));
    for (uint32_t i = 0; i < ROWS; i++) buf_char(&classes, (char)(i % CLASSES));
    aid_idx(features, rank + 1, all, (const uint8_t *)data.data, n);
    aid_idx(labels, 1, all, (const uint8_t *)classes.data, ROWS);
    buf_dispose(&data);
    buf_dispose(&classes);
}

static struct schema *rows_of(int rank, const uint32_t *dim, uint32_t below)
{
    struct buf f = {0}, l = {0};
    struct schema *fs = NULL, *ls = NULL, *both = NULL;
    struct err e = {0};
    bytes(&f, &l, rank, dim, below);
    assert_int_equal(aid_scan(&fs, f.data, f.len, 0, SCAN_FEATURES, &e), 0);
    assert_int_equal(aid_scan(&ls, l.data, l.len, 0, SCAN_LABELS, &e), 0);
    assert_int_equal(schema_join(&both, fs, ls, &e), 0);
    schema_free(fs);
    schema_free(ls);
    buf_dispose(&f);
    buf_dispose(&l);
    return both;
}

static struct schema *images(void)
{
    return rows_of(2, (uint32_t[]){28, 28}, 251);
}

static struct schema *words(void)
{
    return rows_of(1, (uint32_t[]){20}, 50);
}

/* The layers, and a Dense(10) behind them. */
static char *architecture(const char *layers)
{
    struct buf b = {0};
    buf_printf(&b, "{\"architecture\":[%s,{\"layer\":\"Dense\",\"units\":10}]}", layers);
    return buf_steal(&b);
}

#define L(name, fields) "{\"layer\":\"" name "\"" fields "}"
#define CHANNEL         L("Reshape", ",\"target_shape\":[28,28,1]") ","
#define FLAT            "," L("Flatten", "")
#define IDS             "\"input_dim\":50,\"output_dim\":8"

/* Networks of every kind of layer, and what Keras's model.summary() says of their parameters and shapes. */
static const struct {
    const char *layers;
    bool ids;
    int64_t parameters; /* trainable, without the Dense(10) */
    int layer;          /* whose output: */
    struct layer_shape out;
} networks[] = {
    {CHANNEL L("Conv2D", ",\"filters\":32,\"kernel_size\":3,\"activation\":\"relu\"") "," L(
         "MaxPooling2D", "") "," L("Conv2D", ",\"filters\":64,\"kernel_size\":[3,3]") "," L("MaxPooling2D",
                                                                                            "") FLAT
     "," L("Dense", ",\"units\":128"),
     false,
     320 + 18496 + 1600 * 128 + 128,
     4,
     {3, {5, 5, 64}}},
    {CHANNEL L(
         "Conv2D",
         ",\"filters\":8,\"kernel_size\":[5,3],\"strides\":[2,1],\"padding\":\"same\",\"use_bias\":false")
         FLAT,
     false,
     120,
     1,
     {3, {14, 28, 8}}},
    {CHANNEL L("Conv2D", ",\"filters\":8,\"kernel_size\":3,\"dilation_rate\":2,\"activation\":\"leaky_"
                         "relu\"") "," L("Conv2D", ",\"filters\":16,\"kernel_size\":1,\"groups\":4") FLAT,
     false,
     80 + 48,
     2,
     {3, {24, 24, 16}}},
    {L("Conv1D", ",\"filters\":16,\"kernel_size\":4,\"padding\":\"causal\"") "," L("GlobalAveragePooling1D",
                                                                                   ""),
     false,
     28 * 4 * 16 + 16,
     0,
     {2, {28, 16}}},
    {L("AveragePooling1D",
       ",\"pool_size\":3,\"strides\":2,\"padding\":\"same\"") "," L("MaxPooling1D", ",\"pool_size\":4") FLAT,
     false,
     0,
     1,
     {2, {3, 28}}},
    {CHANNEL L("AveragePooling2D", ",\"pool_size\":[3,2]") "," L("GlobalMaxPooling2D", ""),
     false,
     0,
     1,
     {3, {9, 14, 1}}},
    {CHANNEL L("Conv2D", ",\"filters\":4,\"kernel_size\":3") "," L("BatchNormalization", "") "," L(
         "ReLU", "") "," L("GlobalAveragePooling2D", ""),
     false,
     40 + 8,
     4,
     {1, {4}}},
    {L("LayerNormalization", ",\"epsilon\":1e-5") "," L("GlobalMaxPooling1D", ""), false, 56, 1, {1, {28}}},
    {L("SimpleRNN", ",\"units\":16"), false, 28 * 16 + 16 * 16 + 16, 0, {1, {16}}},
    {L("GRU", ",\"units\":16,\"return_sequences\":true") "," L("Dropout",
                                                               ",\"rate\":0.2") "," L("GRU", ",\"units\":8"),
     false,
     3 * 16 * (28 + 16 + 2) + 3 * 8 * (16 + 8 + 2),
     0,
     {2, {28, 16}}},
    {L("LSTM", ",\"units\":128,\"return_sequences\":true") "," L("LSTM", ",\"units\":128"),
     false,
     80384 + 131584,
     1,
     {1, {128}}},
    {L("LSTM", ",\"units\":16,\"bidirectional\":true,\"l2\":0.01"),
     false,
     2 * (4 * 16 * (28 + 16 + 1)),
     0,
     {1, {32}}},
    {L("Embedding", "," IDS) "," L("LSTM", ",\"units\":16"),
     true,
     400 + 4 * 16 * (8 + 16 + 1),
     0,
     {2, {20, 8}}},
    {L("Embedding", ",\"mask_zero\":true," IDS) "," L("GlobalAveragePooling1D", ""), true, 400, 1, {1, {8}}},
    {L("Embedding", ",\"mask_zero\":true," IDS) "," L("GRU", ",\"units\":4,\"bidirectional\":true"),
     true,
     400 + 2 * 3 * 4 * (8 + 4 + 2),
     1,
     {1, {8}}},
};
enum { N_NETWORKS = sizeof networks / sizeof networks[0] };

static struct resolved *network(size_t i, const struct schema *s)
{
    char *text = architecture(networks[i].layers);
    struct resolved *r = settle(text, s);
    mem_free(text);
    return r;
}

/* Calls check with every network, settled for its data. */
static void each_network(void (*check)(size_t i, const struct resolved *r, const struct schema *s))
{
    struct schema *pictures = images(), *texts = words();
    for (size_t i = 0; i < N_NETWORKS; i++) {
        const struct schema *s = networks[i].ids ? texts : pictures;
        struct resolved *r = network(i, s);
        check(i, r, s);
        resolved_free(r);
    }
    schema_free(pictures);
    schema_free(texts);
}

static void check_shapes(size_t i, const struct resolved *r, const struct schema *s)
{
    const struct layer_spec *l = &r->layers[networks[i].layer], *d = &r->layers[r->n_layers - 1];
    int64_t parameters = networks[i].parameters + (d->in.dim[0] + 1) * CLASSES;
    (void)s;
    if (r->estimate.parameters != parameters)
        fail_msg("%s: %lld parameters, not %lld", networks[i].layers, (long long)r->estimate.parameters,
                 (long long)parameters);
    assert_int_equal(l->out.rank, networks[i].out.rank);
    assert_memory_equal(l->out.dim, networks[i].out.dim, sizeof(int64_t) * (size_t)l->out.rank);
}

static void each_kind_has_the_shape_and_parameters_that_keras_gives_it(void **state)
{
    (void)state;
    each_network(check_shapes);
}

static void check_graph(size_t i, const struct resolved *r, const struct schema *s)
{
    (void)s;
    settle_graph(r, networks[i].layers);
}

static void the_graph_has_what_was_settled_and_fits_the_estimated_memory(void **state)
{
    (void)state;
    each_network(check_graph);
}

static void check_writing(size_t i, const struct resolved *r, const struct schema *s)
{
    (void)i;
    settle_again(r, s);
}

static void what_was_settled_is_written_so_that_it_settles_again(void **state)
{
    (void)state;
    each_network(check_writing);
}

/* ---- refusals ---- */

static void expect_refusal(const char *layers, const struct schema *s, const char *field, const char *message)
{
    char *text = architecture(layers);
    settle_refused(text, s, field, message);
    mem_free(text);
}

/* Layers, the field at fault, and what is said of it. */
static const char *const misfits[][3] = {
    {L("Conv2D", ",\"filters\":8,\"kernel_size\":3"), "spec.architecture[0]",
     "layer \"conv2d_1\" (Conv2D) takes rows of shape [height, width, channels], not [28, 28]; put "
     "{\"layer\":\"Reshape\",\"target_shape\":[28, 28, 1]} before it"},
    {L("Flatten", "") "," L("LSTM", ",\"units\":8"), "spec.architecture[1]",
     "layer \"lstm_1\" (LSTM) takes rows of shape [steps, features], not [784]; put "
     "{\"layer\":\"Reshape\",\"target_shape\":[784, 1]} before it"},
    {CHANNEL L("GRU", ",\"units\":8"), "spec.architecture[1]",
     "layer \"gru_1\" (GRU) takes rows of shape [steps, features], not [28, 28, 1]; put a Reshape layer "
     "before it"},
    {L("InputLayer", ",\"shape\":[28,28,1]"), "spec.architecture[0]",
     "layer \"input_layer_1\": it declares rows of shape [28, 28, 1], but the dataset's rows have [28, "
     "28]; "
     "declare those, and put a Reshape layer with target_shape [28, 28, 1] behind it"},
    {CHANNEL L("Conv2D", ",\"filters\":8,\"kernel_size\":[3,29],\"name\":\"wide\""),
     "spec.architecture[1].kernel_size",
     "layer \"wide\": a window of 29 does not fit into 28 (its rows are 28 in dimension 2); make it "
     "smaller, or "
     "set padding to \"same\""},
    {CHANNEL L("Conv2D", ",\"filters\":8,\"kernel_size\":3,\"groups\":3"), "spec.architecture[1].groups",
     "layer \"conv2d_1\": 3 groups do not divide 1 channels and 8 filters"},
    {CHANNEL L("Conv2D", ",\"filters\":8,\"kernel_size\":3,\"padding\":\"causal\""),
     "spec.architecture[1].padding", "causal padding is for Conv1D; expected valid or same"},
    {CHANNEL L("Conv2D", ",\"filters\":8,\"kernel_size\":[3,3,3]"), "spec.architecture[1].kernel_size",
     "expected a whole number from 1 to 4096, or a list of 2 of them"},
    {CHANNEL L("Conv2D", ",\"filters\":8"), "spec.architecture[1].kernel_size",
     "the field is missing; expected a whole number from 1 to 4096, or a list of 2 of them"},
    {CHANNEL L("Conv2D", ",\"filters\":8,\"kernel_size\":4096,\"dilation_rate\":2,\"padding\":\"same\""),
     "spec.architecture[1].kernel_size",
     "layer \"conv2d_1\": its window reaches over 8191; at most 4097 fit"},
    {L("Conv1D", ",\"filters\":1048576,\"kernel_size\":4000,\"padding\":\"same\""), "spec.architecture[0]",
     "layer \"conv1d_1\": 112000 × 1048576 weights are more than fit"},
    {L("Reshape", ",\"target_shape\":[784,1]") "," L("Dense", ",\"units\":1048576"), "spec.architecture[1]",
     "layer \"dense_1\": its rows of more than 268435456 numbers do not fit"},
    {L("BatchNormalization", ",\"axis\":1"), "spec.architecture[0].axis",
     "layer \"batch_normalization_1\" normalises axis 1; only the last one is offered, -1"},
    {L("LSTM", ",\"units\":8,\"dropout\":0.5"), "spec.architecture[0].dropout", "only 0 is offered here"},
    {L("LSTM", ",\"units\":8,\"activation\":\"relu\""), "spec.architecture[0].activation",
     "only tanh is offered here"},
    {L("LSTM", ",\"units\":8,\"seed\":1"), "spec.architecture[0].seed",
     "there is no field 'spec.architecture[0].seed'; check its spelling or leave it out"},
    {L("Bidirectional", ",\"units\":8"), "spec.architecture[0].layer",
     "Bidirectional is a field here: {\"layer\":\"LSTM\",\"bidirectional\":true}"},
    {L("Flatten", "") "," L("Embedding", "," IDS), "spec.architecture[1]",
     "layer \"embedding_1\": an Embedding can only come first; it takes the dataset's whole numbers"},
    {L("LSTM", ",\"units\":8,\"return_sequences\":true"), "spec.architecture[1]",
     "layer \"dense_1\" gives rows of shape [28, 10]; put a Flatten layer before it"},
};

static void layers_that_do_not_fit_say_what_would(void **state)
{
    struct schema *s = images();
    (void)state;
    for (size_t i = 0; i < sizeof misfits / sizeof misfits[0]; i++)
        expect_refusal(misfits[i][0], s, misfits[i][1], misfits[i][2]);
    schema_free(s);
}

static void an_embedding_takes_whole_numbers_below_its_size_only(void **state)
{
    static const char small[] = L("Embedding", ",\"input_dim\":49,\"output_dim\":8") FLAT;
    static const char of_fractions[] = "{\"target\":\"kind\",\"architecture\":[" L("Embedding", "," IDS) FLAT
        "," L("Dense", ",\"units\":2") "]}";
    static const char standardised[] =
        "{\"preprocess\":[{\"op\":\"standardise\"}],\"architecture\":[" L("Embedding", "," IDS) FLAT
        "," L("Dense", ",\"units\":10") "]}";
    struct schema *s = words(), *csv = aid_csv("a,kind\n0.5,x\n1,y\n");
    (void)state;
    expect_refusal(
        small, s, "spec.architecture[0].input_dim",
        "layer \"embedding_1\": \"features\" holds numbers up to 49; set input_dim to at least 50");
    assert_int_equal(settle_refused(of_fractions, csv, "spec.architecture[0]",
                                    "layer \"embedding_1\" (Embedding) takes whole numbers from 0, without "
                                    "gaps; \"a\" holds others"),
                     ERR_INVALID);
    assert_int_equal(settle_refused(standardised, s, "spec.preprocess", NULL), ERR_INVALID);
    schema_free(s);
    schema_free(csv);
}

/* ---- Keras ---- */

#define KERAS(layers)                                                                                        \
    "{\"architecture\":{\"class_name\":\"Sequential\",\"config\":{\"name\":\"s\",\"layers\":[" layers "]}}}"
#define K(name, config)                                                                                      \
    "{\"module\":\"keras.layers\",\"class_name\":\"" name "\",\"config\":{\"trainable\":true,"               \
    "\"dtype\":\"float32\"," config "},\"registered_name\":null,\"build_config\":{\"input_shape\":[null]}}"
#define INIT(name)                                                                                           \
    "{\"module\":\"keras.initializers\",\"class_name\":\"" name                                              \
    "\",\"config\":{\"seed\":null},\"registered_name\":null}"
#define K_CONV(name, filters)                                                                                \
    K("Conv2D",                                                                                              \
      "\"name\":\"" name "\",\"filters\":" filters ",\"kernel_size\":[3,3],\"strides\":[1,1],"               \
      "\"padding\":\"valid\",\"data_format\":\"channels_last\",\"dilation_rate\":[1,1],\"groups\":1,"        \
      "\"activation\":\"relu\","                                                                             \
      "\"use_bias\":true,\"kernel_initializer\":" INIT("GlorotUniform") ",\"bias_initializer\":" INIT(       \
          "Zeros") ","                                                                                       \
                   "\"kernel_regularizer\":null,\"bias_regularizer\":null,\"activity_regularizer\":null,"    \
                   "\"kernel_constraint\":null,"                                                             \
                   "\"bias_constraint\":null")
#define K_POOL(name)                                                                                         \
    K("MaxPooling2D", "\"name\":\"" name "\",\"pool_size\":[2,2],\"padding\":\"valid\",\"strides\":[2,2],"   \
                      "\"data_format\":\"channels_last\"")
#define K_LSTM(name, more)                                                                                   \
    K("LSTM",                                                                                                \
      "\"name\":\"" name "\",\"return_state\":false,\"go_backwards\":false,"                                 \
      "\"stateful\":false,\"unroll\":false,\"zero_output_for_mask\":false,\"units\":16,\"activation\":"      \
      "\"tanh\","                                                                                            \
      "\"recurrent_activation\":\"sigmoid\",\"use_bias\":true,\"kernel_initializer\":" INIT(                 \
          "GlorotUniform") ","                                                                               \
                           "\"recurrent_initializer\":{\"module\":\"keras.initializers\",\"class_name\":"    \
                           "\"Orthogonal\",\"config\":{\"seed\":null,"                                       \
                           "\"gain\":1.0},\"registered_name\":null},\"bias_initializer\":" INIT(             \
                               "Zeros") ",\"unit_forget_bias\":true,"                                        \
                                        "\"kernel_regularizer\":null,\"recurrent_regularizer\":null,\"bias_" \
                                        "regularizer\":null,\"activity_regularizer\":null,"                  \
                                        "\"kernel_constraint\":null,\"recurrent_constraint\":null,\"bias_"   \
                                        "constraint\":null,\"dropout\":0.0,"                                 \
                                        "\"recurrent_dropout\":0.0,\"seed\":null" more)
#define K_DENSE K("Dense", "\"name\":\"dense\",\"units\":10,\"activation\":\"softmax\",\"use_bias\":true")
#define K_INPUT(shape)                                                                                       \
    K("InputLayer", "\"batch_shape\":[null," shape "],\"sparse\":false,\"ragged\":false,\"name\":\"input\"")
#define K_NORM                                                                                               \
    K("BatchNormalization",                                                                                  \
      "\"name\":\"bn\",\"axis\":-1,\"momentum\":0.99,\"epsilon\":0.001,\"center\":true,"                     \
      "\"scale\":true,\"beta_initializer\":" INIT("Zeros") ",\"gamma_initializer\":" INIT(                   \
          "Ones") ","                                                                                        \
                  "\"moving_mean_initializer\":" INIT("Zeros") ",\"moving_variance_initializer\":" INIT(     \
                      "Ones") ","                                                                            \
                              "\"beta_regularizer\":null,\"gamma_regularizer\":null,\"beta_constraint\":"    \
                              "null,\"gamma_constraint\":null,"                                              \
                              "\"synchronized\":false")

static void the_json_of_keras_networks_is_taken_as_it_is(void **state)
{
    static const struct {
        const char *spec;
        int64_t parameters;
        size_t layers;
    } table[] = {
        {KERAS(K_INPUT("28,28") "," K("Reshape", "\"name\":\"r\",\"target_shape\":[28,28,1]") "," K_CONV(
             "c1",
             "32") "," K_POOL("p1") "," K_CONV("c2",
                                               "64") "," K_POOL("p2") "," K_NORM
                                                                      "," K("Flatten",
                                                                            "\"name\":\"f\",\"data_format\":"
                                                                            "\"channels_last\"") "," K_DENSE),
         320 + 18496 + 128 + 16010, 8},
        {KERAS(K_LSTM("one", ",\"return_sequences\":true") "," K(
             "Bidirectional",
             "\"name\":\"both\",\"merge_mode\":"
             "\"concat\",\"layer\":" K_LSTM("two", ",\"return_sequences\":false")) "," K_DENSE),
         64 * 45 + 2 * 64 * 33 + 330, 3},
    };
    struct schema *s = images();
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct resolved *r = settle(table[i].spec, s);
        assert_int_equal(r->estimate.parameters, table[i].parameters);
        assert_int_equal(r->n_layers, table[i].layers);
        resolved_free(r);
    }
    schema_free(s);
}

static void what_keras_has_beyond_this_is_refused_by_path(void **state)
{
    static const char *const corpus[][2] = {
        {KERAS(K("Bidirectional", "\"merge_mode\":\"sum\",\"layer\":" K_LSTM("two", "")) "," K_DENSE),
         "spec.architecture.config.layers[0].config.merge_mode"},
        {KERAS(K("Bidirectional", "\"layer\":" K_DENSE) "," K_DENSE),
         "spec.architecture.config.layers[0].config.layer"},
        {KERAS(K_LSTM("one", ",\"return_sequences\":1") "," K_DENSE),
         "spec.architecture.config.layers[0].config.return_sequences"},
        {KERAS(K("Conv2D", "\"filters\":3,\"kernel_size\":3,\"data_format\":\"channels_first\"") "," K_DENSE),
         "spec.architecture.config.layers[0].config.data_format"},
        {KERAS(K("Bidirectional", "\"layer\":" K("Bidirectional", "\"layer\":" K_DENSE)) "," K_DENSE),
         "spec.architecture.config.layers[0].config.layer"},
    };
    struct schema *s = images();
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof corpus[0]; i++)
        settle_refused(corpus[i][0], s, corpus[i][1], NULL);
    schema_free(s);
}

/* ---- whole runs ---- */

/* One epoch over made-up data: trained, written, read again, asked for a prediction. */
static void train_once(size_t i, const struct buf *features, const struct buf *labels)
{
    struct buf spec = {0};
    struct aid_result r;
    struct model *m = NULL;
    struct err e = {0};
    buf_printf(&spec,
               "{\"architecture\":[%s,{\"layer\":\"Dense\",\"units\":10}],\"training\":{\"epochs\":1}}",
               networks[i].layers);
    if (aid_train(&r, &(struct aid_run){.spec = spec.data, .features = features, .labels = labels}, &e))
        fail_msg("%s: %s %s", spec.data, e.field, e.message);
    if (model_load(&m, r.artifact.data, r.artifact.len, 0, &e)) fail_msg("%s: %s", spec.data, e.message);
    model_free(m);
    aid_result_dispose(&r);
    buf_dispose(&spec);
}

static void every_kind_trains_and_loads_again(void **state)
{
    struct buf pictures = {0}, labels = {0}, texts = {0}, same = {0};
    (void)state;
    bytes(&pictures, &labels, 2, (uint32_t[]){28, 28}, 251);
    bytes(&texts, &same, 1, (uint32_t[]){20}, 50);
    for (size_t i = 0; i < N_NETWORKS; i++) train_once(i, networks[i].ids ? &texts : &pictures, &labels);
    buf_dispose(&pictures);
    buf_dispose(&labels);
    buf_dispose(&texts);
    buf_dispose(&same);
}

/* Texts of 4 to 11 words, padded with zeros; the class is whether word 7 or word 8 is among them. */
static void texts_by_word(struct buf *features, struct buf *labels, uint32_t rows)
{
    struct aid_random random = {5};
    struct buf data = {0}, classes = {0};
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t length = 4 + (uint32_t)(aid_uniform(&random) * 8),
                 at = (uint32_t)(aid_uniform(&random) * length);
        for (uint32_t k = 0; k < 12; k++)
            buf_char(&data, (char)(k >= length ? 0
                                   : k == at   ? 7 + i % 2
                                               : 10 + (uint32_t)(aid_uniform(&random) * 40)));
        buf_char(&classes, (char)(i % 2));
    }
    aid_idx(features, 2, (uint32_t[]){rows, 12}, (const uint8_t *)data.data, (size_t)rows * 12);
    aid_idx(labels, 1, &rows, (const uint8_t *)classes.data, rows);
    buf_dispose(&data);
    buf_dispose(&classes);
}

static void predict_one(const struct model *m, const float *ids, int64_t label)
{
    struct model_session *s = NULL;
    struct model_input in = {DATATYPE_FP32, ids, 12 * sizeof *ids};
    struct model_output out[2];
    struct err e = {0};
    assert_int_equal(model_session_create(&s, m, 4, &e), 0);
    assert_int_equal(model_predict(s, &in, 1, out, &e), label < 0 ? ERR_INVALID : 0);
    if (label < 0) assert_non_null(strstr(e.message, "whole numbers from 0 to 49 only"));
    if (label >= 0) assert_int_equal(*(const int64_t *)out[1].data, label);
    model_session_free(s);
}

static void words_are_learnt_through_an_embedding(void **state)
{
    static const char *const specs[] = {
        "{\"architecture\":[" L("Embedding", ",\"mask_zero\":true," IDS) "," L("LSTM", ",\"units\":16") "," L(
            "Dense", ",\"units\":2") "],\"training\":{\"epochs\":15,\"optimizer\":{\"name\":\"adam\","
                                     "\"learning_rate\":0.01}}}",
        "{\"architecture\":[" L("Embedding", ",\"mask_zero\":true," IDS) "," L(
            "GlobalAveragePooling1D",
            "") "," L("Dense", ",\"units\":2") "],\"training\":{\"epochs\":15,\"optimizer\":{\"name\":"
                                               "\"adam\",\"learning_rate\":0.01}}}",
    };
    struct buf features = {0}, labels = {0};
    (void)state;
    texts_by_word(&features, &labels, 1000);
    for (size_t i = 0; i < 2; i++) {
        struct aid_result r;
        struct model *m = NULL;
        struct err e = {0};
        if (aid_train(&r, &(struct aid_run){.spec = specs[i], .features = &features, .labels = &labels}, &e))
            fail_msg("%s %s", e.field, e.message);
        if (!(aid_metric(&r, "accuracy") > 0.95))
            fail_msg("%s: accuracy %g", specs[i], aid_metric(&r, "accuracy"));
        assert_int_equal(model_load(&m, r.artifact.data, r.artifact.len, 0, &e), 0);
        predict_one(m, (float[12]){20, 21, 7, 22, 23}, 0);
        predict_one(m, (float[12]){20, 21, 8, 22, 23}, 1);
        predict_one(m, (float[12]){20, 50}, -1);
        predict_one(m, (float[12]){20, -1}, -1);
        predict_one(m, (float[12]){20, 0.5F}, -1);
        model_free(m);
        aid_result_dispose(&r);
    }
    buf_dispose(&features);
    buf_dispose(&labels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_has_the_shape_and_parameters_that_keras_gives_it),
        cmocka_unit_test(the_graph_has_what_was_settled_and_fits_the_estimated_memory),
        cmocka_unit_test(what_was_settled_is_written_so_that_it_settles_again),
        cmocka_unit_test(layers_that_do_not_fit_say_what_would),
        cmocka_unit_test(an_embedding_takes_whole_numbers_below_its_size_only),
        cmocka_unit_test(the_json_of_keras_networks_is_taken_as_it_is),
        cmocka_unit_test(what_keras_has_beyond_this_is_refused_by_path),
        cmocka_unit_test(every_kind_trains_and_loads_again),
        cmocka_unit_test(words_are_learnt_through_an_embedding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
