/* Fills batches: with the run's own threads, or one ahead on a thread of ours.
 *
 * The thread and the caller hand a set of buffers to and fro under `lock`: `asked` is the batch that the
 * thread shall fill, `filled` the one that it has. The caller waits for it before it changes anything else,
 * so that order, n and the buffers need no lock of their own. */
#include "learn/loader.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"

enum { ALIGNMENT = 64, STACK_BYTES = 1 << 20 };

/* One batch on its way. */
struct set {
    void *data[LOADER_MAX_STREAMS]; /* owned */
    size_t at, n;
    int rc;
    struct err err;
};

struct loader {
    struct loader_config config;
    const uint32_t *order; /* borrowed until the pass ends */
    size_t n, next;        /* rows of the pass; where the batch begins that is given out next */
    int64_t epoch;
    bool ahead; /* a thread of ours fills the second set */
    struct set set[2];
    int current; /* the set that the caller has, or has had */

    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct set *asked; /* for the thread; NULL: nothing */
    bool filled, stopping;
};

/* ---- filling ---- */

struct share {
    struct loader *loader;
    struct set *set;
};

static int fill_rows(void *ctx, int64_t first, int64_t rows, struct err *e)
{
    const struct share *s = ctx;
    const struct loader_config *c = &s->loader->config;
    struct loader_part part = {.at = s->set->at + (size_t)first,
                               .n = (size_t)rows,
                               .epoch = s->loader->epoch,
                               .rows = s->loader->order + s->set->at + first};
    for (int i = 0; i < c->n_streams; i++)
        part.data[i] = (unsigned char *)s->set->data[i] + (size_t)first * c->row_bytes[i];
    return c->fill(c->ctx, &part, e);
}

static void aim(const struct loader *l, struct set *s, size_t at)
{
    size_t left = l->n - at;
    s->at = at;
    s->n = left < l->config.batch ? left : l->config.batch;
}

static void fill_alone(struct loader *l, struct set *s)
{
    struct share share = {l, s};
    s->rc = fill_rows(&share, 0, (int64_t)s->n, &s->err);
}

/* ---- one ahead ---- */

static void *serve(void *arg)
{
    struct loader *l = arg;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->stopping && (!l->asked || l->filled)) pthread_cond_wait(&l->changed, &l->lock);
        if (l->stopping) break;
        struct set *s = l->asked;
        pthread_mutex_unlock(&l->lock);
        fill_alone(l, s);
        pthread_mutex_lock(&l->lock);
        l->filled = true;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void ask(struct loader *l, struct set *s, size_t at)
{
    aim(l, s, at);
    pthread_mutex_lock(&l->lock);
    l->asked = s;
    l->filled = false;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

/* Until what was asked for is there, or nothing was. */
static void await(struct loader *l)
{
    pthread_mutex_lock(&l->lock);
    while (l->asked && !l->filled) pthread_cond_wait(&l->changed, &l->lock);
    l->asked = NULL;
    pthread_mutex_unlock(&l->lock);
}

/* ---- passes ---- */

void loader_begin(struct loader *l, const uint32_t *order, size_t n, size_t from, int64_t epoch)
{
    if (l->ahead) await(l); /* the rest of a pass that was left early */
    l->order = order;
    l->n = n;
    l->next = from < n ? from : n;
    l->epoch = epoch;
    if (l->ahead && l->next < n) ask(l, &l->set[!l->current], l->next);
}

static int next_ahead(struct loader *l, struct set **out)
{
    await(l);
    l->current = !l->current;
    struct set *s = &l->set[l->current];
    *out = s;
    if (s->rc == 0 && s->at + s->n < l->n) ask(l, &l->set[!l->current], s->at + s->n);
    return s->rc;
}

static int next_together(struct loader *l, struct set **out, struct err *e)
{
    struct set *s = &l->set[0];
    struct share share = {l, s};
    *out = s;
    aim(l, s, l->next);
    return run_share(l->config.run, (int64_t)s->n, fill_rows, &share, e);
}

int loader_next(struct loader *l, struct loader_batch *out, struct err *e)
{
    struct set *s;
    *out = (struct loader_batch){0};
    if (l->next >= l->n) return 0;
    int rc = l->ahead ? next_ahead(l, &s) : next_together(l, &s, e);
    if (rc) {
        if (l->ahead && e) *e = s->err;
        l->next = l->n; /* nothing comes after a batch that failed */
        return rc;
    }
    l->next = s->at + s->n;
    out->rows = l->order + s->at;
    out->n = s->n;
    memcpy(out->data, s->data, sizeof out->data);
    return 0;
}

/* ---- life ---- */

static bool has_thread_to_spare(const struct loader_config *c)
{
    return c->threads > run_threads(c->run);
}

size_t loader_bytes(const struct loader_config *c)
{
    size_t bytes = 0;
    for (int i = 0; i < c->n_streams; i++) {
        size_t stream;
        if (!mem_mul(c->batch, c->row_bytes[i], &stream) || !mem_add(bytes, stream, &bytes)) return SIZE_MAX;
    }
    return bytes > SIZE_MAX / 2 ? SIZE_MAX : bytes * (has_thread_to_spare(c) ? 2 : 1);
}

static int allocate(struct loader *l, struct err *e)
{
    const struct loader_config *c = &l->config;
    bool ok = loader_bytes(c) < SIZE_MAX;
    for (int s = 0; s < (l->ahead ? 2 : 1); s++)
        for (int i = 0; i < c->n_streams && ok; i++)
            ok = (l->set[s].data[i] = mem_try_aligned(ALIGNMENT, c->batch * c->row_bytes[i] + ALIGNMENT));
    return ok ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for the batches");
}

static int start(struct loader *l, struct err *e)
{
    int rc = thread_start(&l->thread, STACK_BYTES, serve, l);
    l->started = rc == 0;
    if (rc == 0) return 0;
    return err_set(e, ERR_UNAVAILABLE, "threads", "the thread that loads data could not be started: %s",
                   strerror(rc));
}

int loader_create(struct loader **out, const struct loader_config *c, struct err *e)
{
    struct loader *l = mem_try_alloc(1, sizeof *l);
    *out = NULL;
    if (!l) return err_set(e, ERR_NOMEM, NULL, "no memory for the batches");
    l->config = *c;
    l->ahead = has_thread_to_spare(c);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    int rc = allocate(l, e);
    if (rc == 0 && l->ahead) rc = start(l, e);
    if (rc)
        loader_free(l);
    else
        *out = l;
    return rc;
}

void loader_free(struct loader *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    if (l->started) pthread_join(l->thread, NULL);
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < LOADER_MAX_STREAMS; i++) mem_free(l->set[s].data[i]);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    mem_free(l);
}
