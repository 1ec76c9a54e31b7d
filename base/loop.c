/* Runs a libevent base, and lets other threads in through a locked queue that one eventfd announces.
 *
 * Who runs what: loop_post and loop_stop on any thread; everything else on the loop's own. The lock guards
 * the incoming queue and the stop flag only and is never held while a posted function runs. The eventfd is
 * written when the queue turns non-empty, so a burst of posts costs one wake-up. */
#include "base/loop.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct post {
    loop_fn fn;
    void *arg; /* borrowed until fn runs */
};

struct post_queue {
    struct post *items; /* owned */
    size_t len, cap;
};

struct loop {
    struct event_base *base; /* owned */
    struct event *wake;      /* owned; readable when fd is */
    int fd;                  /* owned; the eventfd */
    pthread_mutex_t lock;
    struct post_queue incoming; /* under lock */
    bool stop;                  /* under lock */
    struct post_queue running;  /* the loop's thread only: the batch that is being run */
};

static void signal_fd(int fd)
{
    const uint64_t one = 1;
    ssize_t n;
    do {
        n = write(fd, &one, sizeof one);
    } while (n < 0 && errno == EINTR);
    /* EAGAIN would mean a counter at its maximum: the loop is awake already. */
}

static void queue_push(struct post_queue *q, struct post p)
{
    if (q->len == q->cap) {
        size_t cap = q->cap ? q->cap * 2 : 64;
        struct post *grown = mem_alloc(cap, sizeof *grown);
        if (q->len) memcpy(grown, q->items, q->len * sizeof *grown);
        mem_free(q->items);
        q->items = grown;
        q->cap = cap;
    }
    q->items[q->len++] = p;
}

/* Runs the batch that is there now; what these functions post comes with the next wake-up, so that sockets
 * get their turn in between. */
static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct loop *l = arg;
    uint64_t count;
    if (read(fd, &count, sizeof count) < 0 && errno != EAGAIN && errno != EINTR)
        assert(!"eventfd unreadable");

    pthread_mutex_lock(&l->lock);
    struct post_queue batch = l->incoming;
    l->incoming = l->running; /* emptied by the previous round; its memory is used again */
    bool stop = l->stop;
    pthread_mutex_unlock(&l->lock);

    for (size_t i = 0; i < batch.len; i++) batch.items[i].fn(batch.items[i].arg);
    batch.len = 0;
    l->running = batch;
    if (stop) event_base_loopbreak(l->base);
}

int loop_create(struct loop **out, struct err *e)
{
    *out = NULL;
    struct loop *l = mem_try_alloc(1, sizeof *l);
    if (!l) return err_set(e, ERR_NOMEM, NULL, "no memory for an event loop");
    pthread_mutex_init(&l->lock, NULL);
    l->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->fd < 0) {
        int rc = err_errno(e, ERR_IO, "eventfd");
        loop_free(l);
        return rc;
    }
    /* Adds and deletes of one round that undo each other never reach the kernel. That needs descriptors that
     * nobody has duplicated, which ours are. */
    struct event_config *config = event_config_new();
    const struct timeval slice = {.tv_usec = LOOP_SLICE_US};
    if (config) event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    if (config) event_config_set_max_dispatch_interval(config, &slice, -1, LOOP_USUAL);
    l->base = config ? event_base_new_with_config(config) : NULL;
    if (config) event_config_free(config);
    if (l->base && event_base_priority_init(l->base, LOOP_PRIORITIES) == 0)
        l->wake = event_new(l->base, l->fd, EV_READ | EV_PERSIST, on_wake, l);
    if (!l->wake || event_add(l->wake, NULL) != 0) {
        loop_free(l);
        return err_set(e, ERR_IO, NULL, "libevent cannot make an event base");
    }
    *out = l;
    return 0;
}

void loop_free(struct loop *l)
{
    if (!l) return;
    if (l->wake) event_free(l->wake);
    if (l->base) event_base_free(l->base);
    if (l->fd >= 0) close(l->fd);
    pthread_mutex_destroy(&l->lock);
    mem_free(l->incoming.items);
    mem_free(l->running.items);
    mem_free(l);
}

struct event_base *loop_base(struct loop *l)
{
    return l->base;
}

void loop_run(struct loop *l)
{
    event_base_loop(l->base, EVLOOP_NO_EXIT_ON_EMPTY);
}

void loop_stop(struct loop *l)
{
    /* Signalled under the lock: once it is released the loop may end and be freed. */
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    signal_fd(l->fd);
    pthread_mutex_unlock(&l->lock);
}

void loop_post(struct loop *l, loop_fn fn, void *arg)
{
    pthread_mutex_lock(&l->lock);
    bool was_empty = l->incoming.len == 0;
    queue_push(&l->incoming, (struct post){fn, arg});
    if (was_empty) signal_fd(l->fd);
    pthread_mutex_unlock(&l->lock);
}
