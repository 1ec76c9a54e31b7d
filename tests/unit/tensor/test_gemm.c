/* Products that are cut into blocks of k, of columns and of rows, and products whose left side lies under a
 * window, of every instruction set against naive loops; and bit for bit where that is promised. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "net.h"
#include "tensor/kernel.h"

enum { N_SETS = 3, SIDE = 520 * 720, GUARD = 16 };
static const char *const sets[N_SETS] = {"avx512", "avx2", "portable"};
static float *a, *b, *c, *d, *packed;

static int setup(void **state)
{
    (void)state;
    a = mem_alloc(SIDE, sizeof *a);
    b = mem_alloc(SIDE, sizeof *b);
    c = mem_alloc(SIDE, sizeof *c);
    d = mem_alloc(SIDE, sizeof *d);
    packed = mem_alloc(2 * SIDE, sizeof *packed);
    net_random(a, SIDE, 1, 1, 1);
    net_random(b, SIDE, 1, 1, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(d);
    mem_free(packed);
    return 0;
}

static void check(const char *what, const char *set, int64_t i, int64_t j, float got, double want)
{
    if (!(fabs((double)got - want) < 1e-4))
        fail_msg("%s on %s: [%lld,%lld] is %g, not %g", what, set, (long long)i, (long long)j, (double)got,
                 want);
}

static double naive(const struct gemm *g, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t k = 0; k < g->k; k++)
        sum += (double)(g->trans_a ? g->a[k * g->lda + i] : g->a[i * g->lda + k]) *
               (double)(g->trans_b ? g->b[j * g->ldb + k] : g->b[k * g->ldb + j]);
    return sum;
}

/* Each is beyond a block of k, of columns or of rows, and none a whole number of them. */
static const int blocked[][3] = {{61, 70, 700}, {131, 37, 530}, {50, 300, 300}, {7, 200, 600},
                                 {200, 5, 257}, {1, 513, 513},  {3, 130, 1030}};
enum { N_BLOCKED = sizeof blocked / sizeof blocked[0] };

static struct gemm blocked_gemm(int size, bool trans_a, bool trans_b)
{
    struct gemm g = {.trans_a = trans_a,
                     .trans_b = trans_b,
                     .m = blocked[size][0],
                     .n = blocked[size][1],
                     .k = blocked[size][2],
                     .a = a,
                     .b = b,
                     .c = c};
    g.lda = (trans_a ? g.m : g.k) + 3;
    g.ldb = (trans_b ? g.k : g.n) + 1;
    g.ldc = g.n + 2;
    return g;
}

static void blocks_of_every_shape_match_the_naive_loop(void **state)
{
    (void)state;
    for (int s = 0; s < N_SETS; s++)
        for (int t = 0; kernels_find(sets[s]) && t < 8 * N_BLOCKED; t++) {
            struct gemm g = blocked_gemm(t / 8, t & 1, t >> 1 & 1);
            bool gated = t % 3 == 0;
            g.beta = t & 4 ? 1.0f : 0.0f;
            net_random(c, SIDE, 1, 3, 3);
            memcpy(d, c, SIDE * sizeof *c);
            struct gemm_tail tail = {.bias = b + 7, .gate = gated ? a + 5 : NULL, .ldgate = g.n + 1};
            kernels_find(sets[s])->gemm(&g, &tail);
            for (int64_t i = 0; i < g.m; i++)
                for (int64_t j = 0; j < g.n + 2; j++) {
                    double was = (double)d[i * g.ldc + j], want = was;
                    if (j < g.n) {
                        want = naive(&g, i, j) + (g.beta != 0.0f ? was : 0) + (double)b[7 + j];
                        if (gated && a[5 + i * tail.ldgate + j] <= 0) want = 0;
                    }
                    check("gemm", sets[s], i, j, c[i * g.ldc + j], want);
                }
        }
}

static void an_element_has_the_same_bits_however_its_product_is_cut_and_packed(void **state)
{
    (void)state;
    for (int s = 0; s < N_SETS; s++)
        for (int t = 0; kernels_find(sets[s]) && t < N_BLOCKED; t++) {
            const struct kernels *k = kernels_find(sets[s]);
            struct gemm g = blocked_gemm(t, false, false);
            k->gemm(&g, NULL);
            k->pack(g.b, g.ldb, false, g.k, g.n, packed);
            k->gemm_packed(&(struct gemm_packed){
                .m = g.m, .n = g.n, .k = g.k, .a = a, .lda = g.lda, .packed = packed, .c = d, .ldc = g.ldc});
            for (int64_t i = 0; i < g.m; i++)
                assert_memory_equal(c + i * g.ldc, d + i * g.ldc, (size_t)g.n * sizeof *c);
            g.m = 1;
            g.c = d;
            for (int64_t i = 0; i < blocked[t][0]; i += 13) {
                g.a = a + i * g.lda;
                k->gemm(&g, NULL);
                assert_memory_equal(c + i * g.ldc, d, (size_t)g.n * sizeof *c);
            }
        }
}

static double naive_line(const struct gemm_lines *g, int64_t l, int64_t i, int64_t j)
{
    double sum = 0;
    int64_t row = g->group_step ? i / 3 * g->group_step + i % 3 * g->row_step : i * g->row_step;
    for (int64_t k = 0; k < g->strips * g->len; k++)
        sum += (double)g->a[l * g->a_line + row + k / g->len * g->strip_step + k % g->len * g->k_step] *
               (double)b[(g->packed_from + k) * g->n + j];
    return sum;
}

static void check_lines(const struct kernels *k, struct gemm_lines *g, bool pack)
{
    if (pack) {
        k->pack(b, g->n, false, g->packed_k, g->n, packed);
        g->packed = packed;
    } else {
        g->packed_from = 0;
        g->b = b;
        g->ldb = g->n;
    }
    size_t used = (size_t)(g->lines * g->c_line);
    g->c = c;
    net_random(c, used + GUARD, 1, 3, 3);
    memcpy(d, c, (used + GUARD) * sizeof *c);
    k->gemm_lines(g);
    for (int64_t l = 0; l < g->lines; l++)
        for (int64_t i = 0; i < g->m; i++)
            for (int64_t j = 0; j < g->ldc; j++) {
                int64_t at = l * g->c_line + i * g->ldc + j;
                double was = (double)d[at], want = was;
                if (j < g->n) want = naive_line(g, l, i, j) + (g->resume ? was : 0) + (double)a[3 + j];
                check("gemm_lines", k->name, l * g->m + i, j, c[at], want);
            }
    assert_memory_equal(c + used, d + used, GUARD * sizeof *c);
}

static void lines_of_odd_sizes_match_the_naive_loop(void **state)
{
    (void)state;
    for (int s = 0; s < N_SETS; s++)
        for (int64_t t = 0; kernels_find(sets[s]) && t < 400; t++) {
            struct gemm_lines g = {.lines = t % 3 + 1,
                                   .m = t * 5 % 67 + 1,
                                   .n = t * 7 % 67 + 1,
                                   .strips = t % 4 + 1,
                                   .len = t % 9 + 1,
                                   .a = a,
                                   .row_step = t % 5 + 1,
                                   .k_step = t % 2 + 1,
                                   .packed_from = t % 7,
                                   .resume = t & 8,
                                   .tail = {.bias = a + 3}};
            if (t % 6 == 0) g.m = 3 * (t % 4 + 1);
            g.group_step = t % 6 == 0 ? 91 : 0;
            g.a_line = 301;
            g.strip_step = 37;
            g.ldc = g.n + 1;
            g.c_line = g.m * g.ldc;
            g.packed_k = g.packed_from + g.strips * g.len + t % 3;
            check_lines(kernels_find(sets[s]), &g, t & 16);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_every_shape_match_the_naive_loop),
        cmocka_unit_test(an_element_has_the_same_bits_however_its_product_is_cut_and_packed),
        cmocka_unit_test(lines_of_odd_sizes_match_the_naive_loop),
    };
    return cmocka_run_group_tests_name("gemm", tests, setup, teardown);
}
