/* A log line is one line, in one write, with the level asked for. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/log.h"

static char captured[256 * 1024];

/* Runs fn with stderr going to a file, whose contents end up in `captured`. */
static void capture(void (*fn)(void))
{
    FILE *file = tmpfile();
    assert_non_null(file);
    int saved = dup(STDERR_FILENO);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    fn();
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    rewind(file);
    size_t n = fread(captured, 1, sizeof captured - 1, file);
    captured[n] = '\0';
    fclose(file);
}

static void one_of_each(void)
{
    log_error("broken", "a=%d", 1);
    log_warn("odd", "b=2");
    log_info("listening", "address=%s tls=yes", "127.0.0.1:8080");
    log_debug("detail", "c=3");
}

static void writes_time_level_program_event_and_pairs(void **state)
{
    (void)state;
    log_init("gateway", LOG_INFO);
    capture(one_of_each);
    assert_int_equal(captured[4], '-');
    assert_int_equal(captured[10], 'T');
    assert_int_equal(captured[23], 'Z');
    assert_non_null(strstr(captured, "Z error gateway broken a=1\n"));
    assert_non_null(strstr(captured, "Z info  gateway listening address=127.0.0.1:8080 tls=yes\n"));
    assert_null(strstr(captured, "detail"));
    log_init("gateway", LOG_ERROR);
    capture(one_of_each);
    assert_null(strstr(captured, "odd"));
    assert_non_null(strstr(captured, "broken"));
    log_init("gateway", LOG_DEBUG);
    capture(one_of_each);
    assert_non_null(strstr(captured, "debug gateway detail c=3"));
}

static void hostile_texts(void)
{
    log_info("name", "name=%s", "a\n2026-01-01T00:00:00.000Z error gateway forged x\r\x1b[31m");
    char huge[10000];
    memset(huge, 'x', sizeof huge);
    huge[sizeof huge - 1] = '\0';
    log_info("huge", "%s", huge);
    log_info("bare", " ");
}

static void stays_one_line_whatever_it_is_given(void **state)
{
    (void)state;
    log_init("gateway", LOG_INFO);
    capture(hostile_texts);
    int lines = 0;
    for (const char *p = captured; *p; p++) {
        lines += *p == '\n';
        assert_true(*p == '\n' || (unsigned char)*p >= 0x20);
    }
    assert_int_equal(lines, 3);
    assert_true(strlen(captured) < 5000);
    assert_non_null(strstr(captured, " bare\n"));
}

enum { THREADS = 4, LINES = 200 };

static void *chatter(void *arg)
{
    for (int i = 0; i < LINES; i++) log_info("tick", "thread=%d line=%03d end", *(int *)arg, i);
    return NULL;
}

static void many_threads(void)
{
    pthread_t threads[THREADS];
    int numbers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, chatter, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

static void lines_of_many_threads_do_not_mix(void **state)
{
    (void)state;
    capture(many_threads);
    int lines = 0;
    for (char *line = strtok(captured, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        assert_non_null(strstr(line, "Z info  gateway tick thread="));
        assert_string_equal(line + strlen(line) - 4, " end");
    }
    assert_int_equal(lines, THREADS * LINES);
}

static void knows_its_levels_by_name(void **state)
{
    (void)state;
    assert_int_equal(log_level_of("error"), LOG_ERROR);
    assert_int_equal(log_level_of("debug"), LOG_DEBUG);
    assert_int_equal(log_level_of("loud"), -1);
    assert_int_equal(log_level_of(NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_time_level_program_event_and_pairs),
        cmocka_unit_test(stays_one_line_whatever_it_is_given),
        cmocka_unit_test(lines_of_many_threads_do_not_mix),
        cmocka_unit_test(knows_its_levels_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
