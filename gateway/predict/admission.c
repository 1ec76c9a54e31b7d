/* Per-tenant leases of rate tokens and counts of what is in flight. */
#include "gateway/predict/admission.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/predict/crowd.h"
#include "queue/rate.h"

enum { BUCKETS = 512, SWEEP_ABOVE = 1024, IDLE_MS = 60000 };

struct waiter {
    struct waiter *next;
    admission_fn fn;
    void *arg;
    uint64_t token;
};

struct tenant {
    struct tenant *next;
    struct admission *owner;
    char tenant_id[ID_MAX];
    double rate, burst;
    int in_flight, concurrency_max;
    struct crowd crowd;
    int tokens;             /* leased and unspent */
    int64_t lease_until_ms; /* then what is unspent is forfeit */
    int64_t empty_until_ms; /* the bucket has no token before */
    int64_t left, left_ms;  /* tokens in the bucket behind the last lease, and when that was; 0: never */
    bool fetching;
    int waiting;
    struct waiter *first, *last;
    double own_tokens; /* of this loop's own bucket, at own_ms; 0: Redis has it */
    int64_t own_ms;
    int64_t used_ms;
};

struct admission {
    struct redis_async *redis;
    int loops;
    bool alone; /* Redis did not answer last */
    struct tenant *buckets[BUCKETS];
    size_t count;
    struct crowd all; /* for its rate alone */
    int crowded;      /* tenants that are bound */
};

struct admission *admission_create(struct redis_async *redis, int loops)
{
    struct admission *a = mem_alloc(1, sizeof *a);
    a->redis = redis;
    a->loops = loops;
    return a;
}

static void tenant_free(struct tenant *t)
{
    for (struct waiter *w = t->first, *next; w; w = next) {
        next = w->next;
        mem_free(w);
    }
    mem_free(t);
}

void admission_free(struct admission *a)
{
    if (!a) return;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct tenant *t = a->buckets[i], *next; t; t = next) {
            next = t->next;
            tenant_free(t);
        }
    mem_free(a);
}

/* ---- tenants
 * ------------------------------------------------------------------------------------------------------ */

static struct tenant **slot_of(struct admission *a, const char *tenant_id)
{
    struct tenant **slot = &a->buckets[hash_fold(hash_id(HASH_START, tenant_id)) % BUCKETS];
    while (*slot && strcmp((*slot)->tenant_id, tenant_id) != 0) slot = &(*slot)->next;
    return slot;
}

/* Forgets tenants that have been idle for long, so that the table does not only grow. */
static void sweep(struct admission *a)
{
    int64_t now = clock_coarse_ms();
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct tenant **slot = &a->buckets[i]; *slot;) {
            struct tenant *t = *slot;
            if (t->in_flight || t->fetching || t->first || now - t->used_ms < IDLE_MS) {
                slot = &t->next;
                continue;
            }
            *slot = t->next;
            if (crowd_is_bound(&t->crowd)) a->crowded--;
            tenant_free(t);
            a->count--;
        }
}

static struct tenant *tenant_of(struct admission *a, const struct predict_caller *c)
{
    struct tenant **slot = slot_of(a, c->tenant_id);
    if (!*slot) {
        if (a->count >= SWEEP_ABOVE && a->count % SWEEP_ABOVE == 0) sweep(a);
        slot = slot_of(a, c->tenant_id);
        *slot = mem_alloc(1, sizeof **slot);
        (*slot)->owner = a;
        snprintf((*slot)->tenant_id, ID_MAX, "%s", c->tenant_id);
        a->count++;
    }
    struct tenant *t = *slot;
    t->rate = c->rate_per_second; /* the plan may have changed */
    t->burst = c->burst >= 1 ? c->burst : 1;
    t->concurrency_max = c->concurrency_max > 0 ? c->concurrency_max : ADMISSION_CONCURRENCY;
    t->used_ms = clock_coarse_ms();
    return t;
}

/* ---- answers
 * ------------------------------------------------------------------------------------------------------ */

/* fn may ask for more or leave again before it returns, so the count goes first. */
static bool grant(struct tenant *t, admission_fn fn, void *arg, uint64_t token)
{
    t->in_flight++;
    bool taken = fn(arg, token, 0, NULL);
    if (!taken) t->in_flight--;
    return taken;
}

static void deny(admission_fn fn, void *arg, uint64_t token, int64_t retry_ms)
{
    struct err e = {0};
    err_set(&e, ERR_LIMIT, NULL, "the plan's rate of predictions is used up; try again in %lld ms",
            (long long)retry_ms);
    e.retry_after_ms = (int)retry_ms;
    fn(arg, token, ERR_LIMIT, &e);
}

static bool pop_waiter(struct tenant *t, struct waiter *out)
{
    struct waiter *w = t->first;
    if (!w) return false;
    *out = *w;
    t->first = w->next;
    if (!t->first) t->last = NULL;
    t->waiting--;
    mem_free(w);
    return true;
}

/* ---- leases
 * ------------------------------------------------------------------------------------------------------- */

static void fetch(struct tenant *t);

/* For all that wait, from this loop's own bucket. */
static struct rate_grant take_own(struct tenant *t, int64_t now)
{
    struct rate_grant g = {0};
    double rate = t->rate / t->owner->loops, burst = fmax(1, t->burst / t->owner->loops);
    double filled = t->own_ms ? t->own_tokens + (double)(now - t->own_ms) * rate / 1000 : burst;
    t->own_tokens = fmin(filled, burst);
    t->own_ms = now;
    g.granted = (int)fmin(t->waiting, t->own_tokens);
    t->own_tokens -= g.granted;
    g.remaining = (int)t->own_tokens;
    if (g.granted == 0) g.retry_after_ms = (int)ceil((1 - t->own_tokens) * 1000 / rate);
    return g;
}

static void tell_alone(struct admission *a, const struct err *e)
{
    if ((e != NULL) == a->alone) return;
    a->alone = e != NULL;
    if (e)
        log_warn("rates-kept-alone", "reason=\"%s\"", e->message);
    else
        log_info("rates-shared-again", "loops=%d", a->loops);
}

static void on_lease(void *arg, int rc, const struct rate_grant *shared, const struct err *e)
{
    (void)rc; /* shared tells */
    struct tenant *t = arg;
    struct waiter w;
    int64_t now = clock_coarse_ms();
    t->fetching = false;
    tell_alone(t->owner, shared ? NULL : e);
    struct rate_grant g = shared ? *shared : take_own(t, now);
    if (shared) t->own_ms = 0;
    t->tokens = g.granted;
    t->left = g.remaining;
    t->left_ms = now;
    t->lease_until_ms = now + ADMISSION_LEASE_MS;
    int retry_ms = g.granted ? (int)ceil(1000 / t->rate) : g.retry_after_ms;
    if (!g.remaining && g.granted < t->waiting) t->empty_until_ms = now + retry_ms;
    while (t->tokens > 0 && pop_waiter(t, &w)) {
        t->tokens--;
        if (!grant(t, w.fn, w.arg, w.token)) t->tokens++;
    }
    if (t->first && g.remaining && !t->fetching) {
        fetch(t); /* more came while the lease was on its way */
        return;
    }
    while (!t->fetching && pop_waiter(t, &w)) deny(w.fn, w.arg, w.token, retry_ms > 0 ? retry_ms : 1);
}

/* As many as wait, or a twentieth of a second's worth, so that a busy tenant costs Redis little and forfeits
 * little. */
static void fetch(struct tenant *t)
{
    struct rate_request q = {.per_second = t->rate, .burst = t->burst};
    int ahead = (int)fmin(t->rate / 20, t->burst / 4);
    memcpy(q.tenant_id, t->tenant_id, ID_MAX);
    q.want = t->waiting > ahead ? t->waiting : ahead;
    if (q.want < 1) q.want = 1;
    t->fetching = true;
    int rc = rate_take_async(t->owner->redis, &q, on_lease, t);
    if (rc == 0) return;
    struct err e = {0};
    err_set(&e, rc, NULL, "the platform cannot check the rate limit now");
    on_lease(t, rc, NULL, &e);
}

static int check_room(struct tenant *t, struct err *e)
{
    int in_flight = t->in_flight + t->waiting;
    if (in_flight >= t->concurrency_max)
        err_set(e, ERR_LIMIT, NULL, "%d predictions of this tenant are in flight already", in_flight);
    else if (!crowd_has_room(&t->crowd, in_flight, t->owner->crowded))
        err_set(e, ERR_OVERLOAD, NULL, "the platform is busy: %d predictions of this tenant wait already",
                in_flight);
    else
        return 0;
    e->retry_after_ms = (int)crowd_wait_ms(&t->crowd, in_flight);
    return e->code;
}

void admission_ask(struct admission *a, const struct predict_caller *c, admission_fn fn, void *arg,
                   uint64_t token)
{
    struct tenant *t = tenant_of(a, c);
    int64_t now = t->used_ms;
    struct err e = {0};
    if (check_room(t, &e)) {
        fn(arg, token, e.code, &e);
        return;
    }
    if (t->rate <= 0) {
        grant(t, fn, arg, token);
        return;
    }
    if (now >= t->lease_until_ms) t->tokens = 0;
    if (t->tokens > 0 && !t->first) {
        t->tokens--;
        grant(t, fn, arg, token);
        return;
    }
    if (now < t->empty_until_ms && !t->fetching) {
        deny(fn, arg, token, t->empty_until_ms - now);
        return;
    }
    struct waiter *w = mem_alloc(1, sizeof *w);
    *w = (struct waiter){.fn = fn, .arg = arg, .token = token};
    *(t->last ? &t->last->next : &t->first) = w;
    t->last = w;
    t->waiting++;
    if (!t->fetching) fetch(t);
}

void admission_leave(struct admission *a, const char *tenant_id, int64_t took_us)
{
    struct tenant *t = *slot_of(a, tenant_id);
    int64_t now = clock_coarse_ms();
    if (!t) return;
    bool was_bound = crowd_is_bound(&t->crowd);
    if (t->in_flight > 0) t->in_flight--;
    if (took_us > 0) {
        crowd_answered(&t->crowd, now, took_us);
        crowd_answered(&a->all, now, took_us);
    } else if (took_us < 0) {
        crowd_late(&t->crowd, now);
    }
    a->crowded += (int)crowd_is_bound(&t->crowd) - (int)was_bound;
}

int64_t admission_wait_ms(const struct admission *a, int in_flight)
{
    return crowd_wait_ms(&a->all, in_flight);
}

bool admission_left(struct admission *a, const char *tenant_id, int64_t *remaining, int64_t *full_s)
{
    const struct tenant *t = *slot_of(a, tenant_id);
    int64_t now = clock_coarse_ms();
    if (!t || t->rate <= 0 || t->left_ms == 0) return false;
    int tokens = now < t->lease_until_ms ? t->tokens : 0;
    double left = fmin(t->burst, tokens + (double)t->left + (double)(now - t->left_ms) * t->rate / 1000);
    *remaining = (int64_t)left;
    *full_s = (int64_t)ceil((t->burst - left) / t->rate);
    return true;
}
