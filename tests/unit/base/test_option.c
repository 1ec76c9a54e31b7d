/* Options come from flags, environment, file and defaults, in that order of strength, and bad ones are named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/option.h"

static const char *listen_at, *password;
static int64_t threads, lease_ms, memory;
static bool tls;

static const struct option_row rows[] = {
    {"listen", OPTION_STR, &listen_at, "127.0.0.1:8080", 0, 0, false, "address to listen at"},
    {"pool-threads", OPTION_INT, &threads, "4", 1, 64, false, "threads for blocking work"},
    {"lease", OPTION_DURATION_MS, &lease_ms, "10s", 1000, 60000, false, "how long a claim holds"},
    {"memory", OPTION_BYTES, &memory, "64m", 0, 0, false, "most memory"},
    {"tls", OPTION_BOOL, &tls, "false", 0, 0, false, "whether to encrypt"},
    {"password", OPTION_STR, &password, NULL, 0, 0, true, "password of the database"},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static char home[] = "/tmp/test-option-XXXXXX";
static struct err e;

static int make_home(void **state)
{
    (void)state;
    return mkdtemp(home) ? 0 : -1;
}

static int remove_home(void **state)
{
    (void)state;
    return rmdir(home);
}

static int forget(void **state)
{
    (void)state;
    static const char *const names[] = {"LISTEN", "POOL_THREADS", "LEASE",         "MEMORY",
                                        "TLS",    "PASSWORD",     "PASSWORD_FILE", "CONFIG"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        snprintf(name, sizeof name, "TENOR_%s", names[i]);
        unsetenv(name);
    }
    err_clear(&e);
    password = "unset";
    return 0;
}

/* Parses up to seven flags; NULL ends them. */
static int parse(const char *a, const char *b, const char *c, const char *d)
{
    char *argv[6] = {(char[]){"tenor-test"}};
    const char *const args[] = {a, b, c, d};
    int argc = 1;
    for (int i = 0; i < 4 && args[i]; i++) argv[argc++] = strdup(args[i]);
    int rc = option_try_parse(rows, ROWS, argc, argv, &e);
    for (int i = 1; i < argc; i++) free(argv[i]); /* what was taken must not point into argv */
    return rc;
}

static const char *write_file(const char *name, const char *text)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", home, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static void defaults_hold_where_nothing_is_given(void **state)
{
    (void)state;
    assert_int_equal(parse(NULL, NULL, NULL, NULL), 0);
    assert_string_equal(listen_at, "127.0.0.1:8080");
    assert_true(threads == 4 && lease_ms == 10000 && memory == 64 << 20 && !tls);
    assert_string_equal(password, "unset"); /* without a default the variable is left alone */
}

static void flags_win_over_environment_over_file_over_default(void **state)
{
    (void)state;
    const char *config =
        write_file("a.conf", "# ours\n\n  pool-threads = 5 \nlease=20s\r\nmemory = 1g\n listen = a b ");
    setenv("TENOR_CONFIG", config, 1);
    setenv("TENOR_POOL_THREADS", "6", 1);
    setenv("TENOR_LEASE", "30s", 1);
    assert_int_equal(parse("--pool-threads", "7", NULL, NULL), 0);
    assert_int_equal(threads, 7);
    assert_int_equal(lease_ms, 30000);
    assert_int_equal(memory, 1 << 30);
    assert_string_equal(listen_at, "a b");
    assert_false(tls);
    unlink(config);
}

static void a_config_flag_wins_over_its_variable(void **state)
{
    (void)state;
    const char *config = write_file("b.conf", "lease = 40s\n");
    setenv("TENOR_CONFIG", "/nonexistent/x.conf", 1);
    assert_int_equal(parse("--config", config, NULL, NULL), 0);
    assert_int_equal(lease_ms, 40000);
    assert_int_equal(parse("--lease=50s", "--config", config, NULL), 0);
    assert_int_equal(lease_ms, 50000);
    unlink(config);
    assert_int_equal(parse(NULL, NULL, NULL, NULL), ERR_NOT_FOUND);
    assert_non_null(strstr(e.message, "--config: open /nonexistent/x.conf"));
}

static void an_empty_variable_counts_as_unset(void **state)
{
    (void)state;
    setenv("TENOR_LISTEN", "", 1);
    setenv("TENOR_POOL_THREADS", "", 1);
    assert_int_equal(parse(NULL, NULL, NULL, NULL), 0);
    assert_string_equal(listen_at, "127.0.0.1:8080");
    assert_int_equal(threads, 4);
}

static void reads_units_and_truth(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } sizes[] = {{"4096", 4096},  {"64k", 65536},    {"16M", 16 << 20},
                 {"1g", 1 << 30}, {"2t", 2ll << 40}, {"0", 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(parse("--memory", sizes[i].text, NULL, NULL), 0);
        assert_true(memory == sizes[i].bytes);
    }
    static const struct {
        const char *text;
        int64_t ms;
    } times[] = {{"1000ms", 1000}, {"10s", 10000}, {"1m", 60000}};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        assert_int_equal(parse("--lease", times[i].text, NULL, NULL), 0);
        assert_true(lease_ms == times[i].ms);
    }
    assert_int_equal(parse("--tls", NULL, NULL, NULL), 0);
    assert_true(tls);
    assert_int_equal(parse("--tls", "--tls=false", NULL, NULL), 0);
    assert_false(tls);
    setenv("TENOR_TLS", "yes", 1);
    assert_int_equal(parse(NULL, NULL, NULL, NULL), 0);
    assert_true(tls);
}

static void assert_refused(const char *flag, const char *value, const char *message)
{
    assert_int_equal(parse(flag, value, NULL, NULL), ERR_INVALID);
    assert_string_equal(e.message, message);
}

static void a_bad_value_is_named_with_its_source_and_what_was_expected(void **state)
{
    (void)state;
    assert_refused("--pool-threads", "65", "--pool-threads: expected a whole number from 1 to 64, got '65'");
    assert_string_equal(e.field, "pool-threads");
    assert_refused("--pool-threads", "four",
                   "--pool-threads: expected a whole number from 1 to 64, got 'four'");
    assert_refused("--lease", "10",
                   "--lease: expected a duration such as 250ms, 10s, 5m or 1h from 1s to 1m, got '10'");
    assert_refused("--lease", "61s",
                   "--lease: expected a duration such as 250ms, 10s, 5m or 1h from 1s to 1m, got '61s'");
    assert_refused("--memory", "64mb", "--memory: expected a size such as 4096, 64k, 16m or 1g, got '64mb'");
    assert_refused("--memory", "-1", "--memory: expected a size such as 4096, 64k, 16m or 1g, got '-1'");
    assert_refused("--memory", "99999999t",
                   "--memory: expected a size such as 4096, 64k, 16m or 1g, got '99999999t'");
    assert_refused("--tls=maybe", NULL, "--tls: expected true or false, got 'maybe'");
    setenv("TENOR_POOL_THREADS", "0", 1);
    assert_refused(NULL, NULL, "TENOR_POOL_THREADS: expected a whole number from 1 to 64, got '0'");
    assert_int_equal(parse("--pool-threads", "2", NULL, NULL),
                     0); /* what a stronger source hides is not judged */
}

static void refuses_what_is_not_in_the_table(void **state)
{
    (void)state;
    assert_refused("--listen-at", "x", "there is no option --listen-at; --help lists them");
    assert_refused("--lis", "x", "there is no option --lis; --help lists them");
    assert_refused("--listen-file", "x", "there is no option --listen-file; --help lists them");
    assert_refused("serve", NULL, "'serve' was not expected: options are written --name value");
    assert_refused("-l", NULL, "'-l' was not expected: options are written --name value");
    assert_refused("--", NULL, "'--' was not expected: options are written --name value");
    assert_refused("--tls", "true", "'true' was not expected: options are written --name value");
    assert_refused("--listen", NULL, "--listen needs a value");
    assert_refused("--config", NULL, "--config needs a value");
}

static void a_bad_line_of_the_file_is_named_with_its_number(void **state)
{
    (void)state;
    char want[512];
    const char *config = write_file("c.conf", "lease = 10s\nlisten-at = x\n");
    assert_int_equal(parse("--config", config, NULL, NULL), ERR_INVALID);
    snprintf(want, sizeof want, "%s line 2: there is no option named 'listen-at'", config);
    assert_string_equal(e.message, want);
    config = write_file("c.conf", "\n\nlease 10s");
    assert_int_equal(parse("--config", config, NULL, NULL), ERR_INVALID);
    snprintf(want, sizeof want, "%s line 3: expected 'name = value'", config);
    assert_string_equal(e.message, want);
    config = write_file("c.conf", "pool-threads = 99\n");
    assert_int_equal(parse("--config", config, NULL, NULL), ERR_INVALID);
    assert_non_null(strstr(e.message, "line 1"));
    assert_non_null(strstr(e.message, "got '99'"));
    config = write_file("c.conf", "");
    assert_int_equal(parse("--config", config, NULL, NULL), 0);
    unlink(config);
}

static void a_secret_may_come_from_a_file(void **state)
{
    (void)state;
    const char *path = write_file("secret", "s3cret \n\r\n");
    assert_int_equal(parse("--password-file", path, NULL, NULL), 0);
    assert_string_equal(password, "s3cret ");
    setenv("TENOR_PASSWORD_FILE", path, 1);
    assert_int_equal(parse(NULL, NULL, NULL, NULL), 0);
    assert_string_equal(password, "s3cret ");
    assert_int_equal(parse("--password", "typed", NULL, NULL), 0);
    assert_string_equal(password, "typed");
    unlink(path);
    assert_int_equal(parse(NULL, NULL, NULL, NULL), ERR_NOT_FOUND);
    assert_non_null(strstr(e.message, "TENOR_PASSWORD_FILE: open "));
}

static void a_secret_is_never_printed(void **state)
{
    (void)state;
    int64_t pin = 0;
    const struct option_row secret[] = {{"pin", OPTION_INT, &pin, "1234", 0, 0, true, "the number"}};
    char program[] = "x", flag[] = "--pin", value[] = "hunter2";
    char *argv[] = {program, flag, value, NULL};
    assert_int_equal(option_try_parse(secret, 1, 3, argv, &e), ERR_INVALID);
    assert_string_equal(e.message, "--pin: expected a whole number, got '(hidden)'");
    char text[4096] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    option_print_help(f, "x", "y", secret, 1);
    fclose(f);
    assert_null(strstr(text, "1234"));
    assert_non_null(strstr(text, "--pin-file PATH"));
}

static void help_names_every_option_its_variable_and_its_default(void **state)
{
    (void)state;
    char text[8192] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    option_print_help(f, "tenor-test", "a test", rows, ROWS);
    fclose(f);
    static const char *const parts[] = {"tenor-test: a test",
                                        "--listen TEXT",
                                        "[TENOR_LISTEN]",
                                        "(default 127.0.0.1:8080)",
                                        "--pool-threads N",
                                        "[TENOR_POOL_THREADS]",
                                        "--lease TIME",
                                        "--memory SIZE",
                                        "  --tls ",
                                        "--password-file PATH",
                                        "[TENOR_PASSWORD_FILE]",
                                        "--config PATH",
                                        "--help",
                                        "--version"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(text, parts[i])) fail_msg("help does not say '%s':\n%s", parts[i], text);
}

/* option_parse in a child, with its output in `out`; returns its exit status. */
static int exit_status_of(const char *flag, int stream, char *out, size_t cap)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(fds[1], stream);
        char program[] = "tenor-test", arg[64];
        snprintf(arg, sizeof arg, "%s", flag);
        char *argv[] = {program, arg, NULL};
        option_parse("tenor-test", "a test", rows, ROWS, 2, argv);
        _exit(99);
    }
    close(fds[1]);
    size_t len = 0;
    for (ssize_t n; len < cap - 1 && (n = read(fds[0], out + len, cap - 1 - len)) > 0;) len += (size_t)n;
    out[len] = '\0';
    close(fds[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void programs_exit_0_after_help_and_version_and_2_on_mistakes(void **state)
{
    (void)state;
    char out[8192];
    assert_int_equal(exit_status_of("--help", STDOUT_FILENO, out, sizeof out), 0);
    assert_non_null(strstr(out, "--pool-threads"));
    assert_int_equal(exit_status_of("--version", STDOUT_FILENO, out, sizeof out), 0);
    assert_string_equal(out, "tenor-test " TENOR_VERSION "\n");
    assert_int_equal(exit_status_of("--pool-threads=no", STDERR_FILENO, out, sizeof out), 2);
    assert_string_equal(out, "tenor-test: --pool-threads: expected a whole number from 1 to 64, got 'no'\n");
    assert_int_equal(exit_status_of("--tls", STDERR_FILENO, out, sizeof out), 99); /* it returned */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(defaults_hold_where_nothing_is_given, forget),
        cmocka_unit_test_setup(flags_win_over_environment_over_file_over_default, forget),
        cmocka_unit_test_setup(a_config_flag_wins_over_its_variable, forget),
        cmocka_unit_test_setup(an_empty_variable_counts_as_unset, forget),
        cmocka_unit_test_setup(reads_units_and_truth, forget),
        cmocka_unit_test_setup(a_bad_value_is_named_with_its_source_and_what_was_expected, forget),
        cmocka_unit_test_setup(refuses_what_is_not_in_the_table, forget),
        cmocka_unit_test_setup(a_bad_line_of_the_file_is_named_with_its_number, forget),
        cmocka_unit_test_setup(a_secret_may_come_from_a_file, forget),
        cmocka_unit_test_setup(a_secret_is_never_printed, forget),
        cmocka_unit_test_setup(help_names_every_option_its_variable_and_its_default, forget),
        cmocka_unit_test_setup(programs_exit_0_after_help_and_version_and_2_on_mistakes, forget),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
