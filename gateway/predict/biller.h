/* What a loop has answered, on its way to the meter: counted before it is sent.
 *
 *   a turn's answers ─▶ biller_count each ─▶ biller_publish: one HSET, handed to the kernel ─▶ the answers
 *
 * So a gateway that is killed at any instant has counted what it answered, and no answer waits for Redis.
 * While Redis is away the totals wait in memory and follow when it is back: what was answered is lost to the
 * bill only when the gateway dies in between. Everything runs on the loop's thread. */
#ifndef GATEWAY_PREDICT_BILLER_H
#define GATEWAY_PREDICT_BILLER_H

#include <stdint.h>
#include "base/loop.h"
#include "queue/redis_async.h"

struct biller;

/* inc and shard name the totals (queue/usage.h). commands: borrowed; freed before the biller, since it
 * answers what is under way. */
struct biller *biller_create(struct loop *loop, struct redis_async *commands, const char *inc, int shard);
void biller_free(struct biller *b);

void biller_count(struct biller *b, const char *tenant_id, const char *version_id, int64_t rows,
                  int64_t compute_us);
/* What has been counted since. Nothing when Redis is away, refuses, or has hundreds of such commands yet to
 * answer: then it follows by itself. Not from inside an answer of Redis. */
void biller_publish(struct biller *b);

#endif
