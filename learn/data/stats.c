/* Welford's mean and variance, and the set of few integers. */
#include "learn/data/stats.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "learn/data/schema.h"

void stats_add_many(struct stats *s, double v, int64_t count)
{
    if (count == 0) return;
    double n = (double)s->n, k = (double)count, d = v - s->mean;
    if (s->n == 0 || v < s->min) s->min = v;
    if (s->n == 0 || v > s->max) s->max = v;
    s->n += count;
    s->mean += d * k / (n + k);
    s->m2 += d * d * n * k / (n + k);
}

double stats_std(const struct stats *s)
{
    return s->n < 2 || s->m2 < 0 ? 0 : sqrt(s->m2 / (double)s->n);
}

void classes_lose(struct classes *c)
{
    mem_free(c->value);
    *c = (struct classes){.lost = true, .starved = c->starved};
}

static bool room(struct classes *c)
{
    if (c->n < c->cap) return true;
    if (c->n == SCHEMA_MAX_CLASSES) return false;
    size_t cap = c->cap ? c->cap * 2 : 16;
    int64_t *more = mem_try_realloc(c->value, cap, sizeof *more);
    if (!more) {
        c->starved = true;
        return false;
    }
    c->value = more;
    c->cap = cap;
    return true;
}

void classes_add(struct classes *c, double v)
{
    if (c->lost) return;
    if (c->n && (double)c->value[c->last] == v) return;
    if (v != floor(v) || fabs(v) > 9007199254740992.0) {
        classes_lose(c);
        return;
    }
    int64_t key = (int64_t)v;
    size_t lo = 0, hi = c->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c->value[mid] < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == c->n || c->value[lo] != key) {
        if (!room(c)) {
            classes_lose(c);
            return;
        }
        memmove(c->value + lo + 1, c->value + lo, (c->n - lo) * sizeof *c->value);
        c->value[lo] = key;
        c->n++;
    }
    c->last = lo;
}
