/* What the files of the holders share: the versions of holders.c and the workers of holders_workers.c. */
#ifndef GATEWAY_PREDICT_HOLDERS_IMPL_H
#define GATEWAY_PREDICT_HOLDERS_IMPL_H

#include <event2/event.h>
#include "gateway/predict/holders.h"

enum { HOLDERS_BUCKETS = 1024, HOLDERS_SHUNNED = 4, HOLDERS_IDLE_MS = 60000 };

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
    } shunned[HOLDERS_SHUNNED]; /* said that they don't hold it, whatever the set says */
    size_t shunned_next;
};

struct holders {
    struct holders_config config;
    struct loop *loop;
    struct redis_async *redis;
    struct event *poll, *recheck;
    struct version *buckets[HOLDERS_BUCKETS];
    size_t versions;
    struct worker *workers;
    int64_t poll_sent_us;
    bool polling, poll_again; /* poll_again: a worker came to be known while a poll was under way */
    uint64_t dice;
};

/* holders.c: versions. Takes the worker out of all of them, and with `strike` out of Redis's sets too. */
void holders__drop_worker(struct holders *h, const struct worker *w, bool strike);
void holders__sweep_versions(struct holders *h, int64_t now); /* when there are many */

/* holders_workers.c: workers, their links, and who lives. worker_of makes one that is not known, and asks
 * where it listens. */
struct worker *holders__worker_of(struct holders *h, const char *inc);
void holders__ask_workers(struct holders *h);
void holders__free_workers(struct holders *h);

#endif
