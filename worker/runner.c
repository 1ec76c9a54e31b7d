/* The talk of a run: start line in, progress and checkpoints out, wishes in, last word out. */
#include "worker/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "learn/dispatch.h"

/* Progress that the supervisor is too slow to read is dropped beyond OUT_MAX; a last word waits so long for
 * it. */
enum { OUT_MAX = 64 * 1024, LAST_WORD_MS = 30000, ASK_EVERY_US = 5000, WISH_TOKENS = 20 };

struct talk {
    int fd;
    struct buf in;  /* read, not yet taken as a line */
    struct buf out; /* lines not yet written */
    int64_t asked_us;
    /* What the supervisor wishes. */
    bool cancel, yield, yield_now, save;
    bool measures;                /* an evaluate job: measuring is all that it may have to do */
    int64_t began_us, stepped_us; /* when the run began, and got somewhere; 0: not yet */
    int file;                     /* where the next checkpoint goes: 0 or 1 */
    bool ending;                  /* because of a yield: the checkpoint that comes is the last one */
    bool marked;                  /* …and has come */
    int marked_file;
    struct train_mark mark;
};

/* ---- lines ---- */

/* Nobody is there to hear how it ended. */
static _Noreturn void orphaned(void)
{
    _exit(1);
}

static void flush(struct talk *t)
{
    while (t->out.len > 0) {
        ssize_t n = write(t->fd, t->out.data, t->out.len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN)) return;
        if (n < 0) orphaned();
        buf_consume(&t->out, (size_t)n);
    }
}

static void flush_all(struct talk *t)
{
    int64_t until_ms = clock_mono_ms() + LAST_WORD_MS;
    for (flush(t); t->out.len > 0; flush(t)) {
        int64_t left_ms = until_ms - clock_mono_ms();
        if (left_ms <= 0) orphaned();
        struct pollfd p = {.fd = t->fd, .events = POLLOUT};
        if (poll(&p, 1, (int)left_ms) < 0 && errno != EINTR) orphaned();
    }
}

/* Reads what is there; false when nothing is. */
static bool fill(struct talk *t)
{
    char chunk[16384];
    ssize_t n = read(t->fd, chunk, sizeof chunk);
    if (n == 0) orphaned();
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n < 0) orphaned();
    buf_append(&t->in, chunk, (size_t)n);
    return true;
}

/* The first whole line's length with its newline, or 0. */
static size_t line_len(const struct talk *t)
{
    const char *end = t->in.len ? memchr(t->in.data, '\n', t->in.len) : NULL;
    return end ? (size_t)(end - t->in.data) + 1 : 0;
}

/* One that is being written: a message of a type, with what follows by w. */
struct line {
    struct buf text;
    struct json_writer w;
};

static struct json_writer *line_begin(struct line *l, const char *type)
{
    l->text = (struct buf){0};
    jw_init(&l->w, &l->text);
    jw_obj(&l->w);
    jw_kstr(&l->w, "type", type);
    return &l->w;
}

/* It may be lost, when the supervisor is too slow. */
static void line_send(struct talk *t, struct line *l)
{
    jw_obj_end(&l->w);
    buf_char(&l->text, '\n');
    if (!l->text.failed && t->out.len + l->text.len <= OUT_MAX)
        buf_append(&t->out, l->text.data, l->text.len);
    buf_dispose(&l->text);
    flush(t);
}

/* It is awaited, and small: never lost. */
static void line_put(struct talk *t, struct line *l)
{
    jw_obj_end(&l->w);
    buf_char(&l->text, '\n');
    if (l->text.failed) orphaned(); /* no memory for a few bytes: a crash */
    buf_append(&t->out, l->text.data, l->text.len);
    buf_dispose(&l->text);
}

static int read_start(struct talk *t, cJSON **out, struct err *e)
{
    while (line_len(t) == 0) {
        struct pollfd p = {.fd = t->fd, .events = POLLIN};
        if (poll(&p, 1, -1) < 0 && errno != EINTR)
            return err_errno(e, ERR_IO, "wait for the start of the run");
        fill(t);
        if (t->in.failed) return err_set(e, ERR_TOO_LARGE, NULL, "the run's description is too long");
    }
    size_t len = line_len(t);
    int rc = json_parse(out, t->in.data, len - 1, RUNNER_MAX_TOKENS, e);
    buf_consume(&t->in, len);
    return rc;
}

/* ---- wishes ---- */

/* What is no wish is left alone: nothing else comes after the start. */
static void take_wish(struct talk *t, const char *line, size_t len)
{
    cJSON *message = NULL;
    struct err e;
    if (json_parse(&message, line, len, WISH_TOKENS, &e) != 0) return;
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(message, "type");
    const char *name = cJSON_IsString(type) ? type->valuestring : "";
    if (strcmp(name, "cancel") == 0) t->cancel = true;
    if (strcmp(name, "checkpoint") == 0) t->save = true;
    if (strcmp(name, "yield") == 0) {
        t->yield = true;
        t->yield_now |= cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(message, "now"));
    }
    cJSON_Delete(message);
}

static void hear_wishes(struct talk *t)
{
    int64_t now_us = clock_mono_us();
    if (now_us - t->asked_us < ASK_EVERY_US) return;
    t->asked_us = now_us;
    flush(t);
    while (fill(t)) continue;
    for (size_t len = line_len(t); len > 0; len = line_len(t)) {
        take_wish(t, t->in.data, len - 1);
        buf_consume(&t->in, len);
    }
}

/* Whether it has got somewhere since it began: what a yield throws away must not be all that it did. */
static bool may_yield(const struct talk *t)
{
    return t->stepped_us > 0 && clock_mono_us() - t->stepped_us >= t->stepped_us - t->began_us;
}

/* ---- callbacks of the run ---- */

static bool on_ask(void *ctx)
{
    struct talk *t = ctx;
    hear_wishes(t);
    t->ending = t->yield_now || (t->yield && may_yield(t));
    return t->cancel || t->ending;
}

static bool on_save_due(void *ctx)
{
    const struct talk *t = ctx;
    return t->save;
}

static int on_save_to(void *ctx)
{
    struct talk *t = ctx;
    t->save = false;
    return t->cancel ? -1 : RUNNER_CHECKPOINT_FD + t->file;
}

static void mark_to_json(const struct talk *t, struct json_writer *w)
{
    jw_kint(w, "file", t->marked_file);
    jw_kint(w, "bytes", (int64_t)t->mark.bytes);
    if (t->mark.part[0]) jw_kstr(w, "part", t->mark.part);
    jw_kint(w, "epoch", t->mark.epoch);
    jw_kint(w, "step", t->mark.step);
    jw_knum(w, "took_ms", t->mark.took_ms);
}

static void on_saved(void *ctx, const struct train_mark *mark)
{
    struct talk *t = ctx;
    t->mark = *mark;
    t->marked_file = t->file;
    t->file = 1 - t->file;
    t->marked = t->ending;
    if (t->ending) return; /* it goes with the last word */
    struct line line;
    struct json_writer *w = line_begin(&line, "checkpoint");
    mark_to_json(t, w);
    line_put(t, &line);
    flush(t);
}

static void on_refused(void *ctx, const char *why)
{
    struct line line;
    struct json_writer *w = line_begin(&line, "refused");
    jw_kstr(w, "message", why);
    line_send(ctx, &line);
}

/* Whether that is something which an attempt that goes on from here need not do again: a step, the end of a
 * trial or fold that is solved in one, or a batch of rows that only have to be measured. */
static bool is_headway(const struct talk *t, const struct train_progress *p)
{
    static const char *const phases[] = {"train", "trial", "fold"};
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++)
        if (strcmp(p->phase, phases[i]) == 0) return true;
    return t->measures && !p->part && strcmp(p->phase, "evaluate") == 0;
}

static void on_progress(void *ctx, const struct train_progress *p)
{
    struct talk *t = ctx;
    if (t->stepped_us == 0 && is_headway(t, p)) t->stepped_us = clock_mono_us();
    struct line line;
    struct json_writer *w = line_begin(&line, "progress");
    jw_kstr(w, "phase", p->phase);
    jw_kint(w, "epoch", p->epoch);
    jw_kint(w, "epochs", p->epochs);
    jw_kint(w, "step", p->step);
    jw_kint(w, "steps", p->steps);
    jw_kbool(w, "epoch_end", p->epoch_end);
    jw_name(w, "metrics");
    jw_raw(w, p->metrics_json ? p->metrics_json : "{}", p->metrics_json ? strlen(p->metrics_json) : 2);
    jw_knum(w, "eta_seconds", p->eta_seconds);
    if (p->part) {
        jw_name(w, p->part);
        jw_raw(w, p->part_json, strlen(p->part_json));
    }
    line_send(ctx, &line);
}

static void on_message(void *ctx, const char *level, const char *text)
{
    struct line line;
    struct json_writer *w = line_begin(&line, "message");
    jw_kstr(w, "level", level);
    jw_kstr(w, "message", text);
    line_send(ctx, &line);
}

/* ---- the start line ---- */

static int take_input(struct train_input *in, const cJSON *node, size_t index, struct err *e)
{
    char path[JSON_PATH_MAX];
    json_path_index(path, "inputs", index);
    struct json_obj o;
    const char *dataset = NULL;
    int64_t fd = 0, bytes = 0;
    int rc = json_obj_open(&o, node, path, e);
    if (rc == 0) rc = json_take_str(&o, "dataset", 1, 16, &dataset, e);
    if (rc == 0) rc = json_take_str(&o, "role", 1, 16, &in->role, e);
    if (rc == 0) rc = json_take_int(&o, "fd", RUNNER_FIRST_INPUT_FD, RUNNER_KEEP_FDS - 1, &fd, e);
    if (rc == 0) rc = json_take_int(&o, "bytes", 0, INT64_C(1) << 53, &bytes, e);
    if (rc == 0) rc = json_obj_close(&o, e);
    in->test = dataset && strcmp(dataset, "test") == 0;
    in->fd = (int)fd;
    in->bytes = (uint64_t)bytes;
    return rc;
}

static int take_inputs(struct train_request *r, const cJSON *list, struct err *e)
{
    int rc = 0;
    for (const cJSON *n = list->child; n && rc == 0; n = n->next) {
        rc = take_input(&r->inputs[r->n_inputs], n, r->n_inputs, e);
        r->n_inputs++;
    }
    return rc;
}

static int take_limits(struct train_request *r, const cJSON *node, struct err *e)
{
    struct json_obj o;
    int64_t memory_bytes = 0, threads = 1;
    int rc = json_obj_open(&o, node, "limits", e);
    if (rc == 0) rc = json_take_int(&o, "memory_bytes", 0, INT64_C(1) << 53, &memory_bytes, e);
    if (rc == 0) rc = json_take_num(&o, "seconds", 0, 1e12, &r->seconds, e);
    if (rc == 0) rc = json_opt_num(&o, "used_seconds", 0, 1e12, &r->used_seconds, e);
    if (rc == 0) rc = json_take_int(&o, "threads", 1, 1024, &threads, e);
    if (rc == 0) rc = json_obj_close(&o, e);
    r->memory_bytes = (size_t)memory_bytes;
    r->threads = (int)threads;
    return rc;
}

/* Read where it lies: the file is the supervisor's, and nobody writes to it any more. */
static int take_checkpoint(struct train_request *r, int64_t bytes, struct err *e)
{
    struct stat st;
    if (bytes == 0) return 0;
    if (fstat(RUNNER_CHECKPOINT_FD, &st) != 0 || st.st_size != bytes)
        return err_set(e, ERR_IO, NULL, "the checkpoint does not have the %lld bytes that it should have",
                       (long long)bytes);
    void *at = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, RUNNER_CHECKPOINT_FD, 0);
    if (at == MAP_FAILED) return err_errno(e, ERR_IO, "map the checkpoint");
    r->resume = at;
    r->resume_bytes = (size_t)bytes;
    return 0;
}

static int take_start(struct train_request *r, const char **job, const cJSON *root, struct err *e)
{
    struct json_obj o;
    int64_t resume_bytes = 0;
    const char *type;
    const cJSON *inputs = NULL, *limits = NULL;
    int rc = json_obj_open(&o, root, "", e);
    if (rc == 0) rc = json_take_str(&o, "type", 5, 5, &type, e);
    if (rc == 0) rc = json_opt_str(&o, "job", 1, 16, job, e);
    if (rc == 0) rc = json_take_object(&o, "spec", &r->spec, e);
    if (rc == 0) rc = json_take_object(&o, "schema", &r->schema, e);
    if (rc == 0) rc = json_opt_object(&o, "test_schema", &r->test_schema, e);
    if (rc == 0) rc = json_opt_object(&o, "lineage", &r->lineage, e);
    if (rc == 0) rc = json_take_array(&o, "inputs", 1, TRAIN_MAX_INPUTS, &inputs, e);
    if (rc == 0) rc = json_take_object(&o, "limits", &limits, e);
    if (rc == 0) rc = json_opt_int(&o, "resume_bytes", 0, INT64_C(1) << 53, &resume_bytes, e);
    if (rc == 0) rc = json_obj_close(&o, e);
    if (rc == 0) rc = take_inputs(r, inputs, e);
    if (rc == 0) rc = take_limits(r, limits, e);
    if (rc == 0) rc = take_checkpoint(r, resume_bytes, e);
    return rc;
}

/* ---- the last word ---- */

static void say_done(struct talk *t, const struct train_result *r)
{
    struct line line;
    struct json_writer *w = line_begin(&line, "done");
    jw_name(w, "metrics");
    jw_raw(w, r->metrics.data, r->metrics.len);
    jw_kint(w, "artifact_bytes", (int64_t)r->artifact_bytes);
    if (r->signature.len) {
        jw_name(w, "signature");
        jw_raw(w, r->signature.data, r->signature.len);
    }
    jw_kint(w, "memory_bytes", (int64_t)r->memory_bytes);
    line_put(t, &line);
    flush_all(t);
}

static void say_failed(struct talk *t, const struct err *why)
{
    struct line line;
    struct json_writer *w = line_begin(&line, "failed");
    jw_kstr(w, "code", err_name(why->code));
    jw_kstr(w, "field", why->field);
    jw_kstr(w, "message", why->message);
    line_put(t, &line);
    flush_all(t);
}

/* With the checkpoint if it got that far. */
static void say_yielded(struct talk *t)
{
    struct line line;
    struct json_writer *w = line_begin(&line, "yielded");
    jw_name(w, "checkpoint");
    if (t->marked) {
        jw_obj(w);
        mark_to_json(t, w);
        jw_obj_end(w);
    } else {
        jw_null(w);
    }
    line_put(t, &line);
    flush_all(t);
}

static void say_end(struct talk *t, int rc, struct train_result *result, struct err *why)
{
    if (rc == 0) {
        say_done(t, result);
        train_result_dispose(result);
    } else if (rc == ERR_CANCELLED && t->ending && !t->cancel) {
        say_yielded(t);
    } else {
        why->code = rc;
        say_failed(t, why);
    }
}

int runner_run(int control_fd, int artifact_fd)
{
    struct talk t = {.fd = control_fd, .file = 1, .in = {.limit = RUNNER_START_MAX_BYTES}};
    struct train_callbacks callbacks = {.ctx = &t,
                                        .progress = on_progress,
                                        .message = on_message,
                                        .cancelled = on_ask,
                                        .save_due = on_save_due,
                                        .save_to = on_save_to,
                                        .saved = on_saved,
                                        .refused = on_refused};
    struct train_request request = {.artifact_fd = artifact_fd};
    struct train_result result = {0};
    struct err e = {0};
    cJSON *start = NULL;
    const char *job = "train";
    int flags = fcntl(control_fd, F_GETFL);
    if (flags < 0 || fcntl(control_fd, F_SETFL, flags | O_NONBLOCK) != 0) return 1;
    int rc = read_start(&t, &start, &e);
    if (rc == 0) rc = take_start(&request, &job, start, &e);
    if (rc != 0) err_prefix(&e, "the start of the run");
    t.measures = strcmp(job, "evaluate") == 0;
    t.began_us = clock_mono_us();
    if (rc == 0) rc = dispatch_run(&result, job, &request, &callbacks, &e);
    say_end(&t, rc, &result, &e);
    if (request.resume) munmap((void *)(uintptr_t)request.resume, request.resume_bytes);
    cJSON_Delete(start);
    buf_dispose(&t.in);
    buf_dispose(&t.out);
    return 0;
}
