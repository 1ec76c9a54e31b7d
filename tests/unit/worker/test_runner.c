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
#include <time.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/fs.h"
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
    int checkpoint[RUNNER_CHECKPOINTS];
    int64_t resume_bytes; /* in the first of these, for say_start */
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

/* With the files that it is given. */
static void begin_with(struct life *l, const int checkpoint[RUNNER_CHECKPOINTS])
{
    int pair[2], data = data_pipe();
    memset(l, 0, sizeof *l);
    memcpy(l->checkpoint, checkpoint, sizeof l->checkpoint);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    l->artifact = memfd_create("artifact", 0);
    l->pid = fork();
    assert_true(l->pid >= 0);
    if (l->pid == 0) {
        /* Out of the way of the number that the data gets. */
        int control = fcntl(pair[1], F_DUPFD, 64), artifact = fcntl(l->artifact, F_DUPFD, 64);
        int first = fcntl(checkpoint[0], F_DUPFD, 64), second = fcntl(checkpoint[1], F_DUPFD, 64);
        data = fcntl(data, F_DUPFD, 64);
        close(pair[0]);
        close(pair[1]);
        signal(SIGPIPE, SIG_IGN); /* as tenor-runner does */
        if (dup2(data, RUNNER_FIRST_INPUT_FD) < 0 || dup2(first, RUNNER_CHECKPOINT_FD) < 0 ||
            dup2(second, RUNNER_CHECKPOINT_FD + 1) < 0)
            _exit(98);
        _exit(runner_run(control, artifact));
    }
    close(pair[1]);
    close(data);
    l->control = pair[0];
}

static void begin(struct life *l)
{
    begin_with(l, (int[]){memfd_create("checkpoint", 0), memfd_create("checkpoint", 0)});
}

static void say(struct life *l, const char *line)
{
    assert_int_equal(write(l->control, line, strlen(line)), (ssize_t)strlen(line));
}

static void say_start_of(struct life *l, const char *job, const char *spec)
{
    struct buf line = {0};
    buf_printf(
        &line,
        "{\"type\":\"start\",\"job\":\"%s\",\"spec\":%s,\"schema\":" SCHEMA ",\"test_schema\":null,"
        "\"inputs\":[{\"dataset\":\"train\",\"role\":\"table\",\"fd\":%d,\"bytes\":0}],"
        "\"limits\":{\"memory_bytes\":0,\"seconds\":600,\"threads\":1},\"lineage\":{\"job\":\"job_x\"},"
        "\"resume_bytes\":%lld}\n",
        job, spec, RUNNER_FIRST_INPUT_FD, (long long)l->resume_bytes);
    say(l, line.data);
    buf_dispose(&line);
}

static void begin_job(struct life *l, const char *job, const char *spec)
{
    begin(l);
    say_start_of(l, job, spec);
}

static void begin_training(struct life *l, const char *spec)
{
    begin_job(l, "train", spec);
}

/* The next message of that type; others are skipped. */
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
        if (n <= 0) fail_msg("it ended before it said \"%s\"", type);
        buf_append(&l->said, chunk, (size_t)n);
    }
}

static void await(struct life *l, const char *type)
{
    cJSON_Delete(hear(l, type));
}

static const cJSON *field(const cJSON *o, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(o, name);
}

static const char *text(const cJSON *o, const char *name)
{
    const cJSON *t = field(o, name);
    return cJSON_IsString(t) ? t->valuestring : "";
}

static double number(const cJSON *o, const char *name)
{
    const cJSON *n = field(o, name);
    assert_true(cJSON_IsNumber(n));
    return n->valuedouble;
}

static size_t size_of(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (size_t)st.st_size;
}

/* The next progress in that phase. */
static cJSON *hear_phase(struct life *l, const char *phase)
{
    for (;;) {
        cJSON *progress = hear(l, "progress");
        if (strcmp(text(progress, "phase"), phase) == 0) return progress;
        cJSON_Delete(progress);
    }
}

static int end(struct life *l)
{
    int status;
    assert_int_equal(waitpid(l->pid, &status, 0), l->pid);
    if (l->control >= 0) close(l->control);
    close(l->artifact);
    for (int i = 0; i < RUNNER_CHECKPOINTS; i++)
        if (l->checkpoint[i] >= 0) close(l->checkpoint[i]);
    buf_dispose(&l->said);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Having said that, it has no more to do. */
static void end_after(struct life *l, cJSON *last)
{
    cJSON_Delete(last);
    assert_int_equal(end(l), 0);
}

static void a_run_ends_with_its_metrics_and_an_artifact_that_loads(void **state)
{
    (void)state;
    struct life l;
    begin_training(&l, LINEAR);
    cJSON *done = hear(&l, "done");
    assert_true(cJSON_IsObject(field(done, "metrics")));
    assert_true(cJSON_IsObject(field(done, "signature")));
    size_t size = size_of(l.artifact);
    assert_true(number(done, "artifact_bytes") == (double)size);
    void *bytes = mmap(NULL, size, PROT_READ, MAP_SHARED, l.artifact, 0);
    struct model *m = NULL;
    struct err e = {0};
    if (model_load(&m, bytes, size, 0, &e) != 0) fail_msg("%s", e.message);
    assert_non_null(strstr(model_lineage_json(m), "job_x"));
    model_free(m);
    munmap(bytes, size);
    end_after(&l, done);
}

static void a_wrong_spec_ends_as_failed_and_names_the_field(void **state)
{
    (void)state;
    struct life l;
    begin_training(&l, "{\"target\":\"nothing\",\"family\":\"linear_regression\"}");
    cJSON *failed = hear(&l, "failed");
    assert_string_equal(text(failed, "code"), "invalid");
    assert_non_null(strstr(text(failed, "field"), "target"));
    end_after(&l, failed);
}

static void a_search_says_which_trial_it_is_at_and_leaves_the_best_one_s_artifact(void **state)
{
    (void)state;
    struct life l;
    begin_job(&l, "tune",
              "{\"base\":" LINEAR ",\"method\":\"grid\",\"parameters\":{\"training.l2\":[0,0.1]}}");
    cJSON *progress = hear_phase(&l, "trial");
    assert_true(cJSON_IsObject(field(progress, "trial")));
    cJSON_Delete(progress);
    cJSON *done = hear(&l, "done");
    assert_true(cJSON_IsObject(field(field(done, "metrics"), "tune")));
    assert_true(number(done, "artifact_bytes") == (double)size_of(l.artifact));
    end_after(&l, done);
}

static void a_cross_validation_ends_without_artifact_and_signature(void **state)
{
    (void)state;
    struct life l;
    begin_job(&l, "evaluate", "{\"base\":" LINEAR ",\"folds\":2}");
    cJSON *done = hear(&l, "done");
    assert_true(number(done, "artifact_bytes") == 0);
    assert_null(field(done, "signature"));
    end_after(&l, done);
}

static void a_job_of_an_unknown_type_ends_as_failed(void **state)
{
    (void)state;
    struct life l;
    begin_job(&l, "explain", "{}");
    cJSON *failed = hear(&l, "failed");
    assert_string_equal(text(failed, "code"), "unsupported");
    end_after(&l, failed);
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
        end_after(&l, hear(&l, "failed"));
    }
}

static void a_cancel_ends_a_run_in_the_middle(void **state)
{
    (void)state;
    struct life l;
    begin_training(&l, ENDLESS);
    await(&l, "progress");
    say(&l, "{\"type\":\"cancel\"}\n");
    cJSON *failed = hear(&l, "failed");
    assert_string_equal(text(failed, "code"), "cancelled");
    end_after(&l, failed);
}

/* ---- giving way ---- */

#define MANY_STEPS                                                                                           \
    "{\"target\":\"y\",\"family\":\"mlp\",\"architecture\":[{\"layer\":\"Dense\",\"units\":64},"             \
    "{\"layer\":\"Dropout\",\"rate\":0.2},{\"layer\":\"Dense\",\"units\":1}],\"training\":{\"epochs\":400,"  \
    "\"batch_size\":4,\"optimizer\":{\"name\":\"adam\"}}}"

/* The processor time of the runner, which other processes cannot lengthen. */
static double cpu_ms(pid_t pid)
{
    clockid_t clock;
    struct timespec t;
    assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
    assert_int_equal(clock_gettime(clock, &t), 0);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Time that its CPU had used when it was told, and when its last word was there. The process is not waited
 * for meanwhile, so that its clock can be read. */
static double told_to_last_word_ms(struct life *l, const char *wish, const char *word, cJSON **out)
{
    cJSON_Delete(hear_phase(l, "train"));
    double before = cpu_ms(l->pid);
    say(l, wish);
    *out = hear(l, word);
    return cpu_ms(l->pid) - before;
}

static void whole_artifact(struct buf *out, const struct life *l)
{
    struct err e = {0};
    assert_int_equal(lseek(l->artifact, 0, SEEK_SET), 0);
    assert_int_equal(fs_read_fd(out, l->artifact, 1 << 28, &e), 0);
    assert_true(out->len > 0);
}

/* part: how the place of its checkpoint begins; "" where it has none. */
static void yields_and_goes_on(const char *job, const char *spec, const char *part)
{
    struct life l;
    struct buf alone = {0}, again = {0};
    begin_job(&l, job, spec);
    await(&l, "done");
    whole_artifact(&alone, &l);
    assert_int_equal(end(&l), 0);

    cJSON *yielded;
    begin_job(&l, job, spec);
    double ms = told_to_last_word_ms(&l, "{\"type\":\"yield\",\"now\":true}\n", "yielded", &yielded);
    print_message("%.1f ms of processor time from the word to the last word\n", ms);
    assert_true(ms < 100);
    const cJSON *mark = field(yielded, "checkpoint");
    const cJSON *in = field(mark, "part");
    assert_memory_equal(in ? in->valuestring : "", part, strlen(part));
    int files[2] = {dup(l.checkpoint[(int)number(mark, "file")]), memfd_create("checkpoint", 0)};
    double bytes = number(mark, "bytes");
    assert_true(number(mark, "epoch") >= 1);
    end_after(&l, yielded);

    begin_with(&l, files);
    l.resume_bytes = (int64_t)bytes;
    say_start_of(&l, job, spec);
    await(&l, "done");
    whole_artifact(&again, &l);
    assert_int_equal(end(&l), 0);
    assert_int_equal(alone.len, again.len);
    assert_memory_equal(alone.data, again.data, alone.len);
    buf_dispose(&alone);
    buf_dispose(&again);
}

static void a_run_that_yields_goes_on_in_another_process_and_ends_with_the_same_bytes(void **state)
{
    (void)state;
    yields_and_goes_on("train", MANY_STEPS, "");
}

static void so_does_a_search(void **state)
{
    (void)state;
    yields_and_goes_on(
        "tune", "{\"base\":" MANY_STEPS ",\"method\":\"grid\",\"parameters\":{\"training.l2\":[0,0.1]}}",
        "trial 1 of 2");
}

static void a_cross_validation_heeds_a_yield_and_a_cancel_as_well(void **state)
{
    static const struct {
        const char *wish, *word;
    } ways[] = {{"{\"type\":\"yield\",\"now\":true}\n", "yielded"}, {"{\"type\":\"cancel\"}\n", "failed"}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct life l;
        cJSON *word;
        begin_job(&l, "evaluate", "{\"base\":" ENDLESS ",\"folds\":2}");
        assert_true(told_to_last_word_ms(&l, ways[i].wish, ways[i].word, &word) < 100);
        const cJSON *part = field(field(word, "checkpoint"), "part");
        if (i == 0) assert_string_equal(part->valuestring, "fold 1 of 2");
        end_after(&l, word);
    }
}

static void a_yield_without_haste_waits_until_the_run_has_got_somewhere(void **state)
{
    (void)state;
    struct life l;
    begin_training(&l, ENDLESS);
    say(&l, "{\"type\":\"yield\",\"now\":false}\n"); /* before it has read anything */
    cJSON *yielded = hear(&l, "yielded");
    const cJSON *mark = field(yielded, "checkpoint");
    assert_true(number(mark, "epoch") > 1 || number(mark, "step") >= 1);
    end_after(&l, yielded);
}

static void checkpoints_are_written_in_turn_when_they_are_asked_for(void **state)
{
    (void)state;
    struct life l;
    begin_training(&l, ENDLESS);
    for (int i = 0; i < 4; i++) {
        say(&l, "{\"type\":\"checkpoint\"}\n");
        cJSON *mark = hear(&l, "checkpoint");
        assert_int_equal((int)number(mark, "file"), 1 - i % 2);
        assert_true(number(mark, "bytes") == (double)size_of(l.checkpoint[1 - i % 2]));
        cJSON_Delete(mark);
    }
    say(&l, "{\"type\":\"cancel\"}\n");
    end_after(&l, hear(&l, "failed"));
}

static void a_cancel_is_heeded_within_a_tenth_of_a_second_of_processor_time(void **state)
{
    (void)state;
    struct life l;
    cJSON *failed;
    begin_training(&l, ENDLESS);
    double ms = told_to_last_word_ms(&l, "{\"type\":\"cancel\"}\n", "failed", &failed);
    print_message("%.1f ms of processor time from the word to the last word\n", ms);
    assert_true(ms < 100);
    assert_string_equal(text(failed, "code"), "cancelled");
    end_after(&l, failed);
}

static void a_checkpoint_that_is_none_is_refused_and_the_run_goes_through(void **state)
{
    (void)state;
    struct life l;
    begin(&l);
    assert_int_equal(write(l.checkpoint[0], "nonsense", 8), 8);
    l.resume_bytes = 8;
    say_start_of(&l, "train", MANY_STEPS);
    await(&l, "refused");
    end_after(&l, hear(&l, "done"));
}

static void a_run_without_a_supervisor_ends_at_once(void **state)
{
    (void)state;
    struct life l;
    begin_training(&l, ENDLESS);
    await(&l, "progress");
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
        cmocka_unit_test(a_search_says_which_trial_it_is_at_and_leaves_the_best_one_s_artifact),
        cmocka_unit_test(a_cross_validation_ends_without_artifact_and_signature),
        cmocka_unit_test(a_job_of_an_unknown_type_ends_as_failed),
        cmocka_unit_test(a_cancel_ends_a_run_in_the_middle),
        cmocka_unit_test(a_run_that_yields_goes_on_in_another_process_and_ends_with_the_same_bytes),
        cmocka_unit_test(so_does_a_search),
        cmocka_unit_test(a_cross_validation_heeds_a_yield_and_a_cancel_as_well),
        cmocka_unit_test(a_yield_without_haste_waits_until_the_run_has_got_somewhere),
        cmocka_unit_test(checkpoints_are_written_in_turn_when_they_are_asked_for),
        cmocka_unit_test(a_cancel_is_heeded_within_a_tenth_of_a_second_of_processor_time),
        cmocka_unit_test(a_checkpoint_that_is_none_is_refused_and_the_run_goes_through),
        cmocka_unit_test(a_run_without_a_supervisor_ends_at_once),
        cmocka_unit_test(a_runner_that_is_never_started_ends_with_its_supervisor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
