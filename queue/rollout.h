/* What gateway loops have seen of the versions behind an alias on trial: counts that only grow, per loop, in
 * one Redis hash per alias and etag. A change of the alias starts anew.
 *
 *   loop: rollout_count, … ──at most every 250 ms: HSET tnr:rollout:<tenant>:<model>:<alias>:<etag>──▶
 * scheduler, report: rollout_read, rollout_add
 *
 * A field "<writer>" is written by one loop only, and never twice under one name for counts that began anew,
 * so a reader that remembers what a field said last knows what came since, also after Redis lost everything.
 *
 * Loops come and go, and a hash may live for months: a field that has not been written for ROLLOUT_LIFE_MS
 * will not be any more (ROLLOUT_QUIET_MS), and whoever reads adds it to the field "gone". So a hash has as
 * many fields as loops wrote to it within a day, and nothing of what they counted is lost. */
#ifndef QUEUE_ROLLOUT_H
#define QUEUE_ROLLOUT_H

#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/ids.h"
#include "queue/redis.h"

enum rollout_arm { ROLLOUT_PRIMARY, ROLLOUT_CANARY, ROLLOUT_SHADOW, ROLLOUT_ARMS };
const char *rollout_arm_name(enum rollout_arm arm); /* "primary" … */

/* Latency buckets: below 16 µs, then four to each doubling, the last one open: above 67 s. */
enum { ROLLOUT_BUCKETS = 90, ROLLOUT_NAME_MAX = 65, ROLLOUT_KEY_MAX = 256, ROLLOUT_WRITER_MAX = 64 };
/* LIFE: a hash that nobody writes to is forgotten after so long, a field is a loop's that is gone. QUIET: so
 * long after its last write to a field a loop leaves it for good; far less, so that no clock matters. */
enum { ROLLOUT_LIFE_MS = 24 * 3600 * 1000, ROLLOUT_QUIET_MS = ROLLOUT_LIFE_MS / 4 };

struct rollout_arm_counts {
    int64_t requests; /* answered or failed by the platform's or the model's fault; a client's mistake does
                         not count */
    int64_t errors;   /* of these: failed */
    int64_t slow;     /* of these: answered later than the alias's limit of latency, when it has one */
    int64_t latency[ROLLOUT_BUCKETS]; /* answered ones, from the sending to the worker to its answer */
};

struct rollout_counts {
    struct rollout_arm_counts arm[ROLLOUT_ARMS];
    int64_t skipped;           /* calls that a shadow was due for and did not get: busy, or not loaded */
    int64_t compared;          /* answers of a shadow set beside the primary's */
    int64_t disagreements;     /* of these: different */
    double largest_difference; /* of two numbers in them; finite */
};

struct rollout_id {
    char tenant_id[ID_MAX];
    char model[ROLLOUT_NAME_MAX], alias[ROLLOUT_NAME_MAX];
    int64_t etag;
};

void rollout_key(char out[ROLLOUT_KEY_MAX], const struct rollout_id *id);

size_t rollout_bucket(int64_t latency_us);
/* The latency that a share q (0 to 1) of the answered calls stayed below, interpolated inside its bucket; 0
 * without any. */
int64_t rollout_quantile_us(const struct rollout_arm_counts *a, double q);
void rollout_add(struct rollout_counts *to, const struct rollout_counts *more);

/* written_ms: when it is written, of Redis's clock. */
void rollout_encode(struct buf *out, const struct rollout_counts *c, int64_t written_ms);
int rollout_decode(struct rollout_counts *out, int64_t *written_ms, const char *text,
                   struct err *e); /* ERR_CORRUPT */

/* Not 0: enough. Counts and writer are borrowed. writer is NULL for the sum of those that are gone, which is
 * told last: of whoever remembers writers, it has nothing new. */
typedef int (*rollout_each_fn)(void *arg, const char *writer, const struct rollout_counts *counts,
                               struct err *e);
/* Blocking. Tells each writer's counts, in no order; none is no error. Malformed fields are left out. Returns
 * what each did. */
int rollout_read(struct redis *r, const struct rollout_id *id, rollout_each_fn each, void *arg,
                 struct err *e);

#endif
