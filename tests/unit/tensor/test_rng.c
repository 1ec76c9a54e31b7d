/* Random numbers and initial weights. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "tensor/init.h"
#include "tensor/rng.h"

/* The known answers published with the generator (Random123's kat_vectors, philox4x32, 10 rounds). */
static void philox_gives_its_published_answers(void **state)
{
    (void)state;
    uint32_t out[4];
    rng_block(&(struct rng_key){0}, 0, out);
    assert_memory_equal(out, ((uint32_t[]){0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}), sizeof out);
    rng_block(&(struct rng_key){.seed = UINT64_MAX, .step = UINT32_MAX, .stream = UINT32_MAX}, UINT64_MAX,
              out);
    assert_memory_equal(out, ((uint32_t[]){0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}), sizeof out);
}

static void uniform_and_normal_have_their_moments(void **state)
{
    (void)state;
    enum { N = 200000 };
    struct rng_key k = {.seed = 5, .stream = 1};
    double u = 0, z = 0, zz = 0;
    for (uint64_t i = 0; i < N; i++) {
        float x = rng_uniform(&k, i);
        double n = (double)rng_normal(&k, i);
        assert_true(x >= 0.0f && x < 1.0f);
        u += (double)x;
        z += n;
        zz += n * n;
    }
    assert_true(fabs(u / N - 0.5) < 0.005);
    assert_true(fabs(z / N) < 0.01);
    assert_true(fabs(zz / N - 1) < 0.02);
}

static void a_shuffle_is_a_permutation_that_its_key_decides(void **state)
{
    (void)state;
    enum { N = 1000 };
    uint32_t a[N], b[N], c[N];
    bool seen[N] = {0};
    for (uint32_t i = 0; i < N; i++) a[i] = b[i] = c[i] = i;
    rng_shuffle(&(struct rng_key){.seed = 1, .step = 2}, a, N);
    rng_shuffle(&(struct rng_key){.seed = 1, .step = 2}, b, N);
    rng_shuffle(&(struct rng_key){.seed = 1, .step = 3}, c, N);
    assert_memory_equal(a, b, sizeof a);
    assert_true(memcmp(a, c, sizeof a) != 0);
    for (int i = 0; i < N; i++) {
        assert_false(seen[a[i]]);
        seen[a[i]] = true;
    }
}

static double deviation(const float *x, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    return sqrt(squares / (double)n - sum / (double)n * (sum / (double)n));
}

static void initialisers_have_the_spread_of_their_papers(void **state)
{
    (void)state;
    enum { IN = 300, OUT = 100 };
    static float w[IN * OUT];
    struct shape s = shape_of(2, (int64_t[]){IN, OUT});
    const struct {
        enum init_kind kind;
        double want;
    } cases[] = {
        {INIT_GLOROT_UNIFORM, sqrt(2.0 / (IN + OUT))},
        {INIT_GLOROT_NORMAL, sqrt(2.0 / (IN + OUT))},
        {INIT_HE_UNIFORM, sqrt(2.0 / IN)},
        {INIT_HE_NORMAL, sqrt(2.0 / IN)},
        {INIT_LECUN_UNIFORM, sqrt(1.0 / IN)},
        {INIT_LECUN_NORMAL, sqrt(1.0 / IN)},
        {INIT_ZEROS, 0},
        {INIT_ONES, 0},
        {INIT_RANDOM_NORMAL, 0.3},
        {INIT_RANDOM_UNIFORM, 0.3 / sqrt(3.0)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        init_fill(w, &s, &(struct init_spec){cases[i].kind, 0.3}, 11, (uint32_t)i);
        if (fabs(deviation(w, IN * OUT) - cases[i].want) > 0.02 * cases[i].want)
            fail_msg("%s deviates by %g, not %g", init_name(cases[i].kind), deviation(w, IN * OUT),
                     cases[i].want);
    }
}

static void every_initialiser_is_found_by_its_name(void **state)
{
    (void)state;
    for (int i = 0; i < INIT_COUNT; i++) assert_int_equal(init_of(init_name((enum init_kind)i)), i);
    assert_int_equal(init_of("glorot"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_its_published_answers),
        cmocka_unit_test(uniform_and_normal_have_their_moments),
        cmocka_unit_test(a_shuffle_is_a_permutation_that_its_key_decides),
        cmocka_unit_test(initialisers_have_the_spread_of_their_papers),
        cmocka_unit_test(every_initialiser_is_found_by_its_name),
    };
    return cmocka_run_group_tests_name("tensor/rng", tests, NULL, NULL);
}
