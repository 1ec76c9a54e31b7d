/* A run that is laid down at any step and picked up again ends with the same bytes as one that was left
 * alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "tests/unit/learn/keeper.h"

/* Runs it once alone, once with a checkpoint after each step, and again from each of these. */
static void resumes_from_every_step(struct aid_run run, const char *what, size_t least_marks)
{
    struct aid_result alone, watched;
    struct keeper k;
    keeper_train(&alone, &run);
    keeper_open(&k);
    k.every = true;
    run.callbacks = keeper_callbacks(&k);
    keeper_train(&watched, &run);
    assert_true(k.n >= least_marks);
    keeper_same(&alone, &watched, what, &k.mark[0]);
    size_t n = k.n;
    k.every = false;
    for (size_t i = 0; i < n; i++) {
        struct aid_result again;
        run.resume = &k.file[i];
        keeper_train(&again, &run);
        if (k.refusals) fail_msg("%s: refused: %s", what, k.why);
        keeper_same(&alone, &again, what, &k.mark[i]);
        aid_result_dispose(&again);
    }
    keeper_close(&k);
    aid_result_dispose(&alone);
    aid_result_dispose(&watched);
}

static void every_optimiser_resumes_bit_identically_from_every_step(void **state)
{
    static const char *const optimizers[] = {
        "{\"name\":\"sgd\",\"learning_rate\":0.05}",
        "{\"name\":\"sgd\",\"learning_rate\":0.05,\"momentum\":0.9}",
        "{\"name\":\"sgd\",\"learning_rate\":0.05,\"momentum\":0.9,\"nesterov\":true}",
        "{\"name\":\"rmsprop\",\"learning_rate\":0.01}",
        "{\"name\":\"adam\",\"learning_rate\":0.02}",
        "{\"name\":\"adamw\",\"learning_rate\":0.02,\"clipnorm\":0.5}",
        "{\"name\":\"adam\",\"learning_rate\":{\"name\":\"CosineDecay\",\"initial_learning_rate\":0.02,"
        "\"warmup_steps\":5}}",
    };
    struct buf csv = {0};
    (void)state;
    aid_flowers(&csv, 90, 1);
    for (size_t i = 0; i < sizeof optimizers / sizeof *optimizers; i++) {
        char spec[1000];
        snprintf(spec, sizeof spec,
                 "{\"target\":\"species\"," LAYERS ",\"training\":{\"epochs\":5,\"batch_size\":16,"
                 "\"validation_split\":0.2,\"seed\":3,\"optimizer\":%s," STOPPING "}}",
                 optimizers[i]);
        resumes_from_every_step((struct aid_run){.spec = spec, .csv = csv.data}, optimizers[i], 3 * 5);
    }
    buf_dispose(&csv);
}

static void other_losses_and_penalties_resume_as_well(void **state)
{
    static const char *const specs[] = {
        "{\"target\":\"d\",\"features\":[\"a\",\"b\",\"c\"],\"architecture\":[{\"layer\":\"Dense\",\"units\":"
        "6,"
        "\"activation\":\"tanh\"},{\"layer\":\"Dense\",\"units\":1}],\"training\":{\"epochs\":3,\"batch_"
        "size\":"
        "20,\"loss\":\"mae\",\"l1\":0.001,\"optimizer\":{\"name\":\"adam\",\"clipvalue\":0.1}}}",
        "{\"target\":\"d\",\"features\":[\"a\",\"b\",\"c\"],\"family\":\"linear_regression\",\"training\":{"
        "\"epochs\":3,\"batch_size\":1,\"shuffle\":false,\"optimizer\":{\"name\":\"sgd\"}}}",
        "{\"target\":\"species\",\"training\":{\"epochs\":3,\"batch_size\":25,\"validation_split\":0,"
        "\"label_smoothing\":0.1,\"class_weight\":\"balanced\"}}",
    };
    struct buf csv = {0};
    (void)state;
    aid_flowers(&csv, 75, 5);
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        resumes_from_every_step((struct aid_run){.spec = specs[i], .csv = csv.data}, specs[i], 9);
    buf_dispose(&csv);
}

static void best_weights_from_before_the_checkpoint_come_back(void **state)
{
    static const char spec[] =
        "{\"target\":\"species\"," LAYERS
        ",\"training\":{\"epochs\":9,\"batch_size\":16,\"validation_split\":0.3,\"seed\":3,"
        "\"optimizer\":{\"name\":\"sgd\",\"learning_rate\":3}," STOPPING "}}";
    struct buf csv = {0};
    struct aid_result r;
    (void)state;
    aid_flowers(&csv, 90, 1);
    struct aid_run run = {.spec = spec, .csv = csv.data};
    keeper_train(&r, &run);
    assert_true(aid_metric(&r, "best_epoch") ==
                aid_metric(&r, "epochs") - 2); /* and nothing since was better */
    aid_result_dispose(&r);
    resumes_from_every_step(run, "best weights", 12);
    buf_dispose(&csv);
}

/* Rows of 7 steps with 5 numbers: which half holds the larger ones. */
static void sequences(struct buf *features, struct buf *labels, uint32_t rows)
{
    struct aid_random r = {21};
    uint8_t *x = mem_alloc(rows, 35), *y = mem_alloc(rows, 1);
    for (uint32_t i = 0; i < rows; i++) {
        y[i] = (uint8_t)(i % 2);
        for (int k = 0; k < 35; k++)
            x[i * 35 + (uint32_t)k] = (uint8_t)(aid_uniform(&r) * ((k < 15) == (y[i] == 1) ? 250 : 120));
    }
    aid_idx(features, 3, (uint32_t[]){rows, 7, 5}, x, (size_t)rows * 35);
    aid_idx(labels, 1, (uint32_t[]){rows}, y, rows);
    mem_free(x);
    mem_free(y);
}

static void a_recurrent_network_resumes_bit_identically(void **state)
{
    struct buf f = {0}, l = {0};
    (void)state;
    sequences(&f, &l, 60);
    resumes_from_every_step(
        (struct aid_run){
            .spec = "{\"architecture\":[{\"layer\":\"LSTM\",\"units\":9,\"return_sequences\":true},{"
                    "\"layer\":\"LSTM\",\"units\":5},{\"layer\":\"Dropout\",\"rate\":0.2},{\"layer\":"
                    "\"Dense\",\"units\":2}],\"training\":{\"epochs\":3,\"batch_size\":16,"
                    "\"validation_split\":0.2," STOPPING "}}",
            .features = &f,
            .labels = &l},
        "lstm", 9);
    buf_dispose(&f);
    buf_dispose(&l);
}

static void threads_and_bf16_resume_bit_identically_too(void **state)
{
    static const struct {
        int threads;
        const char *precision;
    } ways[] = {{2, "f32"}, {1, "bf16"}, {2, "bf16"}, {2, "bf16x3"}};
    struct buf csv = {0};
    (void)state;
    aid_flowers(&csv, 400, 3);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char spec[1000];
        struct aid_result r;
        struct err e = {0};
        snprintf(
            spec, sizeof spec,
            "{\"target\":\"species\",\"architecture\":[{\"layer\":\"Dense\",\"units\":128,\"activation\":"
            "\"relu\"},{\"layer\":\"Dropout\",\"rate\":0.3},{\"layer\":\"Dense\",\"units\":128},{\"layer\":"
            "\"Dense\",\"units\":3}],\"training\":{\"epochs\":2,\"batch_size\":128,\"precision\":\"%s\","
            "\"validation_split\":0.2," STOPPING "}}",
            ways[i].precision);
        struct aid_run run = {.spec = spec, .csv = csv.data, .threads = ways[i].threads};
        int rc = aid_train(&r, &run, &e);
        if (rc == 0) aid_result_dispose(&r);
        if (rc == ERR_UNSUPPORTED) continue; /* a CPU without AMX */
        resumes_from_every_step(run, ways[i].precision, 6);
    }
    buf_dispose(&csv);
}

/* ---- stopping ---- */

/* Stops the run; its checkpoint stands where the run was. */
static void stop(struct keeper *k, struct aid_run *run, const char *what)
{
    struct aid_result r;
    struct err e = {0};
    run->callbacks = keeper_callbacks(k);
    if (aid_train(&r, run, &e) != ERR_CANCELLED) fail_msg("%s: it was not stopped (%s)", what, e.message);
    assert_int_equal(k->n, 1);
    k->stopping = false;
    k->stop_after = 0;
    k->stopped_in_evaluation = false;
}

static void resume(struct keeper *k, struct aid_run *run, const struct aid_result *alone, const char *what)
{
    struct aid_result again;
    run->resume = &k->file[0];
    keeper_train(&again, run);
    assert_int_equal(k->refusals, 0);
    keeper_same(alone, &again, what, &k->mark[0]);
    aid_result_dispose(&again);
    run->resume = NULL;
}

static void a_run_stopped_in_an_epoch_in_validation_or_in_evaluation_goes_on_from_there(void **state)
{
    struct buf csv = {0};
    struct aid_result alone;
    struct keeper k;
    char spec[1000];
    (void)state;
    aid_flowers(&csv, 30000, 2);
    snprintf(spec, sizeof spec, PLAIN, "0.9"); /* 188 steps, and a validation that takes longer */
    struct aid_run run = {.spec = spec, .csv = csv.data};
    keeper_train(&alone, &run);

    keeper_open(&k);
    k.steps = 188;
    k.stop_epoch = 2;
    k.stop_after = 17;
    stop(&k, &run, "in an epoch");
    assert_int_equal(k.mark[0].epoch, 2);
    assert_true(k.mark[0].step >= 17 && k.mark[0].step <= 188);
    resume(&k, &run, &alone, "in an epoch");
    keeper_close(&k);

    keeper_open(&k);
    k.steps = 188;
    k.stop_epoch = 3;
    k.stop_after = 188;
    stop(&k, &run, "in validation");
    assert_int_equal(k.mark[0].epoch, 3);
    assert_int_equal(k.mark[0].step, 188);
    resume(&k, &run, &alone, "in validation");
    keeper_close(&k);

    keeper_open(&k);
    k.stopped_in_evaluation = true;
    stop(&k, &run, "in evaluation");
    resume(&k, &run, &alone, "in evaluation");
    keeper_close(&k);
    aid_result_dispose(&alone);
    buf_dispose(&csv);
}

static void a_run_that_is_given_up_writes_no_checkpoint(void **state)
{
    struct buf csv = {0};
    struct aid_result r;
    struct err e = {0};
    struct keeper k;
    char spec[1000];
    (void)state;
    aid_flowers(&csv, 6000, 2);
    snprintf(spec, sizeof spec, PLAIN, "0.1");
    keeper_open(&k);
    close(k.fd);
    k.fd = -1;
    k.steps = 338;
    k.stop_epoch = k.stop_after = 1;
    struct aid_run run = {.spec = spec, .csv = csv.data, .callbacks = keeper_callbacks(&k)};
    assert_int_equal(aid_train(&r, &run, &e), ERR_CANCELLED);
    assert_int_equal(k.n, 0);
    buf_dispose(&csv);
}

static double stop_ms(const struct buf *csv)
{
    struct aid_result r;
    struct err e = {0};
    struct keeper k;
    keeper_open(&k);
    k.steps = 84;
    k.stop_epoch = 1;
    k.stop_after = 30;
    struct aid_run run = {
        .spec = "{\"target\":\"species\",\"architecture\":[{\"layer\":\"Dense\",\"units\":512},{"
                "\"layer\":\"Dense\",\"units\":512},{\"layer\":\"Dense\",\"units\":3}],"
                "\"training\":{\"epochs\":50,\"batch_size\":32}}",
        .csv = csv->data,
        .callbacks = keeper_callbacks(&k)};
    assert_int_equal(aid_train(&r, &run, &e), ERR_CANCELLED);
    double ms = (double)(clock_mono_ns() - k.asked_ns) / 1e6;
    print_message("%.1f ms from the wish to the end, checkpoint of %llu bytes in %.2f ms\n", ms,
                  (unsigned long long)k.mark[0].bytes, k.mark[0].took_ms);
    assert_int_equal(k.n, 1);
    keeper_close(&k);
    return ms;
}

/* Other processes may hold the core meanwhile: one undisturbed try of a few tells. */
static void a_stop_is_heeded_within_a_tenth_of_a_second(void **state)
{
    (void)state;
    struct buf csv = {0};
    double ms = 1e9;
    aid_flowers(&csv, 3000, 2);
    for (int i = 0; i < 5 && ms >= 100; i++) ms = stop_ms(&csv);
    assert_true(ms < 100);
    buf_dispose(&csv);
}

static void time_used_before_counts_towards_the_limit(void **state)
{
    struct buf csv = {0};
    struct aid_result alone, r;
    struct err e = {0};
    struct keeper k;
    char spec[1000];
    (void)state;
    aid_flowers(&csv, 90, 1);
    snprintf(spec, sizeof spec, PLAIN, "0.2");
    struct aid_run run = {.spec = spec, .csv = csv.data};
    keeper_open(&k);
    k.every = true;
    run.callbacks = keeper_callbacks(&k);
    keeper_train(&alone, &run);
    run.resume = &k.file[2];
    run.seconds = 60;
    run.used_seconds = 60;
    assert_int_equal(aid_train(&r, &run, &e), ERR_TIMEOUT);
    assert_string_equal(e.field, "max_seconds");
    assert_non_null(strstr(e.message, "60 seconds"));
    keeper_close(&k);
    aid_result_dispose(&alone);
    buf_dispose(&csv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_optimiser_resumes_bit_identically_from_every_step),
        cmocka_unit_test(other_losses_and_penalties_resume_as_well),
        cmocka_unit_test(best_weights_from_before_the_checkpoint_come_back),
        cmocka_unit_test(a_recurrent_network_resumes_bit_identically),
        cmocka_unit_test(threads_and_bf16_resume_bit_identically_too),
        cmocka_unit_test(a_run_stopped_in_an_epoch_in_validation_or_in_evaluation_goes_on_from_there),
        cmocka_unit_test(a_run_that_is_given_up_writes_no_checkpoint),
        cmocka_unit_test(a_stop_is_heeded_within_a_tenth_of_a_second),
        cmocka_unit_test(time_used_before_counts_towards_the_limit),
    };
    crypto_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
