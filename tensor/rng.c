/* Philox4x32-10 and what is drawn from it. */
#include "tensor/rng.h"

#include <math.h>

enum { ROUNDS = 10 };

void rng_block(const struct rng_key *k, uint64_t block, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = k->step, c3 = k->stream;
    uint32_t k0 = (uint32_t)k->seed, k1 = (uint32_t)(k->seed >> 32);
    for (int r = 0; r < ROUNDS; r++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint32_t rng_u32(const struct rng_key *k, uint64_t element)
{
    uint32_t block[4];
    rng_block(k, element / 4, block);
    return block[element % 4];
}

float rng_uniform(const struct rng_key *k, uint64_t element)
{
    return (float)(rng_u32(k, element) >> 8) * 0x1p-24f;
}

float rng_normal(const struct rng_key *k, uint64_t element)
{
    uint32_t block[4];
    rng_block(k, element / 2, block);
    uint32_t a = block[element % 2 * 2], b = block[element % 2 * 2 + 1];
    double u = ((double)a + 1.0) * 0x1p-32, v = (double)b * 0x1p-32; /* u in (0, 1] */
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

uint32_t rng_below(const struct rng_key *k, uint64_t element, uint32_t n)
{
    return (uint32_t)(((uint64_t)rng_u32(k, element) * n) >> 32);
}

void rng_shuffle(const struct rng_key *k, uint32_t *index, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = rng_below(k, i - 1, (uint32_t)i);
        uint32_t t = index[i - 1];
        index[i - 1] = index[j];
        index[j] = t;
    }
}
