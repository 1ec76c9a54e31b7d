/* One HSET under way at a time; what comes meanwhile goes with the next. */
#include "worker/biller.h"

#include "base/log.h"
#include "base/mem.h"
#include "queue/redis_async.h"
#include "queue/usage.h"

struct list {
    struct reply *first, *last;
};

struct biller {
    struct redis_async *redis; /* owned */
    struct usage *usage;       /* owned */
    void (*deliver)(void *arg, struct reply *r);
    void *arg;
    struct list waiting, sent;
    bool under_way, in_trouble;
    void (*done)(void *arg);
    void *done_arg;
};

static void list_put(struct list *l, struct reply *r)
{
    r->next = NULL;
    *(l->last ? &l->last->next : &l->first) = r;
    l->last = r;
}

static void deliver_all(struct biller *b, struct list *l)
{
    struct reply *r = l->first;
    *l = (struct list){0};
    for (struct reply *next; r; r = next) {
        next = r->next;
        b->deliver(b->arg, r);
    }
}

static void tell_done(struct biller *b)
{
    if (!b->done || b->under_way) return;
    void (*done)(void *arg) = b->done;
    b->done = NULL;
    done(b->done_arg);
}

static void publish(struct biller *b);

static void on_published(void *arg, int rc, const redisReply *reply, const struct err *e)
{
    (void)reply;
    struct biller *b = arg;
    if (rc && !b->in_trouble) log_warn("usage-unpublished", "reason=\"%s\"", e->message);
    b->in_trouble = rc != 0;
    b->under_way = false;
    usage_confirm(b->usage, rc == 0);
    deliver_all(b, &b->sent);
    if (rc == 0) publish(b);
    if (!b->under_way) deliver_all(b, &b->waiting);
    tell_done(b);
}

static bool send_command(struct biller *b)
{
    struct usage_command c;
    struct err e;
    if (!redis_async_up(b->redis) || usage_take_dirty(b->usage, &c, &e) != 0) return false;
    bool sent = redis_async_argv(b->redis, 0, on_published, b, c.argc, c.argv, NULL) == 0;
    usage_command_dispose(&c);
    if (!sent) usage_confirm(b->usage, false);
    return sent;
}

static void publish(struct biller *b)
{
    if (b->under_way || !usage_dirty(b->usage)) return;
    b->under_way = true; /* an answer may come before the call has returned */
    b->sent = b->waiting;
    b->waiting = (struct list){0};
    if (send_command(b)) return;
    b->under_way = false;
    deliver_all(b, &b->sent);
}

static void on_state(void *arg, bool up)
{
    struct biller *b = arg;
    if (up && b->usage) publish(b);
}

void biller_put(struct biller *b, struct reply *first)
{
    for (struct reply *r = first, *next; r; r = next) {
        struct err e;
        next = r->next;
        if (r->rows == 0) {
            b->deliver(b->arg, r);
            continue;
        }
        if (usage_add(b->usage, r->tenant_id, r->version_id, 1, r->rows, r->compute_us, &e))
            log_error("usage-lost", "tenant=%s version=%s rows=%lld reason=\"%s\"", r->tenant_id,
                      r->version_id, (long long)r->rows, e.message);
        list_put(&b->waiting, r);
    }
    publish(b);
    if (!b->under_way) deliver_all(b, &b->waiting); /* nothing could be counted */
}

void biller_republish(struct biller *b)
{
    usage_touch_all(b->usage);
    publish(b);
}

void biller_finish(struct biller *b, void (*done)(void *arg), void *arg)
{
    b->done = done;
    b->done_arg = arg;
    publish(b);
    tell_done(b);
}

struct biller *biller_create(struct loop *loop, const struct redis_address *redis, const char *inc, int shard,
                             void (*deliver)(void *arg, struct reply *r), void *arg)
{
    struct biller *b = mem_alloc(1, sizeof *b);
    struct redis_async_config config = {.address = redis, .name = "usage", .on_state = on_state, .arg = b};
    b->deliver = deliver;
    b->arg = arg;
    b->usage = usage_create(inc, shard);
    b->redis = redis_async_create(loop, &config);
    return b;
}

void biller_free(struct biller *b)
{
    if (!b) return;
    redis_async_free(b->redis); /* answers what is under way, which delivers */
    deliver_all(b, &b->waiting);
    usage_free(b->usage);
    mem_free(b);
}
