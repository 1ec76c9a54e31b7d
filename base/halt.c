/* A stop flag behind a condition variable, and the two signals that ask for it. */
#include "base/halt.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

void halt_init(struct halt *h)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, &attr);
    pthread_condattr_destroy(&attr);
    h->requested = h->nudged = false;
}

void halt_dispose(struct halt *h)
{
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->lock);
}

void halt_request(struct halt *h)
{
    pthread_mutex_lock(&h->lock);
    h->requested = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

void halt_nudge(struct halt *h)
{
    pthread_mutex_lock(&h->lock);
    h->nudged = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

bool halt_requested(struct halt *h)
{
    pthread_mutex_lock(&h->lock);
    bool requested = h->requested;
    pthread_mutex_unlock(&h->lock);
    return requested;
}

bool halt_wait(struct halt *h, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (ms > 0 ? ms % 1000 * 1000000 : 0);
    until.tv_sec += (time_t)(ms > 0 ? ms / 1000 : 0) + (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    pthread_mutex_lock(&h->lock);
    int rc = 0;
    while (!h->requested && !h->nudged && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&h->changed, &h->lock, &until);
    }
    h->nudged = false;
    bool requested = h->requested;
    pthread_mutex_unlock(&h->lock);
    return requested;
}

static void stop_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

void halt_signal_block(void)
{
    sigset_t set;
    stop_signals(&set);
    sigaddset(&set, SIGPIPE);
    int rc = pthread_sigmask(SIG_BLOCK, &set, NULL);
    assert(rc == 0);
    (void)rc;
}

int halt_signal_wait(void)
{
    sigset_t set;
    stop_signals(&set);
    int sig = 0;
    while (sigwait(&set, &sig) != 0) continue;
    return sig;
}
