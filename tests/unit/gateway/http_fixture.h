/* A real server on an ephemeral port of 127.0.0.1, with a route for every manner in which an exchange can be
 * used:
 *
 *   /            200 "hello"                       /echo      collects ≤ 1 MiB and sends it back
 *   /small       collects ≤ 16 bytes               /sum       a pool thread reads ≤ 1 GiB: "bytes crc"
 *   /slow        as /sum, but waits for            /pool      a pool thread answers 201
 *                fixture_open_gate first           /poolbody  a pool thread gets the body (≤ 64 bytes)
 *   /early       a pool thread answers 403 unread  /hang      never answered; ends when the client leaves
 *   /wait        a pool thread waits until its     /flood?n=  n bytes in chunks, under back-pressure
 *                client has left                   /abort     a response cut short
 *   /hasty       answers 504 after 20 ms, in the   /fail      429 with Retry-After
 *                middle of a body it collects
 */
#ifndef TESTS_UNIT_GATEWAY_HTTP_FIXTURE_H
#define TESTS_UNIT_GATEWAY_HTTP_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/pool.h"
#include "gateway/http/server.h"

struct fixture {
    struct server_config
        config; /* fill limits and TLS before fixture_start; address defaults to 127.0.0.1:0 */
    struct server *server;
    struct pool *pool;
    int port; /* of listener 0 */
    int pool_threads;
    size_t pool_queue;

    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool gate_open;
    atomic_int cancelled;      /* on_cancel calls of /hang */
    atomic_int pool_cancelled; /* /wait calls that saw their client leave */
    atomic_int running;        /* pool handlers that wait now */
    atomic_int finished;       /* on_finish calls */
    atomic_size_t flood_peak;  /* most bytes pending in a /flood */
    atomic_int last_read_rc;   /* how the last /sum or /slow ended */
};

void fixture_init(struct fixture *f);
void fixture_start(struct fixture *f);
void fixture_open_gate(struct fixture *f);
void fixture_stop(
    struct fixture *f); /* opens the gate, stops everything, and checks that nothing is left open */
struct server_stats fixture_stats(struct fixture *f);

#endif
