/* The HTTP server: N event loops, each with its own listening sockets (SO_REUSEPORT), connections and
 * deadlines.
 *
 *   server_create ─▶ server_start ─▶ … serving … ─▶ server_drain (no new connections; in-flight finish) ─▶
 * server_free
 *
 * create, start, drain and free are called from one thread that is not a loop. Callbacks run on loop threads.
 */
#ifndef GATEWAY_HTTP_SERVER_H
#define GATEWAY_HTTP_SERVER_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/loop.h"
#include "gateway/http/exchange.h"

enum { SERVER_LISTENERS_MAX = 8, SERVER_LOOPS_MAX = 64, SERVER_ADDRESS_MAX = 128 };

/* Zero means the default named beside it. */
struct server_limits {
    size_t request_line_bytes; /* 8 KiB */
    size_t headers_bytes;      /* 32 KiB, names, values and line ends together */
    size_t headers_count;      /* 100 */
    int header_ms;        /* 10 s, absolute: first byte of a request to its last header; the TLS handshake */
    int idle_ms;          /* 60 s: between requests of one connection, and before the first */
    int body_idle_ms;     /* 20 s: most time without a byte of the body */
    size_t body_min_rate; /* 1 KiB/s averaged since the body began, after body_grace_ms */
    int body_grace_ms;    /* 10 s */
    int write_stall_ms;   /* 30 s: most time without the client taking a byte of what is pending */
    int linger_ms;        /* 2 s: reading on after a reply that closes, so that the client gets to see it */
    size_t connections_max;         /* 10,000 over all loops */
    size_t connections_per_peer;    /* 256 per address over all loops; unix sockets are exempt */
    size_t requests_per_connection; /* 10,000; then Connection: close */
    size_t
        collected_bytes; /* 512 MiB over all loops: request bodies held in memory (exchange_collect); 503 */
};

struct server_listener {
    const char *address; /* "127.0.0.1:8080", "[::1]:8080", "0.0.0.0:0" (ephemeral), "unix:/path/of.sock" */
    bool tls;
    int tag; /* the caller's: exchange_listener_tag() tells which listener a request came in by */
};

struct server_config {
    struct server_listener listeners[SERVER_LISTENERS_MAX]; /* text borrowed until server_start returns */
    size_t listeners_len;
    int loops; /* 0: one per CPU, at most 64 */
    struct server_limits limits;
    const char *tls_cert_file; /* PEM chain and key; both needed when a listener has tls */
    const char *tls_key_file;

    /* Headers are complete; see exchange.h for what the route owes. loop_ctx is this loop's. */
    void (*on_request)(struct exchange *x, void *loop_ctx);
    /* May be NULL. Called once for each exchange, when its route has finished it and before it is freed: for
     * counting. status 0: it was aborted before a response began. */
    void (*on_finish)(struct exchange *x, int status, void *loop_ctx);
    /* Per-loop context (its Redis connection, its caches): made before the loop runs, on the starting thread;
     * freed after it has stopped. Either may be NULL. The struct loop is valid in between. */
    int (*loop_init)(void **loop_ctx, struct loop *loop, int index, void *arg, struct err *e);
    void (*loop_free)(void *loop_ctx);
    void *arg;
};

struct server;

/* How many loops a server will have that is asked for so many. */
int server_loops_of(int asked);

/* Binds every listener and loads the certificate, so that a taken port or a bad key fails here, with the
 * address or the file in the message. Nothing is accepted before server_start. */
int server_create(struct server **out, const struct server_config *config, struct err *e);
int server_start(struct server *s, struct err *e);

/* The address that listener i is bound to, with its real port ("127.0.0.1:40123"). Valid while s lives. */
const char *server_address(const struct server *s, size_t i);
int server_port(const struct server *s, size_t i); /* 0 for a unix socket */

/* Stops accepting, closes idle connections, lets requests in flight finish for at most deadline_ms, cuts the
 * rest (their routes see exchange_gone and must still finish). Returns the number of connections cut. Blocks
 * the caller. */
size_t server_drain(struct server *s, int deadline_ms);

/* Drains with no patience if server_drain was not called; waits for unfinished exchanges' routes; joins the
 * loops. */
void server_free(struct server *s);

struct server_stats {
    int64_t accepted, refused_cap, refused_framing, timed_out, requests, cancelled;
    int64_t open_connections, open_exchanges;
};
void server_stats(const struct server *s, struct server_stats *out); /* any thread */

int exchange_listener_tag(const struct exchange *x);

#endif
