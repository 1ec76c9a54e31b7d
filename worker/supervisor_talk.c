/* The conversation: start, progress, checkpoints, wishes, time limit, last word, death. */
#include "worker/supervisor_talk.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/runner.h"
#include "worker/supervisor_feed.h"
#include "worker/supervisor_save.h"

enum {
    TURN_MS = 250,
    CANCEL_GRACE_MS = 60,  /* to end by itself: nothing is kept of it */
    LEAVE_GRACE_MS = 5000, /* to lay down a checkpoint and end; beyond, an older one has to do */
    TIME_GRACE_MS = 5000,  /* a runner keeps its own time; beyond this it is killed */
    EXIT_GRACE_MS = 5000,  /* between its last word and its exit */
    CPU_GRACE_S = 10,
    LINE_TOKENS = 200000,
    HEADROOM_BYTES = 512 << 20, /* the program, OpenBLAS's buffers, stacks: not of the run's account */
};

struct talk {
    struct slot *slot;
    struct run *run;
    const struct order *order;
    struct outcome *out;
    struct child child;
    struct feed feeds[TRAIN_MAX_INPUTS];
    struct report report;
    struct save save;
    bool last_word, confined;
    int64_t started_ms, kill_ms; /* the latter: when to; 0: not planned */
    enum run_wish told;          /* the most urgent wish that the runner was told */
    bool timed_out;
};

static void set_outcome(struct talk *t, enum outcome_type type, int code, const char *message)
{
    t->out->type = type;
    err_set(&t->out->why, code, NULL, "%s", message);
}

/* ---- start ---- */

static int raw_or_null(struct json_writer *w, const char *name, const char *json)
{
    jw_name(w, name);
    if (json && json[0]) {
        jw_raw(w, json, strlen(json));
    } else {
        jw_null(w);
    }
    return 0;
}

static void write_inputs(struct json_writer *w, const struct order *o)
{
    jw_name(w, "inputs");
    jw_arr(w);
    for (int i = 0; i < o->n_parts; i++) {
        jw_obj(w);
        jw_kstr(w, "dataset", o->parts[i].test ? "test" : "train");
        jw_kstr(w, "role", o->parts[i].dataset_part.role);
        jw_kint(w, "fd", RUNNER_FIRST_INPUT_FD + i);
        jw_kint(w, "bytes", o->parts[i].blob.bytes);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

/* Who made the version, from what: the same for each attempt, so that a repeated run gives the same bytes. */
static void write_lineage(struct json_writer *w, const struct order *o)
{
    jw_name(w, "lineage");
    jw_obj(w);
    jw_kstr(w, "job", o->job.id);
    jw_kstr(w, "dataset", o->job.dataset_id);
    jw_kstr(w, "test_dataset", o->test.id[0] ? o->test.id : NULL);
    jw_name(w, "parts");
    jw_arr(w);
    for (int i = 0; i < o->n_parts; i++) jw_str(w, o->parts[i].blob.sha256);
    jw_arr_end(w);
    jw_obj_end(w);
}

static int send_start(struct talk *t, int64_t resume_bytes, struct err *e)
{
    const struct order *o = t->order;
    struct buf line = {.limit = RUNNER_START_MAX_BYTES};
    struct json_writer w;
    jw_init(&w, &line);
    jw_obj(&w);
    jw_kstr(&w, "type", "start");
    jw_kstr(&w, "job", o->job.type);
    raw_or_null(&w, "spec", o->job.spec);
    raw_or_null(&w, "schema", o->train.schema);
    raw_or_null(&w, "test_schema", o->test.id[0] ? o->test.schema : NULL);
    write_inputs(&w, o);
    jw_name(&w, "limits");
    jw_obj(&w);
    jw_kint(&w, "memory_bytes", o->job.memory_bytes);
    jw_kint(&w, "seconds", o->job.max_seconds);
    jw_knum(&w, "used_seconds", resume_bytes ? (double)o->job.used_before_ms / 1000 : 0);
    jw_kint(&w, "threads", o->job.threads);
    jw_obj_end(&w);
    jw_kint(&w, "resume_bytes", resume_bytes);
    write_lineage(&w, o);
    jw_obj_end(&w);
    int rc = line.failed ? err_set(e, ERR_TOO_LARGE, NULL, "the run's description is too long") : 0;
    /* A newline in stored JSON is white space, and would end the line. */
    for (size_t i = 0; rc == 0 && i < line.len; i++) {
        if (line.data[i] == '\n' || line.data[i] == '\r') line.data[i] = ' ';
    }
    if (rc == 0) child_send(&t->child, line.data, line.len);
    if (rc == 0 && t->child.out.failed) rc = err_set(e, ERR_NOMEM, NULL, "no memory to start the run");
    buf_dispose(&line);
    return rc;
}

static int64_t room_bytes(const struct order *o)
{
    return o->job.memory_bytes > 0 ? o->job.memory_bytes + o->job.memory_bytes / 4 + HEADROOM_BYTES : 0;
}

static int64_t left_seconds(const struct order *o)
{
    int64_t left = o->job.max_seconds - o->job.used_before_ms / 1000;
    return left > 1 ? left : 1;
}

static int start(struct talk *t, struct err *e)
{
    const struct order *o = t->order;
    struct supervisor *s = t->slot->s;
    int fds[TRAIN_MAX_INPUTS], n = 0, rc = 0;
    for (; n < o->n_parts && rc == 0; n++) {
        rc = feed_start(&t->feeds[n], &fds[n], s->config.blobs, &o->key, &o->parts[n].blob, e);
        if (rc != 0) break;
    }
    struct child_config config = {.runner = s->config.runner,
                                  .folder = s->empty_dir,
                                  .input_fds = fds,
                                  .n_inputs = (size_t)n,
                                  .memory_bytes = room_bytes(o),
                                  .cpu_seconds = left_seconds(o) * o->job.threads + CPU_GRACE_S,
                                  .file_bytes = room_bytes(o)};
    if (rc == 0) rc = child_spawn(&t->child, &config, e);
    for (int i = 0; i < n; i++) close(fds[i]); /* the child's alone now, so that its death ends the feeders */
    if (rc != 0) return rc;
    run_set_pidfd(s, t->run, t->child.pidfd);
    if (config.memory_bytes > 0) {
        /* The files of artifact and checkpoints are no private memory, but the group's; the job's need counts
         * them. */
        t->confined = cgroup_confine(&s->cgroups, t->run->job_id, t->child.pid, config.memory_bytes);
    }
    int64_t resume_bytes;
    save_load(&t->save, &resume_bytes);
    if (resume_bytes == 0) report_restart(&t->report);
    t->started_ms = clock_mono_ms();
    return send_start(t, resume_bytes, e);
}

/* ---- what the runner says ---- */

static char *printed(const cJSON *node)
{
    struct buf json = {0};
    struct json_writer w;
    jw_init(&w, &json);
    jw_node(&w, node);
    char *text = buf_steal(&json);
    buf_dispose(&json);
    return text;
}

static int take_done(struct talk *t, const cJSON *message, struct err *e)
{
    struct json_obj o;
    const char *type;
    const cJSON *metrics, *signature = NULL;
    struct outcome *out = t->out;
    bool makes = job_makes_version(&t->order->job);
    int rc = json_obj_open(&o, message, "", e);
    if (rc == 0) rc = json_take_str(&o, "type", 4, 4, &type, e);
    if (rc == 0) rc = json_take_object(&o, "metrics", &metrics, e);
    if (rc == 0 && makes) rc = json_take_object(&o, "signature", &signature, e);
    if (rc == 0)
        rc =
            json_take_int(&o, "artifact_bytes", makes, makes ? INT64_C(1) << 53 : 0, &out->artifact_bytes, e);
    if (rc == 0) rc = json_take_int(&o, "memory_bytes", 0, INT64_C(1) << 53, &out->memory_bytes, e);
    if (rc == 0) rc = json_obj_close(&o, e);
    if (rc != 0) return rc;
    out->type = OUTCOME_DONE;
    out->metrics = printed(metrics);
    out->signature = makes ? printed(signature) : NULL;
    return out->metrics && (out->signature || !makes)
               ? 0
               : err_set(e, ERR_NOMEM, NULL, "no memory for the run's result");
}

/* Our own faults are crashes, to be tried again elsewhere; everything else is the tenant's to mend. */
static void sort_failure(struct talk *t, const struct err *why)
{
    struct outcome *out = t->out;
    out->why = *why;
    switch (why->code) {
    case ERR_IO:
    case ERR_INTERNAL:
    case ERR_CORRUPT:
        out->type = OUTCOME_CRASHED;
        return;
    case ERR_CANCELLED:
        out->type = OUTCOME_CANCELLED;
        return;
    default:
        out->type = OUTCOME_FAILED;
    }
}

static int take_failed(struct talk *t, const cJSON *message, struct err *e)
{
    struct json_obj o;
    const char *type, *code, *field = "", *text;
    int rc = json_obj_open(&o, message, "", e);
    if (rc == 0) rc = json_take_str(&o, "type", 6, 6, &type, e);
    if (rc == 0) rc = json_take_str(&o, "code", 1, 31, &code, e);
    if (rc == 0) rc = json_opt_str(&o, "field", 0, sizeof t->out->why.field - 1, &field, e);
    if (rc == 0) rc = json_take_str(&o, "message", 0, sizeof t->out->why.message - 1, &text, e);
    if (rc == 0) rc = json_obj_close(&o, e);
    if (rc != 0) return rc;
    struct err why = {0};
    err_set(&why, err_code_of(code), field, "%s", text);
    sort_failure(t, &why);
    return 0;
}

static int take_yielded(struct talk *t, const cJSON *message, struct err *e)
{
    struct json_obj o, inner;
    const char *type;
    const cJSON *checkpoint = NULL;
    struct mark mark;
    int rc = json_obj_open(&o, message, "", e);
    if (rc == 0) rc = json_take_str(&o, "type", 7, 7, &type, e);
    if (rc == 0) rc = json_opt_object(&o, "checkpoint", &checkpoint, e);
    if (rc == 0) rc = json_obj_close(&o, e);
    if (rc == 0) t->out->type = OUTCOME_YIELDED;
    if (rc != 0 || !checkpoint) return rc;
    rc = json_obj_open(&inner, checkpoint, "checkpoint", e);
    if (rc == 0) rc = save_read_mark(&mark, &inner, e);
    if (rc != 0) return rc;
    t->out->mark = mark;
    t->out->checkpoint_fd = child_take_checkpoint(&t->child, mark.file);
    return 0;
}

static void take_refused(struct talk *t, const cJSON *message)
{
    const cJSON *why = cJSON_GetObjectItemCaseSensitive(message, "message");
    save_refused(&t->save, cJSON_IsString(why) ? why->valuestring : "the checkpoint was refused");
    report_restart(&t->report);
}

static int take_last_word(struct talk *t, const char *name, const cJSON *message, struct err *e)
{
    int rc = name[0] == 'd'   ? take_done(t, message, e)
             : name[0] == 'y' ? take_yielded(t, message, e)
                              : take_failed(t, message, e);
    t->last_word = rc == 0;
    t->kill_ms = clock_mono_ms() + EXIT_GRACE_MS;
    return rc;
}

static int take_line(struct talk *t, const char *line, size_t len, struct err *e)
{
    cJSON *message = NULL;
    int rc = json_parse(&message, line, len, LINE_TOKENS, e);
    if (rc != 0) return rc;
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(message, "type");
    const char *name = cJSON_IsString(type) ? type->valuestring : "";
    if (t->last_word) {
        rc = err_set(e, ERR_CORRUPT, NULL, "it spoke after its last word");
    } else if (strcmp(name, "progress") == 0) {
        report_progress(&t->report, message);
        if (report_ends_part(message)) save_part(&t->save);
    } else if (strcmp(name, "message") == 0) {
        report_message(&t->report, message);
    } else if (strcmp(name, "checkpoint") == 0) {
        rc = save_take(&t->save, message, e);
    } else if (strcmp(name, "refused") == 0) {
        take_refused(t, message);
    } else if (strcmp(name, "done") == 0 || strcmp(name, "failed") == 0 || strcmp(name, "yielded") == 0) {
        rc = take_last_word(t, name, message, e);
    } else {
        rc = err_set(e, ERR_CORRUPT, NULL, "it sent a message of an unknown type");
    }
    cJSON_Delete(message);
    return rc;
}

static int take_lines(struct talk *t, struct err *e)
{
    size_t len;
    const char *line;
    while ((line = child_line(&t->child, &len)) != NULL) {
        int rc = take_line(t, line, len, e);
        child_line_done(&t->child, len);
        if (rc != 0) return err_prefix(e, "the runner broke the protocol");
    }
    return 0;
}

/* ---- wishes and clocks ---- */

static bool is_stale(const struct talk *t)
{
    return t->report.stale || t->save.stale;
}

static void heed_wish(struct talk *t, int64_t now_ms)
{
    static const char *const lines[] = {[RUN_YIELD] = "{\"type\":\"yield\",\"now\":false}",
                                        [RUN_LEAVE] = "{\"type\":\"yield\",\"now\":true}",
                                        [RUN_CANCEL] = "{\"type\":\"cancel\"}"};
    enum run_wish wish = run_wish_of(t->slot->s, t->run);
    if (wish == RUN_LOST || is_stale(t)) {
        child_kill(&t->child, SIGKILL);
        return;
    }
    save_turn(&t->save, now_ms, run_take_save(t->slot->s, t->run));
    if (wish <= t->told || t->last_word) return;
    t->told = wish;
    child_send(&t->child, lines[wish], strlen(lines[wish]));
    if (wish == RUN_CANCEL) t->kill_ms = now_ms + CANCEL_GRACE_MS;
    if (wish == RUN_LEAVE) t->kill_ms = now_ms + LEAVE_GRACE_MS;
}

static void heed_clock(struct talk *t, int64_t now_ms)
{
    int64_t most_ms = t->order->job.max_seconds * 1000 - t->order->job.used_before_ms + TIME_GRACE_MS;
    if (!t->timed_out && now_ms - t->started_ms > most_ms) {
        t->timed_out = true;
        t->kill_ms = now_ms;
    }
    if (t->kill_ms > 0 && now_ms >= t->kill_ms) child_kill(&t->child, SIGKILL);
}

/* Until something may have to be done. */
static int turn_ms(const struct talk *t, int64_t now_ms)
{
    int64_t left_ms = t->kill_ms > 0 ? t->kill_ms - now_ms : TURN_MS;
    return (int)(left_ms < 1 ? 1 : left_ms < TURN_MS ? left_ms : TURN_MS);
}

static int converse(struct talk *t, struct err *e)
{
    for (;;) {
        int64_t now_ms = clock_mono_ms();
        heed_wish(t, now_ms);
        heed_clock(t, now_ms);
        report_due(&t->report);
        bool exited = child_reap(&t->child);
        int rc = child_poll(&t->child, t->run->wake_fd, exited ? 0 : turn_ms(t, now_ms), e);
        if (rc == 0) rc = take_lines(t, e);
        if (rc != 0) return rc;
        /* Everything that it said before it died is in the socket by then. */
        if (exited && t->child.closed) return 0;
    }
}

/* ---- the end ---- */

static void name_death(struct talk *t)
{
    char text[160];
    int status = t->child.status;
    if (WIFSIGNALED(status)) {
        snprintf(text, sizeof text, "the run was ended by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    } else {
        snprintf(text, sizeof text, "the run ended with status %d and without a result", WEXITSTATUS(status));
    }
    set_outcome(t, OUTCOME_CRASHED, ERR_INTERNAL, text);
}

/* The same data and spec would need as much again: to be told, not to be tried again. */
static void name_memory(struct talk *t)
{
    char text[160];
    snprintf(text, sizeof text,
             "the run needed more than %lld MiB of memory, its limit; use a smaller batch or architecture",
             (long long)(room_bytes(t->order) >> 20));
    set_outcome(t, OUTCOME_FAILED, ERR_LIMIT, text);
    err_under(&t->out->why, "spec");
}

static void name_time(struct talk *t)
{
    char text[120];
    snprintf(text, sizeof text,
             "the run took longer than its limit of %lld seconds; raise max_seconds or train less",
             (long long)t->order->job.max_seconds);
    set_outcome(t, OUTCOME_FAILED, ERR_TIMEOUT, text);
    err_under(&t->out->why, "max_seconds");
}

/* Its own limit on private memory (RLIMIT_DATA) makes an allocation that must not fail end it like this. */
static bool died_for_memory(const struct child *c)
{
    return c->reaped && WIFEXITED(c->status) && WEXITSTATUS(c->status) == RUNNER_EXIT_MEMORY;
}

/* What it said counts only if it also ended well; what was wanted of it meanwhile explains a death. */
static void judge(struct talk *t, bool out_of_memory, int feed_rc, const struct err *feed_err)
{
    enum run_wish wish = run_wish_of(t->slot->s, t->run);
    bool clean =
        t->last_word && t->child.reaped && WIFEXITED(t->child.status) && WEXITSTATUS(t->child.status) == 0;
    out_of_memory = out_of_memory || died_for_memory(&t->child);
    bool killed_for_time =
        t->timed_out || (WIFSIGNALED(t->child.status) && WTERMSIG(t->child.status) == SIGXCPU);
    if (wish == RUN_LOST || is_stale(t)) {
        t->out->type = OUTCOME_LOST;
    } else if (feed_rc != 0) { /* it may well have complained about data that we failed to give */
        t->out->type = OUTCOME_CRASHED;
        t->out->why = *feed_err;
    } else if (clean && t->out->type == OUTCOME_CANCELLED && wish != RUN_CANCEL) {
        set_outcome(t, OUTCOME_CRASHED, ERR_INTERNAL,
                    "the run ended as cancelled, which nobody had asked for");
    } else if (clean && t->out->type == OUTCOME_YIELDED && t->told < RUN_YIELD) {
        set_outcome(t, OUTCOME_CRASHED, ERR_INTERNAL, "the run gave way, which nobody had asked for");
    } else if (clean) {
        return;
    } else if (wish == RUN_LEAVE) {
        t->out->type = OUTCOME_YIELDED;
    } else if (wish == RUN_CANCEL) {
        t->out->type = OUTCOME_CANCELLED;
    } else if (killed_for_time) {
        name_time(t);
    } else if (out_of_memory) {
        name_memory(t);
    } else if (t->out->why.code == 0 || t->last_word) {
        name_death(t);
    }
}

/* No run was there to be judged: what prevented it decides. */
static void not_started(struct talk *t, const struct err *why)
{
    t->out->type = OUTCOME_CRASHED;
    t->out->why = *why;
}

void run_child(struct outcome *out, int *artifact_fd, struct slot *slot, struct run *run,
               const struct order *order)
{
    struct talk t = {.slot = slot, .run = run, .order = order, .out = out};
    struct err e = {0}, feed_err = {0};
    int feed_rc = 0;
    *out = (struct outcome){.type = OUTCOME_CRASHED, .checkpoint_fd = -1};
    t.child = (struct child){.pidfd = -1, .control_fd = -1, .artifact_fd = -1, .checkpoint_fd = {-1, -1}};
    report_init(&t.report, slot, run, order->job.checkpoint_sha256[0] ? order->job.progress : NULL);
    save_init(&t.save, slot, run, order, &t.child);
    int rc = start(&t, &e);
    bool spawned = t.child.pid > 0;
    if (rc == 0) rc = converse(&t, &e);
    if (rc != 0) not_started(&t, &e);
    run_set_pidfd(slot->s, run, -1);
    t.save.stale = is_stale(&t);
    save_end(&t.save);
    *artifact_fd = child_dispose(&t.child);
    bool out_of_memory = t.confined && cgroup_release(&slot->s->cgroups, run->job_id);
    for (int i = 0; i < TRAIN_MAX_INPUTS; i++) {
        int one = feed_join(&t.feeds[i], feed_rc == 0 ? &feed_err : NULL);
        if (feed_rc == 0) feed_rc = one;
    }
    if (spawned && rc == 0) judge(&t, out_of_memory, feed_rc, &feed_err);
    if (out->type == OUTCOME_DONE || out->type == OUTCOME_YIELDED) report_flush(&t.report);
    report_dispose(&t.report);
}
