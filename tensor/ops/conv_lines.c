/* Convolution without patches: under a window whose taps lie side by side, a line of the output is a product
 * whose left side is the input itself, row after row one stride further on. */
#include "tensor/ops/conv.h"

#include <string.h>

/* Shorter lines leave most of the registers idle; few channels waste the lanes of the gradient by x. */
enum { LEAST_WIDTH = 6, LEAST_CHANNELS = 8 };

bool conv_lines_fit(const struct conv *c, const struct kernels *k)
{
    return k->gemm_lines && !c->pointwise && c->w.group == 1 && c->w.dw == 1 && c->w.ow >= LEAST_WIDTH;
}

bool conv_lines_fit_grad_x(const struct conv *c, const struct kernels *k)
{
    return k->gemm_lines && !c->pointwise && c->w.group == 1 && c->w.ow >= LEAST_WIDTH &&
           c->w.c >= LEAST_CHANNELS;
}

static size_t packed_bytes(int64_t k, int64_t n)
{
    return kernels_packed_most(k, n) * sizeof(float);
}

/* An image as the windows see it: with its padding, without what none of them reaches. */
struct frame {
    int64_t h, w;
    bool copied;
};

static struct frame frame_of(const struct window *w)
{
    struct frame f = {(w->oh - 1) * w->sh + (w->kh - 1) * w->dh + 1, (w->ow - 1) * w->sw + w->kw, true};
    if (w->top > 0 || w->left > 0 || f.h > w->h || f.w > w->w) return f;
    return (struct frame){w->h, w->w, false};
}

static size_t frame_bytes(const struct conv *c)
{
    struct frame f = frame_of(&c->w);
    return f.copied ? (size_t)f.h * (size_t)f.w * (size_t)c->w.c * sizeof(float) : 0;
}

size_t conv_lines_bytes(const struct conv *c)
{
    return packed_bytes(c->k, c->filters) + frame_bytes(c);
}

size_t conv_lines_grad_w_bytes(const struct conv *c)
{
    return frame_bytes(c);
}

size_t conv_lines_grad_x_bytes(const struct conv *c)
{
    return (size_t)(c->w.kh * c->w.kw) * packed_bytes(c->filters, c->w.c);
}

/* The image itself, or its copy in a frame of zeros. */
static const float *framed(const struct window *w, const struct frame *f, const float *x, float *out)
{
    if (!f->copied) return x;
    int64_t right = w->left + w->w < f->w ? w->left + w->w : f->w;
    memset(out, 0, (size_t)f->h * (size_t)f->w * (size_t)w->c * sizeof *out);
    for (int64_t y = 0; y < w->h && w->top + y < f->h; y++)
        memcpy(out + ((w->top + y) * f->w + w->left) * w->c, x + y * w->w * w->c,
               (size_t)((right - w->left) * w->c) * sizeof *out);
    return out;
}

void conv_lines(const struct kernels *k, const struct conv *c, const float *x, const float *kernel,
                const float *packed, float *y, const struct gemm_tail *tail, void *work)
{
    const struct window *w = &c->w;
    struct frame f = frame_of(w);
    float *copy = work;
    if (!packed) {
        copy += packed_bytes(c->k, c->filters) / sizeof *copy;
        k->pack(kernel, c->filters, false, c->k, c->filters, work);
        packed = work;
    }
    struct gemm_lines g = {.lines = w->oh,
                           .m = w->ow,
                           .n = c->filters,
                           .strips = w->kh,
                           .len = w->kw * w->c,
                           .a_line = w->sh * f.w * w->c,
                           .row_step = w->sw * w->c,
                           .strip_step = w->dh * f.w * w->c,
                           .k_step = 1,
                           .packed = packed,
                           .packed_k = c->k,
                           .c_line = w->ow * c->filters,
                           .ldc = c->filters,
                           .tail = tail ? *tail : (struct gemm_tail){0}};
    for (int64_t i = 0; i < w->n; i++) {
        g.a = framed(w, &f, x + i * w->h * w->w * w->c, copy);
        g.c = y + i * w->oh * w->ow * c->filters;
        k->gemm_lines(&g);
    }
}

/* Adds what the output's lines y0 … and columns x0 … of one image give: a product per line of the kernel, or
 * one for all where such a line is three rows. */
static void add_grad_w(const struct kernels *k, const struct conv *c, const struct frame *f, const float *x,
                       const float *dy, const int64_t from[2], const int64_t size[2], bool resume, float *dw)
{
    const struct window *w = &c->w;
    bool thin = w->kw * w->c == 3 && w->kh <= 4;
    int64_t line = w->kw * w->c;
    struct gemm_lines g = {.lines = 1,
                           .m = thin ? 3 * w->kh : line,
                           .n = c->filters,
                           .strips = size[0],
                           .len = size[1],
                           .row_step = 1,
                           .strip_step = w->sh * f->w * w->c,
                           .k_step = w->sw * w->c,
                           .group_step = thin ? w->dh * f->w * w->c : 0,
                           .b = dy + (from[0] * w->ow + from[1]) * c->filters,
                           .ldb = c->filters,
                           .ldc = c->filters,
                           .resume = resume};
    for (int64_t ky = 0; ky < (thin ? 1 : w->kh); ky++) {
        g.a = x + ((from[0] * w->sh + ky * w->dh) * f->w + from[1] * w->sw) * w->c;
        g.c = dw + ky * line * c->filters;
        k->gemm_lines(&g);
    }
}

void conv_lines_grad_w(const struct kernels *k, const struct conv *c, const float *x, const float *dy,
                       float *dw, void *work)
{
    const struct window *w = &c->w;
    struct frame f = frame_of(w);
    int64_t lines = w->ow < GEMM_LINES_K ? GEMM_LINES_K / w->ow : 1;
    int64_t columns = w->ow < GEMM_LINES_K ? w->ow : GEMM_LINES_K;
    bool resume = false;
    for (int64_t i = 0; i < w->n; i++, dy += w->oh * w->ow * c->filters) {
        const float *image = framed(w, &f, x + i * w->h * w->w * w->c, work);
        for (int64_t oy = 0; oy < w->oh; oy += lines)
            for (int64_t ox = 0; ox < w->ow; ox += columns) {
                int64_t size[2] = {w->oh - oy < lines ? w->oh - oy : lines,
                                   w->ow - ox < columns ? w->ow - ox : columns};
                add_grad_w(k, c, &f, image, dy, (int64_t[]){oy, ox}, size, resume, dw);
                resume = true;
            }
    }
}

/* Of n places of the window along one dimension, those whose tap, `shift` behind the first element, lies
 * within size: first … end. */
static void places_inside(int64_t n, int64_t stride, int64_t shift, int64_t size, int64_t *first,
                          int64_t *end)
{
    *first = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
    *end = size > shift ? (size - 1 - shift) / stride + 1 : 0;
    if (*end > n) *end = n;
}

/* Each tap of the kernel on its own: the output's gradient times its matrix falls on x a tap further on. */
void conv_lines_grad_x(const struct kernels *k, const struct conv *c, const float *dy, const float *kernel,
                       float *dx, void *work)
{
    const struct window *w = &c->w;
    int64_t taps = w->kh * w->kw, image = w->h * w->w * w->c;
    size_t packed_len = k->packed_len(c->filters, w->c);
    float *packed = work;
    for (int64_t t = 0; t < taps; t++)
        k->pack(kernel + t * w->c * c->filters, c->filters, true, c->filters, w->c,
                packed + (size_t)t * packed_len);
    for (int64_t i = 0; i < w->n; i++, dy += w->oh * w->ow * c->filters, dx += image) {
        memset(dx, 0, (size_t)image * sizeof *dx);
        for (int64_t t = 0; t < taps; t++) {
            int64_t down = t / w->kw * w->dh - w->top, along = t % w->kw * w->dw - w->left, y0, y1, x0, x1;
            places_inside(w->oh, w->sh, down, w->h, &y0, &y1);
            places_inside(w->ow, w->sw, along, w->w, &x0, &x1);
            if (y0 >= y1 || x0 >= x1) continue;
            k->gemm_lines(
                &(struct gemm_lines){.lines = y1 - y0,
                                     .m = x1 - x0,
                                     .n = w->c,
                                     .strips = 1,
                                     .len = c->filters,
                                     .a = dy + (y0 * w->ow + x0) * c->filters,
                                     .a_line = w->ow * c->filters,
                                     .row_step = c->filters,
                                     .k_step = 1,
                                     .packed = packed + (size_t)t * packed_len,
                                     .packed_k = c->filters,
                                     .c = dx + ((y0 * w->sh + down) * w->w + x0 * w->sw + along) * w->c,
                                     .c_line = w->sh * w->w * w->c,
                                     .ldc = w->sw * w->c,
                                     .resume = true});
        }
    }
}
