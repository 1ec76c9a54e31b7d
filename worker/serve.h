/* A serving thread: takes predictions from gateways over links, computes them in batches, and answers.
 *
 *   links ── PREDICT ──▶ batcher (a queue per version) ──▶ compute ──▶ PREDICT_REPLY on the same link
 *         └─ CANCEL: withdrawn while it waits
 *
 * One event loop does all of it, so nothing is handed from thread to thread: what the sockets hold is read
 * first, then one batch is computed, then the sockets are looked at again. Batches grow by themselves while a
 * batch computes; what a model's settings hold back for company is computed when it is due, by a timer of
 * microseconds. Serving threads share the models and nothing else. */
#ifndef WORKER_SERVE_H
#define WORKER_SERVE_H

#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "queue/link_address.h"
#include "worker/engine.h"
#include "worker/engine_loader.h"
#include "worker/model_cache.h"

struct serve;

struct serve_config {
    const struct engine_config *engine; /* borrowed, all of them, until serve_free */
    struct model_cache *cache;
    struct loader *loader;
    int index; /* of the thread: it computes on session `index` of each model */
};

/* Opens its port; nobody is heard before serve_start. ERR_INVALID, ERR_CONFLICT, ERR_IO for the address. */
int serve_create(struct serve **out, const struct serve_config *config, struct err *e);
int serve_start(struct serve *s, struct err *e);
/* Any thread. Joins. What waits is dropped. */
void serve_free(struct serve *s);

const char *serve_address(const struct serve *s); /* where gateways dial */

/* On the serving thread, once for each call: the reply's record, borrowed, or NULL when the request was
 * dropped (its deadline passed, it is malformed, or memory is out). Must not block. */
typedef void (*serve_reply_fn)(void *arg, const char *record, size_t len);
/* Any thread. A prediction from inside this process, batched with everybody else's: record is an encoded
 * PREDICT, which the call empties. When the thread stops first, fn is never called. */
void serve_call(struct serve *s, struct buf *record, serve_reply_fn fn, void *arg);

/* Any thread. */
size_t serve_in_work(const struct serve *s); /* waiting or computing */

/* Time that the thread has computed, or wanted to and got no processor, since it started; 0 before. */
int64_t serve_wanted_us(const struct serve *s);

struct serve_stats {
    int64_t requests, rows, batches, expired, cancelled, refused, failed, lost;
};
void serve_add_stats(const struct serve *s, struct serve_stats *sum);

#endif
