/* Draws for a search: numbers that depend on the seed and the place alone. Inside learn/spec. */
#ifndef LEARN_SPEC_TUNE_DRAW_H
#define LEARN_SPEC_TUNE_DRAW_H

#include <stdint.h>

/* [0, 1), 53 bits. */
double tune_draw_unit(uint64_t seed, uint64_t trial, uint64_t parameter);

/* n ≤ all different numbers from 0 … all − 1, in the order drawn. */
void tune_draw_different(uint64_t seed, int64_t all, int64_t n, int64_t *out);

#endif
