/* Asks the scheduler to place each model as a gateway would that found no holder, and again until somebody
 * else is one. */
#include "worker/engine_handover.h"

#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/inbox.h"
#include "queue/placement.h"

/* The scheduler may take this worker for one that stays until it has read its heartbeat: hence ASK_EVERY_MS.
 * SETTLE_MS: what gateways get to connect to a worker that they have not needed before. AT_ONCE: models that
 * are waited for at a time, but for those that take longer than SLOW_MS. */
enum {
    TIMEOUT_MS = 1000,
    POLL_MS = 10,
    LOOK_EVERY_MS = 100,
    ASK_EVERY_MS = 400,
    SETTLE_MS = 300,
    AT_ONCE = 32,
    SLOW_MS = 2000
};

struct model_left {
    char version_id[ID_MAX], tenant_id[ID_MAX];
    int64_t first_asked_ms, asked_ms; /* 0: never */
};

struct handover {
    const struct engine_config *config; /* borrowed */
    struct redis *redis;
    struct model_left *left; /* owned */
    size_t left_len, left_cap, handed;
    char (*others)[ID_MAX]; /* owned: workers that stay */
    size_t others_len;
    int64_t others_due_ms;
};

static void list_model(void *arg, struct resident *m)
{
    struct handover *h = arg;
    if (h->left_len == h->left_cap) {
        size_t cap = h->left_cap ? h->left_cap * 2 : 64;
        struct model_left *left = mem_try_realloc(h->left, cap, sizeof *left);
        if (!left) return; /* whoever needs it asks for it later */
        h->left = left;
        h->left_cap = cap;
    }
    struct model_left *to = &h->left[h->left_len++];
    memset(to, 0, sizeof *to);
    memcpy(to->version_id, m->version_id, sizeof to->version_id);
    memcpy(to->tenant_id, m->tenant_id, sizeof to->tenant_id);
}

static int look_who_stays(struct handover *h, struct err *e)
{
    struct heartbeat *beats;
    size_t n;
    if (clock_mono_ms() < h->others_due_ms) return 0;
    h->others_due_ms = clock_mono_ms() + LOOK_EVERY_MS;
    int rc = heartbeat_list(h->redis, &beats, &n, e);
    if (rc) return rc;
    mem_free(h->others);
    h->others_len = 0;
    h->others = mem_try_alloc(n + 1, sizeof *h->others);
    for (size_t i = 0; i < n && h->others; i++)
        if (!beats[i].draining && strcmp(beats[i].inc, h->config->inc) != 0)
            memcpy(h->others[h->others_len++], beats[i].inc, ID_MAX);
    mem_free(beats);
    return h->others ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for the list of workers");
}

static int is_held_by_another(struct handover *h, const struct model_left *m, bool *held, struct err *e)
{
    char holders[PLACEMENT_HOLDERS_MAX][ID_MAX];
    size_t n;
    *held = false;
    int rc = placement_holders(h->redis, m->version_id, holders, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        for (size_t k = 0; k < h->others_len; k++) *held |= strcmp(holders[i], h->others[k]) == 0;
    return rc;
}

static int ask(struct handover *h, struct model_left *m, int64_t now_ms, struct err *e)
{
    struct message order = {.type = MESSAGE_PLACE};
    if (m->asked_ms && now_ms - m->asked_ms < ASK_EVERY_MS) return 0;
    memcpy(order.model.version_id, m->version_id, sizeof order.model.version_id);
    memcpy(order.model.tenant_id, m->tenant_id, sizeof order.model.tenant_id);
    m->asked_ms = now_ms;
    if (!m->first_asked_ms) m->first_asked_ms = now_ms;
    return inbox_push(h->redis, INBOX_SCHEDULER, &order, e);
}

/* One look at the models that are waited for now; those that are up leave the list. */
static int turn(struct handover *h, struct err *e)
{
    size_t waiting = 0, kept = 0, i = 0;
    int64_t now_ms = clock_mono_ms();
    int rc = look_who_stays(h, e);
    for (; i < h->left_len && waiting < AT_ONCE && rc == 0; i++) {
        struct model_left *m = &h->left[i];
        bool held = false;
        rc = is_held_by_another(h, m, &held, e);
        if (rc == 0 && !held && h->others_len) rc = ask(h, m, now_ms, e);
        if (held) {
            h->handed++;
            continue;
        }
        waiting += now_ms - m->first_asked_ms < SLOW_MS;
        h->left[kept++] = *m;
    }
    memmove(&h->left[kept], &h->left[i], (h->left_len - i) * sizeof *h->left);
    h->left_len -= i - kept;
    return rc;
}

static void pause_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

int engine__hand_over(const struct engine_config *config, struct model_cache *cache, int deadline_ms)
{
    struct handover h = {.config = config, .redis = redis_create(config->redis, TIMEOUT_MS)};
    int64_t begin_ms = clock_mono_ms(), until_ms = begin_ms + deadline_ms;
    struct err e = {0};
    bool alone = false;
    model_cache_each_used(cache, begin_ms - HANDOVER_USED_MS, list_model, &h);
    while (h.left_len && !alone && clock_mono_ms() < until_ms) {
        int rc = turn(&h, &e);
        alone = rc == 0 && h.others_len == 0;
        if (h.left_len && !alone) pause_ms(rc ? redis_backoff_ms(h.redis) : POLL_MS);
    }
    int64_t rest_ms = until_ms - clock_mono_ms();
    if (h.handed && rest_ms > 0) pause_ms(rest_ms < SETTLE_MS ? (int)rest_ms : SETTLE_MS);
    if (h.handed || h.left_len)
        log_info("models-handed-over", "handed=%zu left=%zu ms=%lld%s", h.handed, h.left_len,
                 (long long)(clock_mono_ms() - begin_ms), alone ? " reason=\"no other worker\"" : "");
    int rc = h.left_len && !alone ? ERR_TIMEOUT : 0;
    mem_free(h.left);
    mem_free(h.others);
    redis_free(h.redis);
    return rc;
}
