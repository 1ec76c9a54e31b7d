/* Rows of numbers on their way into the network: in one pass or feature by feature, the bits and the refusals
 * are the same. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "learn/model.h"
#include "learn/preprocess.h"
#include "tests/unit/learn/aid.h"

/* ---- preprocessing ---- */

enum { WIDTH = 53 };

static struct preprocess *preprocess_of(const char *features, const char *more)
{
    struct buf text = {0};
    struct preprocess *p = NULL;
    struct err e = {0};
    buf_printf(&text, "{%s\"features\":[%s],\"task\":\"regression\",\"target_mean\":[0],\"target_std\":1}",
               more, features);
    cJSON *node = aid_json(text.data);
    if (preprocess_from_json(&p, node, "", &e)) fail_msg("%s: %s", e.field, e.message);
    cJSON_Delete(node);
    buf_dispose(&text);
    return p;
}

static void values(struct buf *out, const char *name, size_t n, double from, double step)
{
    buf_printf(out, ",\"%s\":[", name);
    for (size_t i = 0; i < n; i++) buf_printf(out, "%s%.9g", i ? "," : "", from + step * (double)i);
    buf_str(out, "]");
}

/* One of `width` numbers with n values of each kind; every missing one is filled. */
static void feature(struct buf *out, const char *kind, int64_t width, size_t n)
{
    buf_printf(out, "%s{\"name\":\"f%zu\",\"kind\":\"%s\",\"width\":%lld", out->len ? "," : "", out->len,
               kind, (long long)width);
    values(out, "fill", n, 0.3, 0.7);
    values(out, "shift", n, -3 - (double)out->len, 0.013);
    values(out, "scale", n, 0.37, 0.0017);
    values(out, "offset", n, 0.1, 0.003);
    buf_str(out, "}");
}

static void raw_numbers(float *x, uint64_t seed)
{
    struct aid_random r = {seed};
    for (int i = 0; i < WIDTH; i++)
        x[i] = i % 11 == 3 ? NAN : i % 11 == 4 ? -0.0F : (float)(9 * aid_normal(&r));
}

/* The row at an odd address, in one pass and by features. */
static void check_row(const struct preprocess *p, const float *x)
{
    float one[WIDTH], each[WIDTH];
    char bytes[WIDTH * sizeof(float) + 1];
    const float *raw = x;
    memcpy(bytes + 1, x, WIDTH * sizeof *x);
    assert_int_equal(p->width, WIDTH);
    assert_true(preprocess_row(p, bytes + 1, one));
    for (size_t i = 0; i < p->n_features; i++) {
        assert_true(preprocess_numbers(p, &p->features[i], raw, each + p->features[i].offset_in_row));
        raw += p->features[i].in_width;
    }
    assert_memory_equal(one, each, sizeof one);
}

static void one_pass_makes_the_bits_that_features_make_one_by_one(void **state)
{
    (void)state;
    for (int shape = 0; shape < 3; shape++) {
        struct buf features = {0};
        if (shape < 2) feature(&features, "tensor", WIDTH, shape ? WIDTH : 1);
        for (int i = 0; i < WIDTH && shape == 2; i++) feature(&features, "number", 1, 1);
        struct preprocess *p = preprocess_of(features.data, "");
        for (uint64_t seed = 0; seed < 50; seed++) {
            float x[WIDTH];
            raw_numbers(x, seed);
            check_row(p, x);
        }
        preprocess_free(p);
        buf_dispose(&features);
    }
}

static void rows_that_become_something_else_than_floats_are_not_made_in_one_pass(void **state)
{
    (void)state;
    struct buf ids = {0}, mixed = {0};
    float x[2] = {1, 2}, out[4];
    feature(&ids, "tensor", 2, 1);
    feature(&mixed, "number", 1, 1);
    buf_str(&mixed, ",{\"name\":\"i\",\"kind\":\"integer\",\"values\":[1,2,3],\"fill\":-1}");
    struct preprocess *of_ids = preprocess_of(ids.data, "\"ids_below\":9,"),
                      *of_mixed = preprocess_of(mixed.data, "");
    assert_false(preprocess_row(of_ids, x, out));
    assert_false(preprocess_row(of_mixed, x, out));
    preprocess_free(of_ids);
    preprocess_free(of_mixed);
    buf_dispose(&ids);
    buf_dispose(&mixed);
}

static void an_infinite_number_is_not_a_missing_one(void **state)
{
    (void)state;
    struct buf features = {0};
    float x[WIDTH], out[WIDTH];
    feature(&features, "tensor", WIDTH, 1);
    struct preprocess *p = preprocess_of(features.data, "");
    raw_numbers(x, 1);
    x[WIDTH - 1] = INFINITY;
    assert_false(preprocess_row(p, x, out));
    assert_true(preprocess_numbers(p, &p->features[0], x, out));
    preprocess_free(p);
    buf_dispose(&features);
}

/* ---- sessions: FP32 goes from the request's bytes, other types by way of a converted row ---- */

static struct model *trained(const char *spec, size_t columns)
{
    struct buf csv = {0};
    struct aid_result r;
    struct aid_random random = {5};
    struct model *m = NULL;
    struct err e = {0};
    for (size_t c = 0; c < columns; c++) buf_printf(&csv, "c%zu,", c);
    buf_str(&csv, "y\n");
    for (int i = 0; i < 60; i++) {
        for (size_t c = 0; c < columns; c++) buf_printf(&csv, "%.3f,", aid_normal(&random) * (double)(c + 1));
        buf_printf(&csv, "%.3f\n", aid_normal(&random));
    }
    if (aid_train(&r, &(struct aid_run){.spec = spec, .csv = csv.data}, &e))
        fail_msg("%s: %s", e.field, e.message);
    if (model_load(&m, r.artifact.data, r.artifact.len, 0, &e)) fail_msg("%s", e.message);
    aid_result_dispose(&r);
    buf_dispose(&csv);
    return m;
}

enum { COLUMNS = 19, ROWS = 5 };
static const char filling[] = "{\"target\":\"y\",\"preprocess\":[{\"op\":\"impute\",\"strategy\":\"mean\"},"
                              "{\"op\":\"standardise\"}],\"training\":{\"epochs\":2}}";
static const char plain[] = "{\"target\":\"y\",\"training\":{\"epochs\":2}}";

/* The same rows as FP32 at an odd address and as FP64. Returns what both returned; the error is one's. */
static int predict_both(const struct model *m, const float *x, int64_t rows, struct err *e)
{
    static char bytes[COLUMNS * ROWS * sizeof(float) + 1];
    double wide[COLUMNS * ROWS];
    struct model_session *s[2];
    struct model_output out[2];
    struct err errs[2] = {{0}, {0}};
    int rc[2];
    memcpy(bytes + 1, x, (size_t)rows * COLUMNS * sizeof *x);
    for (int64_t i = 0; i < rows * COLUMNS; i++) wide[i] = (double)x[i];
    const struct model_input in[2] = {{DATATYPE_FP32, bytes + 1, (size_t)rows * COLUMNS * sizeof *x},
                                      {DATATYPE_FP64, wide, (size_t)rows * COLUMNS * sizeof *wide}};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(model_session_create(&s[i], m, ROWS, e), 0);
        rc[i] = model_predict(s[i], &in[i], rows, &out[i], &errs[i]);
    }
    assert_int_equal(rc[0], rc[1]);
    assert_string_equal(errs[0].field, errs[1].field);
    assert_string_equal(errs[0].message, errs[1].message);
    if (rc[0] == 0) assert_memory_equal(out[0].data, out[1].data, out[0].bytes);
    for (int i = 0; i < 2; i++) model_session_free(s[i]);
    *e = errs[0];
    return rc[0];
}

static void fill_rows(float *x, bool missing)
{
    struct aid_random r = {77};
    for (int i = 0; i < COLUMNS * ROWS; i++)
        x[i] = missing && i % 9 == 2 ? NAN : i % 9 == 3 ? -0.0F : (float)(5 * aid_normal(&r));
}

static void floats_are_answered_with_the_bits_of_doubles(void **state)
{
    (void)state;
    float x[COLUMNS * ROWS];
    struct err e = {0};
    for (int missing = 0; missing < 2; missing++) {
        struct model *m = trained(missing ? filling : plain, COLUMNS);
        fill_rows(x, missing);
        for (int64_t rows = 1; rows <= ROWS; rows++) assert_int_equal(predict_both(m, x, rows, &e), 0);
        model_free(m);
    }
}

static void floats_are_refused_with_the_words_for_doubles(void **state)
{
    (void)state;
    struct model *m = trained(plain, COLUMNS);
    static const char infinite[] =
        "\"input\", row %d: expected finite numbers within a 32-bit float (NaN for a missing one)";
    static const char missing[] =
        "row %d, \"c%d\": a missing value (NaN); the model was not trained to fill it";
    for (int at = 0; at < COLUMNS * ROWS; at++) {
        float x[COLUMNS * ROWS];
        struct err e;
        char want[200];
        fill_rows(x, false);
        x[at] = NAN;
        snprintf(want, sizeof want, missing, at / COLUMNS, at % COLUMNS);
        assert_int_equal(predict_both(m, x, ROWS, &e), ERR_INVALID);
        assert_string_equal(e.field, "input");
        assert_string_equal(e.message, want);
        x[COLUMNS * (at / COLUMNS) + COLUMNS - 1] = -INFINITY; /* in the same row; told first */
        snprintf(want, sizeof want, infinite, at / COLUMNS);
        assert_int_equal(predict_both(m, x, ROWS, &e), ERR_INVALID);
        assert_string_equal(e.message, want);
    }
    model_free(m);
}

/* The answer to a row of that type has the bits of the answer to the same floats. */
static void check_type(struct model_session *s, enum datatype type, const char *bytes, const uint64_t *x)
{
    float floats[COLUMNS], first[1];
    struct model_output out[2];
    struct err e = {0};
    for (int i = 0; i < COLUMNS; i++) floats[i] = (float)(double)x[i];
    struct model_input in = {DATATYPE_FP32, floats, sizeof floats};
    assert_int_equal(model_predict(s, &in, 1, out, &e), 0);
    memcpy(first, out[0].data, sizeof first);
    in = (struct model_input){type, bytes, COLUMNS * datatype_bytes(type)};
    assert_int_equal(model_predict(s, &in, 1, out, &e), 0);
    assert_memory_equal(first, out[0].data, sizeof first);
}

#define SAY_AS(type, name)                                                                                   \
    do {                                                                                                     \
        for (size_t i = 0; i < COLUMNS; i++) {                                                               \
            type v = (type)x[i];                                                                             \
            memcpy(bytes + 1 + i * sizeof v, &v, sizeof v);                                                  \
        }                                                                                                    \
        check_type(s, DATATYPE_##name, bytes + 1, x);                                                        \
    } while (0)

static void every_type_is_answered_with_the_bits_of_its_floats(void **state)
{
    (void)state;
    struct model *m = trained(plain, COLUMNS);
    struct model_session *s = NULL;
    char bytes[COLUMNS * 8 + 1];
    struct err e = {0};
    assert_int_equal(model_session_create(&s, m, 1, &e), 0);
    for (unsigned bits = 1; bits <= 64; bits++) { /* numbers of so many bits, which a float has to round */
        uint64_t x[COLUMNS];
        for (uint64_t i = 0; i < COLUMNS; i++) x[i] = (i * 0x9E3779B97F4A7C15u) >> (64 - bits);
        if (bits == 61) x[0] = ((uint64_t)1 << 60) + ((uint64_t)1 << 36) + 1; /* a tie, as a double */
        if (bits <= 1) SAY_AS(bool, BOOL);
        if (bits <= 7) SAY_AS(int8_t, INT8);
        if (bits <= 8) SAY_AS(uint8_t, UINT8);
        if (bits <= 15) SAY_AS(int16_t, INT16);
        if (bits <= 16) SAY_AS(uint16_t, UINT16);
        if (bits <= 31) SAY_AS(int32_t, INT32);
        if (bits <= 32) SAY_AS(uint32_t, UINT32);
        if (bits <= 63) SAY_AS(int64_t, INT64);
        SAY_AS(uint64_t, UINT64);
        SAY_AS(double, FP64);
    }
    model_session_free(s);
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_pass_makes_the_bits_that_features_make_one_by_one),
        cmocka_unit_test(rows_that_become_something_else_than_floats_are_not_made_in_one_pass),
        cmocka_unit_test(an_infinite_number_is_not_a_missing_one),
        cmocka_unit_test(floats_are_answered_with_the_bits_of_doubles),
        cmocka_unit_test(floats_are_refused_with_the_words_for_doubles),
        cmocka_unit_test(every_type_is_answered_with_the_bits_of_its_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
