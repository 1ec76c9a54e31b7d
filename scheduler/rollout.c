/* One turn of the watch: read, add up, judge, end. */
#include "scheduler/rollout.h"

#include <stdio.h>
#include <string.h>
#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/changed.h"
#include "scheduler/rollout_policy.h"
#include "scheduler/table.h"
#include "store/alias_watch.h"

enum { KEY_MAX = 2 * ID_MAX + ALIAS_NAME_MAX, ARENA_MAX = 64 << 20 };

/* What one gateway loop's counts were. */
struct seen {
    char writer[ROLLOUT_WRITER_MAX];
    struct rollout_sums sums;
};

/* An alias that is watched, under one etag. */
struct trial {
    char key[KEY_MAX]; /* "<tenant> <model id> <alias>" */
    int64_t etag;
    uint64_t round;    /* the newest turn that found it on trial */
    struct table seen; /* struct seen, owned, by writer */
    bool read;         /* its counts have been read once */
    struct rollout_window window;
    struct rollout_counts whole; /* of all writers as last read: for the record */
};

struct rollout_watch {
    struct table trials; /* struct trial, owned */
    uint64_t round;
};

static void forget_seen(struct trial *t)
{
    size_t cursor = 0;
    struct seen *s;
    while ((s = table_next(&t->seen, &cursor)) != NULL) mem_free(s);
    table_dispose(&t->seen);
}

static void trial_free(struct trial *t)
{
    forget_seen(t);
    mem_free(t);
}

struct rollout_watch *rollout_watch_create(void)
{
    return mem_alloc(1, sizeof(struct rollout_watch));
}

void rollout_watch_free(struct rollout_watch *w)
{
    if (!w) return;
    size_t cursor = 0;
    struct trial *t;
    while ((t = table_next(&w->trials, &cursor)) != NULL) trial_free(t);
    table_dispose(&w->trials);
    mem_free(w);
}

/* ---- the trials ---- */

static void begin(struct trial *t, const struct alias_watched *a)
{
    forget_seen(t);
    t->read = false;
    t->etag = a->etag;
    rollout_window_init(&t->window, a->limits.window_s * 1000);
}

static struct trial *trial_of(struct rollout_watch *w, const struct alias_watched *a, struct err *e)
{
    char key[KEY_MAX];
    snprintf(key, sizeof key, "%s %s %s", a->tenant_id, a->model_id, a->name);
    struct trial *t = table_find(&w->trials, key);
    if (!t) {
        t = mem_try_alloc(1, sizeof *t);
        if (t) memcpy(t->key, key, sizeof key);
        if (!t || table_put(&w->trials, t->key, t) != 0) {
            mem_free(t);
            err_set(e, ERR_NOMEM, NULL, "no memory to watch the alias %s", a->name);
            return NULL;
        }
    }
    if (t->etag != a->etag) begin(t, a);
    t->round = w->round;
    return t;
}

/* What this turn did not find is over. */
static void forget_ended(struct rollout_watch *w)
{
    struct trial *over;
    do { /* a walk must not remove */
        size_t cursor = 0;
        while ((over = table_next(&w->trials, &cursor)) != NULL && over->round == w->round) continue;
        if (over) {
            table_remove(&w->trials, over->key);
            trial_free(over);
        }
    } while (over);
}

/* ---- counts ---- */

static struct seen *seen_of(struct trial *t, const char *writer)
{
    struct seen *s = table_find(&t->seen, writer);
    if (s) return s;
    s = mem_try_alloc(1, sizeof *s);
    if (s) snprintf(s->writer, sizeof s->writer, "%s", writer);
    if (s && table_put(&t->seen, s->writer, s) == 0) return s;
    mem_free(s);
    return NULL;
}

struct reading {
    struct trial *trial;
    bool old;
    struct rollout_sums more;
};

/* Of those that are gone, what is new was seen while they were there. */
static int add_writer(void *arg, const char *writer, const struct rollout_counts *counts, struct err *e)
{
    struct reading *g = arg;
    rollout_add(&g->trial->whole, counts);
    if (!writer) return 0;
    struct rollout_sums sums = rollout_sums_of(counts);
    struct seen *s = seen_of(g->trial, writer);
    if (!s) return err_set(e, ERR_NOMEM, NULL, "no memory to watch %s", g->trial->key);
    if (!g->old) rollout_sums_grow(&g->more, &s->sums, &sums);
    s->sums = sums;
    return 0;
}

/* At the first reading of an alias that has stood for longer than its window, nobody can tell how much of its
 * counts is new: none is taken to be. */
static int add_counts(struct trial *t, const struct alias_watched *a, struct redis *redis, int64_t now_ms,
                      struct err *e)
{
    struct rollout_id id = {.etag = a->etag};
    struct reading g = {.trial = t, .old = !t->read && a->age_ms > a->limits.window_s * 1000};
    memcpy(id.tenant_id, a->tenant_id, sizeof id.tenant_id);
    memcpy(id.model, a->model, sizeof id.model);
    memcpy(id.alias, a->name, sizeof id.alias);
    memset(&t->whole, 0, sizeof t->whole);
    int rc = rollout_read(redis, &id, add_writer, &g, e);
    t->read = t->read || rc == 0;
    rollout_window_add(&t->window, now_ms, &g.more);
    return rc;
}

/* ---- the end ---- */

static void write_arm(struct json_writer *w, enum rollout_arm arm, const struct rollout_sums *s,
                      const struct rollout_arm_counts *whole)
{
    jw_name(w, rollout_arm_name(arm));
    jw_obj(w);
    jw_kint(w, "requests", s->arm[arm].requests);
    jw_kint(w, "errors", s->arm[arm].errors);
    jw_kint(w, "slow", s->arm[arm].slow);
    jw_knum(w, "latency_p50_ms", (double)rollout_quantile_us(whole, 0.5) / 1000);
    jw_knum(w, "latency_p99_ms", (double)rollout_quantile_us(whole, 0.99) / 1000);
    jw_obj_end(w);
}

/* Counts of the window; percentiles and the largest difference since the alias's last change. */
static void write_numbers(struct buf *out, const struct alias_watched *a, const struct trial *t,
                          const struct rollout_sums *s)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    jw_kint(&w, "window_seconds", a->limits.window_s);
    for (size_t i = 0; i < ROLLOUT_ARMS; i++)
        if (t->whole.arm[i].requests > 0) write_arm(&w, (enum rollout_arm)i, s, &t->whole.arm[i]);
    if (a->shadow) {
        jw_kint(&w, "compared", s->compared);
        jw_kint(&w, "disagreements", s->disagreements);
        jw_knum(&w, "largest_difference", t->whole.largest_difference);
    }
    jw_obj_end(&w);
}

static void write_message(char out[ALIAS_MESSAGE_MAX], const struct alias_watched *a,
                          const struct rollout_verdict *v, const struct rollout_sums *s)
{
    int64_t calls = v->reason == ROLLOUT_DISAGREEMENT ? s->compared : s->arm[v->arm].requests;
    if (v->reason == ROLLOUT_LATENCY)
        snprintf(out, ALIAS_MESSAGE_MAX,
                 "%.4g %% of %lld calls took longer than %.6g ms, where 1 %% may (%lld s window)",
                 v->value * 100, (long long)calls, (double)a->limits.latency_us / 1000,
                 (long long)a->limits.window_s);
    else
        snprintf(out, ALIAS_MESSAGE_MAX, "%.4g %% of %lld %s, where %.4g %% may (%lld s window)",
                 v->value * 100, (long long)calls,
                 v->reason == ROLLOUT_DISAGREEMENT ? "compared answers differed from the primary's"
                                                   : "calls failed",
                 v->limit * 100, (long long)a->limits.window_s);
}

struct ending {
    struct alias_end end;
    bool done;
};

static int end_tx(struct db *db, void *arg, struct err *e)
{
    static const struct actor scheduler = {.type = "scheduler", .id = "rollout"};
    struct ending *x = arg;
    return alias_end(db, &x->end, &scheduler, &x->done, e);
}

/* Gateways that miss the word forget what they cached within seconds. */
static void tell(const struct alias_watched *a, struct redis *redis)
{
    struct changed what = {.kind = CHANGED_MODEL};
    struct err e = {0};
    memcpy(what.tenant_id, a->tenant_id, sizeof what.tenant_id);
    memcpy(what.model, a->model, sizeof what.model);
    if (changed_publish(redis, &what, &e) != 0) log_warn("change_not_told", "message=\"%s\"", e.message);
}

static int end_trial(const struct trial *t, const struct alias_watched *a, const struct rollout_verdict *v,
                     const struct rollout_sums *s, struct db *db, struct redis *redis, struct err *e)
{
    char message[ALIAS_MESSAGE_MAX];
    struct buf numbers = {0};
    write_message(message, a, v, s);
    write_numbers(&numbers, a, t, s);
    if (numbers.failed) {
        buf_dispose(&numbers);
        return err_set(e, ERR_NOMEM, NULL, "no memory to tell why the alias %s goes back", a->name);
    }
    struct ending x = {.end = {.alias = a,
                               .arm = rollout_arm_name(v->arm),
                               .reason = rollout_reason_name(v->reason),
                               .message = message,
                               .numbers = numbers.data}};
    int rc = db_run(db, NULL, end_tx, &x, e);
    if (rc == 0 && x.done) {
        log_info("alias_rolled_back", "tenant=%s model=%s alias=%s arm=%s reason=%s message=\"%s\"",
                 a->tenant_id, a->model, a->name, x.end.arm, x.end.reason, message);
        tell(a, redis);
    }
    buf_dispose(&numbers);
    return rc;
}

/* ---- one turn ---- */

static int watch(struct rollout_watch *w, const struct alias_watched *a, struct db *db, struct redis *redis,
                 struct err *e)
{
    int64_t now_ms = clock_mono_ms();
    struct trial *t = trial_of(w, a, e);
    if (!t) return ERR_NOMEM;
    int rc = add_counts(t, a, redis, now_ms, e);
    if (rc) return rc;
    const bool on_trial[ROLLOUT_ARMS] = {[ROLLOUT_PRIMARY] = a->previous > 0,
                                         [ROLLOUT_CANARY] = a->canary > 0,
                                         [ROLLOUT_SHADOW] = a->shadow > 0};
    struct rollout_sums sums = rollout_window_sum(&t->window, now_ms);
    struct rollout_verdict v = rollout_judge(&a->limits, on_trial, &sums);
    return v.reason == ROLLOUT_FINE ? 0 : end_trial(t, a, &v, &sums, db, redis, e);
}

struct question {
    struct arena arena;
    struct alias_watched *items;
    int n;
};

static int ask_tx(struct db *db, void *arg, struct err *e)
{
    struct question *q = arg;
    arena_reset(&q->arena);
    return alias_watched(db, &q->arena, &q->items, &q->n, e);
}

/* One alias's trouble keeps nobody from the others; a server that is away does. */
int rollout_work(void *arg, struct db *db, struct redis *redis, struct err *e)
{
    struct rollout_watch *w = arg;
    struct question q = {0};
    arena_init(&q.arena, ARENA_MAX);
    int rc = db_run(db, NULL, ask_tx, &q, e);
    if (rc == 0) w->round++;
    bool asked = rc == 0;
    for (int i = 0; asked && i < q.n && rc != ERR_UNAVAILABLE; i++) {
        struct err own = {0};
        int one = watch(w, &q.items[i], db, redis, &own);
        if (one != 0 && (rc == 0 || one == ERR_UNAVAILABLE)) {
            rc = one;
            *e = own;
        }
    }
    if (asked && rc != ERR_UNAVAILABLE) forget_ended(w);
    arena_dispose(&q.arena);
    return rc;
}
