/* training.precision from the spec to the version that is served. What needs AMX is checked where the CPU has
 * it, and that it is refused where not. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "learn/model.h"
#include "learn/precision.h"
#include "learn/safetensors.h"
#include "tests/unit/learn/aid.h"

#define WIDE                                                                                                 \
    "\"architecture\":[{\"layer\":\"Dense\",\"units\":1024,\"activation\":\"relu\"},"                        \
    "{\"layer\":\"Dense\",\"units\":512,\"activation\":\"tanh\"},{\"layer\":\"Dense\",\"units\":3}]"

static bool amx_is_here(void)
{
    return precision_backend(PRECISION_BF16)->rounds;
}

/* Trains on flowers. `network` is "" or a member of the spec. 0 or the error's code. */
static int train(const char *network, const char *training, struct aid_result *r, struct err *e)
{
    char spec[1024];
    struct buf csv = {0};
    aid_flowers(&csv, 120, 1);
    snprintf(spec, sizeof spec, "{\"target\":\"species\",%s%s\"training\":{%s}}", network,
             *network ? "," : "", training);
    int rc = aid_train(r, &(struct aid_run){.spec = spec, .csv = csv.data}, e);
    buf_dispose(&csv);
    return rc;
}

static const char *computed_in(const struct aid_result *r)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r->metrics, "computed_in"));
}

/* The metadata of a version. */
static void check_stored(const struct aid_result *r, const char *precision)
{
    struct safetensors *s = NULL;
    struct err e = {0};
    assert_int_equal(safetensors_open(&s, r->artifact.data, r->artifact.len, &e), 0);
    assert_string_equal(safetensors_metadata(s, "tenor.precision"), precision);
    safetensors_free(s);
}

static void check_run(const char *network, const char *training, const char *precision)
{
    struct aid_result r;
    struct err e = {0};
    if (train(network, training, &r, &e)) fail_msg("%s: %s", e.field, e.message);
    assert_string_equal(computed_in(&r), precision);
    check_stored(&r, precision);
    aid_result_dispose(&r);
}

static void auto_rounds_large_classifiers_alone(void **state)
{
    (void)state;
    const char *here = amx_is_here() ? "bf16" : "f32";
    check_run("", "\"epochs\":2", "f32");
    check_run(WIDE, "\"epochs\":1", here);
    check_run(WIDE, "\"epochs\":1,\"precision\":\"auto\"", here);
    check_run(WIDE, "\"epochs\":1,\"precision\":\"f32\"", "f32");
}

static void auto_keeps_f32_for_numbers(void **state)
{
    struct aid_result r;
    struct err e = {0};
    struct buf csv = {0};
    (void)state;
    aid_flowers(&csv, 60, 1);
    assert_int_equal(
        aid_train(&r,
                  &(struct aid_run){
                      .spec = "{\"target\":\"d\",\"features\":[\"a\",\"b\",\"c\"],\"task\":\"regression\","
                              "\"architecture\":[{\"layer\":\"Dense\",\"units\":1024},{\"layer\":"
                              "\"Dense\",\"units\":512},{\"layer\":\"Dense\",\"units\":1}],"
                              "\"training\":{\"epochs\":1}}",
                      .csv = csv.data},
                  &e),
        0);
    assert_string_equal(computed_in(&r), "f32");
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

static void bf16_is_kept_or_refused_with_its_field(void **state)
{
    struct aid_result r, again;
    struct err e = {0};
    (void)state;
    int rc = train(WIDE, "\"epochs\":3,\"precision\":\"bf16\"", &r, &e);
    if (!amx_is_here()) {
        assert_int_equal(rc, ERR_UNSUPPORTED);
        assert_string_equal(e.field, "spec.training.precision");
        return;
    }
    assert_int_equal(rc, 0);
    assert_string_equal(computed_in(&r), "bf16");
    assert_true(aid_metric(&r, "accuracy") > 0.8);
    const cJSON *spec = cJSON_GetObjectItemCaseSensitive(r.metrics, "history");
    assert_int_equal(cJSON_GetArraySize(spec), 3);
    assert_int_equal(train(WIDE, "\"epochs\":3,\"precision\":\"bf16\"", &again, &e), 0);
    assert_int_equal(r.artifact.len, again.artifact.len); /* the same seed, the same bits */
    assert_memory_equal(r.artifact.data, again.artifact.data, r.artifact.len);
    aid_result_dispose(&r);
    aid_result_dispose(&again);
}

/* The losses of a run's epochs. */
static void take_losses(const struct aid_result *r, double *loss, int epochs)
{
    const cJSON *history = cJSON_GetObjectItemCaseSensitive(r->metrics, "history");
    assert_int_equal(cJSON_GetArraySize(history), epochs);
    for (int i = 0; i < epochs; i++)
        loss[i] =
            cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(history, i), "loss"));
}

/* Rounding to bf16 shows in the first digits, splitting in the sixth or so. */
static void bf16x3_trains_as_f32_does(void **state)
{
    enum { EPOCHS = 4 };
    struct aid_result r;
    struct err e = {0};
    double f32[EPOCHS], split[EPOCHS], rounded[EPOCHS];
    (void)state;
    int rc = train(WIDE, "\"epochs\":4,\"precision\":\"bf16x3\"", &r, &e);
    if (!amx_is_here()) {
        assert_int_equal(rc, ERR_UNSUPPORTED);
        assert_string_equal(e.field, "spec.training.precision");
        assert_non_null(strstr(e.message, "bf16x3 needs"));
        return;
    }
    assert_int_equal(rc, 0);
    assert_string_equal(computed_in(&r), "bf16x3");
    check_stored(&r, "bf16x3");
    take_losses(&r, split, EPOCHS);
    aid_result_dispose(&r);
    assert_int_equal(train(WIDE, "\"epochs\":4,\"precision\":\"f32\"", &r, &e), 0);
    take_losses(&r, f32, EPOCHS);
    aid_result_dispose(&r);
    assert_int_equal(train(WIDE, "\"epochs\":4,\"precision\":\"bf16\"", &r, &e), 0);
    take_losses(&r, rounded, EPOCHS);
    aid_result_dispose(&r);
    for (int i = 0; i < EPOCHS; i++) {
        double off = fabs(split[i] / f32[i] - 1);
        assert_true(off < 1e-4);
        assert_true(off < fabs(rounded[i] / f32[i] - 1) / 3);
    }
}

/* The version is served by the backend that it was trained on. */
static void a_version_of_bf16x3_is_read_and_answers_as_it_was_measured(void **state)
{
    struct aid_result r;
    struct err e = {0};
    struct model *m = NULL;
    struct model_session *s = NULL;
    const float x[4] = {0.5f, -1.25f, 2.0f, 0.125f};
    float rows[40 * 4], first[3];
    struct model_output out[2];
    (void)state;
    if (!amx_is_here()) skip();
    assert_true(precision_backend(PRECISION_BF16X3)->tiles);
    assert_false(precision_backend(PRECISION_BF16X3)->rounds);
    assert_int_equal(train(WIDE, "\"epochs\":1,\"precision\":\"bf16x3\"", &r, &e), 0);
    assert_int_equal(model_load(&m, r.artifact.data, r.artifact.len, 0, &e), 0);
    assert_int_equal(model_session_create(&s, m, 40, &e), 0);
    struct model_input in = {DATATYPE_FP32, x, sizeof x};
    assert_int_equal(model_predict(s, &in, 1, out, &e), 0);
    memcpy(first, out[0].data, sizeof first);
    for (int i = 0; i < 40 * 4; i++) rows[i] = i < 39 * 4 ? (float)i : x[i % 4];
    in = (struct model_input){DATATYPE_FP32, rows, sizeof rows};
    assert_int_equal(model_predict(s, &in, 40, out, &e), 0);
    assert_memory_equal(first, (const float *)out[0].data + 39 * 3, sizeof first);
    model_session_free(s);
    model_free(m);
    aid_result_dispose(&r);
}

static void a_rounded_version_answers_a_row_alike_alone_and_in_company(void **state)
{
    enum { N = 150 };
    struct aid_result r;
    struct err e = {0};
    struct model *m = NULL;
    struct model_session *s = NULL, *one = NULL;
    struct aid_random random = {8};
    static float x[N * 4];
    (void)state;
    if (!amx_is_here()) skip();
    assert_int_equal(train(WIDE, "\"epochs\":1,\"precision\":\"bf16\"", &r, &e), 0);
    assert_int_equal(model_load(&m, r.artifact.data, r.artifact.len, 0, &e), 0);
    assert_int_equal(model_session_create(&s, m, N, &e), 0);
    assert_int_equal(model_session_create(&one, m, 1, &e), 0);
    assert_true(model_bytes(m) <
                r.artifact.len * 3 / 4); /* weights take half the room that they have in f32 */
    for (int i = 0; i < N * 4; i++) x[i] = (float)(3 * aid_normal(&random));
    for (int64_t rows = 1; rows <= N; rows += rows < 4 ? 1 : 73) {
        struct model_output all[2], alone[2];
        struct model_input in = {DATATYPE_FP32, x, (size_t)rows * 4 * sizeof *x};
        assert_int_equal(model_predict(s, &in, rows, all, &e), 0);
        for (int64_t i = 0; i < rows; i++) {
            in = (struct model_input){DATATYPE_FP32, x + 4 * i, 4 * sizeof *x};
            assert_int_equal(model_predict(one, &in, 1, alone, &e), 0);
            assert_memory_equal(alone[0].data, (const float *)all[0].data + 3 * i, 3 * sizeof(float));
        }
    }
    model_session_free(s);
    model_session_free(one);
    model_free(m);
    aid_result_dispose(&r);
}

static void what_is_no_precision_is_refused(void **state)
{
    struct aid_result r;
    struct err e = {0};
    (void)state;
    assert_int_equal(train("", "\"precision\":\"fp8\"", &r, &e), ERR_INVALID);
    assert_string_equal(e.field, "spec.training.precision");
    assert_non_null(strstr(e.message, "bf16x3"));
    static const char *const asked[] = {"bf16", "bf16x3"};
    for (int i = 0; i < 2; i++) {
        char solved[256];
        snprintf(solved, sizeof solved,
                 "{\"target\":\"d\",\"features\":[\"a\",\"b\"],\"family\":\"linear_regression\",\"training\":"
                 "{\"precision\":\"%s\",\"optimizer\":\"least_squares\"}}",
                 asked[i]);
        assert_int_equal(
            aid_train(&r, &(struct aid_run){.spec = solved, .csv = "a,b,d\n1,2,3\n2,2,4\n3,1,9\n"}, &e),
            ERR_INVALID);
        assert_string_equal(e.field, "spec.training.precision");
        assert_non_null(strstr(e.message, "double precision"));
    }
}

/* A version whose metadata says `text`, as long as what it said, is read or not. */
static void a_version_of_another_precision_is_not_sound(void **state)
{
    static const char key[] = "\"tenor.precision\":\"";
    struct aid_result r;
    struct err e = {0};
    struct model *m = NULL;
    (void)state;
    assert_int_equal(train("", "\"epochs\":1", &r, &e), 0);
    char *at = memmem(r.artifact.data, r.artifact.len, key, sizeof key - 1);
    assert_non_null(at);
    at[sizeof key] = '8';
    assert_int_equal(model_load(&m, r.artifact.data, r.artifact.len, 0, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.message, "precision"));
    memcpy(at, "\"tenor.precisiom", 16); /* versions from before it was written are f32 */
    assert_int_equal(model_load(&m, r.artifact.data, r.artifact.len, 0, &e), 0);
    model_free(m);
    aid_result_dispose(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_rounds_large_classifiers_alone),
        cmocka_unit_test(auto_keeps_f32_for_numbers),
        cmocka_unit_test(bf16_is_kept_or_refused_with_its_field),
        cmocka_unit_test(bf16x3_trains_as_f32_does),
        cmocka_unit_test(a_version_of_bf16x3_is_read_and_answers_as_it_was_measured),
        cmocka_unit_test(a_rounded_version_answers_a_row_alike_alone_and_in_company),
        cmocka_unit_test(what_is_no_precision_is_refused),
        cmocka_unit_test(a_version_of_another_precision_is_not_sound),
    };
    return cmocka_run_group_tests_name("learn/precision", tests, NULL, NULL);
}
