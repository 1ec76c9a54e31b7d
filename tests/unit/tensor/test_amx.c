/* bf16 products on tiles against naive loops over operands rounded one by one, at odd sizes; and bit for bit
 * where that is promised. Skipped where the CPU has no AMX. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "net.h"
#include "tensor/backend.h"
#include "tensor/kernel.h"
#include "tensor/kernel/amx.h"
#include "tensor/ops/families.h"

enum { MOST = 67, DEEP = 1100, GUARD = 8 };
static float a[MOST * DEEP + GUARD], b[MOST * DEEP + GUARD], c[MOST * MOST + GUARD], bias[MOST + GUARD];
static float packed[(MOST + 64) * (DEEP + 64)];
static const struct kernels *amx;

static int setup(void **state)
{
    (void)state;
    amx = amx_kernels();
    net_random(a, MOST * DEEP, 1, 1, 1);
    net_random(b, MOST * DEEP, 1, 1, 2);
    net_random(bias, MOST, 1, 1, 3);
    return 0;
}

/* To the nearest bf16, ties to even, by whole numbers alone. */
static double rounded(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits += 0x7fff + (bits >> 16 & 1);
    bits &= 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

/* Products with fewer than 16 columns or summands are left to f32. */
static bool rounds(const struct gemm *g)
{
    return g->k >= 16 && g->n >= 16;
}

static double naive(const struct gemm *g, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t k = 0; k < g->k; k++) {
        float x = g->trans_a ? g->a[k * g->lda + i] : g->a[i * g->lda + k];
        float y = g->trans_b ? g->b[j * g->ldb + k] : g->b[k * g->ldb + j];
        sum += rounds(g) ? rounded(x) * rounded(y) : (double)x * (double)y;
    }
    return sum;
}

static void check_product(const struct gemm *g, const struct gemm_tail *tail, const float *before)
{
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            double want = naive(g, i, j) + (before ? (double)before[i * g->ldc + j] : 0);
            if (tail)
                want = activation_reference(tail->act, (double)tail->alpha, want + (double)tail->bias[j]);
            if (tail && tail->gate && !(tail->gate[i * tail->ldgate + j] > 0)) want = 0;
            double got = (double)g->c[i * g->ldc + j];
            if (!(fabs(got - want) < 4e-5))
                fail_msg("%lldx%lldx%lld [%lld,%lld] is %.9g, not %.9g", (long long)g->m, (long long)g->n,
                         (long long)g->k, (long long)i, (long long)j, got, want);
        }
    for (int i = 0; i < GUARD; i++) assert_true(g->c[g->m * g->ldc + i] == 77.0f);
}

/* A packed product with rows that lie close. */
static struct gemm_packed packed_product(int m, int n, int depth, const float *x, float *y,
                                         struct gemm_tail tail)
{
    return (struct gemm_packed){
        .m = m, .n = n, .k = depth, .a = x, .lda = depth, .packed = packed, .c = y, .ldc = n, .tail = tail};
}

static void fill_c(float value, size_t used)
{
    for (size_t i = 0; i < used + GUARD; i++) c[i] = i < used ? value : 77.0f;
}

/* Every way that operands may lie, and C with something in it. */
static void check_size(int m, int n, int depth, int way)
{
    struct gemm g = {
        .trans_a = way & 1, .trans_b = way >> 1 & 1, .m = m, .n = n, .k = depth, .a = a, .b = b, .c = c};
    struct gemm_tail tail = {.bias = bias, .act = (enum act)((m + n) % ACT_COUNT), .alpha = 0.1f};
    float before[MOST * MOST];
    g.lda = g.trans_a ? m : depth;
    g.ldb = g.trans_b ? depth : n;
    g.ldc = n;
    fill_c(NAN, (size_t)m * (size_t)n);
    amx->gemm(&g, &tail);
    check_product(&g, &tail, NULL);
    if (m % 3 == 0) tail = (struct gemm_tail){.bias = bias, .gate = b + 5, .ldgate = n + 1};
    g.beta = 1;
    net_random(c, (size_t)m * (size_t)n, 1, 9, 9);
    memcpy(before, c, (size_t)m * (size_t)n * sizeof *c);
    amx->gemm(&g, m % 2 ? &tail : NULL);
    check_product(&g, m % 2 ? &tail : NULL, before);
}

static const int sizes[] = {1, 2, 3, 7, 13, 15, 16, 17, 18, 31, 32, 33, 47, 48, 49, 63, 64, 65, 67};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

static void products_are_those_of_the_rounded_operands(void **state)
{
    (void)state;
    if (!amx) skip();
    for (int way = 0; way < 4; way++)
        for (int mi = 0; mi < N_SIZES; mi++)
            for (int ni = 0; ni < N_SIZES; ni++)
                check_size(sizes[mi], sizes[ni], sizes[(mi * 5 + ni * 3 + way) % N_SIZES], way);
}

static void long_sums_are_blocked_without_loss(void **state)
{
    (void)state;
    static const int depths[] = {511, 512, 513, 545, 1024, 1025, DEEP};
    if (!amx) skip();
    for (int way = 0; way < 4; way++)
        for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) check_size(37, 50, depths[i], way);
}

/* B is packed some columns at a time when it is deep: bias and gate must move along. */
static void wide_products_are_those_of_their_columns(void **state)
{
    (void)state;
    enum { M = 5, N = 700, K = 512, PART = 33 };
    float *w = mem_alloc(K * N, sizeof *w), *y = mem_alloc(M * N, sizeof *y),
          *wide = mem_alloc(M * N, sizeof *wide);
    if (amx) {
        struct gemm_tail tail = {.bias = b, .act = ACT_TANH, .gate = a, .ldgate = N};
        struct gemm g = {.m = M, .n = N, .k = K, .a = a, .lda = K, .b = w, .ldb = N, .c = wide, .ldc = N};
        net_random(w, K * N, 1, 5, 5);
        amx->gemm(&g, &tail);
        g.c = y;
        for (int j = 0; j < N; j += PART, g.b += PART, g.c += PART, tail.bias += PART, tail.gate += PART) {
            g.n = N - j < PART ? N - j : PART;
            amx->gemm(&g, &tail);
        }
        for (int i = 0; i < M * N; i++)
            if (i % N < N / PART * PART) assert_true(y[i] == wide[i]);
    }
    mem_free(w);
    mem_free(y);
    mem_free(wide);
    if (!amx) skip();
}

static void packed_products_have_the_bits_of_unpacked_ones(void **state)
{
    (void)state;
    if (!amx) skip();
    for (int m = 1; m <= MOST; m += m < 5 ? 1 : 6)
        for (int n = 1; n <= MOST; n += 2)
            for (int trans = 0; trans < 2; trans++) {
                int depth = n % 5 ? (m * 7 + n) % MOST + 1 : DEEP - n;
                float other[MOST * MOST];
                struct gemm_tail tail = {.bias = bias, .act = (enum act)(n % ACT_COUNT), .alpha = 0.1f};
                struct gemm g = {.trans_b = trans,
                                 .m = m,
                                 .n = n,
                                 .k = depth,
                                 .a = a,
                                 .lda = depth,
                                 .b = b,
                                 .ldb = trans ? depth : n,
                                 .c = other,
                                 .ldc = n};
                assert_true(amx->packed_len(depth, n) <= sizeof packed / sizeof *packed);
                amx->pack(b, g.ldb, g.trans_b, depth, n, packed);
                fill_c(NAN, (size_t)m * (size_t)n);
                struct gemm_packed p = packed_product(m, n, depth, a, c, tail);
                amx->gemm_packed(&p);
                amx->gemm(&g, &tail);
                assert_memory_equal(other, c, (size_t)m * (size_t)n * sizeof *c);
                for (int i = 0; i < GUARD; i++) assert_true(c[m * n + i] == 77.0f);
            }
}

/* Operators reserve workspace by the f32 kernels' need. */
static void a_packed_operand_takes_no_more_room_than_in_f32(void **state)
{
    (void)state;
    if (!amx) skip();
    for (int k = 1; k < 200; k++)
        for (int n = 1; n < 200; n++) assert_true(amx->packed_len(k, n) <= kernels__avx512.packed_len(k, n));
    assert_true(amx->packed_len(1024, 512) == kernels__avx512.packed_len(1024, 512) / 2);
}

static void a_row_has_the_same_bits_alone_and_in_any_company(void **state)
{
    (void)state;
    static const int widths[] = {1, 10, 16, 32, 50, 64, 67};
    float alone[MOST];
    if (!amx) skip();
    for (int w = 0; w < 7; w++)
        for (int m = 1; m <= MOST; m++) {
            int n = widths[w], depth = m % 2 ? 61 : 600;
            struct gemm_tail tail = {.bias = bias, .act = (enum act)(m % ACT_COUNT), .alpha = 0.1f};
            amx->pack(b, n, false, depth, n, packed);
            struct gemm_packed p = packed_product(m, n, depth, a, c, tail);
            amx->gemm_packed(&p);
            for (int i = 0; i < m; i++) {
                p = packed_product(1, n, depth, a + i * depth, alone, tail);
                amx->gemm_packed(&p);
                assert_memory_equal(alone, c + i * n, (size_t)n * sizeof *alone);
                amx->gemm(&(struct gemm){.m = 1,
                                         .n = n,
                                         .k = depth,
                                         .a = a + i * depth,
                                         .lda = depth,
                                         .b = b,
                                         .ldb = n,
                                         .c = alone,
                                         .ldc = n},
                          &tail);
                assert_memory_equal(alone, c + i * n, (size_t)n * sizeof *alone);
            }
        }
}

static void a_step_within_memory_reads_and_writes_only_its_own(void **state)
{
    (void)state;
    enum { M = 20, N = 40, K = 50, LD = 61 };
    float wide[M * LD];
    if (!amx) skip();
    for (int i = 0; i < M * LD; i++) wide[i] = 5.0f;
    struct gemm g = {.m = M, .n = N, .k = K, .a = a, .lda = LD, .b = b, .ldb = LD, .c = wide, .ldc = LD};
    amx->gemm(&g, NULL);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < LD; j++)
            assert_true(j < N ? fabs((double)wide[i * LD + j] - naive(&g, i, j)) < 4e-5
                              : wide[i * LD + j] == 5.0f);
}

static void nan_and_infinity_go_through_to_their_row_and_column_alone(void **state)
{
    (void)state;
    enum { N = 33 };
    float x[N * N], w[N * N], y[N * N];
    if (!amx) skip();
    for (int i = 0; i < N * N; i++) x[i] = w[i] = 1.0f;
    x[3 * N + 5] = NAN;
    w[32 * N + 7] = INFINITY;
    amx->gemm(&(struct gemm){.m = N, .n = N, .k = N, .a = x, .lda = N, .b = w, .ldb = N, .c = y, .ldc = N},
              NULL);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            assert_true(i == 3 ? isnan(y[i * N + j]) : j == 7 ? isinf(y[i * N + j]) : y[i * N + j] == 33.0f);
}

static void *multiply_elsewhere(void *out)
{
    amx->gemm(
        &(struct gemm){
            .m = 40, .n = 64, .k = 600, .a = a, .lda = 600, .b = b, .ldb = 64, .c = out, .ldc = 64},
        NULL);
    return NULL;
}

static void a_new_thread_gets_the_same_bits(void **state)
{
    (void)state;
    pthread_t thread[3];
    static float here[40 * 64], there[3][40 * 64];
    if (!amx) skip();
    multiply_elsewhere(here);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, multiply_elsewhere, there[i]), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_memory_equal(here, there[i], sizeof here);
    }
}

static void the_backends_are_offered_only_where_the_cpu_has_it(void **state)
{
    (void)state;
    const struct backend *found;
    struct err e = {0};
    static const char *const ours[] = {"bf16", "bf16x3"};
    assert_false(backend_auto()->tiles);
    for (int i = 0; i < 2; i++) {
        bool listed = false;
        for (const char *const *name = backend_names(); *name; name++) listed |= strcmp(*name, ours[i]) == 0;
        assert_int_equal(listed, amx != NULL);
        assert_int_equal(backend_find(&found, ours[i], &e), amx ? 0 : ERR_UNSUPPORTED);
        if (amx) assert_true(found->tiles && found->rounds == (i == 0));
        if (amx) assert_ptr_equal(found->kernels, i ? amx_split_kernels() : amx);
        if (!amx) assert_non_null(strstr(e.message, "AMX"));
        if (!amx) assert_int_equal(strncmp(e.message, ours[i], strlen(ours[i])), 0);
    }
    assert_int_equal(backend_find(&found, "fp8", &e), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_the_rounded_operands),
        cmocka_unit_test(long_sums_are_blocked_without_loss),
        cmocka_unit_test(wide_products_are_those_of_their_columns),
        cmocka_unit_test(packed_products_have_the_bits_of_unpacked_ones),
        cmocka_unit_test(a_packed_operand_takes_no_more_room_than_in_f32),
        cmocka_unit_test(a_row_has_the_same_bits_alone_and_in_any_company),
        cmocka_unit_test(a_step_within_memory_reads_and_writes_only_its_own),
        cmocka_unit_test(nan_and_infinity_go_through_to_their_row_and_column_alone),
        cmocka_unit_test(a_new_thread_gets_the_same_bits),
        cmocka_unit_test(the_backends_are_offered_only_where_the_cpu_has_it),
    };
    return cmocka_run_group_tests_name("tensor/amx", tests, setup, NULL);
}
