/* The artifact's container: what is written comes back, and no lie in a header is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fs.h"
#include "learn/safetensors.h"
#include "tests/unit/learn/aid.h"

static void what_is_written_comes_back(void **state)
{
    static const float a[6] = {1, 2, 3, 4, 5, 6}, b[1] = {7};
    struct safetensor list[] = {
        {.name = "dense/kernel", .dtype = "F32", .rank = 2, .dim = {2, 3}, .data = a, .bytes = sizeof a},
        {.name = "b\"ias", .dtype = "F32", .rank = 1, .dim = {1}, .data = b, .bytes = sizeof b}};
    struct safetensors_meta meta[] = {{"tenor.format", "x"}, {"tenor.metrics", "{\"a\":\"\\n\"}"}};
    struct safetensors *s = NULL;
    struct err e = {0};
    struct buf file = {0};
    uint64_t written = 0;
    int fd = memfd_create("st", MFD_CLOEXEC);
    (void)state;
    assert_int_equal(safetensors_write(fd, meta, 2, list, 2, &written, &e), 0);
    lseek(fd, 0, SEEK_SET);
    assert_int_equal(fs_read_fd(&file, fd, 1 << 20, &e), 0);
    close(fd);
    assert_int_equal(file.len, written);
    assert_int_equal(safetensors_open(&s, file.data, file.len, &e), 0);
    assert_int_equal(safetensors_count(s), 2);
    const struct safetensor *t = safetensors_find(s, "dense/kernel");
    assert_non_null(t);
    assert_int_equal(t->dim[1], 3);
    assert_memory_equal(t->data, a, sizeof a);
    assert_int_equal(((const char *)t->data - file.data) % 8, 0);
    assert_memory_equal(safetensors_find(s, "b\"ias")->data, b, sizeof b);
    assert_string_equal(safetensors_metadata(s, "tenor.metrics"), "{\"a\":\"\\n\"}");
    assert_null(safetensors_metadata(s, "nothing"));
    safetensors_free(s);
    for (size_t cut = 0; cut < file.len; cut++) { /* every truncation is seen */
        assert_int_equal(safetensors_open(&s, file.data, cut, &e), ERR_CORRUPT);
        assert_null(s);
    }
    buf_dispose(&file);
}

static void make(struct buf *out, const char *header, size_t data)
{
    buf_clear(out);
    for (int i = 0; i < 8; i++) buf_char(out, (char)(strlen(header) >> (8 * i)));
    buf_str(out, header);
    for (size_t i = 0; i < data; i++) buf_char(out, 1);
}

static void headers_that_lie_are_refused(void **state)
{
    static const struct {
        const char *header;
        size_t data;
        const char *what;
    } corpus[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":"
         "[2],"
         "\"data_offsets\":[4,12]}}",
         12, "tensors that overlap or leave a hole: b"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
         "tensors that overlap or leave a hole: a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 8,
         "bytes behind the last tensor"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 3,
         "data_offsets outside the file: a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4,
         "data_offsets outside the file: a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4,
         "data_offsets outside the file: a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4,
         "a shape that does not agree with the tensor's bytes: a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
         "a shape that overflows: a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4,
         "a dimension that is no size: a"},
        {"{\"a\":{\"dtype\":\"OBJ\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "an unknown dtype: a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4,
         "an entry with other fields: a"},
        {"{\"__metadata__\":{\"k\":1}}", 0, "a metadata value that is no text: k"},
        {"[1]", 0, "the header does not begin with '{'"},
    };
    struct buf b = {0};
    char want[200];
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof corpus[0]; i++) {
        struct safetensors *s = NULL;
        struct err e = {0};
        make(&b, corpus[i].header, corpus[i].data);
        assert_int_equal(safetensors_open(&s, b.data, b.len, &e), ERR_CORRUPT);
        snprintf(want, sizeof want, "not a sound safetensors file: %s", corpus[i].what);
        assert_string_equal(e.message, want);
    }
    buf_dispose(&b);
}

static void a_header_longer_than_the_file_or_the_limit_is_refused_before_it_is_read(void **state)
{
    static const unsigned char huge[16] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, '{', '}'};
    static const unsigned char past[16] = {9, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    struct safetensors *s = NULL;
    struct err e = {0};
    (void)state;
    assert_int_equal(safetensors_open(&s, huge, sizeof huge, &e), ERR_CORRUPT);
    assert_int_equal(safetensors_open(&s, past, sizeof past, &e), ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_comes_back),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(a_header_longer_than_the_file_or_the_limit_is_refused_before_it_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
