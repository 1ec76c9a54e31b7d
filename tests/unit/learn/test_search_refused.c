/* What is no checkpoint of the search, of the cross-validation or of the assessment, or no sound one, is
 * refused and the job starts from the beginning; a training inside whose own is none is begun again alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/crypto.h"
#include "base/mem.h"
#include "tests/unit/learn/jobs_aid.h"
#include "tests/unit/learn/keeper.h"

#define SMALL                                                                                                \
    "\"target\":\"species\",\"architecture\":[{\"layer\":\"Dense\",\"units\":5},{\"layer\":\"ReLU\"},{"      \
    "\"layer\":\"Dense\",\"units\":3}],\"training\":{\"epochs\":3,\"batch_size\":32}"
#define RATES                                                                                                \
    "\"parameters\":{\"training.optimizer.learning_rate\":{\"type\":\"log_uniform\",\"min\":1e-4,\"max\":0." \
    "1}}"

enum { KINDS = 3 };
static const char *const specs[KINDS] = {"{\"base\":{" SMALL
                                         "},\"method\":\"halving\",\"trials\":4,\"seed\":4," RATES "}",
                                         "{\"base\":{" SMALL "},\"folds\":3}", "{\"version\":1}"};

struct scene {
    struct buf csv;
    struct aid_run run;
    struct aid_result trained, alone;
    struct keeper k;
    const struct buf *whole; /* a checkpoint in the middle */
};

static void scene_open(struct scene *s, int kind)
{
    *s = (struct scene){0};
    aid_flowers(&s->csv, kind == 2 ? 900 : 90, 1);
    keeper_open(&s->k);
    s->run = (struct aid_run){.type = kind ? "evaluate" : "tune", .spec = specs[kind], .csv = s->csv.data};
    if (kind == 2) {
        keeper_train(&s->trained, &(struct aid_run){.spec = "{" SMALL "}", .csv = s->csv.data});
        s->run.model = &s->trained.artifact;
    }
    s->run.callbacks = keeper_callbacks(&s->k);
    s->k.every = true;
    keeper_train(&s->alone, &s->run);
    s->k.every = false;
    assert_true(s->k.n >= 3);
    s->whole = &s->k.file[s->k.n * 3 / 4];
}

static void scene_close(struct scene *s)
{
    aid_result_dispose(&s->alone);
    aid_result_dispose(&s->trained);
    keeper_close(&s->k);
    buf_dispose(&s->csv);
}

/* Resumes from bytes; returns whether they were refused. The end is that of a job left alone either way. */
static bool refused(struct scene *s, const struct buf *bytes)
{
    struct aid_result r;
    int before = s->k.refusals;
    s->run.resume = bytes;
    keeper_train(&r, &s->run);
    jobs_same(&s->alone, &r, "after a refusal", &s->k.mark[0]);
    aid_result_dispose(&r);
    return s->k.refusals > before;
}

static void a_checkpoint_that_is_cut_is_refused_and_the_job_starts_anew(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        struct scene s;
        scene_open(&s, kind);
        assert_false(refused(&s, s.whole));
        for (size_t len = 0; len < s.whole->len; len += 1 + s.whole->len / 23) {
            char *copy = mem_alloc(len + 1, 1); /* so that reading past the end is seen by the sanitizer */
            memcpy(copy, s.whole->data, len);
            struct buf cut = {.data = copy, .len = len};
            if (!refused(&s, &cut)) fail_msg("%zu of %zu bytes were taken", len, s.whole->len);
            mem_free(copy);
        }
        scene_close(&s);
    }
}

/* In the header, text by text; each as long as what it takes the place of. */
static void altered_checkpoints_are_refused(void **state)
{
    static const struct {
        int kind;
        const char *from, *to;
    } lie[] = {{0, "tenor.search.1", "tenor.search.2"},
               {0, "\\\"rung\\\":", "\\\"rong\\\":"},
               {0, "\\\"rung\\\":1", "\\\"rung\\\":7"},
               {0, "\\\"at\\\":", "\\\"at\\\":9"},
               {0, "\\\"order\\\":[", "\\\"order\\\":{"},
               {0, "\\\"best\\\":", "\\\"best\\\":9"},
               {0, "\\\"state\\\":0", "\\\"state\\\":8"},
               {0, "\\\"state\\\":2", "\\\"state\\\":3"}, /* failed, with a score */
               {0, "\\\"scored\\\":true", "\\\"scored\\\":null"},
               {0, "\\\"trials\\\":[{", "\\\"trials\\\":[1"},
               {0, "\"best\"", "\"beast"},
               {0, "\"trial/", "\"trial-"},
               {1, "tenor.folds.1", "tenor.folds.0"},
               {1, "\\\"rows\\\":30", "\\\"rows\\\":-1"},
               {1, "\\\"scores\\\":[", "\\\"scores\\\":{"},
               {1, "\\\"folds\\\":[{", "\\\"folds\\\":[1"},
               {1, "\"confusion\"", "\"confuslon\""},
               {1, "\"I64\"", "\"F64\""},
               {2, "tenor.assessment.1", "tenor.assessment.9"},
               {2, "\\\"at\\\":768", "\\\"at\\\":769"},
               {2, "\\\"at\\\":768", "\\\"at\\\":512"}, /* fewer than it keeps scores of */
               {2, "\\\"kept\\\":768", "\\\"kept\\\":767"},
               {2, "\\\"hits\\\":0", "\\\"hits\\\":1"},
               {2, "\"truths\"", "\"thruts\""}};
    (void)state;
    for (size_t i = 0; i < sizeof lie / sizeof *lie; i++) {
        struct scene s;
        struct buf copy = {0};
        scene_open(&s, lie[i].kind);
        buf_append(&copy, s.whole->data, s.whole->len);
        char *at = memmem(copy.data, copy.len, lie[i].from, strlen(lie[i].from));
        if (!at) fail_msg("%s is not in the file", lie[i].from);
        memcpy(at, lie[i].to, strlen(lie[i].to));
        if (!refused(&s, &copy)) fail_msg("%s was taken for %s", lie[i].to, lie[i].from);
        buf_dispose(&copy);
        scene_close(&s);
    }
}

/* The search's own state is sound: only that training is lost. */
static void a_training_inside_that_is_not_sound_is_begun_again_alone(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct scene s;
        struct buf copy = {0};
        int found = 0;
        scene_open(&s, kind);
        buf_append(&copy, s.whole->data, s.whole->len);
        static const char inner[] = "tenor.checkpoint.1";
        for (char *at = copy.data;
             (at = memmem(at, copy.len - (size_t)(at - copy.data), inner, sizeof inner - 1)) != NULL; found++)
            at[0] = 'T';
        assert_true(found >= 1);
        assert_false(refused(&s, &copy));
        buf_dispose(&copy);
        scene_close(&s);
    }
}

static void any_flipped_byte_of_the_header_does_no_harm(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        struct scene s;
        scene_open(&s, kind);
        uint64_t header;
        memcpy(&header, s.whole->data, sizeof header);
        for (size_t i = 0; i < 8 + header; i += i < 16 ? 1 : 23) {
            struct buf copy = {0};
            struct aid_result r;
            struct err e = {0};
            buf_append(&copy, s.whole->data, s.whole->len);
            copy.data[i] ^= 1;
            s.run.resume = &copy;
            if (aid_train(&r, &s.run, &e) == 0) aid_result_dispose(&r);
            buf_dispose(&copy);
        }
        scene_close(&s);
    }
}

static void another_jobs_checkpoint_is_refused_by_its_digest(void **state)
{
    (void)state;
    static const char *const other[KINDS] = {"{\"base\":{" SMALL
                                             "},\"method\":\"halving\",\"trials\":4,\"seed\":5," RATES "}",
                                             "{\"base\":{" SMALL "},\"folds\":4}", "{\"version\":2}"};
    for (int kind = 0; kind < KINDS; kind++) {
        struct scene s;
        struct aid_result alone, again;
        scene_open(&s, kind);
        s.run.spec = other[kind];
        keeper_train(&alone, &s.run);
        s.run.resume = s.whole;
        keeper_train(&again, &s.run);
        assert_int_equal(s.k.refusals, 1);
        assert_non_null(strstr(s.k.why, "another job"));
        jobs_same(&alone, &again, other[kind], &s.k.mark[0]);
        aid_result_dispose(&alone);
        aid_result_dispose(&again);
        scene_close(&s);
    }
}

/* Of laying down too: a checkpoint at each step. */
static void no_memory_at_any_point_ends_in_an_error_or_the_same_bytes(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        struct scene s;
        scene_open(&s, kind);
        s.run.resume = s.whole;
        for (size_t n = 1; n < 6000; n += 1 + n / 24) {
            struct aid_result r;
            struct err e = {0};
            struct keeper k;
            keeper_open(&k);
            k.every = true;
            s.run.callbacks = keeper_callbacks(&k);
            s.run.fail_at = n;
            int rc = aid_train(&r, &s.run, &e);
            if (rc)
                assert_true(e.code == rc && e.message[0]);
            else
                jobs_same(&s.alone, &r, "after a lack of memory", &s.k.mark[0]);
            aid_result_dispose(&r);
            keeper_close(&k);
        }
        scene_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_that_is_cut_is_refused_and_the_job_starts_anew),
        cmocka_unit_test(altered_checkpoints_are_refused),
        cmocka_unit_test(a_training_inside_that_is_not_sound_is_begun_again_alone),
        cmocka_unit_test(any_flipped_byte_of_the_header_does_no_harm),
        cmocka_unit_test(another_jobs_checkpoint_is_refused_by_its_digest),
        cmocka_unit_test(no_memory_at_any_point_ends_in_an_error_or_the_same_bytes),
    };
    crypto_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
