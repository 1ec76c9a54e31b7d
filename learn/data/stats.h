/* Running statistics of a stream of numbers: Welford's update (Technometrics 4, 1962), one value at a time,
 * so that the result does not depend on the pieces that the stream comes in. */
#ifndef LEARN_DATA_STATS_H
#define LEARN_DATA_STATS_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

struct stats {
    int64_t n;
    double min, max, mean, m2; /* m2: sum of squared differences from the mean */
};

static inline void stats_add(struct stats *s, double v)
{
    s->n++;
    if (s->n == 1 || v < s->min) s->min = v;
    if (s->n == 1 || v > s->max) s->max = v;
    double d = v - s->mean;
    s->mean += d / (double)s->n;
    s->m2 += d * (v - s->mean);
}

/* The same value count times (histograms of bytes). */
void stats_add_many(struct stats *s, double v, int64_t count);

double stats_std(const struct stats *s); /* population; 0 for fewer than two values */

/* Which different integers a stream holds, while they are few. */
struct classes {
    size_t n;
    bool lost;      /* a non-integer, one beyond 2^53, or too many came: n is 0 from then on */
    bool starved;   /* lost because memory was out */
    size_t last;    /* where the last one was found */
    int64_t *value; /* owned, ascending */
    size_t cap;
};

void classes_add(struct classes *c, double v);
void classes_lose(struct classes *c);

#endif
