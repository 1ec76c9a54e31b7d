/* The runner's talk with its supervisor, with a real training run in between, without the walls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/json.h"
#include "learn/model.h"
#include "worker/runner.h"

enum { ROWS = 200, PATIENCE_MS = 60000 };

#define SCHEMA                                                                                               \
    "{\"format\":\"csv\",\"rows\":200,\"columns\":["                                                         \
    "{\"name\":\"x\",\"type\":\"number\",\"dtype\":\"f64\",\"shape\":[],\"missing\":0,\"min\":0,\"max\":1,"  \
    "\"mean\":0.5,\"std\":0.3},"                                                                             \
    "{\"name\":\"y\",\"type\":\"number\",\"dtype\":\"f64\",\"shape\":[],\"missing\":0,\"min\":2,\"max\":5,"  \
    "\"mean\":3.5,\"std\":0.9}]}"
#define LINEAR "{\"target\":\"y\",\"family\":\"linear_regression\"}"
#define ENDLESS                                                                                              \
    "{\"target\":\"y\",\"family\":\"mlp\",\"architecture\":[{\"layer\":\"Dense\",\"units\":64},"             \
    "{\"layer\":\"Dense\",\"units\":1}],\"training\":{\"epochs\":10000}}"

/* A runner in a process of its own. */
struct life {
    pid_t pid;
    int control; /* our end */
    int artifact;
    struct buf said;
};

/* The data goes in through a pipe that holds all of it. */
static int data_pipe(void)
{
    int fds[2];
    struct buf csv = {0};
    assert_int_equal(pipe(fds), 0);
    buf_str(&csv, "x,y\n");
    for (int i = 0; i < ROWS; i++) buf_printf(&csv, "%g,%g\n", i / 200.0, 3 * (i / 200.0) + 2);
    assert_int_equal(write(fds[1], csv.data, csv.len), (ssize_t)csv.len);
    buf_dispose(&csv);
    close(fds[1]);
    return fds[0];
}

static void begin(struct life *l)
{
    int pair[2], data = data_pipe();
    memset(l, 0, sizeof *l);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    l->artifact = memfd_create("artifact", 0);
    l->pid = fork();
    assert_true(l->pid >= 0);
    if (l->pid == 0) {
        /* Out of the way of the number that the data gets. */
        int control = fcntl(pair[1], F_DUPFD, 64), artifact = fcntl(l->artifact, F_DUPFD, 64);
        close(pair[0]);
        close(pair[1]);
        signal(SIGPIPE, SIG_IGN); /* as tenor-runner does */
        if (dup2(data, RUNNER_FIRST_INPUT_FD) < 0) _exit(98);
        _exit(runner_run(control, artifact));
    }
    close(pair[1]);
    close(data);
    l->control = pair[0];
}

static void say(struct life *l, const char *line)
{
    assert_int_equal(write(l->control, line, strlen(line)), (ssize_t)strlen(line));
}

static void say_start(struct life *l, const char *spec)
{
    struct buf line = {0};
    buf_printf(
        &line,
        "{\"type\":\"start\",\"spec\":%s,\"schema\":" SCHEMA ",\"test_schema\":null,"
        "\"inputs\":[{\"dataset\":\"train\",\"role\":\"table\",\"fd\":%d,\"bytes\":0}],"
        "\"limits\":{\"memory_bytes\":0,\"seconds\":600,\"threads\":1},\"lineage\":{\"job\":\"job_x\"}}\n",
        spec, RUNNER_FIRST_INPUT_FD);
    say(l, line.data);
    buf_dispose(&line);
}

/* The next message of that type; others are skipped. NULL when the runner is gone. */
static cJSON *hear(struct life *l, const char *type)
{
    for (;;) {
        char *end = l->said.len ? memchr(l->said.data, '\n', l->said.len) : NULL;
        if (end) {
            cJSON *m = NULL;
            struct err e = {0};
            if (json_parse(&m, l->said.data, (size_t)(end - l->said.data), 10000, &e) != 0)
                fail_msg("%s", e.message);
            buf_consume(&l->said, (size_t)(end - l->said.data) + 1);
            if (strcmp(cJSON_GetObjectItemCaseSensitive(m, "type")->valuestring, type) == 0) return m;
            cJSON_Delete(m);
            continue;
        }
        char chunk[4096];
        struct pollfd p = {.fd = l->control, .events = POLLIN};
        assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
        ssize_t n = read(l->control, chunk, sizeof chunk);
        if (n <= 0) return NULL;
        buf_append(&l->said, chunk, (size_t)n);
    }
}

static int end(struct life *l)
{
    int status;
    assert_int_equal(waitpid(l->pid, &status, 0), l->pid);
    if (l->control >= 0) close(l->control);
    close(l->artifact);
    buf_dispose(&l->said);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_run_ends_with_its_metrics_and_an_artifact_that_loads(void **state)
{
    (void)state;
    struct life l;
    begin(&l);
    say_start(&l, LINEAR);
    cJSON *done = hear(&l, "done");
    assert_non_null(done);
    assert_true(cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(done, "metrics")));
    assert_true(cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(done, "signature")));
    struct stat st;
    assert_int_equal(fstat(l.artifact, &st), 0);
    assert_int_equal((int64_t)cJSON_GetObjectItemCaseSensitive(done, "artifact_bytes")->valuedouble,
                     st.st_size);
    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, l.artifact, 0);
    struct model *m = NULL;
    struct err e = {0};
    if (model_load(&m, bytes, (size_t)st.st_size, 0, &e) != 0) fail_msg("%s", e.message);
    assert_non_null(strstr(model_lineage_json(m), "job_x"));
    model_free(m);
    munmap(bytes, (size_t)st.st_size);
    cJSON_Delete(done);
    assert_int_equal(end(&l), 0);
}

static void a_wrong_spec_ends_as_failed_and_names_the_field(void **state)
{
    (void)state;
    struct life l;
    begin(&l);
    say_start(&l, "{\"target\":\"nothing\",\"family\":\"linear_regression\"}");
    cJSON *failed = hear(&l, "failed");
    assert_non_null(failed);
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(failed, "code")->valuestring, "invalid");
    assert_non_null(strstr(cJSON_GetObjectItemCaseSensitive(failed, "field")->valuestring, "target"));
    cJSON_Delete(failed);
    assert_int_equal(end(&l), 0);
}

static void a_malformed_start_ends_as_failed(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "nonsense\n",
        "{}\n",
        "{\"type\":\"start\",\"spec\":{},\"schema\":{},\"inputs\":[],\"limits\":{}}\n",
        "{\"type\":\"start\",\"spec\":{},\"schema\":{},\"inputs\":[{\"dataset\":\"train\",\"role\":\"table\","
        "\"fd\":3,\"bytes\":0}],\"limits\":{\"memory_bytes\":0,\"seconds\":1,\"threads\":1}}\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct life l;
        begin(&l);
        say(&l, lines[i]);
        cJSON *failed = hear(&l, "failed");
        assert_non_null(failed);
        cJSON_Delete(failed);
        assert_int_equal(end(&l), 0);
    }
}

static void a_cancel_ends_a_run_in_the_middle(void **state)
{
    (void)state;
    struct life l;
    begin(&l);
    say_start(&l, ENDLESS);
    cJSON *progress = hear(&l, "progress");
    assert_non_null(progress);
    cJSON_Delete(progress);
    say(&l, "{\"type\":\"cancel\"}\n");
    cJSON *failed = hear(&l, "failed");
    assert_non_null(failed);
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(failed, "code")->valuestring, "cancelled");
    cJSON_Delete(failed);
    assert_int_equal(end(&l), 0);
}

static void a_run_without_a_supervisor_ends_at_once(void **state)
{
    (void)state;
    struct life l;
    begin(&l);
    say_start(&l, ENDLESS);
    cJSON *progress = hear(&l, "progress");
    assert_non_null(progress);
    cJSON_Delete(progress);
    close(l.control);
    l.control = -1;
    assert_int_equal(end(&l), 1);
}

static void a_runner_that_is_never_started_ends_with_its_supervisor(void **state)
{
    (void)state;
    struct life l;
    begin(&l);
    close(l.control);
    l.control = -1;
    assert_int_equal(end(&l), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_ends_with_its_metrics_and_an_artifact_that_loads),
        cmocka_unit_test(a_wrong_spec_ends_as_failed_and_names_the_field),
        cmocka_unit_test(a_malformed_start_ends_as_failed),
        cmocka_unit_test(a_cancel_ends_a_run_in_the_middle),
        cmocka_unit_test(a_run_without_a_supervisor_ends_at_once),
        cmocka_unit_test(a_runner_that_is_never_started_ends_with_its_supervisor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
