/* bf16 products: tiles of A and of B are packed from f32, four tiles of C stand in the registers at a time.
 */
#include "tensor/kernel/amx.h"

#include <pthread.h>
#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "tensor/kernel/amx_tile.h"

TILED void amx__pack_panels(const float *b, int64_t ldb, int64_t k, int64_t n, uint16_t *out)
{
    int64_t steps = steps_of(k), panel_len = steps * 2 * TILE_LEN;
    for (int64_t p = 0; p < steps * STEP; p += 2) {
        uint16_t *to = out + p / STEP * 2 * TILE_LEN + p % STEP * TILE;
        const float *from = b + p * ldb;
        int64_t left = n;
        for (; p + 1 < k && left >= PANEL; left -= PANEL, to += panel_len, from += PANEL) {
            _mm512_storeu_si512(to, load_pairs(from, ldb, 2, 0xffff));
            _mm512_storeu_si512(to + TILE_LEN, load_pairs(from + TILE, ldb, 2, 0xffff));
        }
        for (; left > 0; left -= PANEL, to += panel_len, from += PANEL) {
            _mm512_storeu_si512(to, load_pairs(from, ldb, k - p, first(left)));
            if (left > TILE)
                _mm512_storeu_si512(to + TILE_LEN, load_pairs(from + TILE, ldb, k - p, first(left - TILE)));
        }
    }
}

/* One tile of B from up to 16 rows of its transpose. */
INNER void pack_rows_trans(const float *b, int64_t ldb, int64_t k, int64_t n, uint16_t *out)
{
    __m512i r[TILE];
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) r[i] = i < n ? load_line(b + i * ldb, k) : _mm512_setzero_si512();
    transpose(r);
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) _mm512_storeu_si512(out + i * STEP, r[i]);
}

/* The same panels from B's transpose [n,k]. */
TILED static void pack_panels_trans(const float *b, int64_t ldb, int64_t k, int64_t n, uint16_t *out)
{
    int64_t steps = steps_of(k);
    for (int64_t j = 0; j < n; j += TILE) {
        uint16_t *to = out + (j / PANEL * steps * 2 + j / TILE % 2) * TILE_LEN;
        for (int64_t p = 0; p < k; p += STEP, to += 2 * TILE_LEN)
            if (n - j >= TILE && k - p >= STEP)
                pack_rows_trans(b + j * ldb + p, ldb, STEP, TILE, to);
            else
                pack_rows_trans(b + j * ldb + p, ldb, k - p, n - j, to);
    }
}

/* A strip of A, up to STRIP rows of [k], as [tile of rows][step]. */
TILED static void pack_strip(const float *a, int64_t lda, int64_t rows, int64_t k, uint16_t *out)
{
    int64_t steps = steps_of(k);
    for (int64_t i = 0; i < rows; i++) {
        uint16_t *to = out + i / TILE * steps * TILE_LEN + i % TILE * STEP;
        const float *from = a + i * lda;
        int64_t left = k;
        for (; left >= STEP; left -= STEP, to += TILE_LEN, from += STEP)
            _mm512_storeu_si512(to, load_line(from, STEP));
        if (left > 0) _mm512_storeu_si512(to, load_line(from, left));
    }
}

/* One tile of A from up to 32 rows of its transpose. */
INNER void pack_columns(const float *a, int64_t lda, int64_t rows, int64_t k, uint16_t *out)
{
    __m512i r[TILE];
#pragma GCC unroll 16
    for (int q = 0; q < TILE; q++) r[q] = load_pairs(a + 2 * q * lda, lda, k - 2 * q, first(rows));
    transpose(r);
#pragma GCC unroll 16
    for (int q = 0; q < TILE; q++) _mm512_storeu_si512(out + q * STEP, r[q]);
}

/* The same strip from A's transpose [k,m]. */
TILED static void pack_strip_trans(const float *a, int64_t lda, int64_t rows, int64_t k, uint16_t *out)
{
    int64_t steps = steps_of(k);
    for (int64_t p = 0; p < k; p += STEP)
        for (int64_t i = 0; i < rows; i += TILE) {
            uint16_t *to = out + (i / TILE * steps + p / STEP) * TILE_LEN;
            if (rows - i >= TILE && k - p >= STEP)
                pack_columns(a + p * lda + i, lda, TILE, STEP, to);
            else
                pack_columns(a + p * lda + i, lda, rows - i, k - p, to);
        }
}

/* ---- tiles ---- */

/* Tiles 0–3 are C's, row by row, 4 and 5 A's, 6 and 7 B's, all of full size. Loading the configuration takes
 * as long as a small product, so it stays from one call to the next; another library on this thread may have
 * taken it away. */
void amx__configure(void)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } wanted = {.palette = 1,
                .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                .rows = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE}};
    uint8_t now[64];
    __asm__ volatile("sttilecfg %0" : "=m"(now));
    if (memcmp(now, &wanted, sizeof now) != 0) __asm__ volatile("ldtilecfg %0" ::"m"(wanted) : "memory");
}

#define START(T, i, j)                                                                                       \
    do {                                                                                                     \
        if (p->resume)                                                                                       \
            TILE_LOAD(T, c + (i)*p->ldc + (j), p->ldc * 4);                                                  \
        else if (p->bias)                                                                                    \
            TILE_LOAD(T, p->bias + column + (j), 0);                                                         \
        else                                                                                                 \
            TILE_ZERO(T);                                                                                    \
    } while (0)
#define FINISH(T, i, j) TILE_STORE(T, c + (i)*p->ldc + (j), p->ldc * 4)

/* Rows and columns of tiles of C: two or one of each. */
#define DEFINE_TILES(ROWS, COLS)                                                                             \
    static void tiles_##ROWS##COLS(const struct amx_block *p, int64_t column)                                \
    {                                                                                                        \
        const uint16_t *b = p->b + column / PANEL * p->panel_len;                                            \
        float *c = p->c + column;                                                                            \
        START(0, 0, 0);                                                                                      \
        if ((COLS) == 2) START(1, 0, TILE);                                                                  \
        if ((ROWS) == 2) START(2, TILE, 0);                                                                  \
        if ((ROWS) == 2 && (COLS) == 2) START(3, TILE, TILE);                                                \
        for (int64_t t = 0; t < p->strips; t++) {                                                            \
            const uint16_t *a = p->a + t * p->a_strip;                                                       \
            for (int64_t s = p->steps; s > 0; s--, a += p->a_step, b += 2 * TILE_LEN) {                      \
                TILE_LOAD(6, b, STEP * 2);                                                                   \
                TILE_LOAD(4, a, p->a_row * 2);                                                               \
                TILE_DOT(0, 4, 6);                                                                           \
                if ((ROWS) == 2) TILE_LOAD(5, a + p->a_below, p->a_row * 2);                                 \
                if ((ROWS) == 2) TILE_DOT(2, 5, 6);                                                          \
                if ((COLS) == 2) TILE_LOAD(7, b + TILE_LEN, STEP * 2);                                       \
                if ((COLS) == 2) TILE_DOT(1, 4, 7);                                                          \
                if ((ROWS) == 2 && (COLS) == 2) TILE_DOT(3, 5, 7);                                           \
            }                                                                                                \
        }                                                                                                    \
        FINISH(0, 0, 0);                                                                                     \
        if ((COLS) == 2) FINISH(1, 0, TILE);                                                                 \
        if ((ROWS) == 2) FINISH(2, TILE, 0);                                                                 \
        if ((ROWS) == 2 && (COLS) == 2) FINISH(3, TILE, TILE);                                               \
    }

DEFINE_TILES(1, 1)
DEFINE_TILES(1, 2)
DEFINE_TILES(2, 1)
DEFINE_TILES(2, 2)
static void (*const tiles[2][2])(const struct amx_block *, int64_t) = {{tiles_11, tiles_12},
                                                                       {tiles_21, tiles_22}};

/* Up to PANEL floats; of what goes to C, negative ones become 0 for a relu. */
INNER void copy_in(const float *from, int64_t n, float *to)
{
    _mm512_store_ps(to, _mm512_maskz_loadu_ps(first(n), from));
    if (n > TILE) _mm512_store_ps(to + TILE, _mm512_maskz_loadu_ps(first(n - TILE), from + TILE));
}

INNER void copy_out(const float *from, int64_t n, float *to, bool relu)
{
    __m512 low = _mm512_load_ps(from), high = _mm512_load_ps(from + TILE), zero = _mm512_setzero_ps();
    _mm512_mask_storeu_ps(to, first(n), relu ? _mm512_max_ps(zero, low) : low);
    if (n > TILE) _mm512_mask_storeu_ps(to + TILE, first(n - TILE), relu ? _mm512_max_ps(zero, high) : high);
}

/* A block of C that tiles would overlap, or that lies in pieces, goes through memory of their size. */
TILED static void multiply_apart(const struct amx_block *p, float *const *row, int64_t column, int64_t rows,
                                 int64_t cols)
{
    _Alignas(64) float c[STRIP * PANEL], bias[PANEL];
    struct amx_block whole = *p;
    whole.c = c - column;
    whole.ldc = PANEL;
    for (int64_t i = 0; p->resume && i < rows; i++)
        if (row[i]) copy_in(row[i] + column, cols, c + i * PANEL);
    if (p->bias) copy_in(p->bias + column, cols, bias);
    if (p->bias) whole.bias = bias - column;
    tiles[rows > TILE][cols > TILE](&whole, column);
    for (int64_t i = 0; i < rows; i++)
        if (row[i]) copy_out(c + i * PANEL, cols, row[i] + column, p->relu);
}

void amx__multiply_scattered(const struct amx_block *p, float *const *row, int64_t rows)
{
    for (int64_t j = 0; j < p->n; j += PANEL) multiply_apart(p, row, j, rows, least(p->n - j, PANEL));
}

void amx__multiply_strip(const struct amx_block *p, int64_t rows)
{
    float *row[STRIP];
    for (int64_t i = 0; i < rows; i++) row[i] = p->c + i * p->ldc;
    for (int64_t j = 0; j < p->n; j += PANEL) {
        int64_t cols = least(p->n - j, PANEL);
        if (rows % TILE == 0 && cols % TILE == 0)
            tiles[rows > TILE][cols > TILE](p, j);
        else
            multiply_apart(p, row, j, rows, cols);
    }
}

/* ---- products ---- */

int64_t amx__block_depth(int64_t k)
{
    int64_t blocks = (k + K_BLOCK - 1) / K_BLOCK, steps = steps_of(k);
    return blocks > 1 ? (steps + blocks - 1) / blocks * STEP : k;
}

void amx__finish_rows(const struct gemm_tail *tail, bool bias_too, int64_t i, int64_t rows, float *c,
                      int64_t n, int64_t ldc)
{
    struct gemm_tail t = *tail;
    if (!bias_too) t.bias = NULL;
    if (t.gate) t.gate += i * t.ldgate;
    if (t.bias || t.gate || t.act != ACT_LINEAR) kernels__avx512.bias_activate(&t, c, rows, n, ldc);
}

/* All rows of A, their values k0 … k0 + k, times the packed panels of `block`, whose a is not set. */
TILED static void multiply_rows(const struct gemm *g, int64_t k0, int64_t k, const struct amx_block *block,
                                const struct gemm_tail *tail)
{
    _Alignas(64) uint16_t strip[STRIP * K_BLOCK];
    bool add_bias = tail && tail->bias && g->beta != 0.0f;
    struct amx_block p = *block;
    amx_block_packed(&p, strip, k);
    for (int64_t i = 0; i < g->m; i += STRIP) {
        int64_t rows = g->m - i < STRIP ? g->m - i : STRIP;
        const float *a = g->a + (g->trans_a ? k0 * g->lda + i : i * g->lda + k0);
        (g->trans_a ? pack_strip_trans : pack_strip)(a, g->lda, rows, k, strip);
        p.c = block->c + i * p.ldc;
        amx__multiply_strip(&p, rows);
        if (tail && k0 + k == g->k) amx__finish_rows(tail, add_bias, i, rows, p.c, p.n, p.ldc);
    }
}

/* A packed B never takes more room than the f32 kernels' does. */
bool amx__pays(int64_t k, int64_t n)
{
    return k >= TILE && n >= TILE;
}

static size_t packed_len(int64_t k, int64_t n)
{
    if (!amx__pays(k, n)) return kernels__avx512.packed_len(k, n);
    return (size_t)((n + PANEL - 1) / PANEL) * (size_t)steps_of(k) * TILE_LEN;
}

static void pack(const float *b, int64_t ldb, bool trans, int64_t k, int64_t n, float *packed)
{
    if (amx__pays(k, n))
        (trans ? pack_panels_trans : amx__pack_panels)(b, ldb, k, n, (uint16_t *)packed);
    else
        kernels__avx512.pack(b, ldb, trans, k, n, packed);
}

static void gemm_packed(const struct gemm_packed *g)
{
    if (!amx__pays(g->k, g->n)) {
        kernels__avx512.gemm_packed(g);
        return;
    }
    struct gemm whole = {.m = g->m, .n = g->n, .k = g->k, .a = g->a, .lda = g->lda};
    amx__configure();
    int64_t depth = amx__block_depth(g->k);
    for (int64_t k0 = 0; k0 < g->k; k0 += depth) {
        int64_t k = g->k - k0 < depth ? g->k - k0 : depth;
        struct amx_block p = {.n = g->n,
                              .b = (const uint16_t *)g->packed + k0 * PANEL,
                              .panel_len = steps_of(g->k) * 2 * TILE_LEN,
                              .c = g->c,
                              .ldc = g->ldc,
                              .resume = k0 > 0,
                              .bias = g->tail.bias};
        multiply_rows(&whole, k0, k, &p, &g->tail);
    }
}

TILED static void gemm(const struct gemm *g, const struct gemm_tail *tail)
{
    _Alignas(64) uint16_t packed[B_LEN];
    if (!amx__pays(g->k, g->n)) {
        kernels__avx512.gemm(g, tail);
        return;
    }
    amx__configure();
    int64_t depth = amx__block_depth(g->k), width = B_LEN / (steps_of(depth) * STEP) / PANEL * PANEL;
    for (int64_t k0 = 0; k0 < g->k; k0 += depth) {
        int64_t k = g->k - k0 < depth ? g->k - k0 : depth;
        for (int64_t j = 0; j < g->n; j += width) {
            struct gemm_tail here = tail ? *tail : (struct gemm_tail){0};
            if (here.bias) here.bias += j;
            if (here.gate) here.gate += j;
            struct amx_block p = {.n = least(g->n - j, width),
                                  .b = packed,
                                  .panel_len = steps_of(k) * 2 * TILE_LEN,
                                  .c = g->c + j,
                                  .ldc = g->ldc,
                                  .resume = k0 > 0 || g->beta != 0.0f,
                                  .bias = here.bias};
            const float *b = g->b + (g->trans_b ? j * g->ldb + k0 : k0 * g->ldb + j);
            (g->trans_b ? pack_panels_trans : amx__pack_panels)(b, g->ldb, k, p.n, packed);
            multiply_rows(g, k0, k, &p, tail ? &here : NULL);
        }
    }
}

/* ---- the table ---- */

/* What CPUID says, and that the operating system saves the tiles' state (bits 17 and 18 of XCR0). */
static bool cpu_has_tiles(void)
{
    const unsigned need = 1u << 22 | 1u << 24; /* AMX-BF16, AMX-TILE */
    unsigned a, b, c, d, low, high;
    if (!kernels_find("avx512") || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & need) != need)
        return false;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return false; /* AVX512-BF16 */
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low >> 17 & 3) == 3;
}

static struct kernels table;
static bool usable;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    if (!cpu_has_tiles() || syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0) return;
    table = kernels__avx512;
    table.name = "amx";
    table.packed_len = packed_len;
    table.pack = pack;
    table.gemm_packed = gemm_packed;
    table.gemm = gemm;
    table.gemm_lines = amx__gemm_lines;
    usable = true;
}

const struct kernels *amx_kernels(void)
{
    pthread_once(&once, init);
    return usable ? &table : NULL;
}

#else

const struct kernels *amx_kernels(void)
{
    return NULL;
}

#endif
