/* Runs blocking work on a fixed set of threads fed by one bounded queue.
 *
 * Who runs what: pool_create, pool_submit and pool_free on any thread (pool_free once, when nobody submits
 * any more); init, work and fini on the pool's threads; done on the loop's. One lock guards the queue; it is
 * not held while work runs, and loop_post is called outside it. Pool threads block every signal: those are
 * for the main thread. */
#include "base/pool.h"
#include "base/mem.h"
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { THREAD_NAME_MAX = 16 }; /* the kernel's limit, with the NUL */

struct task {
    pool_work work;
    void *arg; /* borrowed until done has run */
    struct loop *loop;
    loop_fn done;
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t filled; /* a task came, or the pool is stopping */
    struct task *ring;     /* owned; cap entries, len of them from first on */
    size_t cap, first, len;
    bool stopping;
    pthread_t *threads; /* owned */
    int thread_count;   /* started ones */
    pool_thread_init init;
    pool_thread_free fini;
    void *ctx; /* borrowed */
    char name[THREAD_NAME_MAX];
};

/* Waits for a task; false when the pool is stopping and its queue has run dry. */
static bool next_task(struct pool *p, struct task *out)
{
    pthread_mutex_lock(&p->lock);
    while (p->len == 0 && !p->stopping) pthread_cond_wait(&p->filled, &p->lock);
    bool found = p->len > 0;
    if (found) {
        *out = p->ring[p->first];
        p->first = (p->first + 1) % p->cap;
        p->len--;
    }
    pthread_mutex_unlock(&p->lock);
    return found;
}

static void *thread_main(void *arg)
{
    struct pool *p = arg;
    pthread_setname_np(pthread_self(), p->name);
    void *state = p->init ? p->init(p->ctx) : NULL;
    struct task t;
    while (next_task(p, &t)) {
        t.work(t.arg, state);
        if (t.done) loop_post(t.loop, t.done, t.arg);
    }
    if (p->fini) p->fini(state);
    return NULL;
}

static int start_threads(struct pool *p, int threads, struct err *e)
{
    int rc = 0;
    while (p->thread_count < threads && rc == 0) {
        rc = thread_start(&p->threads[p->thread_count], 0, thread_main, p);
        if (rc == 0) p->thread_count++;
    }
    if (rc == 0) return 0;
    errno = rc;
    return err_errno(e, ERR_UNAVAILABLE, "start thread %d of %d of pool %s", p->thread_count + 1, threads,
                     p->name);
}

int pool_create(struct pool **out, const char *name, int threads, size_t queue_max, pool_thread_init init,
                pool_thread_free fini, void *ctx, struct err *e)
{
    assert(threads > 0 && queue_max > 0);
    *out = NULL;
    struct pool *p = mem_try_alloc(1, sizeof *p);
    if (!p) return err_set(e, ERR_NOMEM, NULL, "no memory for thread pool %s", name);
    p->init = init;
    p->fini = fini;
    p->ctx = ctx;
    p->cap = queue_max;
    snprintf(p->name, sizeof p->name, "%.15s", name);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->filled, NULL);
    p->ring = mem_try_alloc(queue_max, sizeof *p->ring);
    p->threads = mem_try_alloc((size_t)threads, sizeof *p->threads);
    int rc = 0;
    if (!p->ring || !p->threads)
        rc = err_set(e, ERR_NOMEM, NULL, "no memory for thread pool %s with a queue of %zu", name, queue_max);
    else
        rc = start_threads(p, threads, e);
    if (rc) {
        pool_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

int pool_submit(struct pool *p, pool_work work, void *arg, struct loop *loop, loop_fn done)
{
    assert(work && (!done || loop));
    int rc = 0;
    pthread_mutex_lock(&p->lock);
    if (p->stopping || p->len == p->cap) {
        rc = ERR_OVERLOAD;
    } else {
        p->ring[(p->first + p->len) % p->cap] = (struct task){work, arg, loop, done};
        p->len++;
        pthread_cond_signal(&p->filled);
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

size_t pool_waiting(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    size_t waiting = p->len;
    pthread_mutex_unlock(&p->lock);
    return waiting;
}

void pool_free(struct pool *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->filled);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->thread_count; i++) pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->filled);
    pthread_mutex_destroy(&p->lock);
    mem_free(p->threads);
    mem_free(p->ring);
    mem_free(p);
}
