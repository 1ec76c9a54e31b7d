/* Loaded versions: what they take and give, what they refuse, and that nobody's answer depends on the
 * company. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "learn/model.h"
#include "learn/safetensors.h"
#include "tests/unit/learn/aid.h"

static struct model *trained(const char *spec, const char *csv, struct buf *artifact)
{
    struct aid_result r;
    struct err e = {0};
    struct model *m = NULL;
    if (aid_train(&r, &(struct aid_run){.spec = spec, .csv = csv}, &e))
        fail_msg("%s: %s", e.field, e.message);
    if (model_load(&m, r.artifact.data, r.artifact.len, 0, &e)) fail_msg("%s", e.message);
    if (artifact) buf_append(artifact, r.artifact.data, r.artifact.len);
    aid_result_dispose(&r);
    return m;
}

static struct model *flowers(struct buf *artifact)
{
    struct buf csv = {0};
    aid_flowers(&csv, 150, 1);
    struct model *m = trained("{\"target\":\"species\",\"training\":{\"epochs\":30}}", csv.data, artifact);
    buf_dispose(&csv);
    return m;
}

static struct model_session *session(const struct model *m, int64_t rows)
{
    struct model_session *s = NULL;
    struct err e = {0};
    assert_int_equal(model_session_create(&s, m, rows, &e), 0);
    return s;
}

static struct model_input floats(const float *x, size_t n)
{
    return (struct model_input){DATATYPE_FP32, x, n * sizeof *x};
}

static void a_flower_is_recognised_with_its_label_as_text(void **state)
{
    struct model *m = flowers(NULL);
    struct model_session *s = session(m, 4);
    static const float x[8] = {5, 3.4F, 1.5F, 0.2F, 6.6F, 3, 5.8F, 2.2F};
    struct model_input in = floats(x, 8);
    struct model_output out[2];
    struct err e = {0};
    (void)state;
    assert_int_equal(model_predict(s, &in, 2, out, &e), 0);
    assert_int_equal(out[0].bytes, 2 * 3 * sizeof(float));
    const float *p = out[0].data;
    assert_true(fabs((double)(p[0] + p[1] + p[2]) - 1) < 1e-5);
    assert_int_equal(out[1].datatype, DATATYPE_BYTES);
    assert_int_equal(out[1].bytes, 4 + 6 + 4 + 9);
    assert_memory_equal(out[1].data, "\6\0\0\0setosa\11\0\0\0virginica", 23);
    assert_true(model_bytes(m) > 0 && model_session_bytes(s) > 0);
    model_session_free(s);
    model_free(m);
}

static void a_row_has_the_same_bits_alone_and_in_any_company(void **state)
{
    enum { N = 300 };
    struct model *m = flowers(NULL);
    struct model_session *s = session(m, N), *one = session(m, 1);
    struct aid_random r = {8};
    static float x[N * 4];
    struct err e = {0};
    (void)state;
    for (int i = 0; i < N * 4; i++) x[i] = (float)(3 * aid_normal(&r));
    for (size_t rows = 1; rows <= N; rows += rows < 20 ? 1 : 67) {
        struct model_output all[2], alone[2];
        struct model_input in = floats(x, rows * 4);
        assert_int_equal(model_predict(s, &in, (int64_t)rows, all, &e), 0);
        for (size_t i = 0; i < rows; i++) {
            in = floats(x + 4 * i, 4);
            assert_int_equal(model_predict(one, &in, 1, alone, &e), 0);
            assert_memory_equal(alone[0].data, (const float *)all[0].data + 3 * i, 3 * sizeof(float));
        }
    }
    model_session_free(s);
    model_session_free(one);
    model_free(m);
}

static void requests_share_a_batch_and_get_their_own_rows(void **state)
{
    struct model *m = flowers(NULL);
    struct model_session *s = session(m, 8);
    static const float a[8] = {5, 3.4F, 1.5F, 0.2F, 6.6F, 3, 5.8F, 2.2F}, bad[4] = {1, 2, NAN, 4},
                       b[4] = {6, 2.8F, 4.3F, 1.3F};
    struct model_input in;
    int64_t first_a, first_b, none;
    struct err e = {0};
    (void)state;
    model_session_begin(s);
    in = floats(a, 8);
    assert_int_equal(model_session_add(s, &in, 2, &first_a, &e), 0);
    in = floats(bad, 4);
    assert_int_equal(model_session_add(s, &in, 1, &none, &e), ERR_INVALID); /* leaves the others alone */
    assert_string_equal(e.field, "input");
    assert_string_equal(e.message,
                        "row 0, \"c\": a missing value (NaN); the model was not trained to fill it");
    in = floats(b, 4);
    assert_int_equal(model_session_add(s, &in, 1, &first_b, &e), 0);
    assert_int_equal(first_a, 0);
    assert_int_equal(first_b, 2);
    in = floats(a, 8);
    for (int i = 0; i < 2; i++) assert_int_equal(model_session_add(s, &in, 2, &none, &e), 0);
    assert_int_equal(model_session_add(s, &in, 2, &none, &e), ERR_TOO_LARGE);
    assert_int_equal(model_session_run(s, &e), 0);
    struct model_output label = model_session_output(s, 1, first_b, 1);
    assert_int_equal(label.bytes, 14);
    assert_memory_equal(label.data, "\12\0\0\0versicolor", 14);
    label = model_session_output(s, 1, first_a, 1);
    assert_memory_equal(label.data, "\6\0\0\0setosa", 10);
    model_session_free(s);
    model_free(m);
}

static void every_number_type_is_converted(void **state)
{
    struct model *m =
        trained("{\"target\":\"y\",\"family\":\"linear_regression\"}", "x,y\n1,5\n2,8\n3,11\n4,14\n", NULL);
    struct model_session *s = session(m, 2);
    struct err e = {0};
    static const struct {
        enum datatype type;
        unsigned char bytes[8];
        size_t n;
        double y;
    } table[] = {
        {DATATYPE_INT64, {0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, 8, -4},
        {DATATYPE_UINT8, {200}, 1, 602},
        {DATATYPE_INT8, {0xFF}, 1, -1},
        {DATATYPE_UINT16, {0, 1}, 2, 770},
        {DATATYPE_INT32, {10, 0, 0, 0}, 4, 32},
        {DATATYPE_FP64, {0, 0, 0, 0, 0, 0, 0xF8, 0x3F}, 8, 6.5},
        {DATATYPE_BOOL, {1}, 1, 5},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct model_input in = {table[i].type, table[i].bytes, table[i].n};
        struct model_output out;
        assert_int_equal(model_predict(s, &in, 1, &out, &e), 0);
        double y = (double)*(const float *)out.data;
        if (!(fabs(y - table[i].y) < 1e-2)) fail_msg("%s gave %g", datatype_name(table[i].type), y);
    }
    model_session_free(s);
    model_free(m);
}

static void wrong_inputs_are_refused_by_name(void **state)
{
    struct model *m = flowers(NULL);
    struct model_session *s = session(m, 4);
    static const float x[8] = {1, 2, 3, INFINITY};
    static const double d[4] = {1, 2, 3, 1e300};
    struct {
        struct model_input in;
        int64_t rows;
        const char *message;
    } table[] = {
        {{DATATYPE_FP32, x, 12}, 1, "\"input\" has 12 bytes; 1 rows of 4 FP32 numbers were expected"},
        {{DATATYPE_FP32, x, 16}, 2, "\"input\" has 16 bytes; 2 rows of 4 FP32 numbers were expected"},
        {{DATATYPE_BYTES, x, 16},
         1,
         "\"input\" is of datatype BYTES; expected FP32 (or another number type)"},
        {{DATATYPE_FP32, x, 16},
         1,
         "\"input\", row 0: expected finite numbers within a 32-bit float (NaN for a missing one)"},
        {{DATATYPE_FP64, d, 32},
         1,
         "\"input\", row 0: expected finite numbers within a 32-bit float (NaN for a missing one)"},
    };
    struct model_output out[2];
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct err e = {0};
        assert_int_equal(model_predict(s, &table[i].in, table[i].rows, out, &e), ERR_INVALID);
        assert_string_equal(e.message, table[i].message);
        assert_string_equal(e.field, "input");
    }
    struct err e = {0};
    assert_int_equal(model_predict(s, &table[0].in, 0, out, &e), ERR_INVALID);
    assert_int_equal(model_predict(s, &table[0].in, 5, out, &e), ERR_TOO_LARGE);
    model_session_free(s);
    model_free(m);
}

static void a_table_with_categories_takes_an_input_per_column(void **state)
{
    struct buf csv = {0};
    (void)state;
    buf_str(&csv, "x,kind,y\n");
    for (int i = 0; i < 60; i++)
        buf_printf(&csv, "%d,%s,%d\n", i % 7,
                   i == 5  ? ""
                   : i % 2 ? "b"
                           : "a",
                   2 * (i % 7) + (i % 2 ? 50 : 0));
    struct model *m =
        trained("{\"target\":\"y\",\"family\":\"linear_regression\",\"training\":{\"validation_split\":0}}",
                csv.data, NULL);
    const struct signature *sig = model_signature(m);
    struct model_session *s = session(m, 4);
    static const float x[3] = {1, 2, 3};
    struct model_input in[2] = {{DATATYPE_FP32, x, 12}, {DATATYPE_BYTES, "\1\0\0\0a\1\0\0\0b\0\0\0\0", 14}};
    struct model_output out;
    struct err e = {0};
    assert_int_equal(sig->n_inputs, 2);
    assert_string_equal(sig->inputs[1].name, "kind");
    assert_int_equal(model_predict(s, in, 3, &out, &e), 0);
    const float *y = out.data;
    assert_true(fabs((double)y[0] - 2) < 2 && fabs((double)y[1] - 54) < 2);
    assert_true(fabs((double)y[2] - 6) < 2 ||
                fabs((double)y[2] - 56) < 2); /* a missing category becomes the most frequent one */
    in[1] = (struct model_input){DATATYPE_BYTES, "\1\0\0\0a\1\0\0\0z\1\0\0\0b", 15};
    assert_int_equal(model_predict(s, in, 3, &out, &e), ERR_INVALID);
    assert_string_equal(e.field, "kind");
    assert_string_equal(e.message,
                        "row 1, \"kind\": \"z\" is none of the 2 categories that the model was trained with");
    in[1].bytes = 14;
    assert_int_equal(model_predict(s, in, 3, &out, &e), ERR_INVALID);
    assert_string_equal(e.message, "\"kind\": the bytes end in row 2 of 3");
    in[1] = (struct model_input){DATATYPE_BYTES, "\1\0\0\0a\1\0\0\0b\1\0\0\0bx", 16};
    assert_int_equal(model_predict(s, in, 3, &out, &e), ERR_INVALID);
    assert_string_equal(e.message, "\"kind\": 1 bytes are left behind the last of 3 rows");
    in[1] = (struct model_input){DATATYPE_BYTES, "\1\0\0\0a\1\0\0\0\xFF\1\0\0\0b", 15};
    assert_int_equal(model_predict(s, in, 3, &out, &e), ERR_INVALID);
    assert_string_equal(e.message, "\"kind\", row 1: the text is not valid UTF-8");
    model_session_free(s);
    model_free(m);
    buf_dispose(&csv);
}

static void a_prediction_is_what_training_saw(void **state)
{
    /* the training report's error must be reproduced through the version, preprocessing included */
    struct buf csv = {0};
    struct aid_random rnd = {2};
    struct aid_result r;
    struct model *m = NULL;
    struct err e = {0};
    float x[50], y[50];
    double sum = 0;
    (void)state;
    buf_str(&csv, "x,y\n");
    for (int i = 0; i < 50; i++) {
        x[i] = (float)(1000 + aid_normal(&rnd));
        y[i] = sinf(x[i]) * 7 + 30;
        buf_printf(&csv, "%.9g,%.9g\n", (double)x[i], (double)y[i]);
    }
    assert_int_equal(
        aid_train(&r,
                  &(struct aid_run){
                      .spec = "{\"target\":\"y\",\"training\":{\"epochs\":50,\"validation_split\":0}}",
                      .csv = csv.data},
                  &e),
        0);
    assert_int_equal(model_load(&m, r.artifact.data, r.artifact.len, 0, &e), 0);
    struct model_session *s = session(m, 50);
    struct model_input in = floats(x, 50);
    struct model_output out;
    assert_int_equal(model_predict(s, &in, 50, &out, &e), 0);
    for (int i = 0; i < 50; i++) {
        double d = (double)((const float *)out.data)[i] - (double)y[i];
        sum += d * d;
    }
    assert_true(fabs(sum / 50 - aid_metric(&r, "train.loss")) < 1e-5 * (1 + sum));
    model_session_free(s);
    model_free(m);
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

/* In an artifact's header: what is written over what, and what is said of it. */
static const struct {
    const char *from, *to, *what;
} lies[] = {
    {"tenor.model.1", "tenor.model.9", "it is no tenor.model.1 file"},
    {"\\\"MatMul\\\"", "\\\"MatMux\\\"", "tenor.graph: "},
    {"ion\\\",\\\"classes\\\":[\\\"setosa", "ion\\\",\\\"classes\\\":[\\\"retosa", /* the preprocessing's */
     "its signature names other classes than its preprocessing"},
    {"[-1,3],\\\"classes\\\":[\\\"setosa", "[-1,3],\\\"classes\\\":[\\\"retosa",
     "its signature names other classes than its preprocessing"},
    {"[-1,3],\\\"classes\\\":[\\\"setosa\\\",\\\"versicolor\\\",\\\"virginica",
     "[-1,3],\\\"classes\\\":[\\\"setosa\\\",\\\"virginica\\\",\\\"versicolor",
     "its signature names other classes than its preprocessing"},
    {"[-1,3],\\\"classes\\\":[\\\"setosa\\\",\\\"v", "[-1,3],\\\"classes\\\":[\\\"setosa-----v",
     "tenor.signature: "},
    {",\\\"classes\\\":[\\\"setosa\\\",\\\"versicolor\\\",\\\"virginica\\\"]},{\\\"name\\\":"
     "\\\"label\\\",\\\"datatype\\\":\\\"BYTES\\\",\\\"shape\\\":[-1]}]}",
     "},{\\\"name\\\":\\\"label\\\",\\\"datatype\\\":\\\"BYTES\\\",\\\"shape\\\":[-1,1],\\\"classes\\\":["
     "\\\"a\\\"]}]}",
     "its signature names other classes than its preprocessing"},
    {"\\\"classification\\\"", "\\\"clbssification\\\"", "tenor.preprocess: "},
    {"\\\"FP32\\\",\\\"shape\\\":[-1,4]", "\\\"FP32\\\",\\\"shape\\\":[-1,5]",
     "its signature does not go with its preprocessing"},
    {"\"hidden/bias\"", "\"hidden/bios\"", "a weight is missing"},
};

static void artifacts_that_were_tampered_with_are_refused(void **state)
{
    struct buf artifact = {0};
    struct model *m = flowers(&artifact);
    (void)state;
    model_free(m);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct err e = {0};
        struct buf copy = {0};
        buf_append(&copy, artifact.data, artifact.len);
        char *at = memmem(copy.data, copy.len, lies[i].from, strlen(lies[i].from));
        if (!at) fail_msg("no %s in the artifact", lies[i].from);
        memset(at, ' ', strlen(lies[i].from));
        memcpy(at, lies[i].to, strlen(lies[i].to));
        m = NULL;
        int rc = model_load(&m, copy.data, copy.len, 0, &e);
        if (rc != ERR_CORRUPT) fail_msg("%s was taken", lies[i].to);
        if (!strstr(e.message, lies[i].what)) fail_msg("%s: %s", lies[i].to, e.message);
        model_free(m);
        buf_dispose(&copy);
    }
    buf_dispose(&artifact);
}

static void a_weight_that_is_no_number_is_refused(void **state)
{
    struct buf artifact = {0};
    struct model *m = flowers(&artifact);
    struct err e = {0};
    float nan = NAN;
    (void)state;
    model_free(m);
    m = NULL;
    memcpy(artifact.data + artifact.len - 4, &nan, 4);
    assert_int_equal(model_load(&m, artifact.data, artifact.len, 0, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.message, "a weight is no finite number"));
    buf_dispose(&artifact);
}

/* As versions were before signatures named classes. */
static void a_version_that_names_no_classes_answers_as_ever(void **state)
{
    static const char names[] = ",\\\"classes\\\":[\\\"setosa\\\",\\\"versicolor\\\",\\\"virginica\\\"]}";
    static const float x[4] = {5, 3.4F, 1.5F, 0.2F};
    struct buf artifact = {0};
    struct model *named = flowers(&artifact), *old = NULL;
    struct model_input in = floats(x, 4);
    struct model_output out[2][2];
    struct err e = {0};
    (void)state;
    char *signature = memmem(artifact.data, artifact.len, "\"tenor.signature\"", 17);
    assert_non_null(signature);
    size_t left = artifact.len - (size_t)(signature - artifact.data);
    char *at = memmem(signature, left, names, sizeof names - 1);
    assert_non_null(at);
    memset(at, ' ', sizeof names - 2);
    if (model_load(&old, artifact.data, artifact.len, 0, &e)) fail_msg("%s", e.message);
    assert_int_equal(model_signature(named)->outputs[0].classes.n, 3);
    assert_int_equal(model_signature(old)->outputs[0].classes.n, 0);
    struct model_session *s[2] = {session(named, 1), session(old, 1)};
    for (int i = 0; i < 2; i++) assert_int_equal(model_predict(s[i], &in, 1, out[i], &e), 0);
    assert_memory_equal(out[0][0].data, out[1][0].data, 3 * sizeof(float));
    assert_int_equal(out[1][1].bytes, 10);
    assert_memory_equal(out[1][1].data, "\6\0\0\0setosa", 10);
    for (int i = 0; i < 2; i++) model_session_free(s[i]);
    model_free(named);
    model_free(old);
    buf_dispose(&artifact);
}

static void a_version_over_the_memory_limit_is_refused(void **state)
{
    struct buf artifact = {0};
    struct model *m = flowers(&artifact), *again = NULL;
    struct err e = {0};
    (void)state;
    assert_int_equal(model_load(&again, artifact.data, artifact.len, model_bytes(m) - 1, &e), ERR_TOO_LARGE);
    assert_int_equal(model_load(&again, artifact.data, artifact.len, 100, &e), ERR_TOO_LARGE);
    assert_int_equal(model_load(&again, artifact.data, artifact.len, model_bytes(m), &e), 0);
    model_free(again);
    model_free(m);
    buf_dispose(&artifact);
}

static void no_memory_at_any_point_of_a_load_is_an_error(void **state)
{
    struct buf artifact = {0};
    struct model *m = flowers(&artifact);
    (void)state;
    model_free(m);
    for (size_t n = 1; n < 3000; n++) {
        struct err e = {0};
        m = NULL;
        mem_fail_at(n, false);
        int rc = model_load(&m, artifact.data, artifact.len, 0, &e);
        mem_fail_at(0, false);
        model_free(m);
        if (rc == 0) {
            assert_true(n > 10);
            buf_dispose(&artifact);
            return;
        }
        assert_int_equal(rc, ERR_NOMEM);
        assert_null(m);
    }
    fail_msg("the load never succeeded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flower_is_recognised_with_its_label_as_text),
        cmocka_unit_test(a_row_has_the_same_bits_alone_and_in_any_company),
        cmocka_unit_test(requests_share_a_batch_and_get_their_own_rows),
        cmocka_unit_test(every_number_type_is_converted),
        cmocka_unit_test(wrong_inputs_are_refused_by_name),
        cmocka_unit_test(a_table_with_categories_takes_an_input_per_column),
        cmocka_unit_test(a_prediction_is_what_training_saw),
        cmocka_unit_test(artifacts_that_were_tampered_with_are_refused),
        cmocka_unit_test(a_weight_that_is_no_number_is_refused),
        cmocka_unit_test(a_version_that_names_no_classes_answers_as_ever),
        cmocka_unit_test(a_version_over_the_memory_limit_is_refused),
        cmocka_unit_test(no_memory_at_any_point_of_a_load_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
