/* Layers beyond a plain chain: positions, attention, Transformers, residual connections. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "learn/family.h"
#include "learn/model.h"
#include "tensor/plan.h"
#include "tensor/run.h"
#include "tests/unit/learn/settle_aid.h"

enum { STEPS = 20, WORDS = 50, CLASSES = 2 };

#define L(name, fields) "{\"layer\":\"" name "\"" fields "}"
#define TOKENS                                                                                               \
    L("TokenAndPositionEmbedding", ",\"vocabulary_size\":50,\"embedding_dim\":8,\"mask_zero\":true")
#define POOL L("GlobalAveragePooling1D", "")

/* Rows of `steps` whole numbers: 1 … WORDS − 1, and zeros behind a length that differs. The label says
 * whether a 7 stands before the first 9; each row has both. */
static void sentences(struct buf *features, struct buf *labels, uint32_t rows, uint32_t steps)
{
    struct aid_random random = {3};
    struct buf data = {0}, kinds = {0};
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t length = steps / 2 + (uint32_t)(aid_uniform(&random) * steps / 2);
        uint32_t a = (uint32_t)(aid_uniform(&random) * length),
                 b = (a + 1 + (uint32_t)(aid_uniform(&random) * (length - 1))) % length;
        for (uint32_t i = 0; i < steps; i++) {
            uint32_t word = 10 + (uint32_t)(aid_uniform(&random) * 39);
            buf_char(&data, (char)(i == a ? 7 : i == b ? 9 : i < length ? word : 0));
        }
        buf_char(&kinds, a < b);
    }
    aid_idx(features, 2, (uint32_t[]){rows, steps}, (const uint8_t *)data.data, data.len);
    aid_idx(labels, 1, &rows, (const uint8_t *)kinds.data, kinds.len);
    buf_dispose(&data);
    buf_dispose(&kinds);
}

static struct schema *schema_of(uint32_t steps)
{
    struct buf f = {0}, l = {0};
    struct schema *fs = NULL, *ls = NULL, *both = NULL;
    struct err e = {0};
    sentences(&f, &l, 200, steps);
    assert_int_equal(aid_scan(&fs, f.data, f.len, 0, SCAN_FEATURES, &e), 0);
    assert_int_equal(aid_scan(&ls, l.data, l.len, 0, SCAN_LABELS, &e), 0);
    assert_int_equal(schema_join(&both, fs, ls, &e), 0);
    schema_free(fs);
    schema_free(ls);
    buf_dispose(&f);
    buf_dispose(&l);
    return both;
}

/* The layers, and a Dense(CLASSES) behind them. */
static char *architecture(const char *layers)
{
    struct buf b = {0};
    buf_printf(&b, "{\"architecture\":[%s,{\"layer\":\"Dense\",\"units\":%d}]}", layers, CLASSES);
    return buf_steal(&b);
}

static struct resolved *settled(const char *layers, const struct schema *s)
{
    char *text = architecture(layers);
    struct resolved *r = settle(text, s);
    mem_free(text);
    return r;
}

static const struct {
    const char *layers;
    int64_t parameters; /* trainable, without the Dense behind them */
} networks[] = {
    {TOKENS "," L("TransformerEncoder", ",\"intermediate_dim\":16,\"num_heads\":2") "," POOL,
     400 + 20 * 8 + 4 * 72 + 2 * 16 + 144 + 136},
    {TOKENS "," L("TransformerDecoder",
                  ",\"intermediate_dim\":16,\"num_heads\":4,\"dropout\":0.1,\"activation\":\"gelu\","
                  "\"normalize_first\":true") "," POOL,
     400 + 20 * 8 + 4 * 72 + 2 * 16 + 144 + 136},
    {L("Embedding", ",\"input_dim\":50,\"output_dim\":8") "," L("SinePositionEncoding", "") "," L(
         "MultiHeadAttention", ",\"num_heads\":3,\"key_dim\":5,\"use_causal_mask\":true") "," POOL,
     400 + 3 * (8 * 15 + 15) + 15 * 8 + 8},
    {L("Embedding", ",\"output_dim\":8,\"mask_zero\":true") "," L(
         "Residual",
         ",\"layers\":[" L("LayerNormalization", "") "," L(
             "MultiHeadAttention",
             ",\"num_heads\":2,\"key_dim\":4,\"use_bias\":false") "]") "," L("Residual",
                                                                             ",\"name\":\"outer\",\"layers\":"
                                                                             "[" L(
                                                                                 "Residual",
                                                                                 ",\"layers\":"
                                                                                 "[" L(
                                                                                     "Dense",
                                                                                     ",\"units\":8") "]") "," L("Dropout",
                                                                                                                ",\"rate\":0.1") "]") "," POOL,
     49 * 8 + 16 + 4 * 64 + 72},
    {L("Embedding", ",\"input_dim\":50,\"output_dim\":4") "," L(
         "PositionEmbedding", ",\"sequence_length\":64,\"initializer\":\"he_normal\"") "," L("LSTM",
                                                                                             ",\"units\":4"),
     200 + 80 + 4 * 4 * (4 + 4 + 1)},
};
enum { N_NETWORKS = sizeof networks / sizeof networks[0] };

static void each_network_has_kerass_parameters_and_fits_the_estimate(void **state)
{
    struct schema *s = schema_of(STEPS);
    (void)state;
    for (size_t i = 0; i < N_NETWORKS; i++) {
        struct resolved *r = settled(networks[i].layers, s);
        int64_t behind = (r->layers[r->n_layers - 1].in.dim[0] + 1) * CLASSES;
        if (r->estimate.parameters != networks[i].parameters + behind)
            fail_msg("%s: %lld parameters, not %lld", networks[i].layers, (long long)r->estimate.parameters,
                     (long long)(networks[i].parameters + behind));
        settle_graph(r, networks[i].layers);
        resolved_free(r);
    }
    schema_free(s);
}

/* Long sequences are where attention's own memory outgrows the layers' inputs and outputs. */
static void long_rows_keep_within_the_estimated_memory(void **state)
{
    struct schema *s = schema_of(1000);
    struct resolved *r = settled(networks[0].layers, s);
    (void)state;
    settle_graph(r, networks[0].layers);
    resolved_free(r);
    schema_free(s);
}

static void what_was_settled_is_written_so_that_it_settles_again(void **state)
{
    struct schema *s = schema_of(STEPS);
    (void)state;
    for (size_t i = 0; i < N_NETWORKS; i++) {
        struct resolved *r = settled(networks[i].layers, s);
        settle_again(r, s);
        resolved_free(r);
    }
    schema_free(s);
}

/* ---- refusals ---- */

/* Layers, the field at fault, and what is said of it (NULL: any words). */
static const char *const misfits[][3] = {
    {L("Flatten", "") "," L("MultiHeadAttention", ",\"num_heads\":2,\"key_dim\":4"), "spec.architecture[1]",
     "layer \"multi_head_attention_1\" (MultiHeadAttention) takes rows of shape [steps, features], not "
     "[20]; "
     "put {\"layer\":\"Reshape\",\"target_shape\":[20, 1]} before it"},
    {TOKENS "," L("TransformerEncoder", ",\"intermediate_dim\":16,\"num_heads\":3"),
     "spec.architecture[1].num_heads",
     "layer \"transformer_encoder_1\": 3 heads do not divide the 8 features of a step"},
    {TOKENS
     "," L("TransformerEncoder", ",\"intermediate_dim\":16,\"num_heads\":2,\"activation\":\"leaky_relu\""),
     "spec.architecture[1].activation",
     "layer \"transformer_encoder_1\": leaky_relu is not offered here; use relu"},
    {TOKENS "," L("Residual", ",\"layers\":[" L("Dense", ",\"units\":9") "]"), "spec.architecture[1]",
     "layer \"residual_1\" (Residual) adds what its layers give to what they take, but they make rows of "
     "shape [20, 9] from [20, 8]; end with a layer that gives [20, 8]"},
    {TOKENS "," L("Residual", ",\"layers\":[" L("Residual", ",\"layers\":[" L("MultiHeadAttention",
                                                                              ",\"num_heads\":2") "]") "]"),
     "spec.architecture[1].layers[0].layers[0].key_dim", NULL},
    {TOKENS "," L("Residual", ""), "spec.architecture[1].layers", NULL},
    {TOKENS "," L("Residual", ",\"layers\":[]"), "spec.architecture[1].layers", NULL},
    {TOKENS "," L("Residual", ",\"layers\":[" L("InputLayer", ",\"shape\":[20,8]") "]"),
     "spec.architecture[1].layers[0]", "layer \"input_layer_1\": an InputLayer can only come first"},
    {TOKENS "," L("Residual", ",\"layers\":[" TOKENS "]"), "spec.architecture[1].layers[0]", NULL},
    {L("Embedding", ",\"input_dim\":50,\"output_dim\":8") "," L("PositionEmbedding",
                                                                ",\"sequence_length\":19"),
     "spec.architecture[1].sequence_length",
     "layer \"position_embedding_1\" has positions for 19 steps, but rows have 20; set sequence_length "
     "to at "
     "least 20, or leave it out"},
    {L("Embedding", ",\"input_dim\":50,\"output_dim\":8") "," L("SinePositionEncoding",
                                                                ",\"max_wavelength\":100"),
     "spec.architecture[1].max_wavelength", "only 10000 is offered here"},
    {TOKENS "," L("Dense", ",\"units\":8,\"name\":\"same\"") "," L(
         "Residual", ",\"layers\":[" L("Dense", ",\"units\":8,\"name\":\"same\"") "]"),
     "spec.architecture[2].layers[0].name", "two layers are named \"same\""},
    {TOKENS
     "," L("Residual",
           ",\"layers\":[" L(
               "Residual",
               ",\"layers\":[" L(
                   "Residual",
                   ",\"layers\":[" L(
                       "Residual",
                       ",\"layers\":[" L("Residual",
                                         ",\"layers\":[" L("Dense", ",\"units\":8") "]") "]") "]") "]") "]"),
     "spec.architecture[1].layers[0].layers[0].layers[0].layers[0].layers",
     "layers are nested at most 4 deep"},
    {TOKENS "," L("LSTM", ",\"units\":2049"), "spec.architecture[1].recurrent_initializer",
     "layer \"lstm_1\": orthogonal is offered for up to 2048 units; set glorot_uniform"},
};

static void layers_that_do_not_fit_say_what_would(void **state)
{
    struct schema *s = schema_of(STEPS);
    (void)state;
    for (size_t i = 0; i < sizeof misfits / sizeof misfits[0]; i++) {
        char *text = architecture(misfits[i][0]);
        settle_refused(text, s, misfits[i][1], misfits[i][2]);
        mem_free(text);
    }
    schema_free(s);
}

/* 256 layers are the limit, wherever they stand. */
static void more_layers_than_a_spec_may_hold_are_refused(void **state)
{
    struct buf b = {0};
    struct schema *s = schema_of(STEPS);
    struct resolved *r = NULL;
    struct err e = {0};
    (void)state;
    buf_str(&b, TOKENS);
    for (int i = 0; i < 100; i++)
        buf_str(&b, "," L("Residual", ",\"layers\":[" L("Dense", ",\"units\":8") "," L("ReLU", "") "]"));
    char *text = architecture(b.data);
    assert_int_equal(aid_settle(&r, text, s, &e), ERR_INVALID);
    assert_string_equal(e.message, "an architecture holds at most 256 layers");
    mem_free(text);
    buf_dispose(&b);
    schema_free(s);
}

/* ---- what the networks compute ---- */

/* The output's probabilities for one row. */
static void predict(const struct resolved *r, const struct params *from, const int32_t *ids,
                    float out[CLASSES])
{
    struct graph *g = NULL;
    struct plan *p = NULL;
    struct run *run = NULL;
    struct params *w = NULL;
    struct err e = {0};
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = 1};
    assert_int_equal(family_graph(&g, r, &e), 0);
    assert_int_equal(params_create(&w, g, &e), 0);
    for (int i = 0; i < w->n; i++) { /* of positions the first rows */
        int k = params_find(from, w->entry[i].name);
        memcpy(w->data + w->entry[i].offset, from->data + from->entry[k].offset,
               w->entry[i].count * sizeof(float));
    }
    assert_int_equal(plan_create(&p, g, &o, &e), 0);
    assert_int_equal(plan_load(p, w, &e), 0);
    assert_int_equal(run_create(&run, p, NULL, &e), 0);
    const void *feed = ids;
    assert_int_equal(run_forward(run, &feed, 1, &e), 0);
    memcpy(out, run_output(run, 0).data, CLASSES * sizeof *out);
    run_free(run);
    plan_free(p);
    params_free(w);
    graph_free(g);
}

/* A mask that got lost on the way would make the answer depend on how much padding there is. */
static void padding_changes_no_answer_through_any_of_the_layers(void **state)
{
    struct schema *s[2] = {schema_of(STEPS), schema_of(STEPS / 2)};
    int32_t ids[STEPS] = {4, 8, 15, 16, 23, 42};
    (void)state;
    for (size_t i = 0; i < N_NETWORKS; i++) {
        if (!strstr(networks[i].layers, "mask_zero")) continue;
        float out[2][CLASSES];
        struct params *w = NULL;
        struct graph *g = NULL;
        struct err e = {0};
        for (int k = 0; k < 2; k++) {
            struct resolved *r = settled(networks[i].layers, s[k]);
            if (k == 0) {
                assert_int_equal(family_graph(&g, r, &e), 0);
                assert_int_equal(params_create(&w, g, &e), 0);
                params_init(w, g, 5);
            }
            predict(r, w, ids, out[k]);
            resolved_free(r);
        }
        for (int c = 0; c < CLASSES; c++)
            if (fabsf(out[0][c] - out[1][c]) > 1e-5F)
                fail_msg("%s: %g with more padding, else %g", networks[i].layers, (double)out[0][c],
                         (double)out[1][c]);
        params_free(w);
        graph_free(g);
    }
    schema_free(s[0]);
    schema_free(s[1]);
}

static void a_transformer_learns_what_depends_on_order_alone(void **state)
{
    struct buf f = {0}, l = {0};
    struct aid_result out;
    struct err e = {0};
    (void)state;
    sentences(&f, &l, 1500, STEPS);
    struct aid_run run = {
        .features = &f,
        .labels = &l,
        .spec = "{\"architecture\":[" L(
            "TokenAndPositionEmbedding",
            ",\"vocabulary_size\":50,\"embedding_"
            "dim\":16,\"mask_zero\":true") "," L("TransformerEncoder",
                                                 ",\"intermediate_dim\":32,\"num_heads\":2,\"dropout\":0.1,"
                                                 "\"normalize_"
                                                 "first\":true") "," POOL
                                                                 "," L("Dense",
                                                                       ",\"units\":2") "],\"training\":{"
                                                                                       "\"epochs\":40,"
                                                                                       "\"seed\":1,"
                                                                                       "\"optimizer\":{"
                                                                                       "\"name\":\"adam\","
                                                                                       "\"learning_rate\":0."
                                                                                       "005}}}"};
    if (aid_train(&out, &run, &e)) fail_msg("%s: %s", e.field, e.message);
    double accuracy = aid_metric(&out, "accuracy");
    if (!(accuracy > 0.95)) fail_msg("accuracy %g", accuracy);
    struct model *m = NULL;
    if (model_load(&m, out.artifact.data, out.artifact.len, 0, &e)) fail_msg("%s", e.message);
    model_free(m);
    aid_result_dispose(&out);
    buf_dispose(&f);
    buf_dispose(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_network_has_kerass_parameters_and_fits_the_estimate),
        cmocka_unit_test(long_rows_keep_within_the_estimated_memory),
        cmocka_unit_test(what_was_settled_is_written_so_that_it_settles_again),
        cmocka_unit_test(layers_that_do_not_fit_say_what_would),
        cmocka_unit_test(more_layers_than_a_spec_may_hold_are_refused),
        cmocka_unit_test(padding_changes_no_answer_through_any_of_the_layers),
        cmocka_unit_test(a_transformer_learns_what_depends_on_order_alone),
    };
    return cmocka_run_group_tests_name("learn/attention", tests, NULL, NULL);
}
