/* The tables of versions and workers, their refreshing, the links, and the poll that finds lost workers. */
#include "gateway/predict/holders.h"

#include <stdio.h>
#include <string.h>
#include <event2/event.h>
#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/heartbeat.h"
#include "queue/inbox.h"
#include "queue/message.h"
#include "queue/redis_clock.h"

enum {
    BUCKETS = 1024,
    VERSIONS_MAX = 4096,
    IDLE_MS = 60000,
    WORKERS_POLLED = 1024,
    SHUNNED = 4,
    SHUN_MS = 300
};

struct version {
    struct version *next;
    struct holders *owner;
    char version_id[ID_MAX], tenant_id[ID_MAX];
    uint64_t bytes;
    struct worker *holders[PLACEMENT_HOLDERS_MAX];
    size_t holders_len;
    int64_t fetched_ms, place_sent_ms, used_ms;
    bool fetching;
    int wanted;
    struct {
        const struct worker *worker;
        int64_t until_ms;
    } shunned[SHUNNED]; /* said that they don't hold it, whatever the set says */
    size_t shunned_next;
};

struct holders {
    struct holders_config config;
    struct loop *loop;
    struct redis_async *redis;
    struct event *poll, *recheck;
    struct version *buckets[BUCKETS];
    size_t versions;
    struct worker *workers;
    int64_t poll_sent_us;
    bool polling, poll_again; /* poll_again: a worker came to be known while a poll was under way */
    uint64_t dice;
};

/* ---- tables
 * ------------------------------------------------------------------------------------------------------- */

static struct version **slot_of(struct holders *h, const char *version_id)
{
    uint64_t hash = 14695981039346656037u;
    for (const char *p = version_id; *p; p++) hash = (hash ^ (uint8_t)*p) * 1099511628211u;
    struct version **slot = &h->buckets[(hash ^ (hash >> 32)) % BUCKETS];
    while (*slot && strcmp((*slot)->version_id, version_id) != 0) slot = &(*slot)->next;
    return slot;
}

static void sweep_versions(struct holders *h, int64_t now)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct version **slot = &h->buckets[i]; *slot;) {
            struct version *v = *slot;
            if (v->wanted || v->fetching || now - v->used_ms < IDLE_MS) {
                slot = &v->next;
                continue;
            }
            *slot = v->next;
            mem_free(v);
            h->versions--;
        }
}

static struct version *version_of(struct holders *h, const char *version_id)
{
    struct version **slot = slot_of(h, version_id);
    if (!*slot) {
        *slot = mem_alloc(1, sizeof **slot);
        (*slot)->owner = h;
        snprintf((*slot)->version_id, ID_MAX, "%s", version_id);
        h->versions++;
    }
    (*slot)->used_ms = clock_mono_ms();
    return *slot;
}

static void ask_workers(struct holders *h);

static struct worker *worker_of(struct holders *h, const char *inc)
{
    struct worker *w = h->workers;
    while (w && strcmp(w->inc, inc) != 0) w = w->next;
    if (!w) {
        w = mem_alloc(1, sizeof *w);
        snprintf(w->inc, ID_MAX, "%s", inc);
        w->owner = h;
        w->next = h->workers;
        h->workers = w;
        ask_workers(h); /* where it listens */
    }
    w->seen_ms = clock_mono_ms();
    return w;
}

static void add_holder(struct version *v, struct worker *w)
{
    for (size_t i = 0; i < v->holders_len; i++)
        if (v->holders[i] == w) return;
    if (v->holders_len < PLACEMENT_HOLDERS_MAX) v->holders[v->holders_len++] = w;
}

static void remove_holder(struct version *v, const struct worker *w)
{
    for (size_t i = 0; i < v->holders_len; i++)
        if (v->holders[i] == w) {
            v->holders[i] = v->holders[--v->holders_len];
            return;
        }
}

static bool is_shunned(const struct version *v, const struct worker *w, int64_t now)
{
    for (size_t i = 0; i < SHUNNED; i++)
        if (v->shunned[i].worker == w && v->shunned[i].until_ms > now) return true;
    return false;
}

/* The least loaded port that is linked, or NULL. */
static struct port *open_port(const struct worker *w)
{
    struct port *best = NULL;
    for (size_t i = 0; i < w->ports_len; i++) {
        struct port *port = &w->ports[i];
        if (port->link && link_up(port->link) && (!best || port->outstanding < best->outstanding))
            best = port;
    }
    return best;
}

static size_t living(const struct version *v, struct port **out)
{
    size_t n = 0;
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < v->holders_len; i++) {
        struct port *port = v->holders[i]->lost ? NULL : open_port(v->holders[i]);
        if (port && !is_shunned(v, v->holders[i], now)) out[n++] = port;
    }
    return n;
}

/* Some holder is alive, although it may not be linked yet. */
static bool has_living(const struct version *v)
{
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < v->holders_len; i++)
        if (!v->holders[i]->lost && !is_shunned(v, v->holders[i], now)) return true;
    return false;
}

/* ---- asking
 * ------------------------------------------------------------------------------------------------------- */

static void send_place(struct version *v)
{
    struct holders *h = v->owner;
    struct message m = {.type = MESSAGE_PLACE};
    struct buf record = {0};
    v->place_sent_ms = clock_mono_ms();
    memcpy(m.model.version_id, v->version_id, ID_MAX);
    memcpy(m.model.tenant_id, v->tenant_id, ID_MAX);
    m.model.bytes = v->bytes;
    message_encode(&record, &m);
    if (!record.failed &&
        redis_async_call(h->redis, NULL, NULL, "RPUSH " INBOX_SCHEDULER " %b", record.data, record.len) == 0)
        redis_async_call(h->redis, NULL, NULL, "PEXPIRE " INBOX_SCHEDULER " %d", INBOX_EXPIRE_MS);
    buf_dispose(&record);
}

static void on_members(void *arg, int rc, const redisReply *reply, const struct err *e)
{
    (void)e;
    struct version *v = arg;
    struct holders *h = v->owner;
    struct port *open[PLACEMENT_HOLDERS_MAX];
    v->fetching = false;
    if (rc) return; /* the recheck asks again */
    v->fetched_ms = clock_mono_ms();
    v->holders_len = 0;
    for (size_t i = 0; i < reply->elements && i < PLACEMENT_HOLDERS_MAX; i++) {
        const char *inc = redis_reply_str(reply->element[i]);
        if (inc && id_valid(inc, "inc")) add_holder(v, worker_of(h, inc));
    }
    if (living(v, open))
        h->config.on_ready(h->config.arg, v->version_id);
    else if (!has_living(v) && v->wanted && clock_mono_ms() - v->place_sent_ms >= HOLDERS_PLACE_EVERY_MS)
        send_place(v);
}

static void refresh(struct version *v)
{
    if (v->fetching) return;
    char key[PLACEMENT_KEY_MAX];
    placement_key(key, v->version_id);
    v->fetching = redis_async_call(v->owner->redis, on_members, v, "SMEMBERS %s", key) == 0;
}

static uint64_t roll(struct holders *h)
{
    h->dice ^= h->dice << 13;
    h->dice ^= h->dice >> 7;
    h->dice ^= h->dice << 17;
    return h->dice;
}

struct port *holders_pick(struct holders *h, const char *version_id)
{
    struct port *open[PLACEMENT_HOLDERS_MAX];
    struct version *v = version_of(h, version_id);
    size_t n = living(v, open);
    if (n == 0 || clock_mono_ms() - v->fetched_ms > HOLDERS_FRESH_MS) refresh(v);
    if (n == 0) return NULL;
    struct port *a = open[roll(h) % n], *b = open[roll(h) % n];
    return b->outstanding < a->outstanding ? b : a;
}

void holders_want(struct holders *h, const char *tenant_id, const char *version_id, uint64_t bytes)
{
    struct version *v = version_of(h, version_id);
    snprintf(v->tenant_id, ID_MAX, "%s", tenant_id);
    v->bytes = bytes;
    v->wanted++;
}

void holders_unwant(struct holders *h, const char *version_id)
{
    struct version *v = *slot_of(h, version_id);
    if (v && v->wanted > 0) v->wanted--;
}

void holders_forget(struct holders *h, const char *version_id, const char *inc)
{
    struct version *v = *slot_of(h, version_id);
    if (!v) return;
    size_t i = v->shunned_next++ % SHUNNED;
    v->shunned[i].worker = worker_of(h, inc);
    v->shunned[i].until_ms = clock_mono_ms() + SHUN_MS;
}

bool holders_known(struct holders *h, const char *version_id)
{
    struct version *v = version_of(h, version_id);
    if (clock_mono_ms() - v->fetched_ms > HOLDERS_FRESH_MS) refresh(v);
    return has_living(v);
}

void holders_placed(struct holders *h, const struct placement_change *change)
{
    struct version *v = *slot_of(h, change->version_id);
    if (!v) return;
    struct worker *w = worker_of(h, change->inc);
    if (!change->up) {
        remove_holder(v, w);
        return;
    }
    w->lost = false; /* it speaks */
    w->missing_since_ms = 0;
    for (size_t i = 0; i < SHUNNED; i++)
        if (v->shunned[i].worker == w) v->shunned[i].worker = NULL;
    add_holder(v, w);
    h->config.on_ready(h->config.arg, v->version_id);
}

/* A worker that died did not take its name out of the sets; one that was only cut off announces all again. */
static void strike_out(struct holders *h, const struct worker *w)
{
    char key[PLACEMENT_KEY_MAX];
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct version *v = h->buckets[i]; v; v = v->next) {
            size_t before = v->holders_len;
            remove_holder(v, w);
            if (v->holders_len == before) continue;
            placement_key(key, v->version_id);
            redis_async_call(h->redis, NULL, NULL, "SREM %s %s", key, w->inc);
        }
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
    strike_out(h, w);
    log_warn("worker-lost", "inc=%s outstanding=%d", w->inc, outstanding(w));
    for (size_t i = 0; i < w->ports_len; i++) hang_up(&w->ports[i]);
}

/* Lost workers that nothing points at any more. */
static void sweep_workers(struct holders *h, int64_t now)
{
    for (struct worker **slot = &h->workers; *slot;) {
        struct worker *w = *slot;
        if (!w->lost || outstanding(w) || now - w->seen_ms < IDLE_MS) {
            slot = &w->next;
            continue;
        }
        for (size_t i = 0; i < BUCKETS; i++)
            for (struct version *v = h->buckets[i]; v; v = v->next) {
                remove_holder(v, w);
                for (size_t k = 0; k < SHUNNED; k++)
                    if (v->shunned[k].worker == w) v->shunned[k].worker = NULL;
            }
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
    if (h->versions > VERSIONS_MAX) sweep_versions(h, now);
    mem_free(q);
    if (h->poll_again && rc == 0) ask_workers(h);
}

static void on_time(void *arg, int rc, const redisReply *reply, const struct err *e)
{
    (void)e;
    struct holders *h = arg;
    if (rc == 0) redis_clock_learn(reply, h->poll_sent_us);
}

static void ask_workers(struct holders *h)
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
    ask_workers(h);
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    holders_poll(arg);
}

static void on_recheck(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct holders *h = arg;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct version *v = h->buckets[i]; v; v = v->next)
            if (v->wanted) refresh(v);
}

static struct timeval every(int ms)
{
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
}

struct holders *holders_create(struct loop *loop, struct redis_async *redis,
                               const struct holders_config *config)
{
    struct holders *h = mem_alloc(1, sizeof *h);
    struct timeval poll = every(HOLDERS_POLL_MS), recheck = every(HOLDERS_RECHECK_MS);
    h->config = *config;
    h->loop = loop;
    h->redis = redis;
    crypto_random(&h->dice, sizeof h->dice);
    h->dice |= 1; /* xorshift must not start from 0 */
    h->poll = event_new(loop_base(loop), -1, EV_PERSIST, on_poll, h);
    h->recheck = event_new(loop_base(loop), -1, EV_PERSIST, on_recheck, h);
    event_add(h->poll, &poll);
    event_add(h->recheck, &recheck);
    return h;
}

void holders_free(struct holders *h)
{
    if (!h) return;
    event_free(h->poll);
    event_free(h->recheck);
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct version *v = h->buckets[i], *next; v; v = next) {
            next = v->next;
            mem_free(v);
        }
    for (struct worker *w = h->workers, *next; w; w = next) {
        next = w->next;
        for (size_t i = 0; i < w->ports_len; i++) link_free(w->ports[i].link);
        mem_free(w->ports);
        mem_free(w);
    }
    mem_free(h);
}
