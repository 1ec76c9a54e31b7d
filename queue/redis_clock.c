/* The offset between Redis's clock and ours, as one atomic number. */
#include "queue/redis_clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include "base/clock.h"

enum { SLOW_US = 50000 };

static _Atomic int64_t offset_us; /* Redis time − monotonic time */
static _Atomic bool measured;

int64_t redis_clock_us(void)
{
    if (!atomic_load_explicit(&measured, memory_order_acquire)) return clock_wall_us();
    return clock_mono_us() + atomic_load_explicit(&offset_us, memory_order_relaxed);
}

void redis_clock_learn(const redisReply *reply, int64_t sent_mono_us)
{
    int64_t now = clock_mono_us();
    if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) return;
    int64_t seconds = redis_reply_int(reply->element[0], -1), micros = redis_reply_int(reply->element[1], -1);
    if (seconds < 0 || micros < 0) return;
    if (now - sent_mono_us > SLOW_US && atomic_load(&measured)) return;
    int64_t middle = sent_mono_us + (now - sent_mono_us) / 2;
    atomic_store_explicit(&offset_us, seconds * 1000000 + micros - middle, memory_order_relaxed);
    atomic_store_explicit(&measured, true, memory_order_release);
}

int redis_clock_measure(struct redis *r, struct err *e)
{
    int rc = redis_connect(r, e); /* connecting must not count as travel time */
    if (rc) return rc;
    int64_t sent = clock_mono_us();
    redisReply *reply;
    rc = redis_call(r, &reply, e, "TIME");
    if (rc) return rc;
    redis_clock_learn(reply, sent);
    freeReplyObject(reply);
    return 0;
}
