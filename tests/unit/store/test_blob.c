/* Blobs on disk: what comes back is what went in, or an error; never something else. */
#include "scene.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>
#include "base/mem.h"

enum { CHUNK = BLOB_CHUNK_BYTES, STORED = BLOB_CHUNK_BYTES + GCM_TAG_LEN, HEADER = 8 };

static struct blob_key key_a;

static int open_key(void **state)
{
    struct err e;
    scene_up(state);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(blob_key_load(scene.gateway, scene.blobs, &key_a, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    return 0;
}

static unsigned char *pattern(size_t len, unsigned seed)
{
    unsigned char *p = mem_alloc(len ? len : 1, 1);
    for (size_t i = 0; i < len; i++) p[i] = (unsigned char)((seed = seed * 1103515245u + 12345u) >> 16);
    return p;
}

static void write_blob(const void *data, size_t len, size_t step, struct blob *out)
{
    struct err e;
    struct blob_writer *w;
    assert_ok(blob_writer_create(&w, scene.blobs, &key_a, 1 << 30, &e), e);
    for (size_t at = 0; at < len; at += step)
        assert_ok(blob_writer_append(w, (const char *)data + at, len - at < step ? len - at : step, &e), e);
    assert_int_equal(blob_writer_bytes(w), len);
    assert_ok(blob_writer_finish(w, out, &e), e);
    blob_writer_free(w);
}

/* 0 or the error; on success the bytes are compared. */
static int read_blob(const struct blob_key *k, const struct blob *b, const void *want, size_t step)
{
    struct err e;
    struct blob_reader *r;
    int rc = blob_reader_open(&r, scene.blobs, k, b, &e);
    if (rc) return rc;
    char *piece = mem_alloc(step, 1);
    size_t got = 1, at = 0;
    while (!rc && got > 0) {
        rc = blob_reader_read(r, piece, step, &got, &e);
        if (!rc) {
            assert_true(at + got <= (size_t)b->bytes);
            assert_memory_equal(piece, (const char *)want + at,
                                got); /* nothing unverified is ever handed out */
        }
        at += got;
    }
    if (!rc) assert_int_equal(at, b->bytes);
    mem_free(piece);
    blob_reader_free(r);
    return rc;
}

static void path_of(char out[256], const struct blob *b)
{
    snprintf(out, 256, "%s/blobs/%s/%s", pg_fixture_dir(), scene.a.id, b->file);
}

static void any_size_comes_back_as_it_went_in(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 777};
    const size_t steps[] = {1 << 20, 1000, CHUNK};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *data = pattern(sizes[i], (unsigned)i);
        for (size_t s = 0; s < 3; s++) {
            struct blob b;
            write_blob(data, sizes[i], steps[s], &b);
            assert_int_equal(b.bytes, sizes[i]);
            assert_int_equal(read_blob(&key_a, &b, data, steps[s]), 0);
        }
        mem_free(data);
    }
}

static void the_name_is_the_contents_hash_and_the_file_holds_no_plain_byte_run(void **state)
{
    (void)state;
    char text[4096];
    for (size_t i = 0; i < sizeof text; i++) text[i] = "needle in a haystack "[i % 21];
    struct blob b;
    write_blob(text, sizeof text, sizeof text, &b);
    uint8_t digest[SHA256_LEN];
    char hex[SHA256_HEX_LEN], path[256], stored[8192];
    crypto_sha256(digest, text, sizeof text);
    assert_string_equal(b.sha256, crypto_hex(hex, digest, sizeof digest));
    path_of(path, &b);
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, stored, sizeof stored);
    close(fd);
    assert_int_equal(n, HEADER + sizeof text + GCM_TAG_LEN);
    assert_null(memmem(stored, (size_t)n, "needle", 6));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void change_byte(const char *path, off_t at)
{
    unsigned char c;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &c, 1, at), 1);
    c ^= 0x10;
    assert_int_equal(pwrite(fd, &c, 1, at), 1);
    close(fd);
}

static void a_flipped_bit_anywhere_is_noticed(void **state)
{
    (void)state;
    size_t len = 2 * CHUNK + 100;
    unsigned char *data = pattern(len, 7);
    struct blob b;
    char path[256];
    write_blob(data, len, 1 << 20, &b);
    path_of(path, &b);
    const off_t places[] = {0,
                            HEADER,
                            HEADER + 5000,
                            HEADER + CHUNK,
                            HEADER + STORED,
                            HEADER + 2 * STORED + 3,
                            HEADER + 2 * STORED + 100 + GCM_TAG_LEN - 1};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        change_byte(path, places[i]);
        assert_err(ERR_CORRUPT, read_blob(&key_a, &b, data, 1000));
        change_byte(path, places[i]);
        assert_int_equal(read_blob(&key_a, &b, data, 1000), 0);
    }
    mem_free(data);
}

static void a_cut_or_grown_file_is_noticed(void **state)
{
    (void)state;
    size_t len = 2 * CHUNK;
    unsigned char *data = pattern(len, 9);
    const off_t lengths[] = {0, HEADER, HEADER + STORED, HEADER + 2 * STORED - 1, HEADER + 2 * STORED + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct blob b;
        char path[256];
        write_blob(data, len, 1 << 20, &b);
        path_of(path, &b);
        assert_int_equal(truncate(path, lengths[i]), 0);
        assert_err(ERR_CORRUPT, read_blob(&key_a, &b, data, 1000));
        /* Also when the row were made to agree: the last chunk does not say that it is the last. */
        b.bytes = CHUNK;
        if (lengths[i] == HEADER + STORED) assert_err(ERR_CORRUPT, read_blob(&key_a, &b, data, 1000));
        unlink(path);
        assert_err(ERR_CORRUPT, read_blob(&key_a, &b, data, 1000));
    }
    mem_free(data);
}

static void swapped_chunks_are_noticed(void **state)
{
    (void)state;
    size_t len = 3 * CHUNK;
    unsigned char *data = pattern(len, 11), *x = mem_alloc(STORED, 1), *y = mem_alloc(STORED, 1);
    struct blob b;
    char path[256];
    write_blob(data, len, 1 << 20, &b);
    path_of(path, &b);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, x, STORED, HEADER), STORED);
    assert_int_equal(pread(fd, y, STORED, HEADER + STORED), STORED);
    assert_int_equal(pwrite(fd, y, STORED, HEADER), STORED);
    assert_int_equal(pwrite(fd, x, STORED, HEADER + STORED), STORED);
    close(fd);
    assert_err(ERR_CORRUPT, read_blob(&key_a, &b, data, 1000));
    mem_free(data);
    mem_free(x);
    mem_free(y);
}

static void another_tenants_key_opens_nothing(void **state)
{
    (void)state;
    struct err e;
    struct blob b;
    struct blob_key other;
    write_blob("secret", 6, 6, &b);
    assert_ok(db_begin(scene.gateway, scene.b.id, &e), e);
    assert_ok(blob_key_load(scene.gateway, scene.blobs, &other, &e), e);
    db_rollback(scene.gateway);
    assert_err(ERR_CORRUPT, read_blob(&other, &b, "secret", 10));
    memcpy(other.tenant_id, key_a.tenant_id, sizeof other.tenant_id);
    assert_err(ERR_CORRUPT, read_blob(&other, &b, "secret", 10));
}

static void a_writer_stops_at_its_limit_and_leaves_nothing_behind(void **state)
{
    (void)state;
    struct err e;
    struct blob_writer *w;
    char command[200];
    assert_ok(blob_writer_create(&w, scene.blobs, &key_a, 10, &e), e);
    assert_ok(blob_writer_append(w, "0123456789", 10, &e), e);
    assert_err(ERR_TOO_LARGE, blob_writer_append(w, "x", 1, &e));
    blob_writer_free(w);
    snprintf(command, sizeof command, "test -z \"$(find %s/blobs -name '.tmp-*')\"", pg_fixture_dir());
    assert_int_equal(system(command), 0);
}

static void what_was_stored_in_vain_is_gone_at_once(void **state)
{
    (void)state;
    struct blob b;
    char path[256];
    write_blob("in vain", 7, 7, &b);
    path_of(path, &b);
    assert_int_equal(access(path, F_OK), 0);
    blob_discard(scene.blobs, scene.a.id, &b);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void the_same_content_is_one_row_and_the_first_file_counts(void **state)
{
    (void)state;
    struct err e;
    struct blob first, second, found;
    write_blob("twice", 5, 5, &first);
    write_blob("twice", 5, 5, &second);
    assert_string_not_equal(first.file, second.file);
    char file[BLOB_FILE_MAX];
    memcpy(file, first.file, sizeof file);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(blob_put(scene.gateway, &first, &e), e);
    assert_ok(blob_put(scene.gateway, &second, &e), e);
    assert_string_equal(second.file, file);
    assert_ok(blob_find(scene.gateway, first.sha256, &found, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_string_equal(found.file, file);
    assert_int_equal(read_blob(&key_a, &second, "twice", 10), 0); /* with the row's key */
}

static bool exists(const struct blob *b)
{
    char path[256];
    path_of(path, b);
    return access(path, F_OK) == 0;
}

static void make_old(const struct blob *b)
{
    char path[256], sql[300];
    path_of(path, b);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    struct utimbuf t = {st.st_atime - 7200, st.st_mtime - 7200};
    assert_int_equal(utime(path, &t), 0);
    snprintf(sql, sizeof sql,
             "UPDATE blobs SET touched_at = touched_at - interval '2 hours' WHERE sha256 = '%s'", b->sha256);
    pg_fixture_exec(sql);
}

static void put(struct blob *b)
{
    struct err e;
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(blob_put(scene.gateway, b, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
}

static void the_collector_takes_what_is_old_and_unreferenced_and_nothing_else(void **state)
{
    (void)state;
    struct err e;
    struct blob young, orphan, unreferenced, recent, used;
    char id[ID_MAX];
    int64_t removed;
    write_blob("young file without row", 22, 64, &young);
    write_blob("old file without row", 20, 64, &orphan);
    write_blob("old row without reference", 25, 64, &unreferenced);
    write_blob("young row without reference", 27, 64, &recent);
    put(&unreferenced);
    put(&recent);
    scene_dataset(scene.a.id, "used", id); /* its content is its name */
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    struct dataset d;
    assert_ok(dataset_find(scene.gateway, id, &scene.arena, &d, &e), e);
    assert_ok(blob_find(scene.gateway, d.parts[0].sha256, &used, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    make_old(&orphan);
    make_old(&unreferenced);
    make_old(&used);
    assert_ok(blob_collect(scene.scheduler, scene.blobs, 3600, &removed, &e), e);
    assert_int_equal(removed, 2);
    assert_true(exists(&young) && exists(&recent) && exists(&used));
    assert_false(exists(&orphan) || exists(&unreferenced));
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_err(ERR_NOT_FOUND, blob_find(scene.gateway, unreferenced.sha256, &young, &e));
    /* Deleting the dataset lets go of its blob. */
    assert_ok(dataset_delete(scene.gateway, id, &pg_fixture_actor, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_ok(blob_collect(scene.scheduler, scene.blobs, 3600, &removed, &e), e);
    assert_int_equal(removed, 1);
    assert_false(exists(&used));
}

static void a_put_saves_an_old_blob_from_the_collector(void **state)
{
    (void)state;
    struct err e;
    struct blob b;
    int64_t removed;
    write_blob("put again", 9, 9, &b);
    put(&b);
    make_old(&b);
    put(&b);
    assert_ok(blob_collect(scene.scheduler, scene.blobs, 3600, &removed, &e), e);
    assert_true(exists(&b));
    assert_int_equal(read_blob(&key_a, &b, "put again", 20), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_size_comes_back_as_it_went_in),
        cmocka_unit_test(the_name_is_the_contents_hash_and_the_file_holds_no_plain_byte_run),
        cmocka_unit_test(a_flipped_bit_anywhere_is_noticed),
        cmocka_unit_test(a_cut_or_grown_file_is_noticed),
        cmocka_unit_test(swapped_chunks_are_noticed),
        cmocka_unit_test(another_tenants_key_opens_nothing),
        cmocka_unit_test(a_writer_stops_at_its_limit_and_leaves_nothing_behind),
        cmocka_unit_test(what_was_stored_in_vain_is_gone_at_once),
        cmocka_unit_test(the_same_content_is_one_row_and_the_first_file_counts),
        cmocka_unit_test(the_collector_takes_what_is_old_and_unreferenced_and_nothing_else),
        cmocka_unit_test(a_put_saves_an_old_blob_from_the_collector),
    };
    return cmocka_run_group_tests(tests, open_key, scene_down);
}
