/* Leads a training's checkpoints into those of the job that it is part of. */
#include "learn/checkpoint_nest.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"

static double thread_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

bool nest_cancelled(struct nest *n)
{
    const struct train_callbacks *c = n->outer;
    if (c->cancelled && c->cancelled(c->ctx)) n->stopping = true;
    return n->stopping || n->rc;
}

bool nest_save_due(struct nest *n)
{
    const struct train_callbacks *c = n->outer;
    n->due = c->save_due && c->save_due(c->ctx);
    return n->due;
}

static int ask_where(struct nest *n)
{
    const struct train_callbacks *c = n->outer;
    n->due = false;
    n->began_ms = thread_ms();
    n->to_fd = c->save_to ? c->save_to(c->ctx) : -1;
    return n->to_fd;
}

int nest_save_to(struct nest *n)
{
    if (n->rc) return -1;
    if (n->due || n->stopping) return ask_where(n) < 0 ? -1 : n->staging_fd;
    n->to_fd = -1;
    return n->staging_fd;
}

static void write_down(struct nest *n, const void *training, size_t len, struct train_mark *mark)
{
    const struct train_callbacks *c = n->outer;
    n->rc = n->write(n->owner, training, len, n->to_fd, mark, &n->why);
    n->to_fd = -1;
    mark->took_ms = thread_ms() - n->began_ms;
    if (n->rc) return;
    n->laid_down = n->stopping;
    if (c->saved) c->saved(c->ctx, mark);
}

static int empty(const struct nest *n, struct err *e)
{
    return ftruncate(n->staging_fd, 0) != 0 || lseek(n->staging_fd, 0, SEEK_SET) != 0
               ? err_errno(e, ERR_IO, "put a training's checkpoint aside")
               : 0;
}

/* Mapped, not read: a run that gives way has no time to lose. */
void nest_saved(struct nest *n, const struct train_mark *mark)
{
    struct train_mark own = *mark;
    size_t len = (size_t)mark->bytes;
    if (n->to_fd < 0) return;
    void *at = mmap(NULL, len, PROT_READ, MAP_SHARED, n->staging_fd, 0);
    if (at == MAP_FAILED) {
        n->rc = err_errno(&n->why, ERR_IO, "read a training's checkpoint");
        return;
    }
    write_down(n, at, len, &own);
    munmap(at, len);
    if (!n->rc) n->rc = empty(n, &n->why);
}

void nest_save(struct nest *n, int64_t epoch, int64_t step)
{
    struct train_mark mark = {.epoch = epoch, .step = step};
    if (!n->rc && ask_where(n) >= 0) write_down(n, NULL, 0, &mark);
}

int nest_outcome(const struct nest *n, int rc, struct err *e)
{
    if (!n->rc) return rc;
    *e = n->why;
    return n->rc;
}

int nest_take(const struct nest *n, struct buf *out, size_t limit, struct err *e)
{
    buf_clear(out);
    if (lseek(n->staging_fd, 0, SEEK_SET) != 0) return err_errno(e, ERR_IO, "read a training's checkpoint");
    int rc = fs_read_fd(out, n->staging_fd, limit, e);
    return rc ? rc : empty(n, e);
}
