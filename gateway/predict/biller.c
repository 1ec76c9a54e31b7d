/* HSETs of totals, many under way at once: they are totals, and one connection keeps their order. */
#include "gateway/predict/biller.h"

#include <string.h>
#include <event2/event.h>
#include "base/ids.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/usage.h"

/* UNDER_WAY_MAX: a Redis that takes commands and answers none gets no more than these. */
enum { UNDER_WAY_MAX = 256, BEAT_S = 1 };

struct biller {
    struct redis_async *commands; /* borrowed */
    struct usage *usage;          /* owned, as the event */
    struct event *beat;
    char inc[ID_MAX];
    int shard, under_way;
    bool in_trouble, was_known;
};

void biller_count(struct biller *b, const char *tenant_id, const char *version_id, int64_t rows,
                  int64_t compute_us)
{
    struct err e;
    if (usage_add(b->usage, tenant_id, version_id, 1, rows, compute_us, &e))
        log_error("usage-lost", "tenant=%s version=%s rows=%lld reason=\"%s\"", tenant_id, version_id,
                  (long long)rows, e.message);
}

static void on_published(void *arg, int rc, const redisReply *reply, const struct err *e);

/* Whether there was something to write, and Redis to write to. */
static bool queue_dirty(struct biller *b)
{
    struct usage_command c;
    struct err e;
    if (!usage_dirty(b->usage) || b->under_way >= UNDER_WAY_MAX || !redis_async_up(b->commands)) return false;
    if (usage_take_dirty(b->usage, &c, &e) != 0) return false; /* it stays changed: with the next one */
    b->under_way++;
    int rc = redis_async_argv(b->commands, 0, on_published, b, c.argc, c.argv, NULL);
    usage_command_dispose(&c);
    if (rc == 0) return true;
    b->under_way--;
    b->in_trouble = true;
    usage_touch_all(b->usage);
    return false;
}

/* From inside Redis's answers nothing may be flushed: queue_dirty has it written when they are through. */
static void on_published(void *arg, int rc, const redisReply *reply, const struct err *e)
{
    (void)reply;
    struct biller *b = arg;
    bool was_full = b->under_way-- == UNDER_WAY_MAX;
    if (rc) usage_touch_all(b->usage);
    if (rc && !b->in_trouble) log_warn("usage-unpublished", "reason=\"%s\"", e->message);
    b->in_trouble = rc != 0;
    if (rc == 0 && was_full) queue_dirty(b);
}

/* After a failure all totals are to be written, not with each answer but with the beat. */
void biller_publish(struct biller *b)
{
    if (!b->in_trouble && queue_dirty(b)) redis_async_flush(b->commands);
}

/* ---- the meter's view
 * -------------------------------------------------------------------------------------------------- */

/* Redis had not heard of this loop: it is the first time, or it has forgotten, and the totals as well. That
 * some of them are there proves nothing: each answer writes its own. */
static void on_counting(void *arg, int rc, const redisReply *reply, const struct err *e)
{
    (void)e;
    struct biller *b = arg;
    if (rc || redis_reply_int(reply, 0) != 1) return;
    if (b->was_known) log_info("usage-republished", "reason=\"Redis had forgotten this gateway\"");
    b->was_known = true;
    usage_touch_all(b->usage);
    queue_dirty(b);
}

/* Says that this gateway lives, and hears whether its totals do. */
static void on_beat(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct biller *b = arg;
    char key[USAGE_KEY_MAX];
    queue_dirty(b); /* what Redis could not take */
    usage_counting_key(key, b->inc);
    redis_async_call(b->commands, on_counting, b, "HSET %s %d 1", key, b->shard);
    redis_async_call(b->commands, NULL, NULL, "PEXPIRE %s %d", key, USAGE_COUNTING_MS);
}

/* ---- life
 * -------------------------------------------------------------------------------------------------- */

struct biller *biller_create(struct loop *loop, struct redis_async *commands, const char *inc, int shard)
{
    struct biller *b = mem_alloc(1, sizeof *b);
    b->commands = commands;
    b->usage = usage_create(inc, shard);
    b->shard = shard;
    memcpy(b->inc, inc, strlen(inc) + 1);
    b->beat = event_new(loop_base(loop), -1, EV_PERSIST, on_beat, b);
    event_add(b->beat, &(struct timeval){.tv_sec = BEAT_S});
    return b;
}

void biller_free(struct biller *b)
{
    if (!b) return;
    event_free(b->beat);
    usage_free(b->usage);
    mem_free(b);
}
