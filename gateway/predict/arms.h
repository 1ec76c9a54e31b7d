/* What this loop has seen of the versions behind each alias on trial, and its way to Redis.
 *
 *   arms_open (a route is made) ─▶ arms_count, … (each call) ─▶ every ARMS_FLUSH_MS: what changed is set in
 * the alias's hash (queue/rollout.h)
 *
 * Loop thread only. */
#ifndef GATEWAY_PREDICT_ARMS_H
#define GATEWAY_PREDICT_ARMS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/loop.h"
#include "queue/redis_async.h"
#include "queue/rollout.h"

enum { ARMS_FLUSH_MS = 250 };

/* Of one alias under one etag, since its field in Redis was begun. Kept while somebody refers to it, and for
 * some hours (ROLLOUT_QUIET_MS) after its last write; then what is counted on begins a field anew. */
struct arms {
    struct rollout_counts counts;
    int64_t slow_us; /* answers later than this are slow; ≤ 0: none is */
    bool dirty;      /* set by who changes counts without the verbs below */
    double canary_due,
        shadow_due; /* how much of a call each is owed: spread over loops by beginning at random */

    /* arms.c's own */
    struct rollout_id id;
    struct arms_book *book;
    char writer[ROLLOUT_WRITER_MAX];
    int refs;
    int64_t written_ms; /* when Redis last took the counts, or they began */
    bool writing;
    struct arms *next;
};

struct arms_book;
struct arms_book *arms_book_create(struct loop *loop, struct redis_async *redis); /* borrowed */
void arms_book_free(struct arms_book *b); /* after redis is freed, and after every arms_close */

/* A reference to the alias's counts, made when there are none yet. */
struct arms *arms_open(struct arms_book *b, const struct rollout_id *id, int64_t slow_us);
struct arms *arms_share(struct arms *a); /* one reference more; NULL is fine */
void arms_close(struct arms *a);         /* NULL is fine */

void arms_answered(struct arms *a, enum rollout_arm arm, int64_t latency_us);
void arms_failed(struct arms *a, enum rollout_arm arm);
/* The client left after so long: that tells something only of a call that was slow by then. */
void arms_left(struct arms *a, enum rollout_arm arm, int64_t latency_us);

#endif
