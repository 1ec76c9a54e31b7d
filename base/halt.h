/* A request to stop, and waits that it ends at once. For threads that sleep between turns of work.
 *
 *   any thread ── halt_request ──▶ every halt_wait returns true, now and from then on
 */
#ifndef BASE_HALT_H
#define BASE_HALT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct halt {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* on CLOCK_MONOTONIC */
    bool requested;
    bool nudged;
};

void halt_init(struct halt *h);
void halt_dispose(struct halt *h); /* when no thread waits any more */
void halt_request(struct halt *h);
bool halt_requested(struct halt *h);

/* Waits at most ms for a stop (true) or a nudge (false, early). A nudge that comes while nobody waits ends
 * the next wait. */
bool halt_wait(struct halt *h, int64_t ms);
void halt_nudge(struct halt *h);

/* Blocks SIGTERM, SIGINT and SIGPIPE in the calling thread and those that it starts: call first thing in
 * main. Then halt_signal_wait returns the SIGTERM or SIGINT that arrives. */
void halt_signal_block(void);
int halt_signal_wait(void);

#endif
