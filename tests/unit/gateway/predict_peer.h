/* What stands for a worker and the scheduler in tests of the predict road: a thread with a port of its own
 * that sends heartbeats, answers with each row's sum, and places what is asked for on itself. */
#ifndef TESTS_UNIT_GATEWAY_PREDICT_PEER_H
#define TESTS_UNIT_GATEWAY_PREDICT_PEER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "base/buf.h"
#include "base/ids.h"
#include "base/loop.h"
#include "queue/link.h"
#include "queue/redis.h"

/* What each row costs, says the peer. */
enum { PEER_ROW_US = 7 };

/* ANSWER_MORE: one more than the sum, as another version would. */
enum manner { ANSWER, ANSWER_MORE, SWALLOW, SAY_STALE, SAY_INVALID, SAY_INTERNAL };

struct peer {
    pthread_t thread;
    char inc[ID_MAX], address[LINK_ADDRESS_MAX];
    _Atomic enum manner manner;
    atomic_bool places; /* acts as the scheduler that places what is asked for on this worker */
    atomic_bool dumb;   /* sends no heartbeat any more */
    atomic_int popped, cancelled, place_orders;
    struct loop *loop;
    struct redis *redis;
    struct event *acceptable, *tick;
    struct link *links[8];
    size_t links_len;
    struct buf swallowed; /* owned: the records that it swallowed, each behind its length, of this link */
    struct link *swallowed_from;
    int fd;
};

void peer_start(struct peer *p, enum manner manner, bool places);
void peer_hang_up(struct peer *p); /* breaks every link that it has */
/* Answers after all what it has swallowed since its links stand, in one go, and from then on every request.
 */
void peer_answer_swallowed(struct peer *p);
void peer_stop(struct peer *p);

#endif
