/* A pool thread posts the change to every loop and waits until all have dropped it. */
#include "gateway/forget.h"

#include <pthread.h>
#include <time.h>
#include "base/clock.h"
#include "base/mem.h"

enum { WAIT_MS = 1000 };

/* Lives until the last of the loops and the waiting thread lets go of it. */
struct forgetting {
    struct changed what;
    pthread_mutex_t lock;
    pthread_cond_t done;
    int loops, refs; /* that have not dropped it yet; that still look here */
};

struct errand {
    struct forgetting *f;
    struct predict *predict;
};

void forget__keys(struct gateway *g, const struct changed *c)
{
    if (c->kind == CHANGED_KEY)
        key_cache_drop_key(g->keys, c->key_id);
    else if (c->kind == CHANGED_TENANT)
        key_cache_drop_tenant(g->keys, c->tenant_id);
    else if (c->kind == CHANGED_ALL)
        key_cache_drop_all(g->keys);
}

/* Under the lock, which it lets go. */
static void release(struct forgetting *f)
{
    bool last = --f->refs == 0;
    pthread_mutex_unlock(&f->lock);
    if (!last) return;
    pthread_cond_destroy(&f->done);
    pthread_mutex_destroy(&f->lock);
    mem_free(f);
}

static void on_loop(void *arg)
{
    struct errand *errand = arg;
    struct forgetting *f = errand->f;
    predict_forget(errand->predict, &f->what);
    mem_free(errand);
    pthread_mutex_lock(&f->lock);
    if (--f->loops == 0) pthread_cond_signal(&f->done);
    release(f);
}

static struct forgetting *begin(const struct changed *c, int loops)
{
    struct forgetting *f = mem_alloc(1, sizeof *f);
    pthread_condattr_t monotonic;
    *f = (struct forgetting){.what = *c, .loops = loops, .refs = loops + 1};
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&f->done, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return f;
}

void gateway_forget(struct gateway *g, const struct changed *c)
{
    forget__keys(g, c);
    if (c->kind == CHANGED_KEY) return;
    struct forgetting *f = begin(c, g->loops_len);
    int64_t until_ms = clock_mono_ms() + WAIT_MS;
    struct timespec until = {until_ms / 1000, until_ms % 1000 * 1000000};
    for (int i = 0; i < g->loops_len; i++) {
        struct errand *errand = mem_alloc(1, sizeof *errand);
        *errand = (struct errand){f, g->loops[i]->predict};
        loop_post(g->loops[i]->loop, on_loop, errand);
    }
    pthread_mutex_lock(&f->lock);
    while (f->loops > 0 && pthread_cond_timedwait(&f->done, &f->lock, &until) == 0) continue;
    release(f);
}
