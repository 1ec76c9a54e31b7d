/* The inner loops, one table per instruction set: the same source compiled for AVX-512, for AVX2 and for any
 * CPU.
 *
 * Every kernel computes each output element by a sequence of operations that depends on nothing but that
 * element's own operands: not on where it lies in the buffer, nor on how many others are computed with it.
 * That is what makes a row's answer independent of its batch. Buffers need no alignment. Any thread. */
#ifndef TENSOR_KERNEL_H
#define TENSOR_KERNEL_H

#include <stddef.h>
#include <stdint.h>
#include "tensor/backend.h"
#include "tensor/rng.h"

enum act { ACT_LINEAR, ACT_RELU, ACT_LEAKY_RELU, ACT_TANH, ACT_SIGMOID, ACT_GELU, ACT_SILU, ACT_COUNT };

/* What is done to C while it is still in registers: C = act(C + bias), and 0 where the gate is not above 0.
 */
struct gemm_tail {
    const float *bias; /* n values, or NULL */
    enum act act;
    float alpha;       /* slope of ACT_LEAKY_RELU for negative values */
    const float *gate; /* [m, n] with row stride ldgate, or NULL: y of the relu whose gradient C is */
    int64_t ldgate;
};

/* C[m,n] = tail(A[m,k] · B), B packed by `pack`. Each element is the same chain of sums as gemm's. */
struct gemm_packed {
    int64_t m, n, k;
    const float *a;
    int64_t lda;
    const float *packed;
    float *c;
    int64_t ldc;
    bool resume; /* C += instead, before the tail */
    struct gemm_tail tail;
};

/* Products whose A lies in x under a sliding window: `lines` times m rows, each of `strips` strips of len.
 *   A[l, i][s·len + p] = a[l·a_line + i·row_step + s·strip_step + p·k_step]
 *   C[l, i] = c[l·c_line + i·ldc …] (+=, with resume)  A[l, i] · B, then the tail
 * B is [strips·len, n]: rows packed_from … of what `pack` made of packed_k rows, or, packed NULL, in rows of
 * ldb. group_step, unless 0: rows lie three by three so far apart, row_step within. */
struct gemm_lines {
    int64_t lines, m, n, strips, len;
    const float *a;
    int64_t a_line, row_step, strip_step, k_step, group_step;
    const float *packed;
    int64_t packed_k, packed_from;
    const float *b;
    int64_t ldb;
    float *c;
    int64_t c_line, ldc;
    bool resume;
    struct gemm_tail tail; /* its gate lies as [lines·m, n] */
};

/* Without packed: the most rows that B may have. */
enum { GEMM_LINES_K = 1024 };

/* Coefficients of one Adam step: m = b1·m + (1−b1)·g, v = b2·v + (1−b2)·g², w = w·keep − rate·m / (√v·root +
 * epsilon). */
struct adam_step {
    float b1, b2, rate, root, epsilon, keep;
};

/* Rows [cols] normalised by their own mean and reciprocal deviation, which are kept [rows]; scale, bias
 * [cols]. */
struct layer_norm {
    const float *x, *scale, *bias;
    float epsilon;
    float *y, *mean, *rstd;
};

struct layer_norm_grad {
    const float *dy, *x, *scale, *mean, *rstd;
    float *dx, *dscale, *dbias; /* dx may be dy */
};

/* Columns normalised by their moments over all rows; mean, rstd, scale [cols]. */
struct batch_norm_grad {
    const float *dy, *x, *scale, *mean, *rstd;
    float *dx, *dscale, *dbias; /* dx may be dy */
};

/* A line of a pool's windows that lie inside the input: window w is lines × taps elements of n channels from
 * x + w·step, its lines line_step apart. out is y, or for the gradient dx, laid out as x; with gate, what
 * arrives where y ≤ 0 is dropped: x comes out of a relu. */
struct pool_line {
    const float *x, *y, *dy;
    float *out;
    int64_t windows, step, lines, line_step, taps, n;
    bool gate;
};

/* What becomes of a raw number: (x − shift)·scale + offset, and where it is missing (NaN) of fill's (NaN: of
 * nothing). Arrays of a value for each number, or of one for all. */
struct normaliser {
    const float *fill, *shift, *scale, *offset;
    bool each;
};

struct kernels {
    const char *name;

    /* Floats that packing B[k,n] takes. */
    size_t (*packed_len)(int64_t k, int64_t n);
    /* B is [k,n] with row stride ldb, or with trans [n,k]. */
    void (*pack)(const float *b, int64_t ldb, bool trans, int64_t k, int64_t n, float *packed);
    void (*gemm_packed)(const struct gemm_packed *g);
    void (*gemm)(const struct gemm *g, const struct gemm_tail *tail);
    /* May be NULL: convolutions then gather patches and go through the two above. */
    void (*gemm_lines)(const struct gemm_lines *g);

    /* y may be x. */
    void (*activate)(enum act act, float alpha, const float *x, float *y, size_t n);
    /* dx = dy·act'; ref is y for relu, leaky_relu (alpha > 0), tanh and sigmoid, x for the others. dx may be
     * dy. */
    void (*activate_grad)(enum act act, float alpha, const float *ref, const float *dy, float *dx, size_t n);
    /* x: n floats at any alignment. The same bits whatever the set. False: one is missing and nothing fills
     * it, or is infinite. */
    bool (*normalise)(const struct normaliser *by, const void *x, float *y, size_t n);
    void (*bias_activate)(const struct gemm_tail *tail, float *c, int64_t m, int64_t n, int64_t ldc);

    void (*add)(const float *a, const float *b, float *y, size_t n); /* y may be a or b; so below */
    void (*sub)(const float *a, const float *b, float *y, size_t n);
    void (*mul)(const float *a, const float *b, float *y, size_t n);
    void (*scale)(float factor, const float *x, float *y, size_t n);
    void (*blend)(float a, float *y, float b, const float *x, size_t n); /* y = a·y + b·x */
    void (*fill)(float value, float *y, size_t n);
    /* y[cols] = Σ over rows, in a fixed order; with `adds` onto y. */
    void (*sum_rows)(const float *x, float *y, size_t rows, size_t cols, bool adds);
    double (*sum_squares)(const float *x, size_t n); /* in a fixed order */

    void (*layer_norm)(const struct layer_norm *l, size_t rows, size_t cols); /* y may be x */
    void (*layer_norm_grad)(const struct layer_norm_grad *l, size_t rows, size_t cols);
    /* Mean and population variance of each column. */
    void (*column_moments)(const float *x, float *mean, float *var, size_t rows, size_t cols);
    /* y = (x − mean)·factor + bias, all three per column. y may be x. */
    void (*column_affine)(const float *x, const float *mean, const float *factor, const float *bias, float *y,
                          size_t rows, size_t cols);
    void (*batch_norm_grad)(const struct batch_norm_grad *b, size_t rows, size_t cols);

    /* One row of one step of a recurrent cell, n units; gates [4·n] hold sums and get what is kept.
     *   lstm: i, f, g, o;  gru: z, r, n, and what the state gives n.   before: the cell or state before. */
    void (*lstm_cell)(float *gates, const float *before, float *cell, float *y, size_t n);
    /* dcell: in by this step's cell, out by the one before. */
    void (*lstm_cell_grad)(const float *gates, const float *before, const float *cell, const float *dy,
                           float *dcell, float *dgates, size_t n);
    void (*gru_cell)(float *gates, const float *before, float *y, size_t n);
    /* dbefore: what reaches the state before other than through a product; may be dy. */
    void (*gru_cell_grad)(const float *gates, const float *before, const float *dy, float *dbefore,
                          float *dgates, size_t n);

    /* Of a pool's window: taps × n floats of x, one tap behind the other. y[n] = maximum (or sum) over them,
     * and with begin false over y too. */
    void (*max_taps)(const float *x, size_t taps, bool begin, float *y, size_t n);
    void (*sum_taps)(const float *x, size_t taps, bool begin, float *y, size_t n);
    /* Moves left[i] onto dx of the first tap whose x is y[i]; left[i] becomes 0 once it has found its place.
     */
    void (*max_taps_grad)(const float *x, size_t taps, const float *y, float *left, float *dx, size_t n);

    void (*max_line)(const struct pool_line *p);
    /* Windows must not overlap; every element of theirs is written. */
    void (*max_line_grad)(const struct pool_line *p);

    /* y = softmax(factor·x) of each row, factor > 0; y may be x. dx is by x; it may be dy. */
    void (*softmax)(float factor, const float *x, float *y, size_t rows, size_t cols);
    void (*softmax_grad)(float factor, const float *y, const float *dy, float *dx, size_t rows, size_t cols);

    /* y = x·scale where the element's 32-bit number is ≥ threshold, else 0; the numbers begin with those of
     * the block. y may be x. */
    void (*dropout)(const struct rng_key *key, uint64_t block, uint32_t threshold, float scale,
                    const float *x, float *y, size_t n);

    /* w −= rate·g; with slot m: m = mu·m + g, w −= rate·m, or with nesterov w −= rate·(g + mu·m). */
    void (*sgd)(float *w, const float *g, float rate, size_t n);
    void (*momentum)(float *w, const float *g, float *m, float rate, float mu, bool nesterov, size_t n);
    void (*rmsprop)(float *w, const float *g, float *v, float rate, float rho, float epsilon, size_t n);
    void (*adam)(float *w, const float *g, float *m, float *v, const struct adam_step *s, size_t n);
};

/* The table for this CPU; for a named set ("avx512", "avx2", "portable") that table, or NULL where the CPU
 * lacks it. */
const struct kernels *kernels_best(void);
const struct kernels *kernels_find(const char *name);

/* From here on this CPU passes for one that has no more than the named set, and no tiles: to test what runs
 * on such a machine. Before anything else of this library is called; it is for good. False for an unknown
 * name.
 */
bool kernels_limit(const char *name);

/* The most floats that packed_len says in any table: no panel is wider than 64, and tiles are 32 deep. */
static inline size_t kernels_packed_most(int64_t k, int64_t n)
{
    return (((size_t)k + 31) & ~(size_t)31) * (((size_t)n + 63) & ~(size_t)63);
}

extern const struct kernels kernels__avx512, kernels__avx2, kernels__portable;

#endif
