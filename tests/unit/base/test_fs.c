/* Files are read up to a bound, written whole or not at all, and trees are removed without following links.
 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/fs.h"
#include "base/mem.h"

static char home[] = "/tmp/test-fs-XXXXXX";
static char path_text[4][256];

/* A path below the test's folder; four may be in use at a time. */
static const char *at(const char *name)
{
    static int turn;
    char *out = path_text[turn++ % 4];
    snprintf(out, sizeof path_text[0], "%s/%s", home, name);
    return out;
}

static int make_home(void **state)
{
    (void)state;
    return mkdtemp(home) ? 0 : -1;
}

static int remove_home(void **state)
{
    (void)state;
    return fs_remove_tree(home, NULL);
}

static int entries_of_home(void)
{
    int n = 0;
    DIR *d = opendir(home);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void writes_a_whole_file_with_its_mode_and_no_left_overs(void **state)
{
    (void)state;
    struct err e = {0};
    int before = entries_of_home();
    mode_t mask = umask(077);
    assert_int_equal(fs_write_atomic(at("file"), "first", 5, 0644, &e), 0);
    umask(mask);
    assert_int_equal(fs_write_atomic(at("file"), "second!", 7, 0640, &e), 0);
    struct stat st;
    assert_int_equal(stat(at("file"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    struct buf b = {0};
    buf_str(&b, "> ");
    assert_int_equal(fs_read_all(&b, at("file"), 7, &e), 0);
    assert_string_equal(b.data, "> second!");
    buf_dispose(&b);
    assert_int_equal(entries_of_home(), before + 1);
}

static void a_write_that_fails_leaves_the_old_file(void **state)
{
    (void)state;
    struct err e = {0};
    int before = entries_of_home();
    assert_int_equal(fs_mkdir_p(at("taken/inside"), 0755, &e), 0);
    assert_int_equal(fs_write_atomic(at("taken"), "x", 1, 0644, &e), ERR_IO); /* a folder is in the way */
    assert_non_null(strstr(e.message, "rename"));
    assert_int_equal(entries_of_home(), before + 1);
    assert_int_equal(fs_write_atomic(at("absent/file"), "x", 1, 0644, &e), ERR_IO);
    assert_int_equal(fs_remove_tree(at("taken"), &e), 0);
}

static void reads_up_to_its_bound_and_no_further(void **state)
{
    (void)state;
    size_t len = 200000;
    char *data = malloc(len);
    for (size_t i = 0; i < len; i++) data[i] = (char)(i * 7);
    assert_int_equal(fs_write_atomic(at("big"), data, len, 0600, NULL), 0);
    struct buf b = {0};
    struct err e = {0};
    assert_int_equal(fs_read_all(&b, at("big"), len, &e), 0);
    assert_int_equal(b.len, len);
    assert_memory_equal(b.data, data, len);
    buf_clear(&b);
    assert_int_equal(fs_read_all(&b, at("big"), len - 1, &e), ERR_TOO_LARGE);
    buf_clear(&b);
    assert_int_equal(fs_read_all(&b, at("big"), SIZE_MAX, &e), 0);
    buf_clear(&b);
    assert_int_equal(fs_write_atomic(at("empty"), NULL, 0, 0600, NULL), 0);
    assert_int_equal(fs_read_all(&b, at("empty"), 0, &e), 0);
    assert_int_equal(b.len, 0);
    assert_int_equal(fs_read_all(&b, at("nothing"), 10, &e), ERR_NOT_FOUND);
    assert_int_equal(fs_read_all(&b, home, 10, &e), ERR_IO);
    buf_dispose(&b);
    free(data);
}

static void a_failed_allocation_is_reported(void **state)
{
    (void)state;
    assert_int_equal(fs_write_atomic(at("some"), "some text", 9, 0600, NULL), 0);
    struct buf b = {0};
    mem_fail_at(1, false);
    assert_int_equal(fs_read_all(&b, at("some"), 100, NULL), ERR_NOMEM);
    mem_fail_at(0, false);
    buf_dispose(&b);
}

static void makes_folders_on_the_way(void **state)
{
    (void)state;
    struct err e = {0};
    struct stat st;
    assert_int_equal(fs_mkdir_p(at("a/b//c/"), 0750, &e), 0);
    assert_int_equal(fs_mkdir_p(at("a/b/c"), 0750, &e), 0);
    assert_int_equal(stat(at("a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(fs_write_atomic(at("plain"), "x", 1, 0600, NULL), 0);
    assert_int_equal(fs_mkdir_p(at("plain"), 0750, &e), ERR_CONFLICT);
    assert_true(fs_mkdir_p(at("plain/below"), 0750, &e) < 0);
    assert_int_equal(fs_mkdir_p("", 0750, &e), ERR_INVALID);
    assert_int_equal(fs_sync_dir(at("a"), &e), 0);
    assert_int_equal(fs_sync_dir(at("plain"), &e), ERR_IO);
}

static void removes_trees_but_not_what_links_point_to(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(fs_mkdir_p(at("keep"), 0755, &e), 0);
    assert_int_equal(fs_write_atomic(at("keep/file"), "x", 1, 0600, &e), 0);
    assert_int_equal(fs_mkdir_p(at("tree/deep/deeper"), 0755, &e), 0);
    assert_int_equal(fs_write_atomic(at("tree/deep/file"), "x", 1, 0400, &e), 0);
    assert_int_equal(symlink(at("keep"), at("tree/deep/link")), 0);
    assert_int_equal(symlink("nowhere", at("tree/dangling")), 0);
    assert_int_equal(fs_remove_tree(at("tree"), &e), 0);
    assert_int_equal(access(at("tree"), F_OK), -1);
    assert_int_equal(access(at("keep/file"), F_OK), 0);
    assert_int_equal(fs_remove_tree(at("tree"), &e), 0);
    assert_int_equal(symlink(at("keep"), at("link")), 0);
    assert_int_equal(fs_remove_tree(at("link"), &e), 0);
    assert_int_equal(access(at("keep/file"), F_OK), 0);
}

static void pipes_close_on_exec_and_carry_all_bytes(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(fs_cloexec_pipe(fds, NULL), 0);
    assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(fds[1], F_GETFD) & FD_CLOEXEC);
    assert_int_equal(fs_write_all(fds[1], "hello", 5, NULL), 0);
    close(fds[1]);
    struct buf b = {0};
    assert_int_equal(fs_read_fd(&b, fds[0], 5, NULL), 0);
    assert_string_equal(b.data, "hello");
    buf_dispose(&b);
    close(fds[0]);
    struct err e = {0};
    assert_int_equal(fs_write_all(-1, "x", 1, &e), ERR_IO);
    assert_non_null(strstr(e.message, "Bad file descriptor"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_a_whole_file_with_its_mode_and_no_left_overs),
        cmocka_unit_test(a_write_that_fails_leaves_the_old_file),
        cmocka_unit_test(reads_up_to_its_bound_and_no_further),
        cmocka_unit_test(a_failed_allocation_is_reported),
        cmocka_unit_test(makes_folders_on_the_way),
        cmocka_unit_test(removes_trees_but_not_what_links_point_to),
        cmocka_unit_test(pipes_close_on_exec_and_carry_all_bytes),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
