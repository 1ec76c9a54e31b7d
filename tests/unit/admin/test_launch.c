/* The launcher's pieces that need no server: homes, secrets, addresses, processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/launch/address.h"
#include "admin/launch/home.h"
#include "admin/launch/process.h"
#include "base/crypto.h"
#include "base/fs.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/tenor-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return fs_remove_tree(folder, NULL);
}

static void open_home(struct home *h, const char *leaf)
{
    char path[PATH_MAX];
    struct err e = {0};
    snprintf(path, sizeof path, "%s/%s", folder, leaf);
    assert_int_equal(home_find(h, path, &e), 0);
    assert_int_equal(home_create(h, &e), 0);
}

static void a_home_keeps_its_secrets_and_they_are_private(void **state)
{
    (void)state;
    struct home h;
    char first[HOME_SECRET_HEX_LEN], second[HOME_SECRET_HEX_LEN], path[PATH_MAX];
    open_home(&h, "a");
    assert_int_equal(home_secret(&h, "x", first, NULL), 0);
    assert_int_equal(home_secret(&h, "x", second, NULL), 0);
    assert_string_equal(first, second);
    assert_int_equal(strspn(first, "0123456789abcdef"), 64);
    home_path(&h, "etc/x", path);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(home_secret(&h, "y", second, NULL), 0);
    assert_string_not_equal(first, second);
}

static void a_damaged_secret_is_reported_not_replaced(void **state)
{
    (void)state;
    struct home h;
    struct err e = {0};
    char hex[HOME_SECRET_HEX_LEN], path[PATH_MAX];
    open_home(&h, "a");
    home_path(&h, "etc/x", path);
    assert_int_equal(fs_write_atomic(path, "short", 5, 0600, NULL), 0);
    assert_int_equal(home_secret(&h, "x", hex, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.message, "etc/x"));
}

static void two_launchers_do_not_work_on_one_home(void **state)
{
    (void)state;
    struct home first, second;
    struct err e = {0};
    open_home(&first, "a");
    open_home(&second, "a");
    assert_int_equal(home_lock(&first, &e), 0);
    assert_int_equal(home_lock(&second, &e), ERR_CONFLICT);
    home_unlock(&first);
    assert_int_equal(home_lock(&second, &e), 0);
    home_unlock(&second);
}

static void a_long_home_has_its_sockets_elsewhere_and_gives_them_back(void **state)
{
    (void)state;
    struct home h, again;
    char leaf[120], path[PATH_MAX];
    memset(leaf, 'd', sizeof leaf - 1);
    leaf[sizeof leaf - 1] = '\0';
    open_home(&h, leaf);
    assert_true(strlen(h.sockets) < HOME_SOCKETS_MAX - 1);
    assert_null(strstr(h.sockets, folder));
    open_home(&again, leaf);
    assert_string_equal(h.sockets, again.sockets);
    home_socket(&h, "redis.sock", path);
    assert_true(strlen(path) < 107);
    home_release_sockets(&h);
    assert_int_not_equal(access(h.sockets, F_OK), 0);
}

static void somebody_else_s_folder_of_sockets_is_refused(void **state)
{
    (void)state;
    struct home h;
    struct err e = {0};
    char path[PATH_MAX], leaf[120];
    memset(leaf, 'e', sizeof leaf - 1);
    leaf[sizeof leaf - 1] = '\0';
    snprintf(path, sizeof path, "%s/%s", folder, leaf);
    assert_int_equal(home_find(&h, path, &e), 0);
    assert_int_equal(symlink("/tmp", h.sockets), 0);
    assert_int_equal(home_create(&h, &e), ERR_IO);
    assert_non_null(strstr(e.message, h.sockets));
    assert_int_equal(unlink(h.sockets), 0);
}

static void a_taken_port_is_told_in_plain_words(void **state)
{
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    char text[ADDRESS_TEXT_MAX], out[ADDRESS_TEXT_MAX];
    struct err e = {0};
    snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(at.sin_port));
    assert_int_equal(address_claim(text, "listen", out, &e), ERR_CONFLICT);
    assert_string_equal(e.field, "listen");
    assert_non_null(strstr(e.message, "is taken"));
    close(fd);
    assert_int_equal(address_claim(text, "listen", out, &e), 0);
    assert_string_equal(out, text);
}

static void port_zero_becomes_a_real_one(void **state)
{
    (void)state;
    char out[ADDRESS_TEXT_MAX], reach[ADDRESS_TEXT_MAX];
    assert_int_equal(address_claim("127.0.0.1:0", "listen", out, NULL), 0);
    assert_true(atoi(strrchr(out, ':') + 1) > 0);
    address_reachable("0.0.0.0:81", reach);
    assert_string_equal(reach, "127.0.0.1:81");
    address_reachable("[::]:81", reach);
    assert_string_equal(reach, "[::1]:81");
    address_reachable("10.1.2.3:81", reach);
    assert_string_equal(reach, "10.1.2.3:81");
}

static void a_text_that_is_no_address_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "8080", "host:", "127.0.0.1:123456", "127.0.0.1:http", "no.such.host.invalid:80"};
    char out[ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        assert_int_equal(address_claim(bad[i], "listen", out, &e), ERR_INVALID);
        assert_string_equal(e.field, "listen");
    }
}

static void a_spawned_process_is_found_and_stopped(void **state)
{
    (void)state;
    struct home h;
    struct err e = {0};
    pid_t pid;
    open_home(&h, "a");
    const char *argv[] = {"/bin/sh", "-c", "read x < /dev/zero", NULL};
    assert_int_equal(process_spawn(&h, &(struct process_spec){.name = "cat", .argv = argv}, &pid, &e), 0);
    assert_int_equal(process_find(&h, "cat"), pid);
    assert_true(process_age_ms(pid) >= 0);
    assert_false(process_stop(&h, "cat", SIGTERM, 5000));
    assert_int_equal(process_find(&h, "cat"), 0);
}

static void a_process_that_ignores_the_signal_is_killed(void **state)
{
    (void)state;
    struct home h;
    pid_t pid;
    open_home(&h, "a");
    const char *argv[] = {"/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do read x < /dev/zero; done",
                          NULL};
    assert_int_equal(process_spawn(&h, &(struct process_spec){.name = "deaf", .argv = argv}, &pid, NULL), 0);
    char tail[64] = "";
    while (!strstr(tail, "deaf")) process_log_tail(&h, "deaf", tail, sizeof tail);
    assert_true(process_stop(&h, "deaf", SIGTERM, 50));
    assert_int_equal(process_find(&h, "deaf"), 0);
}

static void a_pid_that_belongs_to_somebody_else_now_is_not_ours(void **state)
{
    (void)state;
    struct home h;
    char path[PATH_MAX], text[64];
    open_home(&h, "a");
    home_path(&h, "run/old.pid", path);
    int n = snprintf(text, sizeof text, "%d 12345\n", (int)getpid());
    assert_int_equal(fs_write_atomic(path, text, (size_t)n, 0600, NULL), 0);
    assert_int_equal(process_find(&h, "old"), 0);
}

static void a_program_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct home h;
    struct err e = {0};
    pid_t pid;
    open_home(&h, "a");
    const char *argv[] = {"/no/such/program", NULL};
    assert_int_equal(process_spawn(&h, &(struct process_spec){.name = "gone", .argv = argv}, &pid, &e),
                     ERR_IO);
    assert_non_null(strstr(e.message, "/no/such/program"));
    assert_int_equal(process_find(&h, "gone"), 0);
}

static void our_own_environment_names_do_not_reach_a_daemon(void **state)
{
    (void)state;
    struct home h;
    struct err e = {0};
    char tail[200];
    open_home(&h, "a");
    setenv("TENOR_POSTGRES_URL", "somewhere-else", 1);
    setenv("OTHER_NAME", "kept", 1);
    const char *argv[] = {"/bin/sh", "-c", "echo \"url=$TENOR_POSTGRES_URL other=$OTHER_NAME\"", NULL};
    assert_int_equal(process_run(&h, &(struct process_spec){.name = "env", .argv = argv}, &e), 0);
    unsetenv("TENOR_POSTGRES_URL");
    process_log_tail(&h, "env", tail, sizeof tail);
    assert_string_equal(tail, "url= other=kept");
}

static void a_failed_command_s_last_words_are_in_the_error(void **state)
{
    (void)state;
    struct home h;
    struct err e = {0};
    open_home(&h, "a");
    const char *argv[] = {"/bin/sh", "-c", "echo the disk is on fire >&2; exit 3", NULL};
    assert_int_equal(process_run(&h, &(struct process_spec){.name = "fire", .argv = argv}, &e), ERR_IO);
    assert_non_null(strstr(e.message, "the disk is on fire"));
}

int main(void)
{
    crypto_init();
#define T(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        T(a_home_keeps_its_secrets_and_they_are_private),
        T(a_damaged_secret_is_reported_not_replaced),
        T(two_launchers_do_not_work_on_one_home),
        T(a_long_home_has_its_sockets_elsewhere_and_gives_them_back),
        T(somebody_else_s_folder_of_sockets_is_refused),
        T(a_taken_port_is_told_in_plain_words),
        T(port_zero_becomes_a_real_one),
        T(a_text_that_is_no_address_is_refused),
        T(a_spawned_process_is_found_and_stopped),
        T(a_process_that_ignores_the_signal_is_killed),
        T(a_pid_that_belongs_to_somebody_else_now_is_not_ours),
        T(a_program_that_is_not_there_is_named),
        T(our_own_environment_names_do_not_reach_a_daemon),
        T(a_failed_command_s_last_words_are_in_the_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
