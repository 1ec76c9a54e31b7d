/* Redis's clock as the common clock of all machines: deadlines inside messages are microseconds on it, so
 * that no machine's wall clock matters. A process keeps the difference to its own monotonic clock, measured
 * every second or so. */
#ifndef QUEUE_REDIS_CLOCK_H
#define QUEUE_REDIS_CLOCK_H

#include <stdint.h>
#include <hiredis/hiredis.h>
#include "base/err.h"
#include "queue/redis.h"

/* Redis time now, µs since the epoch. Before the first measurement: the wall clock. Any thread. */
int64_t redis_clock_us(void);

/* Measures by TIME on a blocking connection. */
int redis_clock_measure(struct redis *r, struct err *e);

/* Takes a TIME reply to a command sent at sent_mono_us (clock_mono_us). Slow answers (> 50 ms) teach nothing
 * and are ignored after the first. Any thread. */
void redis_clock_learn(const redisReply *time_reply, int64_t sent_mono_us);

#endif
