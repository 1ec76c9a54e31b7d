/* Where a sliding window reads: its geometry from attributes, and patches copied to and from a matrix. */
#include "tensor/ops/window.h"

#include <string.h>

/* Item i of a list of n, or the fallback when the list is left out; false when its length is another. */
static bool item(const struct shape *list, int n, int i, int64_t fallback, int64_t *out)
{
    *out = list->rank == 0 ? fallback : list->dim[i];
    return list->rank == 0 || list->rank == n;
}

/* One spatial dimension: the number of places that the window takes, 0 when it fits nowhere. */
static int64_t places(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, int64_t before,
                      int64_t after)
{
    int64_t reach = (kernel - 1) * dilation + 1;
    if (kernel < 1 || before >= reach || after >= reach || size + before + after < reach) return 0;
    return (size + before + after - reach) / stride + 1;
}

bool window_of(struct window *w, const struct shape *x, const struct shape *kernel, const struct node *node)
{
    const struct shape *strides = &node->attr[WINDOW_STRIDES].ints, *pads = &node->attr[WINDOW_PADS].ints;
    const struct shape *dilations = &node->attr[WINDOW_DILATIONS].ints;
    int n = x->rank - 2;
    if (n < 1 || n > 2 || kernel->rank < n) return false;
    int64_t bottom = 0, right;
    *w = (struct window){.n = x->dim[0], .h = 1, .w = x->dim[n], .c = x->dim[n + 1], .rank = x->rank};
    w->group = 1;
    w->depth = w->c;
    w->kh = w->sh = w->dh = 1;
    w->kw = kernel->dim[n - 1];
    bool fits = item(strides, n, n - 1, 1, &w->sw) && item(dilations, n, n - 1, 1, &w->dw) &&
                item(pads, 2 * n, n - 1, 0, &w->left) && item(pads, 2 * n, 2 * n - 1, 0, &right);
    if (n == 2) {
        w->h = x->dim[1];
        w->kh = kernel->dim[0];
        fits = fits && item(strides, n, 0, 1, &w->sh) && item(dilations, n, 0, 1, &w->dh) &&
               item(pads, 4, 0, 0, &w->top) && item(pads, 4, 2, 0, &bottom);
    }
    if (!fits) return false;
    w->oh = places(w->h, w->kh, w->sh, w->dh, w->top, bottom);
    w->ow = places(w->w, w->kw, w->sw, w->dw, w->left, right);
    return w->oh > 0 && w->ow > 0;
}

struct shape window_output(const struct window *w, int64_t channels)
{
    if (w->rank == 3) return shape_of(3, (int64_t[]){w->n, w->ow, channels});
    return shape_of(4, (int64_t[]){w->n, w->oh, w->ow, channels});
}

int64_t window_tap(const struct window *w, int64_t image, int64_t oy, int64_t ox, int64_t ky, int64_t kx)
{
    int64_t y = oy * w->sh - w->top + ky * w->dh, x = ox * w->sw - w->left + kx * w->dw;
    if (y < 0 || y >= w->h || x < 0 || x >= w->w) return -1;
    return ((image * w->h + y) * w->w + x) * w->c;
}

/* A run of the output's rows on one line: image, line, first and how many. */
struct span {
    int64_t image, oy, ox, len;
};

static struct span span_at(const struct window *w, int64_t row, int64_t end)
{
    struct span s = {row / (w->oh * w->ow), row / w->ow % w->oh, row % w->ow, w->ow - row % w->ow};
    if (s.len > end - row) s.len = end - row;
    return s;
}

/* The smallest i ≥ 0 with base + i·stride ≥ bound, at most len. */
static int64_t first_reaching(int64_t base, int64_t stride, int64_t bound, int64_t len)
{
    int64_t i = base >= bound ? 0 : (bound - base + stride - 1) / stride;
    return i < len ? i : len;
}

/* One tap of a whole span: depth floats from x into every row of cols. */
static void gather_tap(const struct window *w, const struct span *s, const float *x, int64_t kx,
                       int64_t row_len, float *cols)
{
    int64_t base = s->ox * w->sw - w->left + kx * w->dw, step = w->sw * w->c;
    int64_t begin = first_reaching(base, w->sw, 0, s->len), end = first_reaching(base, w->sw, w->w, s->len);
    size_t bytes = (size_t)w->depth * sizeof *cols;
    for (int64_t i = 0; i < begin; i++) memset(cols + i * row_len, 0, bytes);
    for (int64_t i = end; i < s->len; i++) memset(cols + i * row_len, 0, bytes);
    x += base * w->c;
    if (w->depth == 1)
        for (int64_t i = begin; i < end; i++) cols[i * row_len] = x[i * step];
    else
        for (int64_t i = begin; i < end; i++) memcpy(cols + i * row_len, x + i * step, bytes);
}

/* One line of the kernel. Where its taps lie side by side in x, each row's are one copy. */
static void gather_line(const struct window *w, const struct span *s, const float *x, int64_t row_len,
                        float *cols)
{
    int64_t first = s->ox * w->sw - w->left, last = (s->ox + s->len - 1) * w->sw - w->left + w->kw - 1;
    if (w->dw == 1 && w->depth == w->c && w->c > 1 && first >= 0 && last < w->w) {
        for (int64_t i = 0; i < s->len; i++)
            memcpy(cols + i * row_len, x + (first + i * w->sw) * w->c, (size_t)(w->kw * w->c) * sizeof *cols);
        return;
    }
    for (int64_t kx = 0; kx < w->kw; kx++) gather_tap(w, s, x, kx, row_len, cols + kx * w->depth);
}

void window_gather(const struct window *w, int64_t g, const float *x, int64_t begin, int64_t end, float *cols)
{
    int64_t row_len = w->kh * w->kw * w->depth, line_len = w->kw * w->depth;
    for (int64_t row = begin; row < end;) {
        struct span s = span_at(w, row, end);
        for (int64_t ky = 0; ky < w->kh; ky++) {
            int64_t y = s.oy * w->sh - w->top + ky * w->dh;
            float *to = cols + ky * line_len;
            if (y >= 0 && y < w->h)
                gather_line(w, &s, x + (s.image * w->h + y) * w->w * w->c + g * w->depth, row_len, to);
            else
                for (int64_t i = 0; i < s.len; i++)
                    memset(to + i * row_len, 0, (size_t)line_len * sizeof *to);
        }
        row += s.len;
        cols += s.len * row_len;
    }
}

static void scatter_line(const struct window *w, const struct span *s, const struct kernels *k,
                         const float *cols, int64_t row_len, float *x)
{
    for (int64_t i = 0; i < s->len; i++, cols += row_len) {
        int64_t at = (s->ox + i) * w->sw - w->left;
        if (w->dw == 1 && w->depth == w->c && at >= 0 && at + w->kw <= w->w) {
            k->add(x + at * w->c, cols, x + at * w->c, (size_t)(w->kw * w->c));
            continue;
        }
        for (int64_t kx = 0; kx < w->kw; kx++) {
            int64_t to = at + kx * w->dw;
            if (to >= 0 && to < w->w)
                k->add(x + to * w->c, cols + kx * w->depth, x + to * w->c, (size_t)w->depth);
        }
    }
}

void window_scatter(const struct window *w, int64_t g, const struct kernels *k, const float *cols,
                    int64_t begin, int64_t end, float *x)
{
    int64_t row_len = w->kh * w->kw * w->depth, line_len = w->kw * w->depth;
    for (int64_t row = begin; row < end;) {
        struct span s = span_at(w, row, end);
        for (int64_t ky = 0; ky < w->kh; ky++) {
            int64_t y = s.oy * w->sh - w->top + ky * w->dh;
            if (y < 0 || y >= w->h) continue;
            scatter_line(w, &s, k, cols + ky * line_len, row_len,
                         x + (s.image * w->h + y) * w->w * w->c + g * w->depth);
        }
        row += s.len;
        cols += s.len * row_len;
    }
}
