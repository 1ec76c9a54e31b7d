/* Turns the kernel, frames the gradient, and convolves them. */
#include "tensor/ops/conv_turn.h"

#include <string.h>

static bool can_turn(const struct conv *c)
{
    const struct window *w = &c->w;
    return !c->pointwise && w->group == 1 && w->sh == 1 && w->sw == 1 && w->dh == 1 && w->dw == 1;
}

bool conv_turn_fits(const struct conv *c, const struct backend *b)
{
    return b->tiles && b->kernels->gemm_lines && can_turn(c);
}

static size_t kernel_len(const struct conv *c)
{
    return (size_t)c->k * (size_t)c->filters;
}

static size_t packed_len(const struct conv *c)
{
    return kernels_packed_most(c->w.kh * c->w.kw * c->filters, c->w.c);
}

static size_t frame_len(const struct conv *c)
{
    const struct window *w = &c->w;
    return (size_t)(w->h + w->kh - 1) * (size_t)(w->w + w->kw - 1) * (size_t)c->filters;
}

size_t conv_turn_bytes(const struct conv *c)
{
    return can_turn(c) ? (kernel_len(c) + packed_len(c) + frame_len(c)) * sizeof(float) : 0;
}

/* [taps, c, filters] → [taps from the last to the first, filters, c] */
static void turn(const struct conv *c, const float *kernel, float *out)
{
    int64_t taps = c->w.kh * c->w.kw, depth = c->w.c, filters = c->filters;
    for (int64_t t = taps - 1; t >= 0; t--, out += depth * filters) {
        const float *tap = kernel + t * depth * filters;
        for (int64_t d = 0; d < depth; d++)
            for (int64_t f = 0; f < filters; f++) out[f * depth + d] = tap[d * filters + f];
    }
}

/* One image's gradient to its place in the frame, whose border stays as it is. */
static void frame(const struct conv *c, const float *dy, float *out)
{
    const struct window *w = &c->w;
    int64_t width = w->w + w->kw - 1;
    float *first = out + ((w->kh - 1 - w->top) * width + w->kw - 1 - w->left) * c->filters;
    for (int64_t y = 0; y < w->oh; y++)
        memcpy(first + y * width * c->filters, dy + y * w->ow * c->filters,
               (size_t)(w->ow * c->filters) * sizeof *dy);
}

void conv_turn_grad_x(const struct kernels *k, const struct conv *c, const float *dy, const float *kernel,
                      float *dx, void *work)
{
    const struct window *w = &c->w;
    int64_t width = w->w + w->kw - 1, taps = w->kh * w->kw;
    float *packed = work, *turned = packed + packed_len(c), *framed = turned + kernel_len(c);
    turn(c, kernel, turned);
    k->pack(turned, w->c, false, taps * c->filters, w->c, packed);
    memset(framed, 0, frame_len(c) * sizeof *framed);
    for (int64_t i = 0; i < w->n; i++) {
        frame(c, dy + i * w->oh * w->ow * c->filters, framed);
        k->gemm_lines(&(struct gemm_lines){.lines = w->h,
                                           .m = w->w,
                                           .n = w->c,
                                           .strips = w->kh,
                                           .len = w->kw * c->filters,
                                           .a = framed,
                                           .a_line = width * c->filters,
                                           .row_step = c->filters,
                                           .strip_step = width * c->filters,
                                           .k_step = 1,
                                           .packed = packed,
                                           .packed_k = taps * c->filters,
                                           .c = dx + i * w->h * w->w * w->c,
                                           .c_line = w->w * w->c,
                                           .ldc = w->c});
    }
}
