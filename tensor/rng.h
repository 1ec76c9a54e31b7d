/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * 2011). A number depends on its key alone, never on what was drawn before: any thread, any order, any place
 * to resume. */
#ifndef TENSOR_RNG_H
#define TENSOR_RNG_H

#include <stddef.h>
#include <stdint.h>

/* Streams below RNG_STREAM_INIT are the library user's (shuffling, splits); initial weights draw from
 * RNG_STREAM_INIT + parameter, graph nodes from RNG_STREAM_NODE + node. */
#define RNG_STREAM_INIT 0x40000000u
#define RNG_STREAM_NODE 0x80000000u

/* What a draw is for. seed is the run's; step, stream and element say which number. */
struct rng_key {
    uint64_t seed;
    uint32_t step;
    uint32_t stream;
};

/* Four 32-bit numbers: those of elements 4·block … 4·block+3. */
void rng_block(const struct rng_key *k, uint64_t block, uint32_t out[4]);

uint32_t rng_u32(const struct rng_key *k, uint64_t element);
float rng_uniform(const struct rng_key *k, uint64_t element); /* [0, 1), 24 bits */
float rng_normal(const struct rng_key *k, uint64_t element);  /* mean 0, deviation 1 (Box–Muller) */
uint32_t rng_below(const struct rng_key *k, uint64_t element,
                   uint32_t n); /* [0, n), n > 0; bias below 2⁻³² */

/* Shuffles index[0..n) in place (Fisher–Yates), the same for the same key. n < 2³². */
void rng_shuffle(const struct rng_key *k, uint32_t *index, size_t n);

#endif
