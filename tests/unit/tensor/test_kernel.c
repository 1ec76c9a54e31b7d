/* Kernels of every instruction set against naive loops, at odd sizes, and bit for bit where that is promised.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "net.h"
#include "tensor/kernel.h"
#include "tensor/ops/families.h"

static const char *const sets[] = {"avx512", "avx2", "portable"};

/* The next set after k (NULL: the first) that this CPU has. */
static const struct kernels *next_set(const struct kernels *k)
{
    size_t i = 0;
    while (k && strcmp(sets[i++], k->name) != 0) {
    }
    for (; i < 3; i++)
        if (kernels_find(sets[i])) return kernels_find(sets[i]);
    return NULL;
}

enum { MOST = 67, GUARD = 8 };
static float a[MOST * MOST + GUARD], b[MOST * MOST + GUARD], c[MOST * MOST + GUARD], bias[MOST + GUARD];
static float packed[2 * (MOST + 64) * MOST];

static int setup(void **state)
{
    (void)state;
    net_random(a, MOST * MOST, 1, 1, 1);
    net_random(b, MOST * MOST, 1, 1, 2);
    net_random(bias, MOST, 1, 1, 3);
    return 0;
}

static double naive(const struct gemm *g, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t k = 0; k < g->k; k++)
        sum += (double)(g->trans_a ? g->a[k * g->lda + i] : g->a[i * g->lda + k]) *
               (double)(g->trans_b ? g->b[j * g->ldb + k] : g->b[k * g->ldb + j]);
    return sum;
}

static void check_product(const struct gemm *g, const struct gemm_tail *tail, const float *before,
                          const char *what)
{
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            double want = naive(g, i, j) + (before ? (double)before[i * g->ldc + j] : 0);
            if (tail)
                want = activation_reference(tail->act, (double)tail->alpha, want + (double)tail->bias[j]);
            double got = (double)g->c[i * g->ldc + j];
            if (!(fabs(got - want) < 2e-5))
                fail_msg("%s %lldx%lldx%lld [%lld,%lld] is %g, not %g", what, (long long)g->m,
                         (long long)g->n, (long long)g->k, (long long)i, (long long)j, got, want);
        }
    for (int i = 0; i < GUARD; i++) assert_true(g->c[g->m * g->ldc + i] == 77.0f);
}

static void fill_c(float value, size_t used)
{
    for (size_t i = 0; i < used + GUARD; i++) c[i] = i < used ? value : 77.0f;
}

static void products_of_odd_sizes_match_the_naive_loop(void **state)
{
    (void)state;
    static const int sizes[] = {1, 2, 3, 4, 5, 7, 11, 12, 13, 16, 17, 31, 32, 33, 48, 64, 65, 67};
    enum { N = sizeof sizes / sizeof sizes[0] };
    for (const struct kernels *k = next_set(NULL); k; k = next_set(k))
        for (int t = 0; t < 8; t++)
            for (int mi = 0; mi < N; mi++)
                for (int ni = 0; ni < N; ni++) {
                    int m = sizes[mi], n = sizes[ni], depth = sizes[(mi * 5 + ni * 3 + t) % N];
                    struct gemm g = {
                        .trans_a = t & 1, .trans_b = t >> 1 & 1, .m = m, .n = n, .k = depth, .a = a, .b = b};
                    g.lda = g.trans_a ? m : depth;
                    g.ldb = g.trans_b ? depth : n;
                    g.beta = t & 4 ? 1.0f : 0.0f;
                    g.c = c;
                    g.ldc = n;
                    struct gemm_tail tail = {
                        .bias = bias, .act = (enum act)((mi + ni) % ACT_COUNT), .alpha = 0.1f};
                    fill_c(g.beta != 0.0f ? 0.0f : NAN, (size_t)m * (size_t)n);
                    if (g.beta != 0.0f) {
                        float copy[MOST * MOST];
                        net_random(c, (size_t)m * (size_t)n, 1, 9, 9);
                        memcpy(copy, c, (size_t)m * (size_t)n * sizeof *c);
                        k->gemm(&g, NULL);
                        check_product(&g, NULL, copy, k->name);
                        continue;
                    }
                    k->gemm(&g, &tail);
                    check_product(&g, &tail, NULL, k->name);
                }
}

static void long_sums_are_blocked_without_loss(void **state)
{
    (void)state;
    enum { K = 2000, M = 5, N = 40 };
    float *x = mem_alloc(M * K, sizeof *x), *w = mem_alloc(K * N, sizeof *w);
    net_random(x, M * K, 1, 2, 1);
    net_random(w, K * N, 1, 2, 2);
    for (const struct kernels *k = next_set(NULL); k; k = next_set(k)) {
        struct gemm g = {.m = M, .n = N, .k = K, .a = x, .lda = K, .b = w, .ldb = N, .c = c, .ldc = N};
        k->gemm(&g, NULL);
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) assert_true(fabs((double)c[i * N + j] - naive(&g, i, j)) < 1e-4);
    }
    mem_free(x);
    mem_free(w);
}

static void packed_products_match_the_naive_loop(void **state)
{
    (void)state;
    for (const struct kernels *k = next_set(NULL); k; k = next_set(k))
        for (int m = 1; m <= MOST; m += m < 5 ? 1 : 6)
            for (int n = 1; n <= MOST; n += 2) {
                int depth = (m * 7 + n) % MOST + 1;
                struct gemm g = {
                    .m = m, .n = n, .k = depth, .a = a, .lda = depth, .b = b, .ldb = n, .c = c, .ldc = n};
                struct gemm_tail tail = {.bias = bias, .act = (enum act)(n % ACT_COUNT), .alpha = 0.1f};
                assert_true(k->packed_len(depth, n) <= sizeof packed / sizeof *packed);
                k->pack(b, n, false, depth, n, packed);
                fill_c(NAN, (size_t)m * (size_t)n);
                k->gemm_packed(&(struct gemm_packed){m, n, depth, a, depth, packed, c, n, false, tail});
                check_product(&g, &tail, NULL, k->name);
            }
}

static void a_row_has_the_same_bits_alone_and_in_any_company(void **state)
{
    (void)state;
    static const int widths[] = {1, 10, 32, 64, 67};
    float alone[MOST];
    for (const struct kernels *k = next_set(NULL); k; k = next_set(k))
        for (int w = 0; w < 5; w++)
            for (int m = 1; m <= MOST; m++) {
                int n = widths[w];
                struct gemm_tail tail = {.bias = bias, .act = (enum act)(m % ACT_COUNT), .alpha = 0.1f};
                k->pack(b, n, false, MOST, n, packed);
                k->gemm_packed(&(struct gemm_packed){m, n, MOST, a, MOST, packed, c, n, false, tail});
                for (int i = 0; i < m; i++) {
                    k->gemm_packed(
                        &(struct gemm_packed){1, n, MOST, a + i * MOST, MOST, packed, alone, n, false, tail});
                    assert_memory_equal(alone, c + i * n, (size_t)n * sizeof *alone);
                }
            }
}

static void packed_and_unpacked_products_have_the_same_bits(void **state)
{
    (void)state;
    float other[MOST * MOST];
    for (const struct kernels *k = next_set(NULL); k; k = next_set(k))
        for (int n = 1; n <= MOST; n++)
            for (int t = 0; t < 4; t++) {
                bool trans = t & 1, resume = t & 2;
                struct gemm g = {.trans_b = trans, .m = 13, .n = n, .k = 61, .a = a, .lda = 61, .b = b};
                struct gemm_packed p = {
                    .m = 13, .n = n, .k = 61, .a = a, .lda = 61, .packed = packed, .c = c, .ldc = n};
                g.ldb = trans ? 61 : n;
                g.c = other;
                g.ldc = n;
                g.beta = resume ? 1.0f : 0.0f;
                p.resume = resume;
                for (int i = 0; i < 13 * n; i++) other[i] = c[i] = resume ? b[i] : NAN;
                k->pack(b, g.ldb, trans, 61, n, packed);
                k->gemm_packed(&p);
                k->gemm(&g, NULL);
                assert_memory_equal(other, c, (size_t)(13 * n) * sizeof *c);
            }
}

static void sums_go_on_from_what_is_there(void **state)
{
    (void)state;
    for (const struct kernels *k = next_set(NULL); k; k = next_set(k))
        for (int cols = 1; cols <= 2 * MOST; cols += 3)
            for (int rows = 1; rows <= 9; rows++) {
                float y[2][2 * MOST], z[2 * MOST];
                for (int i = 0; i < cols; i++) y[0][i] = y[1][i] = z[i] = b[i];
                k->sum_rows(a, y[0], (size_t)rows, (size_t)cols, false);
                k->sum_rows(a, y[1], (size_t)rows, (size_t)cols, true);
                k->blend(0.25f, z, 3.0f, a, (size_t)cols);
                for (int i = 0; i < cols; i++) {
                    double sum = 0;
                    for (int r = 0; r < rows; r++) sum += (double)a[r * cols + i];
                    assert_true(fabs((double)y[0][i] - sum) < 1e-5);
                    assert_true(fabs((double)y[1][i] - (double)b[i] - sum) < 1e-5);
                    assert_true(fabs((double)z[i] - 0.25 * (double)b[i] - 3.0 * (double)a[i]) < 1e-6);
                }
            }
}

static void activations_are_accurate_and_do_not_depend_on_their_place(void **state)
{
    (void)state;
    enum { N = 4001 };
    static float x[N], y[N], one;
    for (int i = 0; i < N; i++) x[i] = ((float)i - 2000.0f) * 0.01f;
    for (const struct kernels *k = next_set(NULL); k; k = next_set(k))
        for (int act = 0; act < ACT_COUNT; act++) {
            k->activate((enum act)act, 0.1f, x, y, N);
            for (int i = 0; i < N; i++) {
                double want = activation_reference((enum act)act, (double)0.1f, (double)x[i]);
                if (!(fabs((double)y[i] - want) <= 4e-6 * fabs(want) + 1e-6))
                    fail_msg("%s activation %d of %g is %.9g, not %.9g", k->name, act, (double)x[i],
                             (double)y[i], want);
                k->activate((enum act)act, 0.1f, x + i, &one, 1);
                assert_memory_equal(&one, y + i, sizeof one);
            }
        }
}

static void nan_goes_through_and_infinities_saturate(void **state)
{
    (void)state;
    const float x[] = {NAN, INFINITY, -INFINITY};
    float y[3];
    for (const struct kernels *k = next_set(NULL); k; k = next_set(k))
        for (int act = 0; act < ACT_COUNT; act++) {
            k->activate((enum act)act, 0.1f, x, y, 3);
            assert_true(isnan(y[0]));
            if (act == ACT_TANH) assert_true(y[1] == 1.0f && y[2] == -1.0f);
            if (act == ACT_SIGMOID) assert_true(y[1] == 1.0f && y[2] >= 0.0f && y[2] < 1e-37f);
            if (act == ACT_RELU) assert_true(y[1] == INFINITY && y[2] == 0.0f);
        }
}

static void softmax_rows_sum_to_one_even_for_huge_logits(void **state)
{
    (void)state;
    for (const struct kernels *k = next_set(NULL); k; k = next_set(k))
        for (size_t n = 1; n <= MOST; n++) {
            float x[MOST], y[MOST];
            double sum = 0, want[MOST], wide[MOST];
            for (size_t i = 0; i < n; i++) wide[i] = 0.5 * (double)(x[i] = a[i] * (n % 2 ? 5.0f : 3e4f));
            k->softmax(0.5f, x, y, 1, n);
            softmax_reference(wide, want, n);
            for (size_t i = 0; i < n; i++) {
                sum += (double)y[i];
                assert_true(fabs((double)y[i] - want[i]) < 2e-6);
            }
            assert_true(fabs(sum - 1) < 1e-5);
        }
}

static void dropout_draws_the_numbers_of_the_generator(void **state)
{
    (void)state;
    struct rng_key key = {.seed = 0x123456789abcdefu, .step = 7, .stream = RNG_STREAM_NODE + 3};
    uint32_t threshold = 0x60000000u;
    for (const struct kernels *k = next_set(NULL); k; k = next_set(k))
        for (size_t n = 1; n <= 200; n += 13) {
            float y[200];
            k->dropout(&key, n % 3, threshold, 1.6f, a, y, n);
            for (size_t i = 0; i < n; i++)
                assert_true(y[i] == (rng_u32(&key, n % 3 * 4 + i) >= threshold ? a[i] * 1.6f : 0.0f));
        }
}

/* Numbers as awkward as they come; some are missing. */
static void awkward(float *x, size_t n)
{
    static const float some[] = {-0.0f, 1e-40f, 3.4e38f, -3.4e38f, 0.1f, 1.0f / 3};
    for (size_t i = 0; i < n; i++) x[i] = i % 7 == 5 ? NAN : i % 2 ? some[i % 6] : a[i] * 100;
}

/* One at a time, as a compiler without vectors has it. */
static float normalised(const struct normaliser *by, float x, size_t i)
{
    if (!by->each) i = 0;
    if (isnan(x)) x = by->fill[i];
    return (x - by->shift[i]) * by->scale[i] + by->offset[i];
}

static void normalised_numbers_have_the_bits_of_the_formula_at_any_alignment(void **state)
{
    (void)state;
    float x[MOST], y[MOST + 1], fill[MOST];
    char raw[MOST * sizeof(float) + 8];
    struct normaliser by = {.fill = fill, .shift = a, .scale = b, .offset = bias};
    for (size_t i = 0; i < MOST; i++) fill[i] = a[MOST + i];
    awkward(x, MOST);
    for (const struct kernels *k = next_set(NULL); k; k = next_set(k))
        for (size_t n = 0; n <= MOST; n++)
            for (int each = 0; each < 2; each++) {
                char *at = raw + n % 5;
                by.each = each;
                memcpy(at, x, n * sizeof *x);
                y[n] = 12;
                assert_true(k->normalise(&by, at, y, n));
                for (size_t i = 0; i < n; i++) {
                    float want = normalised(&by, x[i], i);
                    assert_memory_equal(&want, &y[i], sizeof want);
                }
                assert_true(y[n] == 12);
            }
}

static void a_number_that_is_missing_or_infinite_is_told_wherever_it_stands(void **state)
{
    (void)state;
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    float fill = NAN, y[MOST];
    struct normaliser by = {.fill = &fill, .shift = a, .scale = b, .offset = bias};
    for (const struct kernels *k = next_set(NULL); k; k = next_set(k))
        for (size_t i = 0; i < 3 * (size_t)MOST; i++) {
            float x[MOST];
            memcpy(x, a, sizeof x);
            assert_true(k->normalise(&by, x, y, MOST));
            x[i / 3] = wrong[i % 3];
            assert_false(k->normalise(&by, x, y, MOST));
            assert_true(k->normalise(&by, x, y, i / 3));
            fill = 1;
            assert_int_equal(k->normalise(&by, x, y, MOST), isnan(x[i / 3]));
            fill = NAN;
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_odd_sizes_match_the_naive_loop),
        cmocka_unit_test(long_sums_are_blocked_without_loss),
        cmocka_unit_test(packed_products_match_the_naive_loop),
        cmocka_unit_test(a_row_has_the_same_bits_alone_and_in_any_company),
        cmocka_unit_test(packed_and_unpacked_products_have_the_same_bits),
        cmocka_unit_test(sums_go_on_from_what_is_there),
        cmocka_unit_test(activations_are_accurate_and_do_not_depend_on_their_place),
        cmocka_unit_test(nan_goes_through_and_infinities_saturate),
        cmocka_unit_test(softmax_rows_sum_to_one_even_for_huge_logits),
        cmocka_unit_test(dropout_draws_the_numbers_of_the_generator),
        cmocka_unit_test(normalised_numbers_have_the_bits_of_the_formula_at_any_alignment),
        cmocka_unit_test(a_number_that_is_missing_or_infinite_is_told_wherever_it_stands),
    };
    return cmocka_run_group_tests_name("tensor/kernel", tests, setup, NULL);
}
