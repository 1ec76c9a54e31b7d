/* Hashes a seed and a place to a number. */
#include "learn/spec/tune_draw.h"

#include <stdbool.h>

/* The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
 */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

double tune_draw_unit(uint64_t seed, uint64_t trial, uint64_t parameter)
{
    return (double)(mix(mix(mix(seed) ^ trial) ^ parameter) >> 11) * 0x1p-53;
}

static bool drawn_before(int64_t value, const int64_t *list, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (list[i] == value) return true;
    return false;
}

/* A collision goes on to the next free number: it always ends, and n is small. */
void tune_draw_different(uint64_t seed, int64_t all, int64_t n, int64_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t value = (int64_t)(tune_draw_unit(seed, (uint64_t)i + 1, UINT64_MAX) * (double)all);
        if (value >= all) value = all - 1;
        while (drawn_before(value, out, i)) value = value + 1 == all ? 0 : value + 1;
        out[i] = value;
    }
}
