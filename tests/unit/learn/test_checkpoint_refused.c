/* What is no checkpoint of the run, or no sound one, is refused before anything of it is used, and the run
 * starts from the beginning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/crypto.h"
#include "base/mem.h"
#include "tests/unit/learn/keeper.h"

struct scene {
    struct buf csv;
    char spec[1000];
    struct aid_run run;
    struct aid_result alone;
    struct keeper k;
};

static void scene_open(struct scene *s)
{
    *s = (struct scene){0};
    aid_flowers(&s->csv, 90, 1);
    snprintf(s->spec, sizeof s->spec, PLAIN, "0.2");
    keeper_open(&s->k);
    s->k.every = true;
    s->run = (struct aid_run){.spec = s->spec, .csv = s->csv.data, .callbacks = keeper_callbacks(&s->k)};
    keeper_train(&s->alone, &s->run);
    s->k.every = false;
}

static void scene_close(struct scene *s)
{
    aid_result_dispose(&s->alone);
    keeper_close(&s->k);
    buf_dispose(&s->csv);
}

/* Resumes from bytes; returns whether they were refused. The end is that of a run left alone either way. */
static bool refused(struct scene *s, const struct buf *bytes)
{
    struct aid_result r;
    int before = s->k.refusals;
    s->run.resume = bytes;
    keeper_train(&r, &s->run);
    keeper_same(&s->alone, &r, "after a refusal", &s->k.mark[0]);
    aid_result_dispose(&r);
    return s->k.refusals > before;
}

static void a_checkpoint_that_is_cut_is_refused_and_the_run_starts_anew(void **state)
{
    struct scene s;
    (void)state;
    scene_open(&s);
    const struct buf *whole = &s.k.file[7];
    assert_false(refused(&s, whole));
    for (size_t len = 0; len < whole->len; len += 1 + whole->len / 61) {
        char *copy = mem_alloc(len + 1, 1); /* so that reading past the end is seen by the sanitizer */
        memcpy(copy, whole->data, len);
        struct buf cut = {.data = copy, .len = len};
        if (!refused(&s, &cut)) fail_msg("%zu of %zu bytes were taken", len, whole->len);
        mem_free(copy);
    }
    scene_close(&s);
}

/* In the header, text by text: what is wrong must be seen before anything is taken over. */
static void altered_checkpoints_are_refused(void **state)
{
    static const struct {
        const char *from, *to;
    } lie[] = {{"tenor.checkpoint.1", "tenor.checkpoint.2"},
               {"\\\"epoch\\\":2", "\\\"epoch\\\":9"},
               {"\\\"epoch\\\":2", "\\\"epoch\\\":0"},
               {"\\\"steps\\\":5", "\\\"steps\\\":6"},
               {"\\\"fitted\\\":false", "\\\"fitted\\\":null "},
               {"\\\"rows_done\\\":", "\\\"rows_d0ne\\\":"},
               {"[{\\\"epoch\\\":1,", "[{\\\"epoch\\\":{}"},
               {"[{\\\"epoch\\\":1,", "  \\\"epoch\\\":1,"},
               {"\"weights/", "\"w3ights/"},
               {"optimizer/m/", "optimizer/n/"},
               {"\"shape\":[4,8]", "\"shape\":[8,4]"},
               {"\"F32\"", "\"I32\""}};
    struct scene s;
    (void)state;
    scene_open(&s);
    const struct buf *whole = &s.k.file[7];
    for (size_t i = 0; i < sizeof lie / sizeof *lie; i++) {
        struct buf copy = {0};
        buf_append(&copy, whole->data, whole->len);
        char *at = memmem(copy.data, copy.len, lie[i].from, strlen(lie[i].from));
        if (!at) fail_msg("%s is not in the file", lie[i].from);
        assert_int_equal(strlen(lie[i].from), strlen(lie[i].to));
        memcpy(at, lie[i].to, strlen(lie[i].to));
        if (!refused(&s, &copy)) fail_msg("%s was taken for %s", lie[i].to, lie[i].from);
        buf_dispose(&copy);
    }
    scene_close(&s);
}

static void any_flipped_byte_of_the_header_does_no_harm(void **state)
{
    struct scene s;
    (void)state;
    scene_open(&s);
    const struct buf *whole = &s.k.file[7];
    uint64_t header;
    memcpy(&header, whole->data, sizeof header);
    for (size_t i = 0; i < 8 + header; i += i < 16 ? 1 : 23) {
        struct buf copy = {0};
        struct aid_result r;
        struct err e = {0};
        buf_append(&copy, whole->data, whole->len);
        copy.data[i] ^= 1;
        s.run.resume = &copy;
        if (aid_train(&r, &s.run, &e) == 0) aid_result_dispose(&r);
        buf_dispose(&copy);
    }
    scene_close(&s);
}

static void another_runs_checkpoint_is_refused_by_its_digest(void **state)
{
    static const char *const other[] = {"\"seed\":4", "\"seed\":3,\"label_smoothing\":0.1", "\"seed\":3"};
    struct scene s;
    struct buf more = {0};
    (void)state;
    scene_open(&s);
    aid_flowers(&more, 91, 9);
    for (size_t i = 0; i < 3; i++) {
        char spec[1000];
        struct aid_result alone, again;
        snprintf(spec, sizeof spec,
                 "{\"target\":\"species\"," LAYERS ",\"training\":{\"epochs\":4,\"batch_size\":16,"
                 "\"validation_split\":0.2,%s," STOPPING "}}",
                 other[i]);
        struct aid_run run = {.spec = spec, .csv = i < 2 ? s.csv.data : more.data};
        keeper_train(&alone, &run);
        run.callbacks = keeper_callbacks(&s.k);
        run.resume = &s.k.file[3];
        s.k.refusals = 0;
        keeper_train(&again, &run);
        assert_int_equal(s.k.refusals, 1);
        assert_non_null(strstr(s.k.why, "another run"));
        keeper_same(&alone, &again, other[i], &s.k.mark[3]);
        aid_result_dispose(&alone);
        aid_result_dispose(&again);
    }
    buf_dispose(&more);
    scene_close(&s);
}

static void no_memory_at_any_point_of_resuming_ends_in_an_error_or_the_same_bytes(void **state)
{
    struct scene s;
    (void)state;
    scene_open(&s);
    s.run.resume = &s.k.file[7];
    for (size_t n = 1; n < 4000; n += 1 + n / 16) {
        struct aid_result r;
        struct err e = {0};
        s.run.fail_at = n;
        int rc = aid_train(&r, &s.run, &e);
        if (rc)
            assert_true(e.code == rc && e.message[0]);
        else {
            keeper_same(&s.alone, &r, "after a lack of memory", &s.k.mark[7]);
            aid_result_dispose(&r);
        }
    }
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_that_is_cut_is_refused_and_the_run_starts_anew),
        cmocka_unit_test(altered_checkpoints_are_refused),
        cmocka_unit_test(any_flipped_byte_of_the_header_does_no_harm),
        cmocka_unit_test(another_runs_checkpoint_is_refused_by_its_digest),
        cmocka_unit_test(no_memory_at_any_point_of_resuming_ends_in_an_error_or_the_same_bytes),
    };
    crypto_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
