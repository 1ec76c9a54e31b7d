/* Reads the totals of every incarnation, bills those that grew, and clears up after the dead. */
#include "scheduler/meter.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/usage.h"
#include "scheduler/meter_bill.h"
#include "scheduler/table.h"

/* DEAD_AFTER: without a sign of life, and without a change of its totals, for so long. BATCH: rows in one
 * transaction. */
enum { DEAD_AFTER_MS = 60000, BATCH = 64, KEY_MAX = 3 * ID_MAX };

struct billed {
    char key[KEY_MAX]; /* "<inc> <tenant> <version>" */
    char inc[ID_MAX];
    int64_t requests, rows, compute_us;
};

struct silent {
    char inc[ID_MAX];
    int64_t since_ms;
};

struct meter {
    struct table billed; /* struct billed, owned */
    struct table silent; /* struct silent, owned: incarnations without a sign of life */
};

static void free_values(struct table *t)
{
    size_t cursor = 0;
    void *value;
    while ((value = table_next(t, &cursor)) != NULL) mem_free(value);
    table_dispose(t);
}

struct meter *meter_create(void)
{
    return mem_alloc(1, sizeof(struct meter));
}

void meter_free(struct meter *m)
{
    if (!m) return;
    free_values(&m->billed);
    free_values(&m->silent);
    mem_free(m);
}

static void key_of(char out[KEY_MAX], const char *inc, const struct usage_total *r)
{
    snprintf(out, KEY_MAX, "%s %s %s", inc, r->tenant_id, r->version_id);
}

static bool unchanged(const struct meter *m, const char *inc, const struct usage_total *r)
{
    char key[KEY_MAX];
    key_of(key, inc, r);
    const struct billed *b = table_find(&m->billed, key);
    return b && b->requests == r->requests && b->rows == r->rows && b->compute_us == r->compute_us;
}

/* Without memory for it, it will be billed again: a difference of nothing. */
static void remember(struct meter *m, const char *inc, const struct usage_total *r)
{
    char key[KEY_MAX];
    key_of(key, inc, r);
    struct billed *b = table_find(&m->billed, key);
    if (!b) {
        b = mem_try_alloc(1, sizeof *b);
        if (!b) return;
        memcpy(b->key, key, sizeof b->key);
        snprintf(b->inc, sizeof b->inc, "%s", inc);
        if (table_put(&m->billed, b->key, b) != 0) {
            mem_free(b);
            return;
        }
    }
    b->requests = r->requests;
    b->rows = r->rows;
    b->compute_us = r->compute_us;
}

static void forget(struct meter *m, const char *inc)
{
    bool found = true;
    while (found) { /* a walk must not remove */
        found = false;
        size_t cursor = 0;
        struct billed *b;
        while (!found && (b = table_next(&m->billed, &cursor)) != NULL) {
            found = strcmp(b->inc, inc) == 0;
            if (!found) continue;
            table_remove(&m->billed, b->key);
            mem_free(b);
        }
    }
    struct silent *q = table_find(&m->silent, inc);
    if (q) {
        table_remove(&m->silent, inc);
        mem_free(q);
    }
}

static struct meter_row row_of(const struct usage_total *r)
{
    struct meter_row out = {.requests = r->requests, .rows = r->rows, .compute_us = r->compute_us};
    memcpy(out.tenant_id, r->tenant_id, sizeof out.tenant_id);
    memcpy(out.version_id, r->version_id, sizeof out.version_id);
    return out;
}

/* What no later try can bill: it belongs to nobody, or its numbers are beyond what a bill can hold. */
static bool is_unbillable(int rc)
{
    return rc == ERR_NOT_FOUND || rc == ERR_INVALID || rc == ERR_CONFLICT;
}

/* A batch that failed for one row is billed row by row, so that this row keeps nobody else's from being
 * billed; it is told of once and left alone until it changes. */
static int bill_batch(struct meter *m, struct db *db, const char *inc, const struct usage_total *const *rows,
                      size_t n, struct err *e)
{
    struct meter_row batch[BATCH] = {0};
    for (size_t i = 0; i < n; i++) batch[i] = row_of(rows[i]);
    int rc = meter_bill(db, inc, batch, n, e);
    if (is_unbillable(rc) && n > 1) {
        rc = 0;
        for (size_t i = 0; i < n && rc == 0; i++) rc = bill_batch(m, db, inc, rows + i, 1, e);
        return rc;
    }
    if (is_unbillable(rc)) {
        log_error("usage_unbillable", "gateway=%s tenant=%s version=%s rows=%lld error=%s message=\"%s\"",
                  inc, rows[0]->tenant_id, rows[0]->version_id, (long long)rows[0]->rows, err_name(rc),
                  e->message);
        rc = 0;
    }
    for (size_t i = 0; i < n && rc == 0; i++) remember(m, inc, rows[i]);
    return rc;
}

static int bill_incarnation(struct meter *m, struct db *db, struct redis *redis, const char *inc,
                            bool *changed, struct err *e)
{
    struct usage_total *rows = NULL;
    size_t n = 0, len = 0;
    int rc = usage_read(redis, inc, &rows, &n, e);
    if (rc != 0) return rc;
    const struct usage_total *batch[BATCH];
    *changed = false;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (!unchanged(m, inc, &rows[i])) batch[len++] = &rows[i];
        if (len == BATCH || (i + 1 == n && len > 0)) {
            rc = bill_batch(m, db, inc, batch, len, e);
            len = 0;
            *changed = true;
        }
    }
    mem_free(rows);
    return rc;
}

/* Its totals are billed and did not change in this turn: they go when it has been silent for long. A
 * gateway that was only cut off writes all of them again when it is back. */
static int bury(struct meter *m, struct redis *redis, const char *inc, struct err *e)
{
    struct silent *q = table_find(&m->silent, inc);
    int64_t now_ms = clock_mono_ms();
    if (q && now_ms - q->since_ms >= DEAD_AFTER_MS) {
        int rc = usage_forget(redis, inc, e);
        if (rc == 0) {
            log_info("usage_cleared", "gateway=%s", inc);
            forget(m, inc);
        }
        return rc;
    }
    if (q) return 0;
    q = mem_try_alloc(1, sizeof *q);
    if (!q) return err_set(e, ERR_NOMEM, NULL, "no memory for the meter's books");
    snprintf(q->inc, sizeof q->inc, "%s", inc);
    q->since_ms = now_ms;
    if (table_put(&m->silent, q->inc, q) != 0) {
        mem_free(q);
        return err_set(e, ERR_NOMEM, NULL, "no memory for the meter's books");
    }
    return 0;
}

static void heard(struct meter *m, const char *inc)
{
    struct silent *q = table_find(&m->silent, inc);
    if (!q) return;
    table_remove(&m->silent, inc);
    mem_free(q);
}

static int serve(struct meter *m, struct db *db, struct redis *redis, const char *inc, struct err *e)
{
    bool changed, lives;
    int rc = usage_counting(redis, inc, &lives, e);
    if (rc == 0) rc = bill_incarnation(m, db, redis, inc, &changed, e);
    if (rc != 0) return rc;
    if (!changed && !lives) return bury(m, redis, inc, e);
    heard(m, inc);
    return 0;
}

/* One gateway's malformed totals are no reason not to bill the others'; a server that is away is. */
int meter_work(void *arg, struct db *db, struct redis *redis, struct err *e)
{
    struct meter *m = arg;
    char(*incs)[ID_MAX] = NULL;
    size_t n = 0;
    int rc = usage_incarnations(redis, &incs, &n, e);
    for (size_t i = 0; i < n && rc != ERR_UNAVAILABLE; i++) {
        struct err own = {0};
        int one = serve(m, db, redis, incs[i], &own);
        if (one != 0 && (rc == 0 || one == ERR_UNAVAILABLE)) {
            rc = one;
            *e = own;
        }
    }
    mem_free(incs);
    return rc;
}
