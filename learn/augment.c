/* Draws what happens to an image, and samples it accordingly. */
#include "learn/augment.h"

#include <math.h>
#include <string.h>

#include "tensor/rng.h"

enum { DRAW_STREAM = 0xA06D0, NOISE_STREAM = 0xA06D1 };
enum { TOP, LEFT, HIGH, DOWN, RIGHT, MIRROR, UPSIDE_DOWN, DRAWS = 8 };

struct augment augment_of(const struct resolved *r)
{
    return (struct augment){.spec = r->training.augmentation,
                            .height = r->input.dim[0],
                            .width = r->input.dim[1],
                            .channels = r->input.rank == 3 ? r->input.dim[2] : 1,
                            .seed = r->training.seed};
}

struct augment_draw augment_draw(const struct augment *a, int64_t epoch, uint32_t row)
{
    const struct augmentation_spec *s = &a->spec;
    struct rng_key key = {.seed = a->seed, .step = (uint32_t)epoch, .stream = DRAW_STREAM};
    uint64_t base = (uint64_t)row * DRAWS;
    double side = 1 - (1 - s->crop) * (double)rng_uniform(&key, base + HIGH);
    uint32_t shifts = (uint32_t)(2 * s->shift + 1);
    struct augment_draw d = {.high = side * (double)a->height, .wide = side * (double)a->width};
    d.top = ((double)a->height - d.high) * (double)rng_uniform(&key, base + TOP);
    d.left = ((double)a->width - d.wide) * (double)rng_uniform(&key, base + LEFT);
    d.down = (int64_t)rng_below(&key, base + DOWN, shifts) - s->shift;
    d.right = (int64_t)rng_below(&key, base + RIGHT, shifts) - s->shift;
    d.mirror = s->flip_horizontal && rng_below(&key, base + MIRROR, 2);
    d.upside_down = s->flip_vertical && rng_below(&key, base + UPSIDE_DOWN, 2);
    return d;
}

/* Where a pixel of the result comes from along one side: between two pixels, so much nearer to the second. */
struct between {
    int64_t first, second;
    float share;
};

static struct between source(int64_t to, int64_t size, bool backwards, int64_t shift, double start,
                             double window)
{
    int64_t at = (backwards ? size - 1 - to : to) - shift;
    at = at < 0 ? 0 : at >= size ? size - 1 : at;
    double x = start + ((double)at + 0.5) * window / (double)size - 0.5;
    x = x < 0 ? 0 : x > (double)(size - 1) ? (double)(size - 1) : x;
    int64_t first = (int64_t)x;
    return (struct between){first, first + 1 < size ? first + 1 : first, (float)(x - (double)first)};
}

static void sample(const struct augment *a, const struct augment_draw *d, const float *from, float *to)
{
    int64_t line = a->width * a->channels, n = a->channels;
    for (int64_t i = 0; i < a->height; i++) {
        struct between y = source(i, a->height, d->upside_down, d->down, d->top, d->high);
        const float *up = from + y.first * line, *low = from + y.second * line;
        for (int64_t j = 0; j < a->width; j++) {
            struct between x = source(j, a->width, d->mirror, d->right, d->left, d->wide);
            for (int64_t k = 0; k < n; k++) {
                float p = up[x.first * n + k], q = low[x.first * n + k];
                if (x.share > 0) p += (up[x.second * n + k] - p) * x.share;
                if (x.share > 0) q += (low[x.second * n + k] - q) * x.share;
                to[(i * a->width + j) * n + k] = y.share > 0 ? p + (q - p) * y.share : p;
            }
        }
    }
}

/* The sum of the four bytes of a random number is near enough to a normal number: mean 510, variance
 * 4·(256² − 1)/12. */
static float bell(uint32_t bits)
{
    uint32_t sum = (bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24);
    return ((float)sum - 510.0F) * 0.0067658646F;
}

static void add_noise(const struct augment *a, int64_t epoch, uint32_t row, float *image)
{
    struct rng_key key = {.seed = a->seed, .step = (uint32_t)epoch, .stream = NOISE_STREAM};
    uint64_t n = (uint64_t)(a->height * a->width * a->channels), blocks = (n + 3) / 4;
    float deviation = (float)a->spec.noise;
    for (uint64_t b = 0; b < blocks; b++) {
        uint32_t bits[4];
        rng_block(&key, (uint64_t)row * blocks + b, bits);
        for (uint64_t k = 0; k < 4 && 4 * b + k < n; k++) image[4 * b + k] += deviation * bell(bits[k]);
    }
}

void augment_image(const struct augment *a, int64_t epoch, uint32_t row, float *image, float *scratch)
{
    const struct augmentation_spec *s = &a->spec;
    if (s->shift > 0 || s->flip_horizontal || s->flip_vertical || s->crop < 1) {
        struct augment_draw d = augment_draw(a, epoch, row);
        memcpy(scratch, image, (size_t)(a->height * a->width * a->channels) * sizeof *image);
        sample(a, &d, scratch, image);
    }
    if (s->noise > 0) add_noise(a, epoch, row, image);
}
