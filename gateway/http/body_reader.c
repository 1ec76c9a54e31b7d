/* A ring of bytes between one loop, which never waits, and one pool thread, which does.
 *
 * Who runs what: on_data, on_end, resume, open and close on the loop; body_read on the pool thread. The lock
 * guards all fields below it. `x` is touched on the loop only; it outlives the reader, because the work that
 * reads is what finishes x, and a resume posted by the reading thread runs before the end of its work, posted
 * later by the same thread. */
#include "gateway/http/body_reader.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include "base/mem.h"
#include "gateway/http/body_queue.h"

enum {
    RING_BYTES = 256 * 1024,
    PIECE_BYTES = 64 * 1024, /* the largest piece that a codec delivers: pause while less than this is free */
};

struct body_reader {
    struct exchange *x;  /* borrowed */
    struct loop *loop;   /* borrowed */
    int64_t total_bytes; /* the reading thread's */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* bytes came, or the end */
    char *ring;             /* owned, RING_BYTES */
    size_t first, len;      /* what is in it */
    bool paused;            /* the loop waits for room */
    bool over;              /* nothing more will come: rc and err say why */
    int rc;
    struct err err;
};

/* ---- loop
 * ---------------------------------------------------------------------------------------------------- */

static void put(struct body_reader *r, const char *data, size_t len)
{
    assert(len <= RING_BYTES - r->len);
    size_t at = (r->first + r->len) % RING_BYTES;
    size_t straight = len < RING_BYTES - at ? len : RING_BYTES - at;
    memcpy(r->ring + at, data, straight);
    memcpy(r->ring, data + straight, len - straight);
    r->len += len;
}

static void on_data(struct exchange *x, const char *data, size_t len, void *arg)
{
    struct body_reader *r = arg;
    pthread_mutex_lock(&r->lock);
    put(r, data, len);
    r->paused = RING_BYTES - r->len < PIECE_BYTES;
    bool pause = r->paused;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    if (pause) exchange_pause(x);
}

static void on_end(struct exchange *x, int rc, const struct err *e, void *arg)
{
    (void)x;
    struct body_reader *r = arg;
    pthread_mutex_lock(&r->lock);
    r->over = true;
    r->rc = rc;
    if (rc && e) r->err = *e;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void resume(void *arg)
{
    exchange_resume(arg);
}

struct body_reader *body_reader__open(struct exchange *x, int64_t limit_bytes)
{
    struct body_reader *r = mem_try_alloc(1, sizeof *r);
    char *ring =
        mem_try_realloc(NULL, RING_BYTES, 1); /* not zeroed: its pages are touched only as bytes come */
    if (!r || !ring) {
        mem_free(ring);
        mem_free(r);
        return NULL;
    }
    r->x = x;
    r->loop = exchange_loop(x);
    r->ring = ring;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    exchange_stream(x, limit_bytes, &(struct exchange_sink){on_data, on_end}, r);
    return r;
}

void body_reader__close(struct body_reader *r)
{
    if (!r) return;
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    mem_free(r->ring);
    mem_free(r);
}

/* ---- the reading thread
 * -------------------------------------------------------------------------------------- */

static size_t take(struct body_reader *r, char *out, size_t cap)
{
    size_t len = r->len < cap ? r->len : cap;
    size_t straight = len < RING_BYTES - r->first ? len : RING_BYTES - r->first;
    memcpy(out, r->ring + r->first, straight);
    memcpy(out + straight, r->ring, len - straight);
    r->first = (r->first + len) % RING_BYTES;
    r->len -= len;
    return len;
}

ssize_t body_read(struct body_reader *r, void *buf, size_t cap, struct err *e)
{
    assert(cap > 0);
    pthread_mutex_lock(&r->lock);
    while (r->len == 0 && !r->over) pthread_cond_wait(&r->changed, &r->lock);
    size_t n = take(r, buf, cap);
    bool wake = r->paused && r->len <= RING_BYTES / 2;
    if (wake) r->paused = false;
    int rc = n == 0 ? r->rc : 0;
    if (rc && e) *e = r->err;
    pthread_mutex_unlock(&r->lock);
    if (wake) loop_post(r->loop, resume, r->x);
    r->total_bytes += (int64_t)n;
    return rc ? rc : (ssize_t)n;
}

int64_t body_reader_total(const struct body_reader *r)
{
    return r->total_bytes;
}
