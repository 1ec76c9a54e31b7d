/* The tables of versions: who holds each, who is asked when nobody does, and whom a request goes to. */
#include "gateway/predict/holders_impl.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/crypto.h"
#include "base/hash.h"
#include "base/mem.h"
#include "queue/inbox.h"
#include "queue/message.h"

enum { VERSIONS_MAX = 4096, SHUN_MS = 300 };

/* ---- tables
 * ------------------------------------------------------------------------------------------------------- */

static struct version **slot_of(struct holders *h, const char *version_id)
{
    struct version **slot = &h->buckets[hash_fold(hash_id(HASH_START, version_id)) % HOLDERS_BUCKETS];
    while (*slot && strcmp((*slot)->version_id, version_id) != 0) slot = &(*slot)->next;
    return slot;
}

void holders__sweep_versions(struct holders *h, int64_t now)
{
    if (h->versions <= VERSIONS_MAX) return;
    for (size_t i = 0; i < HOLDERS_BUCKETS; i++)
        for (struct version **slot = &h->buckets[i]; *slot;) {
            struct version *v = *slot;
            if (v->wanted || v->fetching || now - v->used_ms < HOLDERS_IDLE_MS) {
                slot = &v->next;
                continue;
            }
            *slot = v->next;
            mem_free(v);
            h->versions--;
        }
}

static struct version *version_of(struct holders *h, const char *version_id, int64_t now)
{
    struct version **slot = slot_of(h, version_id);
    if (!*slot) {
        *slot = mem_alloc(1, sizeof **slot);
        (*slot)->owner = h;
        snprintf((*slot)->version_id, ID_MAX, "%s", version_id);
        h->versions++;
    }
    (*slot)->used_ms = now;
    return *slot;
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
    for (size_t i = 0; i < HOLDERS_SHUNNED; i++)
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

static size_t living(const struct version *v, int64_t now, struct port **out)
{
    size_t n = 0;
    for (size_t i = 0; i < v->holders_len; i++) {
        struct port *port = v->holders[i]->lost ? NULL : open_port(v->holders[i]);
        if (port && !is_shunned(v, v->holders[i], now)) out[n++] = port;
    }
    return n;
}

/* While Redis is away nobody tells who holds a version that this loop has not met yet: then any worker is
 * asked, and one that does not hold it says so. */
static size_t linked(const struct version *v, int64_t now, struct port **out)
{
    size_t n = 0;
    for (const struct worker *w = v->owner->workers; w && n < PLACEMENT_HOLDERS_MAX; w = w->next) {
        struct port *port = w->lost || is_shunned(v, w, now) ? NULL : open_port(w);
        if (port) out[n++] = port;
    }
    return n;
}

/* Some holder is alive, although it may not be linked yet. */
static bool has_living(const struct version *v, int64_t now)
{
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
    int64_t now = clock_mono_ms();
    v->fetched_ms = now;
    v->holders_len = 0;
    for (size_t i = 0; i < reply->elements && i < PLACEMENT_HOLDERS_MAX; i++) {
        const char *inc = redis_reply_str(reply->element[i]);
        if (inc && id_valid(inc, "inc")) add_holder(v, holders__worker_of(h, inc));
    }
    if (living(v, now, open))
        h->config.on_ready(h->config.arg, v->version_id);
    else if (!has_living(v, now) && v->wanted && now - v->place_sent_ms >= HOLDERS_PLACE_EVERY_MS)
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
    int64_t now = clock_mono_ms();
    struct version *v = version_of(h, version_id, now);
    size_t n = living(v, now, open);
    if (n == 0 || now - v->fetched_ms > HOLDERS_FRESH_MS) refresh(v);
    if (n == 0 && !redis_async_up(h->redis)) n = linked(v, now, open);
    if (n == 0) return NULL;
    struct port *a = open[roll(h) % n], *b = open[roll(h) % n];
    return b->outstanding < a->outstanding ? b : a;
}

void holders_want(struct holders *h, const char *tenant_id, const char *version_id, uint64_t bytes)
{
    struct version *v = version_of(h, version_id, clock_mono_ms());
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
    size_t i = v->shunned_next++ % HOLDERS_SHUNNED;
    v->shunned[i].worker = holders__worker_of(h, inc);
    v->shunned[i].until_ms = clock_mono_ms() + SHUN_MS;
}

bool holders_known(struct holders *h, const char *version_id)
{
    int64_t now = clock_mono_ms();
    struct version *v = version_of(h, version_id, now);
    if (now - v->fetched_ms > HOLDERS_FRESH_MS) refresh(v);
    return has_living(v, now);
}

void holders_placed(struct holders *h, const struct placement_change *change)
{
    struct version *v = *slot_of(h, change->version_id);
    if (!v) return;
    struct worker *w = holders__worker_of(h, change->inc);
    if (!change->up) {
        remove_holder(v, w);
        return;
    }
    w->lost = false;      /* it speaks */
    v->place_sent_ms = 0; /* that was answered: should it be gone again, the next request asks at once */
    w->missing_since_ms = 0;
    for (size_t i = 0; i < HOLDERS_SHUNNED; i++)
        if (v->shunned[i].worker == w) v->shunned[i].worker = NULL;
    add_holder(v, w);
    h->config.on_ready(h->config.arg, v->version_id);
}

/* A worker that died did not take its name out of the sets; one that was only cut off announces all again. */
void holders__drop_worker(struct holders *h, const struct worker *w, bool strike)
{
    char key[PLACEMENT_KEY_MAX];
    for (size_t i = 0; i < HOLDERS_BUCKETS; i++)
        for (struct version *v = h->buckets[i]; v; v = v->next) {
            size_t before = v->holders_len;
            remove_holder(v, w);
            for (size_t k = 0; k < HOLDERS_SHUNNED && !strike; k++)
                if (v->shunned[k].worker == w) v->shunned[k].worker = NULL;
            if (!strike || v->holders_len == before) continue;
            placement_key(key, v->version_id);
            redis_async_call(h->redis, NULL, NULL, "SREM %s %s", key, w->inc);
        }
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
    for (size_t i = 0; i < HOLDERS_BUCKETS; i++)
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
    for (size_t i = 0; i < HOLDERS_BUCKETS; i++)
        for (struct version *v = h->buckets[i], *next; v; v = next) {
            next = v->next;
            mem_free(v);
        }
    holders__free_workers(h);
    mem_free(h);
}
