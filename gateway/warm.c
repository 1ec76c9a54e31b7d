/* Asks for a version's placement and looks every few milliseconds whether it is there. */
#include "gateway/warm.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/heartbeat.h"
#include "queue/inbox.h"
#include "queue/message.h"
#include "queue/placement.h"

/* REPLICAS_MS: with one holder there already, the others are waited for no longer. */
enum { LOOK_MS = 10, ALIVE_MS = 500, ASK_MS = 1000, REPLICAS_MS = 2000 };

struct warming {
    struct redis *redis;
    const struct warm_request *q;
    struct heartbeat *alive; /* owned: those that take new work */
    size_t alive_len;
    char present[PLACEMENT_HOLDERS_MAX][ID_MAX]; /* living holders of the present version */
    size_t present_len;
    char holders[PLACEMENT_HOLDERS_MAX][ID_MAX]; /* and of the one to come */
    size_t holders_len;
    int64_t began_ms, asked_ms, alive_ms; /* alive_ms: when the heartbeats were read */
};

/* ---- looking ---- */

static bool lives(const struct warming *w, const char *inc)
{
    for (size_t i = 0; i < w->alive_len; i++)
        if (strcmp(w->alive[i].inc, inc) == 0) return true;
    return false;
}

static int look_alive(struct warming *w, struct err *e)
{
    size_t n;
    if (w->alive_ms && clock_mono_ms() - w->alive_ms < ALIVE_MS) return 0;
    w->alive_ms = clock_mono_ms();
    mem_free(w->alive);
    w->alive = NULL;
    w->alive_len = 0;
    int rc = heartbeat_list(w->redis, &w->alive, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (!w->alive[i].draining) w->alive[w->alive_len++] = w->alive[i];
    return rc;
}

/* The version's holders that live. */
static int look_holders(struct warming *w, const char *version_id, char (*incs)[ID_MAX], size_t *len,
                        struct err *e)
{
    size_t n;
    *len = 0;
    int rc = placement_holders(w->redis, version_id, incs, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (lives(w, incs[i])) memmove(incs[(*len)++], incs[i], ID_MAX);
    return rc;
}

static int look(struct warming *w, struct err *e)
{
    int rc = look_alive(w, e);
    return rc ? rc : look_holders(w, w->q->version_id, w->holders, &w->holders_len, e);
}

static bool is_holder(const struct warming *w, const char *inc)
{
    for (size_t i = 0; i < w->holders_len; i++)
        if (strcmp(w->holders[i], inc) == 0) return true;
    return false;
}

static bool is_enough(const struct warming *w)
{
    bool long_enough = w->began_ms && clock_mono_ms() - w->began_ms >= REPLICAS_MS;
    return w->holders_len > 0 && (w->holders_len >= w->present_len || long_enough);
}

/* ---- asking ---- */

static int order(struct warming *w, enum message_type type, const char *key, struct err *e)
{
    struct message m = {.type = type};
    snprintf(m.model.version_id, ID_MAX, "%s", w->q->version_id);
    snprintf(m.model.tenant_id, ID_MAX, "%s", w->q->tenant_id);
    m.model.bytes = w->q->bytes;
    return inbox_push(w->redis, key, &m, e);
}

/* Where it is held already, only replicas are missing: the scheduler has done its part. */
static int ask(struct warming *w, struct err *e)
{
    char key[INBOX_KEY_MAX];
    int rc = 0;
    w->asked_ms = clock_mono_ms();
    if (w->holders_len == 0) rc = order(w, MESSAGE_PLACE, INBOX_SCHEDULER, e);
    for (size_t i = 0; w->present_len > 1 && i < w->present_len && rc == 0; i++) {
        if (is_holder(w, w->present[i])) continue;
        inbox_worker_key(key, w->present[i]);
        rc = order(w, MESSAGE_MODEL_REPLICATE, key, e);
    }
    return rc;
}

/* ---- waiting ---- */

/* A load that failed, where no other worker can be hoped for. */
static int check_failure(struct warming *w, bool last, struct err *e)
{
    struct err why;
    int rc = placement_failure(w->redis, w->q->version_id, &why, e);
    if (rc || !why.code) return rc;
    if (!placement_failure_is_final(why.code) && !last && w->alive_len > 1) return 0;
    return err_set(e, ERR_CONFLICT, "version",
                   "no worker can serve version %lld, so the alias stays where it is: %s",
                   (long long)w->q->version, placement_failure_told(&why));
}

static int too_late(struct warming *w, struct err *e)
{
    int rc = check_failure(w, true, e);
    if (rc) return rc;
    err_set(e, ERR_OVERLOAD, NULL,
            "no worker has loaded version %lld in time, so the alias stays where it is; try again, or send "
            "\"warm\":false to move it all the same",
            (long long)w->q->version);
    if (e) e->retry_after_ms = 1000;
    return ERR_OVERLOAD;
}

static int wait_for_it(struct gateway *g, struct warming *w, enum warm_outcome *out, struct err *e)
{
    w->began_ms = clock_mono_ms();
    for (;;) {
        int rc = 0;
        if (w->alive_len == 0) {
            *out = WARM_NOBODY;
            return 0;
        }
        if (is_enough(w)) return 0;
        if (w->holders_len == 0) rc = check_failure(w, false, e);
        if (!rc && clock_mono_ms() - w->asked_ms >= ASK_MS) rc = ask(w, e);
        if (rc) return rc;
        if (clock_mono_ms() >= w->q->deadline_ms) return w->holders_len ? 0 : too_late(w, e);
        if (g->draining) return err_set(e, ERR_OVERLOAD, NULL, "the gateway is stopping; try again");
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000}, NULL);
        if ((rc = look(w, e))) return rc;
    }
}

/* Whoever waits holds a thread of the pool that others need for short work. */
static int wait_in_line(struct gateway *g, struct warming *w, enum warm_outcome *out, struct err *e)
{
    int most = g->options->pool_threads > 1 ? (int)g->options->pool_threads / 2 : 1;
    int rc = lanes_enter(g->lanes, LANE_WARM, w->q->tenant_id, 0, e);
    if (rc) return rc;
    if (atomic_fetch_add(&g->warming, 1) < most) {
        rc = wait_for_it(g, w, out, e);
    } else {
        rc = err_set(e, ERR_OVERLOAD, NULL,
                     "too many aliases wait for their versions to be loaded; try again shortly");
        if (e) e->retry_after_ms = 1000;
    }
    atomic_fetch_sub(&g->warming, 1);
    lanes_leave(g->lanes, LANE_WARM, w->q->tenant_id);
    return rc;
}

/* Redis is away, which the log tells in its own words. */
static int unseen(struct err *e)
{
    log_warn("warm_unseen", "reason=\"%s\"", e ? e->message : "");
    err_set(
        e, ERR_OVERLOAD, NULL,
        "the gateway cannot see its workers right now, so the alias stays where it is; try again, or send "
        "\"warm\":false to move it all the same");
    if (e) e->retry_after_ms = 1000;
    return ERR_OVERLOAD;
}

int warm_version(struct gateway *g, struct redis *r, const struct warm_request *q, enum warm_outcome *out,
                 struct err *e)
{
    struct warming *w = mem_alloc(1, sizeof *w);
    w->redis = r;
    w->q = q;
    *out = WARM_HELD;
    int rc = look(w, e);
    if (!rc && q->present) rc = look_holders(w, q->present, w->present, &w->present_len, e);
    if (!rc && !is_enough(w)) rc = wait_in_line(g, w, out, e);
    mem_free(w->alive);
    mem_free(w);
    return rc == ERR_UNAVAILABLE ? unseen(e) : rc;
}
