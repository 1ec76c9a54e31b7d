/* bf16 products under a sliding window. An input whose windows overlap is rounded once and then read by the
 * tiles where it lies, the places between the lines computed too and dropped; other rows are gathered into
 * strips. */
#include "tensor/kernel.h"

#ifdef __x86_64__
#include <assert.h>
#include <string.h>
#include "tensor/kernel/amx_tile.h"

enum { SPAN_LEN = 64 * 1024 }; /* values of an input that are rounded at a time */

/* Whether all of the tail is done once the sums hold the bias, but for an activation. */
static bool begins_with_bias(const struct gemm_lines *g)
{
    return !g->tail.gate && !(g->resume && g->tail.bias);
}

/* What of the tail is done row by row, once a strip's sums are there. */
static void finish_row(const struct gemm_lines *g, int64_t l, int64_t i, float *c)
{
    amx__finish_rows(&g->tail, g->resume, l * g->m + i, 1, c, g->n, g->ldc);
}

/* ---- where the input lies ---- */

/* How many places of the window a line takes, with those between it and the next; 0 when they don't line up.
 */
static int64_t places(const struct gemm_lines *g)
{
    if (g->row_step < 1 || g->a_line % g->row_step != 0 || g->a_line < g->m * g->row_step) return 0;
    return g->a_line / g->row_step;
}

static int64_t span_of(const struct gemm_lines *g)
{
    return (g->lines - 1) * g->a_line + (g->m - 1) * g->row_step + (g->strips - 1) * g->strip_step + g->len;
}

static bool lies_well(const struct gemm_lines *g)
{
    int64_t span = span_of(g);
    return g->len % STEP == 0 && g->strip_step >= 0 && places(g) > 0 &&
           span + STRIP * g->row_step <= SPAN_LEN && g->lines * g->m * g->strips * g->len >= 2 * span;
}

TILED static void round_span(const float *x, int64_t n, uint16_t *out)
{
    for (int64_t i = 0; i < n; i += STEP) _mm512_storeu_si512(out + i, load_line(x + i, n - i));
}

static void multiply_in_place(const struct gemm_lines *g, struct amx_block p)
{
    _Alignas(64) uint16_t x[SPAN_LEN + STEP];
    int64_t width = places(g), all = (g->lines - 1) * width + g->m;
    float *row[STRIP];
    p.relu = g->tail.act == ACT_RELU && begins_with_bias(g);
    bool finish = !p.relu && (g->tail.act != ACT_LINEAR || !begins_with_bias(g));
    round_span(g->a, span_of(g), x);
    p.strips = g->strips;
    p.steps = g->len / STEP;
    p.a_row = g->row_step;
    p.a_below = TILE * g->row_step;
    p.a_step = STEP;
    p.a_strip = g->strip_step;
    for (int64_t at = 0; at < all; at += STRIP) {
        int64_t rows = least(all - at, STRIP);
        for (int64_t r = 0; r < rows; r++) {
            int64_t l = (at + r) / width, i = (at + r) % width;
            row[r] = i < g->m ? g->c + l * g->c_line + i * g->ldc : NULL;
        }
        p.a = x + at * g->row_step;
        amx__multiply_scattered(&p, row, rows);
        for (int64_t r = 0; finish && r < rows; r++)
            if (row[r]) finish_row(g, (at + r) / width, (at + r) % width, row[r]);
    }
}

/* ---- rows gathered ---- */

/* Values k0 … k0 + k of a row of A, in strips, one tile's line a step. */
TILED static void gather_row(const struct gemm_lines *g, const float *a, int64_t k0, int64_t k, uint16_t *out)
{
    float values[K_BLOCK];
    const float *from = a + k0;
    for (int64_t p = 0, n; g->strips > 1 && p < k; p += n) {
        int64_t s = (k0 + p) / g->len, at = (k0 + p) % g->len;
        n = least(g->len - at, k - p);
        memcpy(values + p, a + s * g->strip_step + at, (size_t)n * sizeof *values);
        from = values;
    }
    for (int64_t p = 0; p < k; p += STEP, out += TILE_LEN)
        _mm512_storeu_si512(out, load_line(from + p, k - p));
}

static void multiply_gathered(const struct gemm_lines *g, int64_t k0, int64_t k, struct amx_block p)
{
    _Alignas(64) uint16_t strip[STRIP * K_BLOCK];
    int64_t all = g->lines * g->m;
    bool finish = k0 + k == g->strips * g->len && (g->tail.act != ACT_LINEAR || !begins_with_bias(g));
    float *row[STRIP];
    amx_block_packed(&p, strip, k);
    for (int64_t at = 0; at < all; at += STRIP) {
        int64_t rows = least(all - at, STRIP);
        for (int64_t r = 0; r < rows; r++) {
            int64_t l = (at + r) / g->m, i = (at + r) % g->m;
            row[r] = g->c + l * g->c_line + i * g->ldc;
            gather_row(g, g->a + l * g->a_line + i * g->row_step, k0, k,
                       strip + r / TILE * p.a_below + r % TILE * STEP);
        }
        p.c = row[0];
        if (row[rows - 1] == row[0] + (rows - 1) * g->ldc)
            amx__multiply_strip(&p, rows);
        else
            amx__multiply_scattered(&p, row, rows);
        for (int64_t r = 0; finish && r < rows; r++) finish_row(g, (at + r) / g->m, (at + r) % g->m, row[r]);
    }
}

static void multiply_packed(const struct gemm_lines *g)
{
    int64_t depth = g->strips * g->len, block = amx__block_depth(depth);
    struct amx_block p = {.n = g->n,
                          .b = (const uint16_t *)g->packed + g->packed_from * PANEL,
                          .panel_len = steps_of(g->packed_k) * 2 * TILE_LEN,
                          .ldc = g->ldc,
                          .resume = g->resume,
                          .bias = g->tail.bias};
    if (lies_well(g)) {
        multiply_in_place(g, p);
        return;
    }
    for (int64_t k0 = 0; k0 < depth; k0 += block) {
        multiply_gathered(g, k0, least(depth - k0, block), p);
        p.resume = true;
        p.b += block * PANEL;
    }
}

/* ---- A's transpose, one row of it a place of the window ---- */

/* One tile of A from column i of the rows at `place`. */
INNER void gather_columns(const float *const *place, int64_t i, int64_t rows, int64_t k, uint16_t *out)
{
    __m512i r[TILE];
#pragma GCC unroll 16
    for (int q = 0; q < TILE; q++) {
        const float *p = 2 * q < k ? place[2 * q] + i : NULL;
        r[q] = load_pairs(p, 2 * q + 1 < k ? place[2 * q + 1] + i - p : 0, k - 2 * q, first(rows));
    }
    transpose(r);
#pragma GCC unroll 16
    for (int q = 0; q < TILE; q++) _mm512_storeu_si512(out + q * STEP, r[q]);
}

TILED static void multiply_places(const struct gemm_lines *g, const float *const *place, int64_t k,
                                  struct amx_block p)
{
    _Alignas(64) uint16_t strip[STRIP * K_BLOCK];
    float *c = p.c;
    amx_block_packed(&p, strip, k);
    for (int64_t i = 0; i < g->m; i += STRIP) {
        int64_t rows = least(g->m - i, STRIP);
        for (int64_t q = 0; q < k; q += STEP)
            for (int64_t t = 0; t < rows; t += TILE)
                gather_columns(place + q, i + t, rows - t, k - q,
                               strip + t / TILE * p.a_below + q / STEP * TILE_LEN);
        p.c = c + i * g->ldc;
        amx__multiply_strip(&p, rows);
    }
}

/* B lies in rows, one a place; no tail. */
static void multiply_rows(const struct gemm_lines *g)
{
    _Alignas(64) uint16_t packed[B_LEN];
    const float *place[K_BLOCK];
    int64_t depth = g->strips * g->len, block = amx__block_depth(depth), width = B_LEN / K_BLOCK;
    for (int64_t k0 = 0; k0 < depth; k0 += block) {
        int64_t k = least(depth - k0, block);
        for (int64_t q = 0; q < k; q++)
            place[q] = g->a + (k0 + q) / g->len * g->strip_step + (k0 + q) % g->len * g->k_step;
        for (int64_t j = 0; j < g->n; j += width) {
            struct amx_block p = {.n = least(g->n - j, width),
                                  .b = packed,
                                  .panel_len = steps_of(k) * 2 * TILE_LEN,
                                  .c = g->c + j,
                                  .ldc = g->ldc,
                                  .resume = g->resume || k0 > 0};
            amx__pack_panels(g->b + k0 * g->ldb + j, g->ldb, k, p.n, packed);
            multiply_places(g, place, k, p);
        }
    }
}

/* The f32 kernels' panels are theirs to read; so is what tiles do not suit. */
void amx__gemm_lines(const struct gemm_lines *g)
{
    bool no_tail = !g->tail.bias && !g->tail.gate && g->tail.act == ACT_LINEAR;
    bool rows = !g->packed && g->lines == 1 && g->row_step == 1 && no_tail && !g->group_step;
    if (!amx__pays(g->packed ? g->packed_k : g->strips * g->len, g->n) || (!g->packed && !rows)) {
        kernels__avx512.gemm_lines(g);
        return;
    }
    /* Whole steps of a packed B, and rows of A whose values lie side by side, are all that its readers ask
     * for. */
    assert(!g->packed || (g->packed_from % STEP == 0 && g->k_step == 1 && g->group_step == 0));
    amx__configure();
    if (g->packed)
        multiply_packed(g);
    else
        multiply_rows(g);
}
#endif
