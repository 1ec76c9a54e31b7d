/* Multipart bodies: every split, every refusal, and parts larger than the window. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/mem.h"
#include "gateway/http/multipart.h"

static const char TYPE[] = "multipart/form-data; boundary=XyZ";

/* A source that gives its bytes in pieces of at most `step`, with a cut at `cut`, and fails at the end if
 * `broken`. */
struct source {
    const char *data;
    size_t len, at, step, cut;
    bool broken;
};

static ssize_t pull(void *arg, void *buf, size_t cap, struct err *e)
{
    struct source *s = arg;
    size_t n = s->len - s->at;
    if (n == 0 && s->broken) return err_set(e, ERR_IO, "body", "the upload ended early");
    if (n > cap) n = cap;
    if (n > s->step) n = s->step;
    if (s->at < s->cut && s->at + n > s->cut) n = s->cut - s->at;
    memcpy(buf, s->data + s->at, n);
    s->at += n;
    return (ssize_t)n;
}

/* Everything that comes out, as text: "name|filename|type|content\n" for each part, then the code. */
static int trace_of(struct buf *trace, const char *type, struct source *s, size_t cap, struct err *e)
{
    struct multipart *m;
    struct multipart_part part;
    buf_clear(trace);
    int rc = multipart_create(&m, type, 4, pull, s, e);
    if (rc) return rc;
    while ((rc = multipart_next(m, &part, e)) == 1) {
        char piece[1024];
        ssize_t n;
        buf_printf(trace, "%s|%s|%s|", part.name, part.has_filename ? part.filename : "-", part.content_type);
        while ((n = multipart_read(m, piece, cap, e)) > 0) buf_append(trace, piece, (size_t)n);
        buf_str(trace, "\n");
        if (n < 0) assert_int_equal(multipart_read(m, piece, cap, e), n); /* an error repeats */
    }
    assert_int_equal(multipart_next(m, &part, e), rc);
    multipart_free(m);
    return rc;
}

static int trace_text(struct buf *trace, const char *body, struct err *e)
{
    struct source s = {.data = body, .len = strlen(body), .step = SIZE_MAX};
    return trace_of(trace, TYPE, &s, 1024, e);
}

static const char FORM[] = "--XyZ\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\niris\r\n"
                           "--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n"
                           "Content-Type: text/csv\r\n\r\n"
                           "a,b\r\n1,2\r\n--Xy\r\n--\r\n\r\n-\r\r\n--XyZ\r\n"
                           "content-disposition:form-data;name=empty\r\n\r\n\r\n--XyZ--\r\n";
static const char EXPECTED[] =
    "name|-||iris\nfile|a.csv|text/csv|a,b\r\n1,2\r\n--Xy\r\n--\r\n\r\n-\r\nempty|-||\n";

static void parts_come_out_with_their_names_types_and_exact_bytes(void **state)
{
    (void)state;
    struct buf trace = {0};
    struct err e = {0};
    assert_int_equal(trace_text(&trace, FORM, &e), 0);
    assert_string_equal(trace.data, EXPECTED);
    buf_dispose(&trace);
}

static void no_split_of_the_source_changes_what_comes_out(void **state)
{
    (void)state;
    struct buf trace = {0};
    struct err e = {0};
    for (size_t cut = 0; cut <= strlen(FORM); cut++) {
        for (size_t step = 1; step <= 4096; step *= 4) {
            struct source s = {.data = FORM, .len = strlen(FORM), .cut = cut, .step = step};
            assert_int_equal(trace_of(&trace, TYPE, &s, 1 + cut % 7, &e), 0);
            if (strcmp(trace.data, EXPECTED) != 0) fail_msg("cut %zu step %zu: %s", cut, step, trace.data);
        }
    }
    buf_dispose(&trace);
}

static void a_form_cut_short_anywhere_is_refused(void **state)
{
    (void)state;
    struct buf trace = {0};
    size_t whole = strlen(FORM) - 2; /* the last line end is optional */
    for (size_t len = 0; len < whole; len++) {
        struct err e = {0};
        struct source s = {.data = FORM, .len = len, .step = SIZE_MAX};
        if (trace_of(&trace, TYPE, &s, 64, &e) != ERR_INVALID) fail_msg("accepted at %zu of %zu", len, whole);
        assert_string_equal(e.field, "body");
        s = (struct source){.data = FORM, .len = len, .step = SIZE_MAX, .broken = true};
        assert_int_equal(trace_of(&trace, TYPE, &s, 64, &e),
                         ERR_IO); /* the source's own failure comes through */
    }
    buf_dispose(&trace);
}

static void malformed_forms_are_refused(void **state)
{
    (void)state;
#define PART "Content-Disposition: form-data; name=\"a\"\r\n"
    static const char *const bad[] = {
        "",
        "--\r\n",
        "preamble\r\n--XyZ\r\n" PART "\r\nx\r\n--XyZ--\r\n",
        "\r\n--XyZ\r\n" PART "\r\nx\r\n--XyZ--\r\n",
        "--XyZ\n" PART "\r\nx\r\n--XyZ--\r\n",
        "--XyZ \r\n" PART "\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\n" PART "\r\nx\r\n--XyZ0\r\n--XyZ--\r\n",
        "--XyZ\r\n" PART "\r\nx\r\n--XyZ--\r\ngarbage",
        "--XyZ\r\n" PART "\r\nx\r\n--XyZ--garbage",
        "--XyZ\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\nContent-Type: text/csv\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\nContent-Disposition: form-data; name=\"\"\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\nContent-Disposition: form-data; name=\"a\" x\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\nContent-Disposition: form-data; name=a; filename=b; filename=c\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\nContent-Disposition: form-data; name=\"\xff\"\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\nContent-Disposition: form-data; name=\"a\tb\"\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\n" PART PART "\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\n" PART " folded\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\n" PART "X : y\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\n" PART "no colon\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\n" PART "Content-Transfer-Encoding: base64\r\n\r\nx\r\n--XyZ--\r\n",
        "--XyZ\r\n" PART "Content-Type: a/b\r\nContent-Type: a/b\r\n\r\nx\r\n--XyZ--\r\n",
    };
    struct buf trace = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        if (trace_text(&trace, bad[i], &e) != ERR_INVALID) fail_msg("accepted: %s", bad[i]);
        assert_true(strlen(e.message) > 20);
    }
    buf_dispose(&trace);
}

static void the_limits_on_parts_and_their_headers_hold(void **state)
{
    (void)state;
    struct buf trace = {0}, body = {0};
    struct err e = {0};
    for (int i = 0; i < 5; i++) buf_str(&body, "--XyZ\r\n" PART "\r\nx\r\n");
    buf_str(&body, "--XyZ--\r\n");
    assert_int_equal(trace_text(&trace, body.data, &e), ERR_INVALID);
    assert_non_null(strstr(e.message, "too many parts"));
    buf_clear(&body);
    buf_str(&body, "--XyZ\r\n" PART);
    for (int i = 0; i < 16; i++) buf_str(&body, "X: y\r\n");
    buf_str(&body, "\r\nx\r\n--XyZ--\r\n");
    assert_int_equal(trace_text(&trace, body.data, &e), ERR_INVALID);
    assert_non_null(strstr(e.message, "too many headers"));
    buf_clear(&body);
    buf_str(&body, "--XyZ\r\nX: ");
    for (int i = 0; i < 9000; i++) buf_char(&body, 'x');
    assert_int_equal(trace_text(&trace, body.data, &e), ERR_INVALID);
    assert_non_null(strstr(e.message, "8 KiB"));
    buf_dispose(&body);
    buf_dispose(&trace);
}

static void file_names_lose_their_folders_and_keep_their_letters(void **state)
{
    (void)state;
    static const struct {
        const char *parameters, *filename;
    } cases[] = {
        {"filename=\"../../etc/passwd\"", "passwd"},
        {"filename=\"C:\\Users\\me\\data.csv\"", "data.csv"},
        {"filename=\"a \\\"b\\\".csv\"", "a \"b\".csv"},
        {"filename=\"\"", ""},
        {"filename=\"na\xc3\xafve.csv\"", "na\xc3\xafve.csv"},
        {"filename*=UTF-8''na%C3%AFve.csv", "na\xc3\xafve.csv"},
        {"filename*=utf-8'en'x%2Fy.csv; filename=fallback.csv", "y.csv"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf body = {0};
        struct multipart *m;
        struct multipart_part part;
        struct err e = {0};
        buf_printf(&body, "--XyZ\r\nContent-Disposition: form-data; name=f; %s\r\n\r\n\r\n--XyZ--",
                   cases[i].parameters);
        struct source s = {.data = body.data, .len = body.len, .step = SIZE_MAX};
        assert_int_equal(multipart_create(&m, TYPE, 4, pull, &s, &e), 0);
        if (multipart_next(m, &part, &e) != 1) fail_msg("%s: %s", cases[i].parameters, e.message);
        assert_true(part.has_filename);
        assert_string_equal(part.filename, cases[i].filename);
        multipart_free(m);
        buf_dispose(&body);
    }
}

static void boundaries_are_read_as_rfc_2046_says(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        int rc;
    } cases[] = {
        {"multipart/form-data; boundary=a", 0},
        {"Multipart/Form-Data; charset=utf-8; Boundary=\"a b'()+_,-./:=?\"", 0},
        {"multipart/"
         "form-data;boundary=0123456789012345678901234567890123456789012345678901234567890123456789",
         0},
        {"multipart/"
         "form-data;boundary=01234567890123456789012345678901234567890123456789012345678901234567890",
         ERR_INVALID},
        {"multipart/form-data", ERR_INVALID},
        {"multipart/form-data; boundary=", ERR_INVALID},
        {"multipart/form-data; boundary=\"\"", ERR_INVALID},
        {"multipart/form-data; boundary=\"a \"", ERR_INVALID},
        {"multipart/form-data; boundary=\"a\"; boundary=\"b\"", ERR_INVALID},
        {"multipart/form-data; boundary=\"a#\"", ERR_INVALID},
        {"multipart/mixed; boundary=a", ERR_UNSUPPORTED},
        {"multipart/form-dataX; boundary=a", ERR_UNSUPPORTED},
        {"text/csv", ERR_UNSUPPORTED},
        {NULL, ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct multipart *m = NULL;
        struct err e = {0};
        int rc = multipart_create(&m, cases[i].type, 4, pull, NULL, &e);
        if (rc != cases[i].rc) fail_msg("%s: %d", cases[i].type, rc);
        if (rc) assert_string_equal(e.field, "content-type");
        multipart_free(m);
    }
}

/* Content full of almost-delimiters, larger than the window. */
static void a_part_larger_than_the_window_streams_through(void **state)
{
    (void)state;
    struct buf body = {0}, content = {0}, got = {0};
    struct multipart *m;
    struct multipart_part part;
    struct err e = {0};
    for (int i = 0; i < 60000; i++) buf_str(&content, i % 3 ? "\r\n--Xy" : i % 2 ? "\r\n--XYZ" : "\r\r\n-");
    buf_str(&body, "--XyZ\r\n" PART "\r\n");
    buf_append(&body, content.data, content.len);
    buf_str(&body, "\r\n--XyZ\r\n" PART "\r\nshort\r\n--XyZ--");
    struct source s = {.data = body.data, .len = body.len, .step = 5000};
    assert_int_equal(multipart_create(&m, TYPE, 4, pull, &s, &e), 0);
    assert_int_equal(multipart_next(m, &part, &e), 1);
    char piece[9999];
    ssize_t n;
    while ((n = multipart_read(m, piece, sizeof piece, &e)) > 0) buf_append(&got, piece, (size_t)n);
    assert_int_equal(n, 0);
    assert_int_equal(got.len, content.len);
    assert_memory_equal(got.data, content.data, content.len);
    assert_int_equal(multipart_next(m, &part, &e), 1);
    assert_int_equal(multipart_read_all(m, piece, 6, &e), 5);
    assert_string_equal(piece, "short");
    assert_int_equal(multipart_next(m, &part, &e), 0);
    multipart_free(m);
    buf_dispose(&body);
    buf_dispose(&content);
    buf_dispose(&got);
}

static void a_value_that_does_not_fit_is_refused_and_an_unread_part_is_skipped(void **state)
{
    (void)state;
    struct multipart *m;
    struct multipart_part part;
    struct err e = {0};
    char value[4];
    struct source s = {.data = FORM, .len = strlen(FORM), .step = 3};
    assert_int_equal(multipart_create(&m, TYPE, 4, pull, &s, &e), 0);
    assert_int_equal(multipart_next(m, &part, &e), 1);
    assert_int_equal(multipart_read_all(m, value, sizeof value, &e), ERR_TOO_LARGE);
    assert_int_equal(multipart_next(m, &part, &e), 1);
    assert_string_equal(part.name, "file");
    assert_int_equal(multipart_next(m, &part, &e), 1);
    assert_string_equal(part.name, "empty");
    assert_int_equal(multipart_read_all(m, value, sizeof value, &e), 0);
    assert_int_equal(multipart_next(m, &part, &e), 0);
    multipart_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_come_out_with_their_names_types_and_exact_bytes),
        cmocka_unit_test(no_split_of_the_source_changes_what_comes_out),
        cmocka_unit_test(a_form_cut_short_anywhere_is_refused),
        cmocka_unit_test(malformed_forms_are_refused),
        cmocka_unit_test(the_limits_on_parts_and_their_headers_hold),
        cmocka_unit_test(file_names_lose_their_folders_and_keep_their_letters),
        cmocka_unit_test(boundaries_are_read_as_rfc_2046_says),
        cmocka_unit_test(a_part_larger_than_the_window_streams_through),
        cmocka_unit_test(a_value_that_does_not_fit_is_refused_and_an_unread_part_is_skipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
