/* Sends work to the control pool and frees it when it has come back.
 *
 * The pool's own way back (its done callback) is not used, so that trips_out falls only after the pool thread
 * has posted: once it is zero, no pool thread touches the loop any more. */
#include "gateway/trip.h"

#include "base/mem.h"

static void trip_free(struct trip *t)
{
    if (t->prev != NULL)
        t->prev->next = t->next;
    else
        t->home->trips = t->next;
    if (t->next != NULL) t->next->prev = t->prev;
    if (t->dispose != NULL) t->dispose(t);
    mem_free(t);
}

static void on_back(void *arg)
{
    struct trip *t = arg;
    t->done(t);
    trip_free(t);
}

static void on_pool(void *arg, void *thread_state)
{
    struct trip *t = arg;
    struct gateway_loop *l = t->home;
    t->work(t, thread_state);
    loop_post(l->loop, on_back, t);
    pthread_mutex_lock(&l->trips_lock); /* the last that this thread does with l, see trip_free_all */
    if (--l->trips_out == 0) pthread_cond_signal(&l->trips_in);
    pthread_mutex_unlock(&l->trips_lock);
}

static void count(struct gateway_loop *l, int by)
{
    pthread_mutex_lock(&l->trips_lock);
    l->trips_out += by;
    pthread_mutex_unlock(&l->trips_lock);
}

int trip_start(struct gateway_loop *l, struct trip *t, struct err *e)
{
    t->home = l;
    count(l, 1);
    int rc = pool_submit(l->g->control, on_pool, t, NULL, NULL);
    if (rc != 0) {
        count(l, -1);
        err_set(e, rc, NULL, "the gateway is busy; try again in a second");
        if (e != NULL) e->retry_after_ms = 1000;
        return rc;
    }
    t->prev = NULL;
    t->next = l->trips;
    if (t->next != NULL) t->next->prev = t;
    l->trips = t;
    return 0;
}

void trip_free_all(struct gateway_loop *l)
{
    pthread_mutex_lock(&l->trips_lock);
    while (l->trips_out > 0) pthread_cond_wait(&l->trips_in, &l->trips_lock);
    pthread_mutex_unlock(&l->trips_lock);
    while (l->trips != NULL) trip_free(l->trips);
}
