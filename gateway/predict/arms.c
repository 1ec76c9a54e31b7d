/* The book of counts: found by alias and etag, written to Redis when they have changed, closed when nobody
 * needs them. */
#include "gateway/predict/arms.h"

#include <stdio.h>
#include <string.h>
#include <event2/event.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/ids.h"
#include "base/mem.h"
#include "queue/redis_clock.h"

struct arms_book {
    struct redis_async *redis; /* borrowed */
    struct event *flush;
    char loop_id[ID_MAX];
    uint64_t made; /* so that no field of a hash is ever begun anew */
    struct arms *first;
};

static bool is_of(const struct arms *a, const struct rollout_id *id)
{
    return a->id.etag == id->etag && strcmp(a->id.model, id->model) == 0 &&
           strcmp(a->id.alias, id->alias) == 0 && strcmp(a->id.tenant_id, id->tenant_id) == 0;
}

/* A field of its own for what is counted from now on. */
static void begin(struct arms *a)
{
    struct arms_book *b = a->book;
    memset(&a->counts, 0, sizeof a->counts);
    snprintf(a->writer, sizeof a->writer, "%s %llu", b->loop_id, (unsigned long long)++b->made);
    a->written_ms = clock_mono_ms();
}

struct arms *arms_open(struct arms_book *b, const struct rollout_id *id, int64_t slow_us)
{
    struct arms *a = b->first;
    while (a && !is_of(a, id)) a = a->next;
    if (!a) {
        a = mem_alloc(1, sizeof *a);
        a->id = *id;
        a->book = b;
        begin(a);
        uint32_t dice[2];
        crypto_random(dice, sizeof dice);
        a->canary_due = dice[0] / 4294967296.0;
        a->shadow_due = dice[1] / 4294967296.0;
        a->next = b->first;
        b->first = a;
    }
    a->slow_us = slow_us;
    a->refs++;
    return a;
}

struct arms *arms_share(struct arms *a)
{
    if (a) a->refs++;
    return a;
}

void arms_close(struct arms *a)
{
    if (a) a->refs--;
}

void arms_answered(struct arms *a, enum rollout_arm arm, int64_t latency_us)
{
    struct rollout_arm_counts *c = &a->counts.arm[arm];
    c->requests++;
    c->latency[rollout_bucket(latency_us)]++;
    if (a->slow_us > 0 && latency_us > a->slow_us) c->slow++;
    a->dirty = true;
}

void arms_failed(struct arms *a, enum rollout_arm arm)
{
    a->counts.arm[arm].requests++;
    a->counts.arm[arm].errors++;
    a->dirty = true;
}

void arms_left(struct arms *a, enum rollout_arm arm, int64_t latency_us)
{
    if (a->slow_us > 0 && latency_us > a->slow_us) arms_answered(a, arm, latency_us);
}

/* ---- writing ---- */

static void on_written(void *arg, int rc, const redisReply *reply, const struct err *e)
{
    (void)reply, (void)e;
    struct arms *a = arg;
    a->writing = false;
    if (rc)
        a->dirty = true;
    else
        a->written_ms = clock_mono_ms();
}

static void write_counts(struct arms *a)
{
    char key[ROLLOUT_KEY_MAX];
    struct buf text = {0};
    rollout_key(key, &a->id);
    rollout_encode(&text, &a->counts, redis_clock_us() / 1000);
    struct redis_async *redis = a->book->redis;
    if (!text.failed &&
        redis_async_call(redis, on_written, a, "HSET %s %s %s", key, a->writer, text.data) == 0) {
        a->writing = true;
        a->dirty = false;
        redis_async_call(redis, NULL, NULL, "PEXPIRE %s %d", key, ROLLOUT_LIFE_MS);
    }
    buf_dispose(&text);
}

/* A field that has not been written for so long may be taken for one of a loop that is gone: it is not
 * written to again. One whose counts Redis has is left long before that; what is still to be written after
 * all that time, Redis has not taken for hours. */
static bool is_left(const struct arms *a, int64_t now_ms)
{
    int64_t most_ms = a->dirty ? ROLLOUT_QUIET_MS : ROLLOUT_QUIET_MS / 2;
    return !a->writing && now_ms - a->written_ms >= most_ms;
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct arms_book *b = arg;
    int64_t now_ms = clock_mono_ms();
    for (struct arms **slot = &b->first; *slot;) {
        struct arms *a = *slot;
        bool left = is_left(a, now_ms);
        if (left && a->refs == 0) {
            *slot = a->next;
            mem_free(a);
            continue;
        }
        if (left) begin(a);
        if (a->dirty && !a->writing) write_counts(a);
        slot = &a->next;
    }
}

struct arms_book *arms_book_create(struct loop *loop, struct redis_async *redis)
{
    struct arms_book *b = mem_alloc(1, sizeof *b);
    b->redis = redis;
    id_new(b->loop_id, "inc_");
    b->flush = event_new(loop_base(loop), -1, EV_PERSIST, on_flush, b);
    event_add(b->flush, &(struct timeval){.tv_usec = ARMS_FLUSH_MS * 1000});
    return b;
}

void arms_book_free(struct arms_book *b)
{
    if (!b) return;
    event_free(b->flush);
    for (struct arms *a = b->first, *next; a; a = next) {
        next = a->next;
        mem_free(a);
    }
    mem_free(b);
}
