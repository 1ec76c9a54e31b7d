/* Products of operands rounded to bf16. */
#include "tensor/kernel.h"

#ifdef __x86_64__
#include <assert.h>
#include <string.h>
#include "tensor/kernel/amx_tile.h"

enum { TERMS = 1, MATE = 1, LEAST_K = TILE, LEAST_N = TILE };

/* Pairs of a value of `low` and its mate in `high`. */
INNER void take_pairs(__m512 low, __m512 high, __m512i out[TERMS])
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                           7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    out[0] = _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

/* 32 values of a line, as its pairs lie in a tile. */
INNER void take_line(__m512 low, __m512 high, __m512i out[TERMS])
{
    out[0] = (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

#include "tensor/kernel/tiles.inc"
#include "tensor/kernel/tile_lines.inc"

const struct amx_products amx__bf16 = {packed_len, pack, gemm_packed, gemm, gemm_lines};
#endif
