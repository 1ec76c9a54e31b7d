/* Products of split operands (bf16x3) against naive loops in double, at odd sizes and in every way that
 * operands may lie; numbers that are none; and bit for bit where that is promised. Skipped where the CPU has
 * no AMX. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "net.h"
#include "tensor/backend.h"
#include "tensor/kernel.h"
#include "tensor/kernel/amx.h"
#include "tensor/ops/families.h"

enum { MOST = 67, DEEP = 1100, LEN = 1 << 17, GUARD = 8 };
static float a[LEN + GUARD], b[LEN + GUARD], c[LEN + GUARD], before[LEN], bias[512];
static float packed[4 * LEN];
static const struct kernels *split;

static int setup(void **state)
{
    (void)state;
    split = amx_split_kernels();
    net_random(a, LEN, 1, 1, 1);
    net_random(b, LEN, 1, 1, 2);
    net_random(before, LEN, 1, 9, 3);
    net_random(bias, 512, 1, 1, 4);
    return 0;
}

/* Squares of errors, and of what they are errors of. */
struct error {
    double off, of;
};

static void compare(struct error *e, float got, double want)
{
    e->off += ((double)got - want) * ((double)got - want);
    e->of += want * want;
}

/* 1e-5 of what there is, squared: bf16 alone is off by 4e-6, split operands by 1e-11. */
static void check_small(const struct error *e, const char *what, int m, int n, int k)
{
    if (!(e->off <= 1e-10 * e->of)) fail_msg("%s %dx%dx%d is off by %g", what, m, n, k, e->off / e->of);
}

static void guard(size_t used)
{
    for (size_t i = 0; i < GUARD; i++) c[used + i] = 77.0f;
}

static void check_guard(size_t used)
{
    for (size_t i = 0; i < GUARD; i++) assert_true(c[used + i] == 77.0f);
}

/* ---- products ---- */

static double naive(const struct gemm *g, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t k = 0; k < g->k; k++) {
        float x = g->trans_a ? g->a[k * g->lda + i] : g->a[i * g->lda + k];
        float y = g->trans_b ? g->b[j * g->ldb + k] : g->b[k * g->ldb + j];
        sum += (double)x * (double)y;
    }
    return sum;
}

/* C has the product, added onto `before` where g->beta is 1, and gone through the tail. */
static void check_product(const struct gemm *g, const struct gemm_tail *tail)
{
    struct error e = {0};
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            int64_t at = i * g->ldc + j;
            double want = naive(g, i, j) + (g->beta != 0 ? (double)before[at] : 0);
            if (tail && tail->bias) want += (double)bias[j];
            if (tail) want = activation_reference(tail->act, (double)tail->alpha, want);
            if (tail && tail->gate && !(tail->gate[i * tail->ldgate + j] > 0)) want = 0;
            compare(&e, g->c[at], want);
        }
    check_small(&e, "product", (int)g->m, (int)g->n, (int)g->k);
}

static void check_size(int m, int n, int depth, int way, enum act act)
{
    size_t used = (size_t)m * (size_t)n;
    struct gemm g = {
        .trans_a = way & 1, .trans_b = way >> 1 & 1, .m = m, .n = n, .k = depth, .a = a, .b = b, .c = c};
    struct gemm_tail tail = {.bias = bias, .act = act, .alpha = 0.1f};
    g.lda = g.trans_a ? m : depth;
    g.ldb = g.trans_b ? depth : n;
    g.ldc = n;
    for (size_t i = 0; i < used; i++) c[i] = NAN;
    guard(used);
    split->gemm(&g, &tail);
    check_product(&g, &tail);
    if (m % 3 == 0) tail = (struct gemm_tail){.bias = bias, .gate = b + 5, .ldgate = n + 1};
    g.beta = 1;
    memcpy(c, before, used * sizeof *c);
    split->gemm(&g, m % 2 ? &tail : NULL);
    check_product(&g, m % 2 ? &tail : NULL);
    check_guard(used);
}

static void products_are_those_of_f32(void **state)
{
    (void)state;
    if (!split) skip();
    for (int way = 0; way < 4; way++)
        for (int m = 1; m <= MOST; m += m < 36 ? 3 : 5)
            for (int n = 1; n <= MOST; n++)
                check_size(m, n, (m * 5 + n * 3 + way) % MOST + 1, way, (enum act)((m + n) % ACT_COUNT));
}

static void long_sums_are_blocked_without_loss(void **state)
{
    static const int depths[] = {511, 512, 513, 545, 1024, 1025, DEEP};
    (void)state;
    if (!split) skip();
    for (int way = 0; way < 4; way++)
        for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++)
            check_size(37, 50, depths[i], way, ACT_LINEAR);
}

/* Values from 1e-10 to 1e10: what a value loses is in proportion to it, until its low part is subnormal. */
static void values_of_every_size_are_split(void **state)
{
    enum { N = 33, K = 40 };
    float x[N * K], w[K * N];
    struct error e = {0};
    (void)state;
    if (!split) skip();
    for (int i = 0; i < N * K; i++) x[i] = a[i] * powf(10, (float)(i / K % 21 - 10));
    for (int i = 0; i < K * N; i++) w[i] = b[i] * powf(10, (float)(i % N % 21 - 10));
    struct gemm g = {.m = N, .n = N, .k = K, .a = x, .lda = K, .b = w, .ldb = N, .c = c, .ldc = N};
    split->gemm(&g, NULL);
    for (int i = 0; i < N * N; i++) {
        double scale = pow(10, i / N % 21 - 10) * pow(10, i % N % 21 - 10);
        compare(&e, (float)((double)c[i] / scale), naive(&g, i / N, i % N) / scale);
    }
    check_small(&e, "sizes", N, N, K);
}

static struct gemm_packed packed_product(int m, int n, int depth, const float *x, float *y,
                                         const struct gemm_tail *tail)
{
    return (struct gemm_packed){
        .m = m, .n = n, .k = depth, .a = x, .lda = depth, .packed = packed, .c = y, .ldc = n, .tail = *tail};
}

static void a_row_has_the_same_bits_packed_or_not_alone_or_in_company(void **state)
{
    static const int widths[] = {1, 10, 16, 32, 48, 50, 64, 67, 130};
    float alone[130], *together = c;
    (void)state;
    if (!split) skip();
    for (int w = 0; w < 9; w++)
        for (int m = 1; m <= MOST; m += m < 20 ? 1 : 3) {
            int n = widths[w], depth = m % 2 ? 61 : 600;
            struct gemm_tail tail = {.bias = bias, .act = (enum act)(m % ACT_COUNT), .alpha = 0.1f};
            struct gemm_packed p = packed_product(m, n, depth, a, together, &tail);
            split->pack(b, n, false, depth, n, packed);
            split->gemm_packed(&p);
            for (int i = 0; i < m; i++) {
                struct gemm g = {.m = 1,
                                 .n = n,
                                 .k = depth,
                                 .a = a + i * depth,
                                 .lda = depth,
                                 .b = b,
                                 .ldb = n,
                                 .c = alone,
                                 .ldc = n};
                p = packed_product(1, n, depth, a + i * depth, alone, &tail);
                split->gemm_packed(&p);
                assert_memory_equal(alone, together + i * n, (size_t)n * sizeof *alone);
                split->gemm(&g, &tail);
                assert_memory_equal(alone, together + i * n, (size_t)n * sizeof *alone);
            }
        }
}

static void a_packed_product_goes_on_from_its_sums(void **state)
{
    enum { M = 19, N = 40, K = 50 };
    struct gemm_tail tail = {.bias = bias, .act = ACT_TANH};
    (void)state;
    if (!split) skip();
    struct gemm g = {.m = M, .n = N, .k = K, .a = a, .lda = K, .b = b, .ldb = N, .beta = 1, .c = c, .ldc = N};
    struct gemm_packed p = packed_product(M, N, K, a, c, &tail);
    p.resume = true;
    memcpy(c, before, M * N * sizeof *c);
    split->pack(b, N, false, K, N, packed);
    split->gemm_packed(&p);
    check_product(&g, &tail);
}

/* Operators reserve workspace by this. */
static void a_packed_operand_takes_no_more_room_than_is_reserved(void **state)
{
    (void)state;
    if (!split) skip();
    for (int k = 1; k < 200; k++)
        for (int n = 1; n < 200; n++) {
            assert_true(split->packed_len(k, n) <= kernels_packed_most(k, n));
            assert_true(kernels__avx512.packed_len(k, n) <= kernels_packed_most(k, n));
        }
}

/* A batch of few rows is not worth splitting the weights for; an answer's bits come from the kernels. */
static void few_rows_of_training_are_left_to_f32(void **state)
{
    enum { N = 64, K = 64 };
    const struct backend *found;
    struct err e = {0};
    float f32[32 * N];
    (void)state;
    if (!split) skip();
    assert_int_equal(backend_find(&found, "bf16x3", &e), 0);
    for (int m = 1; m <= 32; m++) {
        struct gemm g = {.m = m, .n = N, .k = K, .a = a, .lda = K, .b = b, .ldb = N, .c = f32, .ldc = N};
        kernels__avx512.gemm(&g, NULL);
        g.c = c;
        found->gemm(found, &g, NULL);
        assert_int_equal(memcmp(c, f32, (size_t)(m * N) * sizeof *c) == 0, m < 24);
    }
}

/* ---- no numbers ---- */

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* y = x · w, w all `ones` but for one value. */
static void multiply_with(float in_x, float in_w, float ones, float *y)
{
    enum { N = 33 };
    float x[N * N], w[N * N];
    for (int i = 0; i < N * N; i++) x[i] = w[i] = ones;
    x[3 * N + 5] = in_x;
    w[32 * N + 7] = in_w;
    split->gemm(&(struct gemm){.m = N, .n = N, .k = N, .a = x, .lda = N, .b = w, .ldb = N, .c = y, .ldc = N},
                NULL);
}

/* Row 3 has one of `in_x`, column 7 one of `in_w`; where other numbers than these meet, 33·ones². */
static void nan_and_infinity_go_through_to_their_row_and_column_alone(void **state)
{
    enum { N = 33 };
    static const float ones[] = {1.0f, 1.0001f, 3.1415927f, 1e-3f};
    static const uint32_t nans[] = {0x7fc00000, 0xffc00000, 0x7fffffff, 0xffffffff, 0x7f800001, 0x7fff8000};
    float y[N * N];
    (void)state;
    if (!split) skip();
    for (int o = 0; o < 4; o++)
        for (int k = 0; k < 6; k++) {
            float inf = k % 2 ? -INFINITY : INFINITY;
            multiply_with(from_bits(nans[k]), inf, ones[o], y);
            for (int i = 0; i < N * N; i++) {
                double plain = 33 * (double)ones[o] * (double)ones[o];
                if (i / N == 3)
                    assert_true(isnan(y[i]));
                else if (i % N == 7)
                    assert_true(y[i] == inf);
                else
                    assert_true(fabs((double)y[i] - plain) < 1e-5 * plain);
            }
            multiply_with(inf, from_bits(nans[k]), ones[o], y);
            for (int i = 0; i < N * N; i++)
                assert_true(i % N == 7 ? isnan(y[i]) : i / N == 3 ? y[i] == inf : isfinite(y[i]));
        }
}

/* bf16 has no number beyond 3.39e38; f32 has. */
static void the_largest_numbers_stay_finite(void **state)
{
    enum { N = 33 };
    static const uint32_t large[] = {0x7f7f7fff, 0x7f7f8000, 0x7f7fffff, 0xff7fffff, 0xff7f8001};
    float y[N * N];
    (void)state;
    if (!split) skip();
    for (int k = 0; k < 5; k++) {
        float x = from_bits(large[k]);
        double want = 0.25 * (double)x + 32 * 0.0625;
        multiply_with(x, 0.25f, 0.25f, y);
        for (int j = 0; j < N; j++) assert_true(fabs((double)y[3 * N + j] / want - 1) < 1e-5);
    }
}

/* ---- windows ---- */

static double naive_window(const struct gemm_lines *g, int64_t l, int64_t i, int64_t j, int64_t ldb)
{
    double sum = 0;
    for (int64_t s = 0; s < g->strips; s++)
        for (int64_t p = 0; p < g->len; p++)
            sum += (double)g->a[l * g->a_line + i * g->row_step + s * g->strip_step + p * g->k_step] *
                   (double)b[(s * g->len + p) * ldb + j];
    return sum;
}

static void check_window(struct gemm_lines *g, int64_t ldb, const char *what)
{
    size_t used = (size_t)((g->lines - 1) * g->c_line + (g->m - 1) * g->ldc + g->n);
    struct error e = {0};
    memcpy(c, before, used * sizeof *c);
    guard(used);
    g->a = a;
    g->c = c;
    if (!g->b) {
        g->packed_k = g->strips * g->len;
        g->packed = packed;
        split->pack(b, g->n, false, g->packed_k, g->n, packed);
    }
    split->gemm_lines(g);
    check_guard(used);
    for (int64_t l = 0; l < g->lines; l++)
        for (int64_t i = 0; i < g->m; i++)
            for (int64_t j = 0; j < g->n; j++) {
                int64_t at = l * g->c_line + i * g->ldc + j;
                double want = naive_window(g, l, i, j, ldb) + (g->resume ? (double)before[at] : 0);
                if (g->tail.bias) want += (double)bias[j];
                want = activation_reference(g->tail.act, 0.1, want);
                if (g->tail.gate && !(g->tail.gate[(l * g->m + i) * g->tail.ldgate + j] > 0)) want = 0;
                compare(&e, c[at], want);
            }
    check_small(&e, what, (int)g->m, (int)g->n, (int)(g->strips * g->len));
}

/* Where the channels are whole steps the input is split where it lies; other rows are gathered. */
static void convolutions_are_those_of_f32(void **state)
{
    static const int channels[] = {1, 3, 8, 16, 20, 32, 64}, filters[] = {10, 16, 32, 33, 64, 70};
    (void)state;
    if (!split) skip();
    for (int ci = 0; ci < 7; ci++)
        for (int fi = 0; fi < 6; fi++)
            for (int kind = 0; kind < 8; kind++) {
                int64_t ch = channels[ci], n = filters[fi], width = 14, stride = 1 + (kind & 1);
                int64_t size = kind >= 6 ? 4 : 3, out = (width - size) / stride + 1;
                struct gemm_lines g = {
                    .lines = out,
                    .m = out,
                    .n = n,
                    .strips = size,
                    .len = size * ch,
                    .a_line = stride * width * ch,
                    .row_step = stride * ch,
                    .strip_step = width * ch,
                    .k_step = 1,
                    .ldc = n + (kind >> 1 & 1),
                    .resume = kind >> 2 & 1,
                    .tail = {.bias = bias, .act = (enum act)((ci + fi) % ACT_COUNT), .alpha = 0.1f}};
                g.c_line = out * g.ldc;
                if (kind == 6) g.tail = (struct gemm_tail){.gate = b + 3, .ldgate = n + 2};
                check_window(&g, n, "convolution");
            }
}

static void steps_of_a_recurrent_layer_are_those_of_f32(void **state)
{
    (void)state;
    if (!split) skip();
    for (int m = 1; m < 70; m += 5)
        for (int k = 7; k < 700; k = k * 2 + 3) {
            struct gemm_lines g = {.lines = 1,
                                   .m = m,
                                   .n = 48,
                                   .strips = 1,
                                   .len = k,
                                   .row_step = 900,
                                   .k_step = 1,
                                   .ldc = 60,
                                   .resume = m % 2};
            check_window(&g, 48, "step");
        }
}

static void gradients_of_kernels_are_those_of_f32(void **state)
{
    static const int columns[] = {1, 11, 26, 40};
    (void)state;
    if (!split) skip();
    for (int i = 0; i < 4; i++)
        for (int lines = 1; lines < 30; lines += 7)
            for (int n = 15; n < 400; n = n * 3 + 1) {
                struct gemm_lines g = {.lines = 1,
                                       .m = 3 * 24,
                                       .n = n,
                                       .strips = lines,
                                       .len = columns[i],
                                       .row_step = 1,
                                       .strip_step = 45 * 24,
                                       .k_step = 24,
                                       .b = b,
                                       .ldb = n + 2,
                                       .ldc = n,
                                       .resume = lines % 2};
                if ((int64_t)lines * columns[i] * (n + 2) < LEN) check_window(&g, n + 2, "gradient");
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_f32),
        cmocka_unit_test(long_sums_are_blocked_without_loss),
        cmocka_unit_test(values_of_every_size_are_split),
        cmocka_unit_test(a_row_has_the_same_bits_packed_or_not_alone_or_in_company),
        cmocka_unit_test(a_packed_product_goes_on_from_its_sums),
        cmocka_unit_test(a_packed_operand_takes_no_more_room_than_is_reserved),
        cmocka_unit_test(few_rows_of_training_are_left_to_f32),
        cmocka_unit_test(nan_and_infinity_go_through_to_their_row_and_column_alone),
        cmocka_unit_test(the_largest_numbers_stay_finite),
        cmocka_unit_test(convolutions_are_those_of_f32),
        cmocka_unit_test(steps_of_a_recurrent_layer_are_those_of_f32),
        cmocka_unit_test(gradients_of_kernels_are_those_of_f32),
    };
    return cmocka_run_group_tests_name("tensor/amx_split", tests, setup, NULL);
}
