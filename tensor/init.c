/* Initial weights. */
#include "tensor/init.h"

#include <math.h>
#include <string.h>
#include "tensor/rng.h"

static const char *const names[INIT_COUNT] = {
    [INIT_ZEROS] = "zeros",
    [INIT_ONES] = "ones",
    [INIT_CONSTANT] = "constant",
    [INIT_RANDOM_UNIFORM] = "random_uniform",
    [INIT_RANDOM_NORMAL] = "random_normal",
    [INIT_GLOROT_UNIFORM] = "glorot_uniform",
    [INIT_GLOROT_NORMAL] = "glorot_normal",
    [INIT_HE_UNIFORM] = "he_uniform",
    [INIT_HE_NORMAL] = "he_normal",
    [INIT_LECUN_UNIFORM] = "lecun_uniform",
    [INIT_LECUN_NORMAL] = "lecun_normal",
    [INIT_FORGET_BIAS] = "forget_bias",
    [INIT_SINUSOIDAL] = "sinusoidal",
    [INIT_ORTHOGONAL] = "orthogonal",
};

const char *init_name(enum init_kind kind)
{
    return names[kind];
}

int init_of(const char *name)
{
    for (int i = 0; i < INIT_COUNT; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

static void fans(const struct shape *s, double *in, double *out)
{
    double spatial = 1;
    for (int i = 0; i + 2 < s->rank; i++) spatial *= (double)s->dim[i];
    *out = s->rank > 0 ? (double)s->dim[s->rank - 1] : 1;
    *in = s->rank > 1 ? (double)s->dim[s->rank - 2] : *out;
    *in *= spatial;
    *out *= spatial;
}

/* Keras draws its scaled normals from a normal cut off at two deviations, whose own deviation is this much
 * smaller. */
static const double TRUNCATED_DEVIATION = 0.87962566103423978;

/* Draws again, from a stream that no parameter has, until the number lies within two deviations. */
static float truncated_normal(struct rng_key k, uint64_t element)
{
    float x = rng_normal(&k, element);
    while (fabsf(x) > 2.0f && k.step < 64) {
        k.step++;
        x = rng_normal(&k, element);
    }
    return x;
}

static void fill_uniform(float *out, size_t n, double limit, const struct rng_key *k)
{
    for (size_t i = 0; i < n; i++) out[i] = (float)((2.0 * (double)rng_uniform(k, i) - 1.0) * limit);
}

static void fill_scaled_normal(float *out, size_t n, double deviation, const struct rng_key *k)
{
    float scale = (float)(deviation / TRUNCATED_DEVIATION);
    for (size_t i = 0; i < n; i++) out[i] = truncated_normal(*k, i) * scale;
}

static void fill_constant(float *out, size_t n, double a)
{
    for (size_t i = 0; i < n; i++) out[i] = (float)a;
}

/* Even features are sines, odd ones cosines, each pair slower than the one before. */
static void fill_sinusoidal(float *out, size_t n, size_t width)
{
    for (size_t i = 0; i < n; i++) {
        size_t feature = i % width;
        size_t position = i / width, pair = feature / 2;
        double angle = (double)position / pow(10000.0, 2 * (double)pair / (double)width);
        out[i] = (float)(feature % 2 ? cos(angle) : sin(angle));
    }
}

/* ---- orthogonal: normal vectors made orthonormal one after the other (Gram and Schmidt) ---- */

/* Vector i's element k lies at data[i·apart + k·step]. */
struct vectors {
    float *data;
    size_t n, len, apart, step;
};

static double dot(const struct vectors *v, size_t i, size_t j)
{
    const float *a = v->data + i * v->apart, *b = v->data + j * v->apart;
    double sum[4] = {0};
    size_t k = 0;
    for (; k + 4 <= v->len; k += 4)
        for (size_t l = 0; l < 4; l++) sum[l] += (double)a[(k + l) * v->step] * (double)b[(k + l) * v->step];
    for (; k < v->len; k++) sum[0] += (double)a[k * v->step] * (double)b[k * v->step];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Takes out of vector i what lies along vector j. */
static void straighten(const struct vectors *v, size_t i, size_t j)
{
    float *a = v->data + i * v->apart, along = (float)dot(v, i, j);
    const float *b = v->data + j * v->apart;
    for (size_t k = 0; k < v->len; k++) a[k * v->step] -= along * b[k * v->step];
}

static void fill_orthogonal(float *out, const struct shape *s, size_t n, const struct rng_key *key)
{
    size_t cols = s->rank > 0 ? (size_t)s->dim[s->rank - 1] : 1, rows = n / cols;
    struct vectors v = {out, rows, cols, cols, 1};
    if (rows > cols) v = (struct vectors){out, cols, rows, 1, cols};
    for (size_t i = 0; i < n; i++) out[i] = rng_normal(key, i);
    for (size_t i = 0; i < v.n; i++) {
        for (int again = 0; again < 2; again++) /* the second time for what rounding left */
            for (size_t j = 0; j < i; j++) straighten(&v, i, j);
        float scale = (float)(1 / sqrt(dot(&v, i, i)));
        for (size_t k = 0; k < v.len; k++) out[i * v.apart + k * v.step] *= scale;
    }
}

void init_fill(float *out, const struct shape *shape, const struct init_spec *spec, uint64_t seed,
               uint32_t stream)
{
    struct rng_key k = {.seed = seed, .step = 0, .stream = RNG_STREAM_INIT + stream};
    size_t n = shape_row_count(shape);
    double in, fan_out;
    fans(shape, &in, &fan_out);
    switch (spec->kind) {
    case INIT_ONES:
        fill_constant(out, n, 1);
        break;
    case INIT_CONSTANT:
        fill_constant(out, n, spec->a);
        break;
    case INIT_RANDOM_UNIFORM:
        fill_uniform(out, n, spec->a, &k);
        break;
    case INIT_RANDOM_NORMAL:
        for (size_t i = 0; i < n; i++) out[i] = rng_normal(&k, i) * (float)spec->a;
        break;
    case INIT_GLOROT_UNIFORM:
        fill_uniform(out, n, sqrt(6.0 / (in + fan_out)), &k);
        break;
    case INIT_HE_UNIFORM:
        fill_uniform(out, n, sqrt(6.0 / in), &k);
        break;
    case INIT_LECUN_UNIFORM:
        fill_uniform(out, n, sqrt(3.0 / in), &k);
        break;
    case INIT_GLOROT_NORMAL:
        fill_scaled_normal(out, n, sqrt(2.0 / (in + fan_out)), &k);
        break;
    case INIT_HE_NORMAL:
        fill_scaled_normal(out, n, sqrt(2.0 / in), &k);
        break;
    case INIT_LECUN_NORMAL:
        fill_scaled_normal(out, n, sqrt(1.0 / in), &k);
        break;
    case INIT_FORGET_BIAS:
        for (size_t i = 0; i < n; i++) out[i] = i >= n / 4 && i < n / 2 ? 1.0f : 0.0f;
        break;
    case INIT_SINUSOIDAL:
        fill_sinusoidal(out, n, shape->rank > 0 ? (size_t)shape->dim[shape->rank - 1] : 1);
        break;
    case INIT_ORTHOGONAL:
        fill_orthogonal(out, shape, n, &k);
        break;
    case INIT_ZEROS:
    case INIT_COUNT:
        fill_constant(out, n, 0);
        break;
    }
}
