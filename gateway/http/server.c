/* Starts, drains and stops the loops, and hands accepted sockets to connections.
 *
 * Who runs what: server_create, _start, _drain and _free on the owner's thread; run_loop and everything below
 * "on the loops" on the loops' threads, entered by loop_post. The counters are atomic; `lock` only guards
 * waiting for them. */
#include "gateway/http/server.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/priority.h"
#include "gateway/http/connection.h"
#include "gateway/http/tls.h"

/* ---- counters
 * ------------------------------------------------------------------------------------------------ */

void server__fell(struct server *s, atomic_llong *counter)
{
    /* s outlives this: server_free joins the loops, the only callers, before it frees s. */
    if (atomic_fetch_sub(counter, 1) != 1) return;
    pthread_mutex_lock(&s->lock);
    pthread_cond_broadcast(&s->quiet);
    pthread_mutex_unlock(&s->lock);
}

/* Waits until the counter is zero; for at most timeout_ms when that is not negative. */
static bool wait_for_zero(struct server *s, atomic_llong *counter, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    int rc = 0;
    pthread_mutex_lock(&s->lock);
    while (atomic_load(counter) > 0 && rc != ETIMEDOUT) {
        rc = timeout_ms < 0 ? pthread_cond_wait(&s->quiet, &s->lock)
                            : pthread_cond_timedwait(&s->quiet, &s->lock, &until);
    }
    bool zero = atomic_load(counter) == 0;
    pthread_mutex_unlock(&s->lock);
    return zero;
}

void server_stats(const struct server *s, struct server_stats *out)
{
    *out = (struct server_stats){
        .accepted = atomic_load(&s->accepted),
        .refused_cap = atomic_load(&s->refused_cap),
        .refused_framing = atomic_load(&s->refused_framing),
        .timed_out = atomic_load(&s->timed_out),
        .requests = atomic_load(&s->requests),
        .cancelled = atomic_load(&s->cancelled),
        .open_connections = atomic_load(&s->open_connections),
        .open_exchanges = atomic_load(&s->open_exchanges),
    };
}

const char *server_address(const struct server *s, size_t i)
{
    return s->addresses[i].text;
}

int server_port(const struct server *s, size_t i)
{
    return s->addresses[i].port;
}

/* ---- on the loops
 * -------------------------------------------------------------------------------------------- */

const char *server_loop__date(struct server_loop *l)
{
    int64_t now_us = clock_wall_us();
    if (now_us / 1000000 != l->date_second) {
        l->date_second = now_us / 1000000;
        clock_http_date(l->date, now_us);
    }
    return l->date;
}

static void on_accept(int fd, const struct sockaddr *peer, socklen_t len, void *arg)
{
    (void)len;
    struct server_place *place = arg;
    const struct server_listener *listener = &place->home->server->config.listeners[place->listener];
    conn_open(place->home, fd, peer, listener->tls, listener->tag);
}

static void *run_loop(void *arg)
{
    struct server_loop *l = arg;
    priority_prompt();
    loop_run(l->loop);
    return NULL;
}

static void drain_loop(void *arg)
{
    struct server_loop *l = arg;
    l->draining = true;
    for (size_t i = 0; i < l->server->config.listeners_len; i++) acceptor_dispose(&l->acceptors[i]);
    struct conn *next;
    for (struct conn *c = l->conns; c; c = next) {
        next = c->next; /* idle connections are freed here; they have no route that could free another one */
        conn_drain(c);
    }
}

static void cut_loop(void *arg)
{
    struct server_loop *l = arg;
    while (l->conns) conn_cut(l->conns);
}

/* ---- set-up
 * -------------------------------------------------------------------------------------------------- */

static void default_size(size_t *value, size_t fallback)
{
    if (*value == 0) *value = fallback;
}

static void default_ms(int *value, int fallback)
{
    if (*value == 0) *value = fallback;
}

static void fill_limits(struct server_limits *l)
{
    default_size(&l->request_line_bytes, 8 * 1024);
    default_size(&l->headers_bytes, 32 * 1024);
    default_size(&l->headers_count, 100);
    default_ms(&l->header_ms, 10 * 1000);
    default_ms(&l->idle_ms, 60 * 1000);
    default_ms(&l->body_idle_ms, 20 * 1000);
    default_size(&l->body_min_rate, 1024);
    default_ms(&l->body_grace_ms, 10 * 1000);
    default_ms(&l->write_stall_ms, 30 * 1000);
    default_ms(&l->linger_ms, 2 * 1000);
    default_size(&l->connections_max, 10 * 1000);
    default_size(&l->connections_per_peer, 256);
    default_size(&l->requests_per_connection, 10 * 1000);
    default_size(&l->collected_bytes, (size_t)512 << 20);
}

int server_loops_of(int asked)
{
    long n = asked > 0 ? asked : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > SERVER_LOOPS_MAX ? SERVER_LOOPS_MAX : (int)n;
}

/* A unix socket has one queue, so the loops share copies of one descriptor. */
static int listen_for_loop(struct server *s, struct server_loop *l, size_t i, struct err *e)
{
    int fd = -1, rc;
    struct address *a = &s->addresses[i];
    if (address_is_unix(a) && l->index > 0) {
        fd = fcntl(s->loops[0].acceptors[i].fd, F_DUPFD_CLOEXEC, 0);
        rc = fd < 0 ? err_errno(e, ERR_IO, "share the socket of %s", a->text) : 0;
    } else {
        rc = address_listen(&fd, a, e);
    }
    l->acceptors[i].fd = fd;
    return rc;
}

static int bind_all(struct server *s, struct err *e)
{
    for (size_t i = 0; i < s->config.listeners_len; i++) {
        int rc = address_parse(&s->addresses[i], s->config.listeners[i].address, e);
        if (!rc) rc = address_probe(&s->addresses[i], e);
        for (int k = 0; k < s->loops_len && !rc; k++) rc = listen_for_loop(s, &s->loops[k], i, e);
        if (rc) return rc;
    }
    return 0;
}

static int make_loops(struct server *s, struct err *e)
{
    for (int i = 0; i < s->loops_len; i++) {
        struct server_loop *l = &s->loops[i];
        l->server = s;
        l->index = i;
        l->date_second = -1;
        for (size_t k = 0; k < SERVER_LISTENERS_MAX; k++) {
            l->acceptors[k] = (struct acceptor){.fd = -1, .spare = -1};
            l->places[k] = (struct server_place){l, k};
        }
    }
    for (int i = 0; i < s->loops_len; i++) {
        int rc = loop_create(&s->loops[i].loop, e);
        if (rc) return rc;
        s->loops[i].base = s->loops[i].io.base = loop_base(s->loops[i].loop);
    }
    return 0;
}

static int load_tls(struct server *s, struct err *e)
{
    for (size_t i = 0; i < s->config.listeners_len; i++) {
        if (s->config.listeners[i].tls)
            return tls_context_create(&s->tls, s->config.tls_cert_file, s->config.tls_key_file, e);
    }
    return 0;
}

static void init_waiting(struct server *s)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->quiet, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&s->lock, NULL);
}

int server_create(struct server **out, const struct server_config *config, struct err *e)
{
    *out = NULL;
    if (config->listeners_len == 0 || config->listeners_len > SERVER_LISTENERS_MAX ||
        config->loops > SERVER_LOOPS_MAX)
        return err_set(e, ERR_INVALID, "listen", "a server has 1 to %d listeners and at most %d loops",
                       SERVER_LISTENERS_MAX, SERVER_LOOPS_MAX);
    struct server *s = mem_alloc(1, sizeof *s);
    s->config = *config;
    s->limits = config->limits;
    fill_limits(&s->limits);
    init_waiting(s);
    s->peers = peers_create(s->limits.connections_per_peer);
    s->loops_len = server_loops_of(config->loops);
    s->loops = mem_alloc((size_t)s->loops_len, sizeof *s->loops);
    int rc = make_loops(s, e);
    if (!rc) rc = load_tls(s, e);
    if (!rc) rc = bind_all(s, e);
    if (rc) {
        server_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

static int start_loop(struct server *s, struct server_loop *l, struct err *e)
{
    if (s->config.loop_init) {
        int rc = s->config.loop_init(&l->ctx, l->loop, l->index, s->config.arg, e);
        if (rc) return rc;
    }
    for (size_t i = 0; i < s->config.listeners_len; i++) {
        int rc = acceptor_init(&l->acceptors[i], l->base, l->acceptors[i].fd, on_accept, &l->places[i], e);
        if (rc) return rc;
    }
    return 0;
}

int server_start(struct server *s, struct err *e)
{
    for (int i = 0; i < s->loops_len; i++) {
        int rc = start_loop(s, &s->loops[i], e);
        if (rc) return rc;
    }
    for (int i = 0; i < s->loops_len; i++) {
        struct server_loop *l = &s->loops[i];
        int rc = pthread_create(&l->thread, NULL, run_loop, l);
        if (rc) {
            errno = rc;
            return err_errno(e, ERR_UNAVAILABLE, "start the thread of event loop %d", i);
        }
        l->running = true;
    }
    return 0;
}

/* ---- the end
 * ------------------------------------------------------------------------------------------------- */

static void post_all(struct server *s, loop_fn fn)
{
    for (int i = 0; i < s->loops_len; i++) {
        if (s->loops[i].running) loop_post(s->loops[i].loop, fn, &s->loops[i]);
    }
}

size_t server_drain(struct server *s, int deadline_ms)
{
    s->drained = true;
    post_all(s, drain_loop);
    if (wait_for_zero(s, &s->open_connections, deadline_ms)) return 0;
    size_t cut = (size_t)atomic_load(&s->open_connections);
    post_all(s, cut_loop);
    return cut;
}

static void free_loop(struct server_loop *l)
{
    struct server *s = l->server;
    if (l->running) {
        loop_stop(l->loop);
        pthread_join(l->thread, NULL);
    }
    for (size_t i = 0; i < SERVER_LISTENERS_MAX; i++) acceptor_dispose(&l->acceptors[i]);
    if (l->ctx && s->config.loop_free) s->config.loop_free(l->ctx);
    loop_free(l->loop);
    stream_shared_dispose(&l->io);
}

void server_free(struct server *s)
{
    if (!s) return;
    if (!s->drained) server_drain(s, 0);
    wait_for_zero(s, &s->open_connections, -1);
    wait_for_zero(s, &s->open_exchanges, -1);
    for (int i = 0; i < s->loops_len; i++) free_loop(&s->loops[i]);
    for (size_t i = 0; i < s->config.listeners_len; i++) {
        if (address_is_unix(&s->addresses[i]) && s->addresses[i].bound) unlink(s->addresses[i].text + 5);
    }
    SSL_CTX_free(s->tls);
    peers_free(s->peers);
    pthread_cond_destroy(&s->quiet);
    pthread_mutex_destroy(&s->lock);
    mem_free(s->loops);
    mem_free(s);
}
