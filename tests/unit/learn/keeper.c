/* Takes checkpoints, and stops runs. */
#include "tests/unit/learn/keeper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"

enum { QUESTION_NS = 6000000 }; /* more than between two questions of a run */

/* A run asks every few milliseconds: from here on its next look at the clock asks, however fast it is. */
static void ask_to_stop(struct keeper *k)
{
    int64_t until_ns = clock_mono_ns() + QUESTION_NS;
    while (clock_mono_ns() < until_ns) continue;
    k->stopping = true;
    k->asked_ns = clock_mono_ns();
}

static bool on_save_due(void *ctx)
{
    struct keeper *k = ctx;
    k->seen++;
    if (k->stop_after && k->seen == (k->stop_epoch - 1) * k->steps + k->stop_after) ask_to_stop(k);
    return k->every;
}

static bool on_cancelled(void *ctx)
{
    const struct keeper *k = ctx;
    return k->stopping;
}

static int on_save_to(void *ctx)
{
    const struct keeper *k = ctx;
    return k->fd;
}

static void on_saved(void *ctx, const struct train_mark *mark)
{
    struct keeper *k = ctx;
    struct err e = {0};
    assert_true(k->n < MARKS_MAX);
    assert_int_equal(lseek(k->fd, 0, SEEK_SET), 0);
    assert_int_equal(fs_read_fd(&k->file[k->n], k->fd, (size_t)1 << 30, &e), 0);
    assert_int_equal(k->file[k->n].len, mark->bytes);
    k->mark[k->n++] = *mark;
}

static void on_refused(void *ctx, const char *why)
{
    struct keeper *k = ctx;
    k->refusals++;
    snprintf(k->why, sizeof k->why, "%s", why);
}

static void on_progress(void *ctx, const struct train_progress *p)
{
    struct keeper *k = ctx;
    if (k->stopped_in_evaluation && strcmp(p->phase, "evaluate") == 0) ask_to_stop(k);
}

struct train_callbacks keeper_callbacks(struct keeper *k)
{
    return (struct train_callbacks){.ctx = k,
                                    .progress = on_progress,
                                    .cancelled = on_cancelled,
                                    .save_due = on_save_due,
                                    .save_to = on_save_to,
                                    .saved = on_saved,
                                    .refused = on_refused};
}

void keeper_open(struct keeper *k)
{
    *k = (struct keeper){.fd = memfd_create("checkpoint", MFD_CLOEXEC)};
    assert_true(k->fd >= 0);
}

void keeper_close(struct keeper *k)
{
    for (size_t i = 0; i < k->n; i++) buf_dispose(&k->file[i]);
    close(k->fd);
}

void keeper_train(struct aid_result *out, const struct aid_run *run)
{
    struct err e = {0};
    if (aid_train(out, run, &e)) fail_msg("%s: %s", e.field, e.message);
}

void keeper_same(const struct aid_result *a, const struct aid_result *b, const char *what,
                 const struct train_mark *mark)
{
    if (a->artifact.len == b->artifact.len &&
        memcmp(a->artifact.data, b->artifact.data, a->artifact.len) == 0)
        return;
    fail_msg("%s: resumed at epoch %lld, step %lld, it ends with other bytes", what, (long long)mark->epoch,
             (long long)mark->step);
}
