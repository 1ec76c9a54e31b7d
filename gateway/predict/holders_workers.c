/* The workers that holders are: their links, and the poll that finds the lost ones. */
#include "gateway/predict/holders_impl.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/heartbeat.h"
#include "queue/redis_clock.h"

enum { WORKERS_POLLED = 1024 };

struct worker *holders__worker_of(struct holders *h, const char *inc)
{
    struct worker *w = h->workers;
    while (w && strcmp(w->inc, inc) != 0) w = w->next;
    if (!w) {
        w = mem_alloc(1, sizeof *w);
        snprintf(w->inc, ID_MAX, "%s", inc);
        w->owner = h;
        w->next = h->workers;
        h->workers = w;
        holders__ask_workers(h); /* where it listens */
    }
    w->seen_ms = clock_mono_ms();
    return w;
}

/* ---- links
 * -------------------------------------------------------------------------------------------------------- */

static void on_link_up(void *arg)
{
    struct port *port = arg;
    struct holders *h = port->worker->owner;
    h->config.on_ready(h->config.arg, NULL);
}

static void on_link_record(void *arg, const char *data, size_t len)
{
    struct port *port = arg;
    struct holders *h = port->worker->owner;
    h->config.on_record(h->config.arg, port, data, len);
}

static void hang_up(struct port *port)
{
    struct holders *h = port->worker->owner;
    if (!port->link) return;
    link_free(port->link);
    port->link = NULL;
    h->config.on_lost(h->config.arg, port);
}

static void on_link_down(void *arg, const char *why)
{
    struct port *port = arg;
    log_warn("link-down", "inc=%s address=%s outstanding=%d reason=\"%s\"", port->worker->inc, port->address,
             port->outstanding, why);
    hang_up(port); /* the next poll dials again, if the worker lives */
}

static void dial(struct port *port)
{
    struct holders *h = port->worker->owner;
    struct link_events events = {
        .on_up = on_link_up, .on_record = on_link_record, .on_down = on_link_down, .arg = port};
    struct err e;
    if (port->link || link_dial(&port->link, h->loop, port->address, h->config.key, &events, &e) == 0) return;
    log_warn("link-failed", "inc=%s reason=\"%s\"", port->worker->inc, e.message);
}

static void learn_ports(struct worker *w, const struct heartbeat *beat)
{
    if (w->ports_len || !beat->ports_len) return;
    w->ports = mem_alloc(beat->ports_len, sizeof *w->ports);
    w->ports_len = beat->ports_len;
    for (size_t i = 0; i < w->ports_len; i++) {
        w->ports[i].worker = w;
        snprintf(w->ports[i].address, sizeof w->ports[i].address, "%s", beat->ports[i]);
    }
}

static int outstanding(const struct worker *w)
{
    int n = 0;
    for (size_t i = 0; i < w->ports_len; i++) n += w->ports[i].outstanding;
    return n;
}

/* ---- the poll
 * ----------------------------------------------------------------------------------------------------- */

static void on_alive(struct worker *w, const char *json, size_t len)
{
    struct heartbeat *beat = mem_alloc(1, sizeof *beat);
    struct err e = {0};
    if (w->lost) log_info("worker-back", "inc=%s", w->inc);
    w->lost = false;
    w->missing_since_ms = 0;
    if (heartbeat_decode(beat, json, len, &e) == 0)
        learn_ports(w, beat);
    else
        log_warn("heartbeat-refused", "inc=%s reason=\"%s\"", w->inc, e.message);
    mem_free(beat);
    for (size_t i = 0; i < w->ports_len; i++) dial(&w->ports[i]);
}

static void on_missing(struct holders *h, struct worker *w, int64_t now)
{
    if (!w->missing_since_ms) w->missing_since_ms = now;
    if (w->lost || now - w->missing_since_ms < HOLDERS_LOST_MS) return;
    w->lost = true;
    holders__drop_worker(h, w, true);
    log_warn("worker-lost", "inc=%s outstanding=%d", w->inc, outstanding(w));
    for (size_t i = 0; i < w->ports_len; i++) hang_up(&w->ports[i]);
}

/* Lost workers that nothing points at any more. */
static void sweep_workers(struct holders *h, int64_t now)
{
    for (struct worker **slot = &h->workers; *slot;) {
        struct worker *w = *slot;
        if (!w->lost || outstanding(w) || now - w->seen_ms < HOLDERS_IDLE_MS) {
            slot = &w->next;
            continue;
        }
        holders__drop_worker(h, w, false);
        *slot = w->next;
        mem_free(w->ports);
        mem_free(w);
    }
}

/* The workers that were asked about, in the order of the question. */
struct question {
    struct holders *h;
    size_t n;
    char incs[][ID_MAX];
};

static void on_polled(void *arg, int rc, const redisReply *reply, const struct err *e)
{
    (void)e;
    struct question *q = arg;
    struct holders *h = q->h;
    int64_t now = clock_mono_ms();
    h->polling = false;
    for (size_t i = 0; rc == 0 && i < q->n && i < reply->elements; i++) {
        struct worker *w = h->workers;
        while (w && strcmp(w->inc, q->incs[i]) != 0) w = w->next;
        const char *json = w ? redis_reply_str(reply->element[i]) : NULL;
        if (json)
            on_alive(w, json, reply->element[i]->len);
        else if (w)
            on_missing(h, w, now);
    }
    sweep_workers(h, now);
    holders__sweep_versions(h, now);
    mem_free(q);
    if (h->poll_again && rc == 0) holders__ask_workers(h);
}

static void on_time(void *arg, int rc, const redisReply *reply, const struct err *e)
{
    (void)e;
    struct holders *h = arg;
    if (rc == 0) redis_clock_learn(reply, h->poll_sent_us);
}

void holders__ask_workers(struct holders *h)
{
    size_t n = 0;
    for (struct worker *w = h->workers; w; w = w->next) n++;
    h->poll_again = h->polling;
    if (n == 0 || h->polling) return;
    if (n > WORKERS_POLLED) n = WORKERS_POLLED;
    struct question *q = mem_alloc(1, sizeof *q + n * ID_MAX);
    char(*keys)[HEARTBEAT_KEY_MAX] = mem_alloc(n, sizeof *keys);
    const char **argv = mem_alloc(n + 1, sizeof *argv);
    argv[0] = "MGET";
    q->h = h;
    for (struct worker *w = h->workers; w && q->n < n; w = w->next, q->n++) {
        memcpy(q->incs[q->n], w->inc, ID_MAX);
        heartbeat_key(keys[q->n], w->inc);
        argv[q->n + 1] = keys[q->n];
    }
    h->polling = redis_async_argv(h->redis, 0, on_polled, q, (int)n + 1, argv, NULL) == 0;
    if (!h->polling) mem_free(q);
    mem_free(keys);
    mem_free(argv);
}

void holders_poll(struct holders *h)
{
    if (!redis_async_up(h->redis)) return;
    h->poll_sent_us = clock_mono_us();
    redis_async_call(h->redis, on_time, h, "TIME");
    holders__ask_workers(h);
}

bool holders_linked(const struct holders *h)
{
    for (const struct worker *w = h->workers; w; w = w->next)
        for (size_t i = 0; i < w->ports_len; i++)
            if (w->ports[i].link && link_up(w->ports[i].link)) return true;
    return false;
}

void holders__free_workers(struct holders *h)
{
    for (struct worker *w = h->workers, *next; w; w = next) {
        next = w->next;
        for (size_t i = 0; i < w->ports_len; i++) link_free(w->ports[i].link);
        mem_free(w->ports);
        mem_free(w);
    }
}
