/* Children and feeders as the supervisor holds them. This program stands in for tenor-runner, so that each
 * kind of (mis)behaviour can be ordered by its first line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/crypto.h"
#include "base/fs.h"
#include "worker/runner.h"
#include "worker/supervisor_child.h"
#include "worker/supervisor_feed.h"

enum { PATIENCE_MS = 30000, TURN_MS = 200 };

static char self[4096];
static char folder[] = "/tmp/tenor-test-child-XXXXXX";

/* ---- the stand-in ---- */

static void answer(const char *text)
{
    if (write(RUNNER_CONTROL_FD, text, strlen(text)) < 0) _exit(97);
}

static void list_descriptors(void)
{
    char line[256] = "";
    DIR *d = opendir("/proc/self/fd");
    for (int fd = 0; fd < 64; fd++) {
        struct stat st;
        if (fd == dirfd(d) || fstat(fd, &st) != 0) continue;
        snprintf(line + strlen(line), sizeof line - strlen(line), "%d%s ", fd,
                 S_ISSOCK(st.st_mode)   ? "socket"
                 : S_ISFIFO(st.st_mode) ? "pipe"
                 : S_ISREG(st.st_mode)  ? "file"
                                        : "");
    }
    closedir(d);
    strcat(line, "\n");
    answer(line);
}

static void list_environment(void)
{
    char line[1024] = "";
    for (char **v = environ; *v; v++) {
        strncat(line, *v, 200);
        strcat(line, " ");
    }
    strcat(line, "\n");
    answer(line);
}

static void flood(void)
{
    static char bytes[1 << 16];
    memset(bytes, 'x', sizeof bytes);
    while (write(RUNNER_CONTROL_FD, bytes, sizeof bytes) > 0) continue;
    _exit(1);
}

static int stand_in(void)
{
    char line[256];
    ssize_t n = read(RUNNER_CONTROL_FD, line, sizeof line - 1);
    if (n <= 0) return 96;
    line[n] = '\0';
    if (strcmp(line, "descriptors\n") == 0) list_descriptors();
    if (strcmp(line, "environment\n") == 0) list_environment();
    if (strcmp(line, "crash\n") == 0) {
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would answer it */
        raise(SIGSEGV);
    }
    if (strcmp(line, "flood\n") == 0) flood();
    if (strcmp(line, "artifact\n") == 0) return write(RUNNER_ARTIFACT_FD, "weights", 7) == 7 ? 0 : 95;
    if (strcmp(line, "hang\n") == 0) {
        answer("hanging\n");
        for (;;) pause();
    }
    if (strcmp(line, "last words\n") == 0) answer("one\ntwo\n");
    return 0;
}

/* ---- helpers ---- */

static void spawn(struct child *c, const int *inputs, size_t n)
{
    struct child_config config = {.runner = self, .folder = folder, .input_fds = inputs, .n_inputs = n};
    struct err e = {0};
    if (child_spawn(c, &config, &e) != 0) fail_msg("%s", e.message);
}

/* Polls until a line came or the child is silent for good. */
static char *next_line(struct child *c, int wake_fd, size_t *len)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    struct err e = {0};
    char *line;
    while ((line = child_line(c, len)) == NULL && !c->closed) {
        assert_true(clock_mono_ms() < until_ms);
        assert_int_equal(child_poll(c, wake_fd, TURN_MS, &e), 0);
    }
    if (line) line[*len] = '\0';
    return line;
}

static void wait_for_exit(struct child *c, int wake_fd)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    struct err e = {0};
    while (!child_reap(c)) {
        assert_true(clock_mono_ms() < until_ms);
        assert_int_equal(child_poll(c, wake_fd, TURN_MS, &e), 0);
    }
}

static void dispose(struct child *c)
{
    int artifact = child_dispose(c);
    if (artifact >= 0) close(artifact);
}

static int wake_fd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(fd >= 0);
    return fd;
}

/* ---- children ---- */

static void a_child_has_exactly_its_descriptors(void **state)
{
    (void)state;
    int fds[2], wake = wake_fd(), leak = dup(1); /* not close-on-exec: must not get through either */
    size_t len;
    struct child c;
    assert_int_equal(pipe(fds), 0);
    spawn(&c, fds, 1);
    child_send(&c, "descriptors", 11);
    char *line = next_line(&c, wake, &len);
    assert_non_null(line);
    assert_non_null(strstr(line, "3socket 4file 5file 6file 7pipe "));
    assert_string_equal(strstr(line, "7pipe "), "7pipe ");
    child_line_done(&c, len);
    wait_for_exit(&c, wake);
    assert_true(WIFEXITED(c.status));
    dispose(&c);
    close(fds[0]);
    close(fds[1]);
    close(leak);
    close(wake);
}

static void a_child_inherits_no_environment(void **state)
{
    (void)state;
    int wake = wake_fd();
    size_t len;
    struct child c;
    assert_int_equal(setenv("TENOR_SECRET", "do not tell", 1), 0);
    spawn(&c, NULL, 0);
    child_send(&c, "environment", 11);
    char *line = next_line(&c, wake, &len);
    assert_non_null(line);
    assert_string_equal(line, "OPENBLAS_NUM_THREADS=1 ");
    dispose(&c);
    close(wake);
}

static void what_a_child_said_before_it_died_is_heard(void **state)
{
    (void)state;
    int wake = wake_fd();
    size_t len;
    struct child c;
    spawn(&c, NULL, 0);
    child_send(&c, "last words", 10);
    wait_for_exit(&c, wake);
    char *line = next_line(&c, wake, &len);
    assert_string_equal(line, "one");
    child_line_done(&c, len);
    line = next_line(&c, wake, &len);
    assert_string_equal(line, "two");
    child_line_done(&c, len);
    assert_null(next_line(&c, wake, &len));
    dispose(&c);
    close(wake);
}

static void a_crash_is_told_by_its_signal(void **state)
{
    (void)state;
    int wake = wake_fd();
    struct child c;
    spawn(&c, NULL, 0);
    child_send(&c, "crash", 5);
    wait_for_exit(&c, wake);
    assert_true(WIFSIGNALED(c.status));
    assert_int_equal(WTERMSIG(c.status), SIGSEGV);
    dispose(&c);
    close(wake);
}

static void a_hanging_child_is_killed_and_a_wish_wakes_the_listener(void **state)
{
    (void)state;
    int wake = wake_fd();
    size_t len;
    struct child c;
    struct err e = {0};
    spawn(&c, NULL, 0);
    child_send(&c, "hang", 4);
    assert_string_equal(next_line(&c, wake, &len), "hanging");
    child_line_done(&c, len);
    uint64_t one = 1;
    assert_int_equal(write(wake, &one, sizeof one), sizeof one);
    int64_t began_ms = clock_mono_ms();
    assert_int_equal(child_poll(&c, wake, PATIENCE_MS, &e), 0);
    assert_true(clock_mono_ms() - began_ms < PATIENCE_MS / 2);
    assert_true(read(wake, &one, sizeof one) < 0); /* taken */
    child_kill(&c, SIGKILL);
    wait_for_exit(&c, wake);
    assert_int_equal(WTERMSIG(c.status), SIGKILL);
    dispose(&c);
    close(wake);
}

static void a_line_without_end_is_refused(void **state)
{
    (void)state;
    int wake = wake_fd(), rc = 0;
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    struct child c;
    struct err e = {0};
    spawn(&c, NULL, 0);
    child_send(&c, "flood", 5);
    while (rc == 0 && clock_mono_ms() < until_ms) rc = child_poll(&c, wake, TURN_MS, &e);
    assert_int_equal(rc, ERR_TOO_LARGE);
    dispose(&c);
    close(wake);
}

static void the_artifact_outlives_the_child(void **state)
{
    (void)state;
    int wake = wake_fd();
    char text[8] = "";
    struct child c;
    spawn(&c, NULL, 0);
    child_send(&c, "artifact", 8);
    wait_for_exit(&c, wake);
    assert_int_equal(c.status, 0);
    int artifact = child_dispose(&c);
    assert_int_equal(pread(artifact, text, 7, 0), 7);
    assert_string_equal(text, "weights");
    close(artifact);
    close(wake);
}

static void a_runner_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    struct child c;
    struct err e = {0};
    struct child_config config = {.runner = "/nonexistent/tenor-runner", .folder = folder};
    assert_int_equal(child_spawn(&c, &config, &e), ERR_INTERNAL);
    assert_non_null(strstr(e.message, "/nonexistent/tenor-runner"));
}

/* ---- feeders ---- */

enum { BLOB_BYTES = 3 * BLOB_CHUNK_BYTES + 1000 };

struct store {
    struct keyring keyring;
    struct blob_store *blobs;
    struct blob_key key;
    struct blob blob;
};

static void make_blob(struct store *s, const char *tenant)
{
    struct blob_writer *w = NULL;
    struct err e = {0};
    char dir[256];
    static char plain[BLOB_BYTES];
    for (size_t i = 0; i < BLOB_BYTES; i++) plain[i] = (char)(i * 7 % 251);
    memset(s, 0, sizeof *s);
    snprintf(dir, sizeof dir, "%s/blobs", folder);
    snprintf(s->key.tenant_id, sizeof s->key.tenant_id, "%s", tenant);
    memset(s->key.key, 9, sizeof s->key.key);
    if (blob_store_open(&s->blobs, dir, &s->keyring, &e) != 0 ||
        blob_writer_create(&w, s->blobs, &s->key, BLOB_BYTES, &e) != 0 ||
        blob_writer_append(w, plain, BLOB_BYTES, &e) != 0 || blob_writer_finish(w, &s->blob, &e) != 0) {
        fail_msg("%s", e.message);
    }
    blob_writer_free(w);
}

static void a_feeder_pours_the_whole_blob_into_the_pipe(void **state)
{
    (void)state;
    struct store s;
    struct feed f;
    struct err e = {0};
    struct buf got = {0};
    int fd;
    make_blob(&s, "ten_01jd0000000000000000000001");
    assert_int_equal(feed_start(&f, &fd, s.blobs, &s.key, &s.blob, &e), 0);
    assert_int_equal(fs_read_fd(&got, fd, SIZE_MAX, &e), 0);
    assert_int_equal(feed_join(&f, &e), 0);
    assert_int_equal(got.len, BLOB_BYTES);
    assert_int_equal((unsigned char)got.data[BLOB_BYTES - 1], (BLOB_BYTES - 1) * 7 % 251);
    buf_dispose(&got);
    close(fd);
    blob_store_free(s.blobs);
}

static void a_reader_that_leaves_early_is_no_error(void **state)
{
    (void)state;
    struct store s;
    struct feed f;
    struct err e = {0};
    int fd;
    make_blob(&s, "ten_01jd0000000000000000000002");
    assert_int_equal(feed_start(&f, &fd, s.blobs, &s.key, &s.blob, &e), 0);
    close(fd);
    assert_int_equal(feed_join(&f, &e), 0);
    blob_store_free(s.blobs);
}

static void a_blob_that_was_tampered_with_is_reported(void **state)
{
    (void)state;
    struct store s;
    struct feed f;
    struct err e = {0};
    struct buf got = {0};
    int fd;
    make_blob(&s, "ten_01jd0000000000000000000003");
    s.key.key[0] ^= 1; /* as good as a tampered file: nothing verifies */
    assert_int_equal(feed_start(&f, &fd, s.blobs, &s.key, &s.blob, &e), 0);
    assert_int_equal(fs_read_fd(&got, fd, SIZE_MAX, &e), 0);
    assert_int_equal(feed_join(&f, &e), ERR_CORRUPT);
    assert_int_equal(got.len, 0);
    buf_dispose(&got);
    close(fd);
    blob_store_free(s.blobs);
}

static int make_folder(void **state)
{
    (void)state;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    signal(SIGPIPE, SIG_IGN);
    crypto_init();
    return n > 0 && mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return fs_remove_tree(folder, NULL);
}

int main(int argc, char **argv)
{
    (void)argc;
    if (strcmp(argv[0], "tenor-runner") == 0) return stand_in();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_has_exactly_its_descriptors),
        cmocka_unit_test(a_child_inherits_no_environment),
        cmocka_unit_test(what_a_child_said_before_it_died_is_heard),
        cmocka_unit_test(a_crash_is_told_by_its_signal),
        cmocka_unit_test(a_hanging_child_is_killed_and_a_wish_wakes_the_listener),
        cmocka_unit_test(a_line_without_end_is_refused),
        cmocka_unit_test(the_artifact_outlives_the_child),
        cmocka_unit_test(a_runner_that_is_not_there_is_an_error),
        cmocka_unit_test(a_feeder_pours_the_whole_blob_into_the_pipe),
        cmocka_unit_test(a_reader_that_leaves_early_is_no_error),
        cmocka_unit_test(a_blob_that_was_tampered_with_is_reported),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
