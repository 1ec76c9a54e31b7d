/* Checkpoints from the runner's files into blobs and rows. */
#include "worker/supervisor_save.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

/* Checkpoints may take at most this share of a run's time. */
enum { COST_FACTOR = 50, WHY_MAX = 300 };
/* …and of the interval between them, so much passes before the end of a trial or fold cuts it short. */
enum { PART_SHARE = 6 };

/* ---- blobs ---- */

/* Read, not mapped: a runner that cuts its file must not take the worker with it. */
static int pour(struct blob_writer *w, int fd, int64_t bytes, char *chunk, struct err *e)
{
    for (int64_t at = 0; at < bytes;) {
        size_t want = bytes - at < BLOB_CHUNK_BYTES ? (size_t)(bytes - at) : BLOB_CHUNK_BYTES;
        ssize_t n = pread(fd, chunk, want, at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_errno(e, ERR_IO, "read the checkpoint");
        if (n == 0)
            return err_set(e, ERR_CORRUPT, NULL, "the checkpoint ends after %lld bytes", (long long)at);
        int rc = blob_writer_append(w, chunk, (size_t)n, e);
        if (rc != 0) return rc;
        at += n;
    }
    return 0;
}

int save_blob(struct blob *out, struct blob_store *blobs, const struct blob_key *key, int fd, int64_t bytes,
              struct err *e)
{
    struct blob_writer *w = NULL;
    char *chunk = mem_try_alloc(1, BLOB_CHUNK_BYTES);
    if (!chunk) return err_set(e, ERR_NOMEM, NULL, "no memory to store a checkpoint");
    int rc = blob_writer_create(&w, blobs, key, bytes, e);
    if (rc == 0) rc = pour(w, fd, bytes, chunk, e);
    if (rc == 0) rc = blob_writer_finish(w, out, e);
    blob_writer_free(w);
    mem_free(chunk);
    return rc;
}

static void *work(void *arg)
{
    struct save_work *w = arg;
    uint64_t one = 1;
    w->rc = save_blob(&w->blob, w->blobs, w->key, w->fd, w->bytes, &w->err);
    atomic_store(&w->done, true);
    if (write(w->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN) log_warn("wake_failed", "of=checkpoint");
    return NULL;
}

/* ---- rows ---- */

struct row {
    const struct save *save;
    struct job_checkpoint checkpoint;
    const char *why;
};

static int save_row(struct db *db, void *arg, struct err *e)
{
    const struct row *r = arg;
    return job_save(db, r->save->run->job_id, r->save->run->fence, &r->checkpoint, e);
}

static int restart_row(struct db *db, void *arg, struct err *e)
{
    const struct row *r = arg;
    return job_restart(db, r->save->run->job_id, r->save->run->fence, r->why, e);
}

static void restart(struct save *s, const char *why)
{
    char text[WHY_MAX];
    struct err e = {0};
    snprintf(text, sizeof text, "%.200s; the run starts from the beginning", why);
    struct row r = {.save = s, .why = text};
    int rc = db_run(s->slot->db, s->run->tenant_id, restart_row, &r, &e);
    s->stale = s->stale || rc == ERR_STALE;
    log_warn("checkpoint_refused", "job=%s message=\"%s\" noted=%s", s->run->job_id, why,
             rc == 0 ? "yes" : e.message);
}

/* What has been stored gets its row; the file's memory is given back. */
static void settle(struct save *s)
{
    struct save_work *w = &s->work;
    struct err e = w->err;
    pthread_join(w->thread, NULL);
    w->started = false;
    struct row r = {.save = s, .checkpoint = {&w->blob, s->mark.epoch, s->mark.step, s->mark.part}};
    int rc = s->stale     ? ERR_STALE
             : w->rc != 0 ? w->rc
                          : db_run(s->slot->db, s->run->tenant_id, save_row, &r, &e);
    s->stale = s->stale || rc == ERR_STALE;
    if (ftruncate(w->fd, 0) != 0) log_debug("checkpoint_kept", "job=%s", s->run->job_id);
    if (rc == 0)
        log_info("checkpoint_stored", "job=%s fence=%lld epoch=%lld step=%lld bytes=%lld took_ms=%.1f",
                 s->run->job_id, (long long)s->run->fence, (long long)s->mark.epoch, (long long)s->mark.step,
                 (long long)s->mark.bytes, s->mark.took_ms);
    else
        log_warn("checkpoint_not_stored", "job=%s error=%s message=\"%s\"", s->run->job_id, err_name(rc),
                 e.message);
}

/* ---- the run's side ---- */

static int64_t every_ms(const struct save *s)
{
    return s->slot->s->config.checkpoint_ms;
}

void save_init(struct save *s, struct slot *slot, const struct run *run, const struct order *order,
               struct child *child)
{
    *s = (struct save){.slot = slot, .run = run, .order = order, .child = child};
    s->due_ms = clock_mono_ms() + every_ms(s);
    s->part_ms = clock_mono_ms() + every_ms(s) / PART_SHARE;
}

static int copy_in(struct blob_reader *reader, int fd, struct err *e)
{
    char *chunk = mem_try_alloc(1, BLOB_CHUNK_BYTES);
    if (!chunk) return err_set(e, ERR_NOMEM, NULL, "no memory to read the checkpoint");
    size_t got = 1;
    int rc = 0;
    while (rc == 0 && got > 0) {
        rc = blob_reader_read(reader, chunk, BLOB_CHUNK_BYTES, &got, e);
        if (rc == 0) rc = fs_write_all(fd, chunk, got, e);
    }
    mem_free(chunk);
    return rc;
}

void save_load(struct save *s, int64_t *bytes)
{
    const struct order *o = s->order;
    struct blob_reader *reader = NULL;
    struct err e = {0};
    *bytes = 0;
    if (!o->job.checkpoint_sha256[0]) return;
    int rc = blob_reader_open(&reader, s->slot->s->config.blobs, &o->key, &o->checkpoint, &e);
    if (rc == 0) rc = copy_in(reader, s->child->checkpoint_fd[0], &e);
    blob_reader_free(reader);
    if (rc == 0) {
        *bytes = o->checkpoint.bytes;
        return;
    }
    log_warn("checkpoint_unreadable", "job=%s message=\"%s\"", s->run->job_id, e.message);
    restart(s, "the checkpoint could not be read");
}

void save_turn(struct save *s, int64_t now_ms, bool now)
{
    static const char line[] = "{\"type\":\"checkpoint\"}";
    if (s->work.started && atomic_load(&s->work.done)) {
        settle(s);
        int64_t cost_ms = (int64_t)(s->mark.took_ms * COST_FACTOR);
        int64_t part_ms = every_ms(s) / PART_SHARE;
        s->due_ms = clock_mono_ms() + (cost_ms > every_ms(s) ? cost_ms : every_ms(s));
        s->part_ms = clock_mono_ms() + (cost_ms > part_ms ? cost_ms : part_ms);
    }
    if (s->work.started || s->awaited || (now_ms < s->due_ms && !now)) return;
    s->awaited = true;
    child_send(s->child, line, sizeof line - 1);
}

void save_part(struct save *s)
{
    if (s->part_ms < s->due_ms) s->due_ms = s->part_ms;
}

int save_read_mark(struct mark *out, struct json_obj *o, struct err *e)
{
    int64_t file = 0;
    const char *part = "";
    int rc = json_take_int(o, "file", 0, RUNNER_CHECKPOINTS - 1, &file, e);
    if (rc == 0) rc = json_take_int(o, "bytes", 1, INT64_C(1) << 53, &out->bytes, e);
    if (rc == 0) rc = json_take_int(o, "epoch", 1, INT64_C(1) << 53, &out->epoch, e);
    if (rc == 0) rc = json_take_int(o, "step", 0, INT64_C(1) << 53, &out->step, e);
    if (rc == 0) rc = json_take_num(o, "took_ms", 0, 1e12, &out->took_ms, e);
    if (rc == 0) rc = json_opt_str(o, "part", 0, TRAIN_PART_MAX - 1, &part, e);
    if (rc == 0) rc = json_obj_close(o, e);
    snprintf(out->part, sizeof out->part, "%s", rc == 0 ? part : "");
    out->file = (int)file;
    return rc;
}

int save_take(struct save *s, const cJSON *message, struct err *e)
{
    struct json_obj o;
    const char *type;
    struct mark mark;
    int rc = json_obj_open(&o, message, "", e);
    if (rc == 0) rc = json_take_str(&o, "type", 10, 10, &type, e);
    if (rc == 0) rc = save_read_mark(&mark, &o, e);
    if (rc != 0) return rc;
    if (!s->awaited) return err_set(e, ERR_CORRUPT, NULL, "it sent a checkpoint that nobody had asked for");
    s->awaited = false;
    s->mark = mark;
    s->work = (struct save_work){.fd = s->child->checkpoint_fd[mark.file],
                                 .bytes = mark.bytes,
                                 .blobs = s->slot->s->config.blobs,
                                 .key = &s->order->key,
                                 .wake_fd = s->run->wake_fd};
    s->work.started = pthread_create(&s->work.thread, NULL, work, &s->work) == 0;
    if (!s->work.started) {
        log_warn("checkpoint_not_stored", "job=%s message=\"no thread\"", s->run->job_id);
        s->due_ms = clock_mono_ms() + every_ms(s);
    }
    return 0;
}

void save_refused(struct save *s, const char *why)
{
    restart(s, why);
}

void save_end(struct save *s)
{
    if (s->work.started) settle(s);
}
