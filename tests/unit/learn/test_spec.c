/* Specs: what is accepted, what it comes to, and what refusals say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "learn/spec/spec.h"
#include "tests/unit/learn/settle_aid.h"

static const char *const flowers = "a,b,kind,when\n1.5,2,x,1\n2.5,3,y,2\n3.5,,z,1\n4.5,5,x,3\n";

static void expect_refusals(const struct schema *s, const char *const (*corpus)[3], size_t n)
{
    for (size_t i = 0; i < n; i++) settle_refused(corpus[i][0], s, corpus[i][1], corpus[i][2]);
}

static struct schema *images(void)
{
    struct buf f = {0}, l = {0};
    struct schema *fs = NULL, *ls = NULL, *both = NULL;
    struct err e = {0};
    uint8_t zeros[10 * 28 * 28] = {0};
    aid_idx(&f, 3, (uint32_t[]){10, 28, 28}, zeros, sizeof zeros);
    aid_idx(&l, 1, (uint32_t[]){10}, (const uint8_t *)"\0\1\2\3\4\5\6\7\10\11", 10);
    assert_int_equal(aid_scan(&fs, f.data, f.len, 0, SCAN_FEATURES, &e), 0);
    assert_int_equal(aid_scan(&ls, l.data, l.len, 0, SCAN_LABELS, &e), 0);
    assert_int_equal(schema_join(&both, fs, ls, &e), 0);
    schema_free(fs);
    schema_free(ls);
    buf_dispose(&f);
    buf_dispose(&l);
    return both;
}

static void specs_that_cannot_be_read_are_refused_by_path(void **state)
{
    static const char *const corpus[][3] = {
        {"{\"target\":\"kind\",\"epoch\":3}", "spec.epoch",
         "there is no field 'spec.epoch'; check its spelling or leave it out"},
        {"{\"target\":\"kind\",\"training\":{\"optimizer\":{\"name\":\"adam\",\"lr\":1}}}",
         "spec.training.optimizer.lr",
         "there is no field 'spec.training.optimizer.lr'; check its spelling or leave it out"},
        {"{\"target\":\"kind\",\"training\":{\"optimizer\":{\"name\":\"adam\",\"nesterov\":true}}}",
         "spec.training.optimizer.nesterov",
         "there is no field 'spec.training.optimizer.nesterov'; check its spelling or leave it out"},
        {"{\"target\":\"kind\",\"family\":\"forest\"}", "spec.family",
         "\"forest\" is no family that is offered; expected linear_regression, logistic_regression, mlp or "
         "seq2seq"},
        {"{\"target\":\"kind\",\"family\":\"linear_regression\",\"task\":\"classification\"}", "spec.task",
         "linear_regression cannot do classification"},
        {"{\"target\":\"kind\",\"family\":\"logistic_regression\",\"architecture\":[]}", "spec.architecture",
         "the family logistic_regression takes no architecture; use the family mlp"},
        {"{\"target\":\"kind\",\"architecture\":[{\"layer\":\"Conv3D\",\"filters\":3}]}",
         "spec.architecture[0].layer",
         "no layer \"Conv3D\" is offered; there are Dense, Dropout, Flatten, Reshape, Activation, Conv1D/2D, "
         "MaxPooling1D/2D, AveragePooling1D/2D, GlobalMaxPooling1D/2D, GlobalAveragePooling1D/2D, "
         "BatchNormalization, LayerNormalization, Embedding, SimpleRNN, GRU, LSTM, PositionEmbedding, "
         "SinePositionEncoding, MultiHeadAttention, TransformerEncoder, TransformerDecoder, "
         "TokenAndPositionEmbedding, Residual"},
        {"{\"target\":\"kind\",\"architecture\":[{\"layer\":\"Dense\",\"units\":3,\"rate\":1}]}",
         "spec.architecture[0].rate",
         "there is no field 'spec.architecture[0].rate'; check its spelling or leave it out"},
        {"{\"target\":\"kind\",\"architecture\":[{\"layer\":\"Dense\",\"units\":3,\"activation\":\"elu\"}]}",
         "spec.architecture[0].activation",
         "the activation \"elu\" is not offered; expected linear, relu, leaky_relu, tanh, sigmoid, softmax, "
         "gelu or silu"},
        {"{\"target\":\"kind\",\"architecture\":[{\"layer\":\"Dense\",\"units\":3,\"name\":\"d\"},{\"layer\":"
         "\"Dense\",\"units\":3,"
         "\"name\":\"d\"}]}",
         "spec.architecture[1].name", "two layers are named \"d\""},
        {"{\"target\":\"kind\",\"preprocess\":[{\"op\":\"scale\",\"min\":1,\"max\":1}]}",
         "spec.preprocess[0].max", "max must be above min"},
        {"{\"target\":\"kind\",\"features\":[\"a\",\"a\"]}", "spec.features",
         "the column \"a\" is listed twice"},
        {"{\"target\":\"kind\",\"training\":{\"optimizer\":\"least_squares\"}}", "spec.training.optimizer",
         "least_squares solves linear_regression only, not mlp"},
    };
    struct schema *s = aid_csv(flowers);
    (void)state;
    expect_refusals(s, corpus, sizeof corpus / sizeof corpus[0]);
    schema_free(s);
}

/* Specs, the field at fault, and what is said of it. */
static const char *const misfits[][3] = {
    {"{}", "spec.target", "the target is missing; name the column that is to be predicted"},
    {"{\"target\":\"colour\"}", "spec.target", "the dataset has no column \"colour\""},
    {"{\"target\":\"kind\",\"features\":[\"a\",\"colour\"]}", "spec.features[1]",
     "the dataset has no column \"colour\""},
    {"{\"target\":\"kind\",\"features\":[\"kind\"]}", "spec.features[0]",
     "the target \"kind\" cannot be a feature too"},
    {"{\"target\":\"kind\",\"family\":\"linear_regression\"}", "spec.target",
     "\"kind\" holds texts, which linear_regression cannot predict; use logistic_regression or mlp"},
    {"{\"target\":\"a\",\"family\":\"logistic_regression\"}", "spec.target",
     "\"a\" cannot be classified: classes are texts, or at most 256 different integers"},
    {"{\"target\":\"a\",\"features\":[\"kind\"],\"preprocess\":[]}", "spec.preprocess",
     "\"kind\" holds categories; add {\"op\":\"one_hot\",\"columns\":[\"kind\"]}"},
    {"{\"target\":\"a\",\"features\":[\"b\"],\"preprocess\":[{\"op\":\"standardise\"}]}", "spec.preprocess",
     "\"b\" has 1 missing values; add {\"op\":\"impute\",\"columns\":[\"b\"]} first"},
    {"{\"target\":\"a\",\"preprocess\":[{\"op\":\"standardise\",\"columns\":[\"kind\"]}]}",
     "spec.preprocess[0].columns[0]",
     "standardise cannot be applied to \"kind\": it holds categories; one_hot is the step for them"},
    {"{\"target\":\"a\",\"features\":[\"b\"],\"preprocess\":[{\"op\":\"standardise\",\"columns\":["
     "\"when\"]}]}",
     "spec.preprocess[0].columns[0]", "\"when\" is none of the features"},
    {"{\"target\":\"kind\",\"architecture\":[{\"layer\":\"Dense\",\"units\":8,\"name\":\"out\"}]}",
     "spec.architecture[0].units", "layer \"out\" has 8 units, but \"kind\" has 3 classes; set units to 3"},
    {"{\"target\":\"a\",\"architecture\":[{\"layer\":\"Dense\",\"units\":2}]}", "spec.architecture[0].units",
     "layer \"dense_1\" has 2 units, but \"a\" is 1 number a row; set units to 1"},
    {"{\"target\":\"kind\",\"architecture\":[{\"layer\":\"Dense\",\"units\":3,\"activation\":\"relu\"}]}",
     "spec.architecture[0].activation",
     "layer \"dense_1\": the output cannot end with relu; expected softmax or nothing"},
    {"{\"target\":\"kind\",\"architecture\":[{\"layer\":\"Dense\",\"units\":3},{\"layer\":\"Dropout\","
     "\"rate\":0.1}]}",
     "spec.architecture[1]", "layer \"dropout_1\": a Dropout cannot be the output; end with a Dense layer"},
    {"{\"target\":\"kind\",\"training\":{\"loss\":\"mse\"}}", "spec.training.loss",
     "the loss mse does not fit this output; expected sparse_categorical_crossentropy"},
    {"{\"target\":\"a\",\"training\":{\"validation_split\":0,\"early_stopping\":{}}}",
     "spec.training.early_stopping.monitor",
     "val_loss needs a validation part; set training.validation_split above 0"},
    {"{\"target\":\"a\",\"training\":{\"validation_split\":0.5,\"early_stopping\":{\"monitor\":\"val_"
     "accuracy\"}}}",
     "spec.training.early_stopping.monitor", "val_accuracy is for classification; use val_loss"},
    {"{\"target\":\"kind\",\"training\":{\"validation_split\":0.9}}", "spec.training.validation_split",
     "4 rows are too few to hold 3 back for validation"},
    {"{\"target\":\"a\",\"architecture\":[{\"layer\":\"Dense\",\"units\":1048576},{\"layer\":\"Dense\","
     "\"units\":1048576}]}",
     "spec.architecture[1]", "layer \"dense_2\": 1048576 × 1048576 weights are more than fit"},
};

static void specs_that_do_not_fit_a_table_say_what_would(void **state)
{
    struct schema *s = aid_csv(flowers);
    (void)state;
    expect_refusals(s, misfits, sizeof misfits / sizeof misfits[0]);
    schema_free(s);
}

static void specs_that_do_not_fit_images_name_the_layer(void **state)
{
    static const char *const corpus[][3] = {
        {"{\"architecture\":[{\"layer\":\"Dense\",\"units\":10,\"name\":\"out\"}]}", "spec.architecture[0]",
         "layer \"out\" gives rows of shape [28, 10]; put a Flatten layer before it"},
        {"{\"architecture\":[{\"layer\":\"InputLayer\",\"shape\":[32,32]},{\"layer\":\"Flatten\"},{\"layer\":"
         "\"Dense\",\"units\":10}]}",
         "spec.architecture[0]",
         "layer \"input_layer_1\": it declares rows of shape [32, 32], but the dataset's rows have [28, 28]"},
        {"{\"architecture\":[{\"layer\":\"Reshape\",\"target_shape\":[100,-1]},{\"layer\":\"Dense\","
         "\"units\":10}]}",
         "spec.architecture[0]", "layer \"reshape_1\": 784 numbers a row cannot take the shape [100, -1]"},
        {"{\"target\":\"features\"}", "spec.target", "the target of an array dataset is \"labels\""},
    };
    struct schema *s = images();
    (void)state;
    expect_refusals(s, corpus, sizeof corpus / sizeof corpus[0]);
    schema_free(s);
}

static void the_task_follows_from_the_target(void **state)
{
    static const struct {
        const char *spec;
        enum task task;
        enum loss loss;
    } table[] = {
        {"{\"target\":\"kind\"}", TASK_CLASSIFICATION, LOSS_CROSS_ENTROPY},
        {"{\"target\":\"a\"}", TASK_REGRESSION, LOSS_MSE},
        {"{\"target\":\"when\"}", TASK_CLASSIFICATION, LOSS_CROSS_ENTROPY},
        {"{\"target\":\"when\",\"task\":\"regression\"}", TASK_REGRESSION, LOSS_MSE},
        {"{\"target\":\"when\",\"family\":\"linear_regression\"}", TASK_REGRESSION, LOSS_MSE},
    };
    struct schema *s = aid_csv(flowers);
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct resolved *r = settle(table[i].spec, s);
        assert_int_equal(r->task, table[i].task);
        assert_int_equal(r->training.loss, table[i].loss);
        resolved_free(r);
    }
    schema_free(s);
}

static void a_settled_spec_settles_to_itself(void **state)
{
    static const char *const specs[] = {
        "{\"target\":\"kind\"}",
        "{\"target\":\"a\",\"family\":\"linear_regression\"}",
        "{\"target\":\"kind\",\"family\":\"logistic_regression\",\"training\":{\"optimizer\":{\"name\":"
        "\"sgd\",\"momentum\":0.9}}}",
        "{\"target\":\"a\",\"preprocess\":[{\"op\":\"impute\",\"strategy\":\"constant\",\"value\":7,"
        "\"columns\":[\"b\"]},"
        "{\"op\":\"scale\",\"min\":-1,\"max\":1},{\"op\":\"one_hot\"}],\"architecture\":[{\"layer\":"
        "\"Dense\",\"units\":4,"
        "\"kernel_initializer\":\"he_normal\"},{\"layer\":\"LeakyReLU\"},{\"layer\":\"Dropout\",\"rate\":0."
        "25},"
        "{\"layer\":\"Dense\",\"units\":1}],\"training\":{\"validation_split\":0.25,\"early_stopping\":{"
        "\"patience\":7}}}",
    };
    struct schema *s = aid_csv(flowers);
    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        struct resolved *r = settle(specs[i], s);
        settle_again(r, s);
        resolved_free(r);
    }
    schema_free(s);
}

static const char *const keras_3 = "{\"architecture\":{\"module\":\"keras\",\"class_name\":\"Sequential\","
                                   "\"config\":{\"name\":\"sequential\",\"trainable\":true,"
                                   "\"dtype\":{\"module\":\"keras\",\"class_name\":\"DTypePolicy\","
                                   "\"config\":{\"name\":\"float32\"},\"registered_name\":null},"
                                   "\"layers\":[{\"module\":\"keras.layers\",\"class_name\":\"InputLayer\","
                                   "\"config\":{\"batch_shape\":[null,28,28],\"dtype\":"
                                   "\"float32\",\"sparse\":false,\"ragged\":false,\"name\":\"input_layer\"},"
                                   "\"registered_name\":null},{\"module\":\"keras.layers\","
                                   "\"class_name\":\"Flatten\",\"config\":{\"name\":\"flatten\","
                                   "\"trainable\":true,\"dtype\":\"float32\",\"data_format\":"
                                   "\"channels_last\"},\"registered_name\":null,\"build_config\":{\"input_"
                                   "shape\":[null,28,28]}},{\"module\":\"keras.layers\","
                                   "\"class_name\":\"Dense\",\"config\":{\"name\":\"dense\",\"trainable\":"
                                   "true,\"dtype\":\"float32\",\"units\":128,\"activation\":"
                                   "\"relu\",\"use_bias\":true,\"kernel_initializer\":{\"module\":\"keras."
                                   "initializers\",\"class_name\":\"GlorotUniform\",\"config\":"
                                   "{\"seed\":null},\"registered_name\":null},\"bias_initializer\":{"
                                   "\"module\":\"keras.initializers\",\"class_name\":\"Zeros\","
                                   "\"config\":{},\"registered_name\":null},\"kernel_regularizer\":{"
                                   "\"module\":\"keras.regularizers\",\"class_name\":\"L2\","
                                   "\"config\":{\"l2\":0.01},\"registered_name\":null},\"bias_regularizer\":"
                                   "null,\"kernel_constraint\":null,\"bias_constraint\":"
                                   "null},\"registered_name\":null,\"build_config\":{\"input_shape\":[null,"
                                   "784]}},{\"module\":\"keras.layers\",\"class_name\":"
                                   "\"Dropout\",\"config\":{\"name\":\"dropout\",\"trainable\":true,"
                                   "\"dtype\":\"float32\",\"rate\":0.2,\"seed\":null,\"noise_shape\":"
                                   "null},\"registered_name\":null},{\"module\":\"keras.layers\",\"class_"
                                   "name\":\"Dense\",\"config\":{\"name\":\"dense_1\",\"units\":"
                                   "10,\"activation\":\"softmax\",\"use_bias\":true},\"registered_name\":"
                                   "null}],\"build_input_shape\":[null,28,28]},"
                                   "\"registered_name\":null,\"build_config\":{\"input_shape\":[null,28,28]},"
                                   "\"compile_config\":{\"optimizer\":\"adam\"}}}";

static const char *const keras_2 = "{\"architecture\":\"{\\\"class_name\\\": \\\"Sequential\\\", "
                                   "\\\"config\\\": {\\\"name\\\": \\\"sequential\\\", \\\"layers\\\": "
                                   "[{\\\"class_name\\\": \\\"InputLayer\\\", \\\"config\\\": "
                                   "{\\\"batch_input_shape\\\": [null, 28, 28], \\\"dtype\\\": "
                                   "\\\"float32\\\", \\\"sparse\\\": false, \\\"ragged\\\": false, "
                                   "\\\"name\\\": \\\"flatten_input\\\"}}, {\\\"class_name\\\": "
                                   "\\\"Flatten\\\", \\\"config\\\": {\\\"name\\\": \\\"flatten\\\", "
                                   "\\\"trainable\\\": true, \\\"batch_input_shape\\\": [null, 28, "
                                   "28], \\\"dtype\\\": \\\"float32\\\", \\\"data_format\\\": "
                                   "\\\"channels_last\\\"}}, {\\\"class_name\\\": \\\"Dense\\\", "
                                   "\\\"config\\\": {\\\"name\\\": \\\"dense\\\", \\\"trainable\\\": true, "
                                   "\\\"dtype\\\": \\\"float32\\\", \\\"units\\\": 10, "
                                   "\\\"activation\\\": \\\"linear\\\", \\\"use_bias\\\": true, "
                                   "\\\"kernel_initializer\\\": {\\\"class_name\\\": "
                                   "\\\"GlorotUniform\\\", \\\"config\\\": {\\\"seed\\\": null}}, "
                                   "\\\"bias_initializer\\\": {\\\"class_name\\\": \\\"Zeros\\\", "
                                   "\\\"config\\\": {}}, \\\"kernel_regularizer\\\": null, "
                                   "\\\"bias_regularizer\\\": null, \\\"activity_regularizer\\\": null, "
                                   "\\\"kernel_constraint\\\": null, \\\"bias_constraint\\\": null}}]}, "
                                   "\\\"keras_version\\\": \\\"2.13.1\\\", \\\"backend\\\": "
                                   "\\\"tensorflow\\\"}\"}";

static void the_json_of_a_keras_model_is_taken_as_it_is(void **state)
{
    struct schema *s = images();
    struct resolved *r = settle(keras_3, s);
    (void)state;
    assert_int_equal(r->n_layers, 4);
    assert_int_equal(r->layers[1].units, 128);
    assert_true(r->layers[1].l2 == 0.01);
    assert_int_equal(r->layers[3].activation, ACTIVATION_SOFTMAX);
    assert_int_equal(r->estimate.parameters, 784 * 128 + 128 + 128 * 10 + 10);
    resolved_free(r);
    r = settle(keras_2, s);
    assert_int_equal(r->n_layers, 2);
    assert_string_equal(r->layers[1].name, "dense");
    resolved_free(r);
    schema_free(s);
}

static void unknown_fields_in_a_keras_model_are_refused_by_path(void **state)
{
    struct schema *s = images();
    (void)state;
    assert_int_equal(
        settle_refused("{\"architecture\":{\"class_name\":\"Sequential\",\"config\":{\"layers\":[{"
                       "\"class_name\":\"Dense\",\"config\":{\"units\":10,\"unit_norm\":1}}]}}}",
                       s, "spec.architecture.config.layers[0].config.unit_norm", NULL),
        ERR_INVALID);
    assert_int_equal(settle_refused("{\"architecture\":{\"class_name\":\"Functional\",\"config\":{}}}", s,
                                    "spec.architecture.class_name", NULL),
                     ERR_UNSUPPORTED);
    schema_free(s);
}

static void what_only_the_test_dataset_has_is_refused(void **state)
{
    static const struct {
        const char *csv, *spec, *message;
    } table[] = {
        {"a,b,kind,when\n1.5,2,w,1\n", "{\"target\":\"kind\"}",
         "\"w\" in column \"kind\" appears only in the test dataset"},
        {"a,b,kind,when\n1.5,2,x,7\n", "{\"target\":\"when\"}",
         "the class 7 of \"when\" appears only in the test dataset"},
        {"a,b,when\n1.5,2,1\n", "{\"target\":\"kind\"}", "the test dataset has no column \"kind\""},
        {"a,b,kind,when\nu,2,x,1\nv,2,x,1\n", "{\"target\":\"kind\"}",
         "\"a\" is a category column in the test dataset and a number column in the dataset"},
    };
    struct schema *s = aid_csv(flowers);
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct schema *test = aid_csv(table[i].csv);
        struct resolved *r = NULL;
        struct err e = {0};
        assert_int_equal(aid_settle_tested(&r, table[i].spec, s, test, &e), ERR_INVALID);
        assert_string_equal(e.message, table[i].message);
        assert_string_equal(e.field, "test_dataset");
        schema_free(test);
    }
    schema_free(s);
}

static void threads_shorten_the_estimate_as_far_as_the_network_can_use_them(void **state)
{
    static const char wide[] = "{\"target\":\"a\",\"architecture\":[{\"layer\":\"Dense\",\"units\":2000},{"
                               "\"layer\":\"Dense\",\"units\":1}],\"training\":{\"epochs\":100000,"
                               "\"batch_size\":%d}}";
    static const int batch[] = {2, 4000};
    struct schema *s = aid_csv(flowers);
    (void)state;
    for (int i = 0; i < 2; i++) {
        char spec[400];
        snprintf(spec, sizeof spec, wide, batch[i]);
        struct resolved *r = settle(spec, s);
        const struct estimate *est = &r->estimate;
        double one = estimate_seconds(est, 1), two = estimate_seconds(est, 2),
               all = estimate_seconds(est, 64);
        assert_true(one == est->seconds && two <= one && all <= two && all > 0);
        /* Rows are handed out whole, and a small batch is not worth a meeting. */
        if (i == 0) assert_true(all == one);
        if (i == 1) assert_true(two < 0.7 * one && two > 0.5 * one);
        resolved_free(r);
    }
    schema_free(s);
}

static void a_signature_tells_inputs_and_outputs(void **state)
{
    static const struct {
        const char *spec, *signature;
    } table[] = {
        {"{\"target\":\"kind\"}", "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,3]}],"
                                  "\"outputs\":[{\"name\":\"probabilities\","
                                  "\"datatype\":\"FP32\",\"shape\":[-1,3],\"classes\":[\"x\",\"y\",\"z\"]},"
                                  "{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[-1]}]}"},
        {"{\"target\":\"when\",\"task\":\"classification\",\"features\":[\"a\"]}",
         "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,1]}],"
         "\"outputs\":[{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[-1,3],"
         "\"classes\":[\"1\",\"2\",\"3\"]},{\"name\":\"label\",\"datatype\":\"INT64\",\"shape\":[-1]}]}"},
        {"{\"target\":\"a\",\"features\":[\"kind\",\"b\"]}",
         "{\"inputs\":[{\"name\":\"kind\",\"datatype\":\"BYTES\",\"shape\":[-1]},{\"name\":\"b\","
         "\"datatype\":\"FP32\",\"shape\":[-1]}],"
         "\"outputs\":[{\"name\":\"prediction\",\"datatype\":\"FP32\",\"shape\":[-1]}]}"},
    };
    struct schema *s = aid_csv(flowers);
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct resolved *r = settle(table[i].spec, s);
        struct signature *sig = NULL, *back = NULL;
        struct err e = {0};
        struct buf b = {0};
        struct json_writer w;
        assert_int_equal(resolved_signature(&sig, r, s, &e), 0);
        jw_init(&w, &b);
        signature_to_json(sig, &w);
        assert_string_equal(b.data, table[i].signature);
        cJSON *node = aid_json(b.data);
        assert_int_equal(signature_from_json(&back, node, "", &e), 0);
        assert_int_equal(back->n_inputs, sig->n_inputs);
        assert_int_equal(back->outputs[0].classes.n, sig->outputs[0].classes.n);
        cJSON_Delete(node);
        signature_free(sig);
        signature_free(back);
        resolved_free(r);
        buf_dispose(&b);
    }
    schema_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(specs_that_cannot_be_read_are_refused_by_path),
        cmocka_unit_test(specs_that_do_not_fit_a_table_say_what_would),
        cmocka_unit_test(specs_that_do_not_fit_images_name_the_layer),
        cmocka_unit_test(the_task_follows_from_the_target),
        cmocka_unit_test(a_settled_spec_settles_to_itself),
        cmocka_unit_test(the_json_of_a_keras_model_is_taken_as_it_is),
        cmocka_unit_test(unknown_fields_in_a_keras_model_are_refused_by_path),
        cmocka_unit_test(what_only_the_test_dataset_has_is_refused),
        cmocka_unit_test(threads_shorten_the_estimate_as_far_as_the_network_can_use_them),
        cmocka_unit_test(a_signature_tells_inputs_and_outputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
