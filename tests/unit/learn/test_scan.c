/* Scanning uploads: what schemas come out, and what malformed files are told. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include <cmocka.h>

#include "base/mem.h"
#include "tests/unit/learn/aid.h"

static void expect_refusal(const void *data, size_t len, enum scan_role role, const char *field,
                           const char *message)
{
    struct schema *s = NULL;
    for (size_t piece = 0; piece <= 3;
         piece++) { /* whole, then byte by byte and in twos and threes: the same words */
        struct err e = {0};
        int rc = aid_scan(&s, data, len, piece, role, &e);
        if (!rc) fail_msg("accepted; expected: %s", message);
        assert_string_equal(e.message, message);
        assert_string_equal(e.field, field);
        assert_int_equal(e.code, rc);
    }
}

static void malformed_csv_is_refused_with_line_and_column(void **state)
{
    static const struct {
        const char *csv, *message;
    } corpus[] = {
        {"", "the file is empty"},
        {"\n\n", "the file is empty; expected a header line and rows"},
        {"a,b\n", "the file has a header but no row"},
        {"\na,b\n1,2\n", "line 1 is empty; it must name the columns"},
        {"1,2\n3,4\n",
         "line 1 must name the columns, but every cell of it is a number; put a header line first"},
        {"a;b\n1;2\n", "line 1: columns must be separated by commas, found \"a;b\""},
        {"a,,c\n1,2,3\n", "line 1, column 2: the header leaves this column without a name"},
        {"a,b,a\n1,2,3\n", "line 1, column 3: the name \"a\" is taken by column 1 already"},
        {"a,b\n1,2\n3\n",
         "line 3, column 2 (\"b\"): the row ends after 1 of the 2 columns that the header names"},
        {"a,b\n1,2\n3,4,5\n", "line 3, column 3: the header names only 2 columns"},
        {"a,b\n1,2\n\n3,4\n", "line 3 is empty; in a file with one column write \"\" for a missing value"},
        {"a,b\n1,x\"y\n",
         "line 2, column 2 (\"b\"): a quote inside an unquoted cell; put the whole cell in quotes"},
        {"a,b\n\"1\"x,2\n",
         "line 2, column 1 (\"a\"): text follows the closing quote; write a quote inside a cell as \"\""},
        {"a,b\n1,2\n3,\"4\n5,6\n",
         "line 3, column 2 (\"b\"): the file ends inside a quoted cell that begins here"},
        {"a,b\n1,\xC3\x28\n", "line 2, column 2 (\"b\"): the text is not valid UTF-8"},
        {"a\xFF,b\n1,2\n", "line 1, column 1: the text is not valid UTF-8"},
        {"a,b\r1,2\r", "line 1, column 2: a carriage return must be followed by a line feed"},
        {"a,b\n1.5,2\n2.5,x\nabc,3\n", "line 4, column 1 (\"a\"): \"abc\" is not a number, but 2 other cells "
                                       "of the column are; leave a missing value empty"},
        {"a,b\n1e39,2\n", "line 2, column 1 (\"a\"): 1e39 is beyond what a 32-bit float can hold"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof corpus[0]; i++)
        expect_refusal(corpus[i].csv, strlen(corpus[i].csv), SCAN_FILE, "file", corpus[i].message);
    expect_refusal("a,b\n1,\0002\n", 9, SCAN_FILE, "file",
                   "line 2, column 2 (\"b\"): a NUL byte; is this a text file?");
    expect_refusal("a,b\n1,2\n", 8, SCAN_FEATURES, "features",
                   "expected an IDX or .npy array here, found neither");
}

static void lines_are_counted_across_quoted_line_breaks(void **state)
{
    const char *csv = "a,b\n\"x\ny\",1\n\"z\",2,3\n";
    (void)state;
    expect_refusal(csv, strlen(csv), SCAN_FILE, "file", "line 4, column 3: the header names only 2 columns");
}

static void a_cell_beyond_the_limit_is_refused(void **state)
{
    struct buf b = {0};
    (void)state;
    buf_str(&b, "a,b\n1,\"");
    for (int i = 0; i < 1100000; i++) buf_char(&b, 'x');
    expect_refusal(b.data, b.len, SCAN_FILE, "file",
                   "line 2, column 2 (\"b\"): the cell is longer than 1 MiB; is a closing quote missing?");
    buf_dispose(&b);
}

static void columns_get_types_statistics_and_categories(void **state)
{
    struct schema *s = aid_csv("\xEF\xBB\xBFn, k ,c,t,m\r\n"
                               "1,7,x,\"a, \"\"b\"\"\",3\r\n"
                               "2,7,y,z,\r\n"
                               "4,9,,z,5\r\n"
                               " 5 ,7,x,z,NA\r\n\r\n");
    char *json = aid_schema_json(s);
    (void)state;
    assert_string_equal(json,
                        "{\"format\":\"csv\",\"rows\":4,\"columns\":["
                        "{\"name\":\"n\",\"type\":\"number\",\"dtype\":\"i64\",\"shape\":[],\"missing\":0,"
                        "\"min\":1,\"max\":5,\"mean\":3,"
                        "\"std\":1.5811388300841898,\"classes\":[1,2,4,5]},"
                        "{\"name\":\"k\",\"type\":\"number\",\"dtype\":\"i64\",\"shape\":[],\"missing\":0,"
                        "\"min\":7,\"max\":9,\"mean\":7.5,"
                        "\"std\":0.8660254037844386,\"classes\":[7,9]},"
                        "{\"name\":\"c\",\"type\":\"category\",\"dtype\":\"text\",\"shape\":[],\"missing\":1,"
                        "\"text_bytes\":3,\"categories\":[\"x\",\"y\"]},"
                        "{\"name\":\"t\",\"type\":\"category\",\"dtype\":\"text\",\"shape\":[],\"missing\":0,"
                        "\"text_bytes\":9,\"categories\":[\"a, \\\"b\\\"\",\"z\"]},"
                        "{\"name\":\"m\",\"type\":\"number\",\"dtype\":\"i64\",\"shape\":[],\"missing\":2,"
                        "\"min\":3,\"max\":5,\"mean\":4,"
                        "\"std\":1,\"classes\":[3,5]}]}");
    mem_free(json);
    schema_free(s);
}

static void integers_among_few_texts_are_categories_too(void **state)
{
    struct schema *s = aid_csv("size\n1\n2\nS\n1\n");
    (void)state;
    assert_int_equal(s->columns[0].type, COLUMN_CATEGORY);
    assert_int_equal(s->columns[0].n_categories, 3);
    assert_string_equal(s->columns[0].categories[0], "1");
    assert_string_equal(s->columns[0].categories[2], "S");
    schema_free(s);
}

static void too_many_different_texts_are_free_text(void **state)
{
    struct buf b = {0};
    (void)state;
    buf_str(&b, "id,v\n");
    for (int i = 0; i < SCHEMA_MAX_CATEGORIES; i++) buf_printf(&b, "u%d,1\n", i);
    struct schema *s = aid_csv(b.data);
    assert_int_equal(s->columns[0].type, COLUMN_CATEGORY);
    schema_free(s);
    buf_str(&b, "one more,1\n");
    s = aid_csv(b.data);
    assert_int_equal(s->columns[0].type, COLUMN_TEXT);
    assert_int_equal(s->columns[0].n_categories, 0);
    schema_free(s);
    buf_dispose(&b);
}

/* What comes of an upload must not depend on how the network cut it. */
static void expect_same_at_every_split(const void *data, size_t len, enum scan_role role)
{
    struct err e = {0};
    struct schema *whole = NULL, *s = NULL;
    assert_int_equal(aid_scan(&whole, data, len, 0, role, &e), 0);
    char *want = aid_schema_json(whole);
    for (size_t cut = 0; cut <= len; cut++) {
        struct scan_options o = {.role = role, .format = -1};
        struct scan *scan = NULL;
        assert_int_equal(scan_create(&scan, &o, &e), 0);
        assert_int_equal(scan_push(scan, data, cut, &e), 0);
        assert_int_equal(scan_push(scan, (const char *)data + cut, len - cut, &e), 0);
        assert_int_equal(scan_finish(scan, &s, &e), 0);
        char *got = aid_schema_json(s);
        assert_string_equal(got, want);
        mem_free(got);
        schema_free(s);
        scan_free(scan);
    }
    mem_free(want);
    schema_free(whole);
}

static void pack(struct buf *out, const void *data, size_t len)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t room = deflateBound(&z, len);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)len;
    z.next_out = (Bytef *)buf_reserve(out, room);
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out->len += room - z.avail_out;
    deflateEnd(&z);
}

static void every_split_of_an_upload_gives_the_same_schema(void **state)
{
    const char *csv =
        "\xEF\xBB\xBFx,\"y \"\"q\"\"\",c\r\n1,2.5,\"a\r\nb\"\r\n-3e2,,\xC3\xA4\xE2\x82\xAC\r\n\r\n";
    static const float f[6] = {1.5F, -2, 3, NAN, 5, 6};
    struct buf idx = {0}, npy = {0}, gz = {0}, packed = {0};
    (void)state;
    expect_same_at_every_split(csv, strlen(csv), SCAN_FILE);
    aid_idx(&idx, 3, (uint32_t[]){2, 2, 3}, (const uint8_t *)"abcdefghijkl", 12);
    expect_same_at_every_split(idx.data, idx.len, SCAN_FEATURES);
    buf_append(
        &npy,
        "\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }          \n",
        80);
    buf_append(&npy, f, sizeof f);
    expect_same_at_every_split(npy.data, npy.len, SCAN_FILE);
    pack(&gz, csv, strlen(csv));
    expect_same_at_every_split(gz.data, gz.len, SCAN_FILE);
    pack(&packed, idx.data, idx.len);
    pack(&packed, "", 0); /* a second, empty member */
    expect_same_at_every_split(packed.data, packed.len, SCAN_FEATURES);
    buf_dispose(&idx);
    buf_dispose(&npy);
    buf_dispose(&gz);
    buf_dispose(&packed);
}

static void arrays_get_shape_and_statistics(void **state)
{
    struct buf idx = {0};
    struct err e = {0};
    struct schema *f = NULL, *l = NULL, *both = NULL;
    (void)state;
    aid_idx(&idx, 3, (uint32_t[]){2, 2, 2}, (const uint8_t *)"\0\1\2\3\4\5\6\7", 8);
    assert_int_equal(aid_scan(&f, idx.data, idx.len, 0, SCAN_FEATURES, &e), 0);
    assert_int_equal(f->columns[0].type, COLUMN_TENSOR);
    assert_int_equal(f->columns[0].rank, 2);
    assert_true(f->columns[0].mean == 3.5 && f->columns[0].max == 7);
    assert_true(fabs(f->columns[0].std - sqrt(5.25)) < 1e-12);
    buf_clear(&idx);
    aid_idx(&idx, 1, (uint32_t[]){2}, (const uint8_t *)"\5\2", 2);
    assert_int_equal(aid_scan(&l, idx.data, idx.len, 0, SCAN_LABELS, &e), 0);
    assert_int_equal(l->columns[0].type, COLUMN_NUMBER);
    assert_int_equal(l->columns[0].n_classes, 2);
    assert_int_equal(schema_join(&both, f, l, &e), 0);
    assert_string_equal(both->columns[1].name, "labels");
    schema_free(both);
    l->rows = 3;
    assert_int_equal(schema_join(&both, f, l, &e), ERR_INVALID);
    assert_string_equal(e.message, "there are 2 features and 3 labels; each row needs one label");
    schema_free(f);
    schema_free(l);
    buf_dispose(&idx);
}

static void truncated_and_overlong_arrays_are_refused_with_counts(void **state)
{
    struct buf b = {0};
    (void)state;
    aid_idx(&b, 2, (uint32_t[]){3, 4}, (const uint8_t *)"0123456789", 10);
    expect_refusal(
        b.data, b.len, SCAN_FEATURES, "features",
        "the file is cut short: its head announces 12 bytes of elements (3 rows), 10 came (2 whole rows)");
    expect_refusal(b.data, 9, SCAN_FEATURES, "features", "the file ends inside its head");
    buf_str(&b, "0123");
    expect_refusal(b.data, b.len, SCAN_FEATURES, "features",
                   "more bytes follow after the 12 elements that the file's head announces");
    buf_clear(&b);
    aid_idx(&b, 2, (uint32_t[]){0xFFFFFFFF, 0xFFFFFFFF}, NULL, 0);
    expect_refusal(b.data, b.len, SCAN_FEATURES, "features",
                   "a row of the array holds more than 2^30 numbers");
    expect_refusal("\0\0\7\1\0\0\0\1x", 9, SCAN_FEATURES, "features",
                   "not an IDX file: it must begin 00 00, a type of 08 09 0b 0c 0d 0e and a rank; this "
                   "begins 00 00 07 01");
    buf_dispose(&b);
}

static void npy_that_cannot_be_read_says_what_to_do(void **state)
{
    static const struct {
        const char *dict, *message;
    } corpus[] = {
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }",
         "the array is big-endian ('>f4'); save it little-endian, for example with a.astype('<f4')"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2,2), }",
         "the array is in Fortran order; save it in C order, for example with numpy.ascontiguousarray(a)"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
         "the array's element type '|O' is not offered; expected u1 u2 u4 u8 i1 i2 i4 i8 f4 f8 or bool"},
        {"{'descr': '<f4', 'shape': (2,), }",
         "the .npy header is malformed; expected a dict of descr, fortran_order and shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
         "the .npy header is malformed; expected a dict of descr, fortran_order and shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (), }",
         "the array has 0 dimensions; expected 1 to 6, the first one the rows"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof corpus[0]; i++) {
        struct buf b = {0};
        buf_append(&b, "\x93NUMPY\x01\x00", 8);
        buf_char(&b, (char)strlen(corpus[i].dict));
        buf_char(&b, 0);
        buf_str(&b, corpus[i].dict);
        expect_refusal(b.data, b.len, SCAN_FILE, "file", corpus[i].message);
        buf_dispose(&b);
    }
}

static void a_cut_or_damaged_gzip_stream_is_refused(void **state)
{
    const char *csv = "a,b\n1,2\n3,4\n5,6\n7,8\n";
    struct buf gz = {0};
    struct schema *s = NULL;
    struct err e = {0};
    (void)state;
    pack(&gz, csv, strlen(csv));
    assert_int_equal(aid_scan(&s, gz.data, gz.len - 5, 0, SCAN_FILE, &e), ERR_INVALID);
    assert_non_null(strstr(e.message, "the gzip stream is cut short"));
    gz.data[gz.len - 6] ^= 1; /* inside the checksum */
    assert_int_equal(aid_scan(&s, gz.data, gz.len, 0, SCAN_FILE, &e), ERR_INVALID);
    assert_non_null(strstr(e.message, "the gzip stream is damaged"));
    buf_dispose(&gz);
}

static void a_decompression_bomb_is_refused(void **state)
{
    size_t len = (size_t)80 << 20;
    char *zeros = mem_try_alloc(len, 1);
    struct buf gz = {0}, idx = {0};
    struct schema *s = NULL;
    struct err e = {0};
    (void)state;
    aid_idx(&idx, 2, (uint32_t[]){80, 1 << 20}, NULL, 0);
    memcpy(zeros, idx.data, idx.len);
    pack(&gz, zeros, len);
    assert_int_equal(aid_scan(&s, gz.data, gz.len, 65536, SCAN_FEATURES, &e), ERR_TOO_LARGE);
    assert_string_equal(e.message, "the gzip stream grows more than 400 times; upload it unpacked");
    mem_free(zeros);
    buf_dispose(&gz);
    buf_dispose(&idx);
}

static void a_failed_scanner_keeps_its_first_answer(void **state)
{
    struct scan_options o = {.role = SCAN_FILE, .format = -1};
    struct scan *scan = NULL;
    struct schema *s = NULL;
    struct err e = {0}, again = {0};
    (void)state;
    assert_int_equal(scan_create(&scan, &o, &e), 0);
    assert_int_equal(scan_push(scan, "a,a\n1,2\n", 8, &e), ERR_INVALID);
    assert_int_equal(scan_push(scan, "3,4\n", 4, &again), ERR_INVALID);
    assert_string_equal(e.message, again.message);
    assert_int_equal(scan_finish(scan, &s, &again), ERR_INVALID);
    assert_null(s);
    scan_free(scan);
}

static void a_schema_survives_its_json(void **state)
{
    struct schema *s = aid_csv("n,c,e\n1.5,x,\n2,y,\n"), *back = NULL;
    struct err e = {0};
    char *text = aid_schema_json(s);
    cJSON *node = aid_json(text);
    (void)state;
    assert_int_equal(schema_from_json(&back, node, "schema", &e), 0);
    char *again = aid_schema_json(back);
    assert_string_equal(text, again);
    cJSON_ReplaceItemInObjectCaseSensitive(node, "rows", cJSON_CreateNumber(0));
    struct schema *bad = NULL;
    assert_int_equal(schema_from_json(&bad, node, "schema", &e), ERR_INVALID);
    assert_string_equal(e.field, "schema.rows");
    cJSON_Delete(node);
    mem_free(text);
    mem_free(again);
    schema_free(s);
    schema_free(back);
}

static void no_memory_at_any_point_is_an_error_not_a_crash(void **state)
{
    const char *csv = "a,b,c\n1,x,2.5\n2,y,3\n";
    (void)state;
    for (size_t n = 1; n < 200; n++) {
        struct schema *s = NULL;
        struct err e = {0};
        mem_fail_at(n, true);
        int rc = aid_scan(&s, csv, strlen(csv), 0, SCAN_FILE, &e);
        mem_fail_at(0, false);
        if (rc == 0) {
            schema_free(s);
            assert_true(n > 3);
            return;
        }
        assert_null(s);
    }
    fail_msg("the scan never succeeded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_csv_is_refused_with_line_and_column),
        cmocka_unit_test(lines_are_counted_across_quoted_line_breaks),
        cmocka_unit_test(a_cell_beyond_the_limit_is_refused),
        cmocka_unit_test(columns_get_types_statistics_and_categories),
        cmocka_unit_test(integers_among_few_texts_are_categories_too),
        cmocka_unit_test(too_many_different_texts_are_free_text),
        cmocka_unit_test(every_split_of_an_upload_gives_the_same_schema),
        cmocka_unit_test(arrays_get_shape_and_statistics),
        cmocka_unit_test(truncated_and_overlong_arrays_are_refused_with_counts),
        cmocka_unit_test(npy_that_cannot_be_read_says_what_to_do),
        cmocka_unit_test(a_cut_or_damaged_gzip_stream_is_refused),
        cmocka_unit_test(a_decompression_bomb_is_refused),
        cmocka_unit_test(a_failed_scanner_keeps_its_first_answer),
        cmocka_unit_test(a_schema_survives_its_json),
        cmocka_unit_test(no_memory_at_any_point_is_an_error_not_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
