/* The server's insides, shared by the files of this folder: one struct for the process, one for each loop. */
#ifndef GATEWAY_HTTP_SERVER_IMPL_H
#define GATEWAY_HTTP_SERVER_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <openssl/ssl.h>
#include "base/buf.h"
#include "base/clock.h"
#include "gateway/http/listener.h"
#include "gateway/http/peers.h"
#include "gateway/http/server.h"
#include "gateway/http/stream.h"

struct conn;
struct event_base;

struct server_loop;

/* What an acceptor's callback needs to know: which loop, which listener. */
struct server_place {
    struct server_loop *home;
    size_t listener;
};

/* One event loop. Everything in it belongs to the loop's thread once that runs. */
struct server_loop {
    struct server *server;   /* borrowed */
    struct loop *loop;       /* owned */
    struct event_base *base; /* borrowed from loop */
    void *ctx;               /* owned: made by config.loop_init */
    int index;
    pthread_t thread;
    bool running;

    struct acceptor acceptors[SERVER_LISTENERS_MAX];
    struct server_place places[SERVER_LISTENERS_MAX]; /* beside its acceptor */
    struct conn *conns;                               /* owned: a doubly linked list */
    bool draining;                                    /* every response from now on closes its connection */
    struct stream_shared io;                          /* owned */
    int64_t now_us; /* clock_mono_us() when the present turn of a connection began */
    char date[CLOCK_TEXT_MAX];
    int64_t date_second;
};

struct server {
    struct server_config config;
    struct server_limits limits; /* config's with the defaults filled in */
    struct address addresses[SERVER_LISTENERS_MAX];
    SSL_CTX *tls; /* owned; NULL without a TLS listener */
    struct server_loop *loops;
    int loops_len;
    struct peers *peers; /* owned: connections per address, over all loops */

    atomic_llong accepted, refused_cap, refused_framing, timed_out, requests, cancelled;
    atomic_llong open_connections, open_exchanges;
    atomic_llong collected_bytes; /* of request bodies in memory */
    pthread_mutex_t lock;
    pthread_cond_t quiet; /* a counter of open things fell to zero */
    bool started, drained;
};

/* Takes one from open_connections or open_exchanges, and wakes whoever waits for zero. Loop threads. */
void server__fell(struct server *s, atomic_llong *counter);

/* The current Date header's text, made at most once a second. Loop thread. */
const char *server_loop__date(struct server_loop *l);

#endif
