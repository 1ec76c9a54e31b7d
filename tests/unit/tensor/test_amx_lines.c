/* bf16 products under a sliding window against naive loops over rounded operands, in every way that the input
 * may lie. Skipped where the CPU has no AMX. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "net.h"
#include "tensor/kernel.h"
#include "tensor/kernel/amx.h"
#include "tensor/ops/families.h"

enum { LEN = 1 << 17, GUARD = 8 };
static float x[LEN], w[LEN], before[LEN], c[LEN + GUARD], bias[512];
static float packed[LEN * 2];
static const struct kernels *amx;

static int setup(void **state)
{
    (void)state;
    amx = amx_kernels();
    net_random(x, LEN, 1, 1, 1);
    net_random(w, LEN, 1, 1, 2);
    net_random(before, LEN, 1, 1, 3);
    net_random(bias, 512, 1, 1, 4);
    return 0;
}

static double rounded(float v, bool rounds)
{
    uint32_t bits;
    if (!rounds) return (double)v;
    memcpy(&bits, &v, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&v, &bits, sizeof v);
    return (double)v;
}

/* Row i of line l times column j of B, whose rows are `ldb` apart in w. */
static double naive(const struct gemm_lines *g, int64_t l, int64_t i, int64_t j, int64_t ldb)
{
    int64_t row = g->group_step ? i / 3 * g->group_step + i % 3 * g->row_step : i * g->row_step;
    bool rounds = g->strips * g->len >= 16 && g->n >= 16 && !g->group_step;
    double sum = 0;
    for (int64_t s = 0; s < g->strips; s++)
        for (int64_t p = 0; p < g->len; p++)
            sum += rounded(g->a[l * g->a_line + row + s * g->strip_step + p * g->k_step], rounds) *
                   rounded(w[(s * g->len + p) * ldb + j], rounds);
    return sum;
}

/* Computes g's product and checks every number of C, and that nothing else is touched. */
static void check(struct gemm_lines *g, int64_t ldb, const char *what)
{
    size_t used = (size_t)((g->lines - 1) * g->c_line + (g->m - 1) * g->ldc + g->n);
    memcpy(c, before, used * sizeof *c);
    for (int i = 0; i < GUARD; i++) c[used + (size_t)i] = 77.0f;
    g->a = x;
    g->c = c;
    amx->gemm_lines(g);
    for (int i = 0; i < GUARD; i++) assert_true(c[used + (size_t)i] == 77.0f);
    for (size_t at = 0; at < used; at++) {
        int64_t l = g->c_line ? (int64_t)at / g->c_line : 0, rest = (int64_t)at - l * g->c_line;
        int64_t i = rest / g->ldc, j = rest % g->ldc;
        double want = (double)before[at];
        if (i < g->m && j < g->n) {
            want = naive(g, l, i, j, ldb) + (g->resume ? want : 0) + (g->tail.bias ? (double)bias[j] : 0);
            want = activation_reference(g->tail.act, 0.1, want);
            if (g->tail.gate && !(g->tail.gate[(l * g->m + i) * g->tail.ldgate + j] > 0)) want = 0;
        }
        if (!(fabs((double)c[at] - want) < 6e-5))
            fail_msg("%s: line %d row %d column %d is %g, not %g", what, (int)l, (int)i, (int)j,
                     (double)c[at], want);
    }
}

static void pack(struct gemm_lines *g)
{
    g->packed_k = g->strips * g->len;
    g->packed = packed;
    amx->pack(w, g->n, false, g->packed_k, g->n, packed);
}

/* Channels of 32 lie well for the tiles; others are gathered. */
static void convolutions_are_those_of_the_rounded_operands(void **state)
{
    (void)state;
    static const int channels[] = {1, 3, 8, 16, 20, 32, 64}, filters[] = {10, 16, 32, 33, 64, 70};
    if (!amx) skip();
    for (int ci = 0; ci < 7; ci++)
        for (int fi = 0; fi < 6; fi++)
            for (int kind = 0; kind < 8; kind++) {
                int64_t ch = channels[ci], n = filters[fi], width = 14, size = 3, stride = 1 + (kind & 1);
                int64_t out = (width - size) / stride + 1;
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
                if (kind == 6) g.tail = (struct gemm_tail){.gate = w + 3, .ldgate = n + 2};
                pack(&g);
                check(&g, n, "convolution");
            }
}

static void steps_of_a_recurrent_layer_add_to_what_is_there(void **state)
{
    (void)state;
    if (!amx) skip();
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
            pack(&g);
            check(&g, 48, "step");
        }
}

static void a_result_may_lie_in_pieces(void **state)
{
    (void)state;
    if (!amx) skip();
    for (int m = 1; m < 20; m += 3) {
        struct gemm_lines g = {.lines = 7,
                               .m = m,
                               .n = 32,
                               .strips = 1,
                               .len = 64,
                               .a_line = m * 64,
                               .row_step = 64,
                               .k_step = 1,
                               .c_line = 1100,
                               .ldc = 40,
                               .resume = true};
        pack(&g);
        check(&g, 32, "pieces");
    }
}

static void gradients_of_kernels_sum_over_places(void **state)
{
    (void)state;
    static const int columns[] = {1, 11, 26, 40};
    if (!amx) skip();
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
                                       .b = w,
                                       .ldb = n + 2,
                                       .ldc = n,
                                       .resume = lines % 2};
                if ((int64_t)lines * columns[i] * (n + 2) < LEN) check(&g, n + 2, "gradient");
            }
}

static void rows_in_threes_are_left_to_f32(void **state)
{
    (void)state;
    if (!amx) skip();
    struct gemm_lines g = {.lines = 1,
                           .m = 9,
                           .n = 32,
                           .strips = 26,
                           .len = 26,
                           .row_step = 1,
                           .strip_step = 28,
                           .k_step = 1,
                           .group_step = 28,
                           .b = w,
                           .ldb = 32,
                           .ldc = 32,
                           .resume = true};
    check(&g, 32, "threes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_are_those_of_the_rounded_operands),
        cmocka_unit_test(steps_of_a_recurrent_layer_add_to_what_is_there),
        cmocka_unit_test(a_result_may_lie_in_pieces),
        cmocka_unit_test(gradients_of_kernels_sum_over_places),
        cmocka_unit_test(rows_in_threes_are_left_to_f32),
    };
    return cmocka_run_group_tests_name("tensor/amx_lines", tests, setup, NULL);
}
