/* Shapes: comparing, counting with overflow checked, and writing them for people. */
#include "tensor/tensor.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[DTYPE_COUNT] = {[DTYPE_F32] = {"f32", sizeof(float)}, [DTYPE_I32] = {"i32", sizeof(int32_t)}};

size_t dtype_bytes(enum dtype t)
{
    return dtypes[t].bytes;
}

const char *dtype_name(enum dtype t)
{
    return dtypes[t].name;
}

int dtype_of(const char *name)
{
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (strcmp(dtypes[t].name, name) == 0) return t;
    return -1;
}

struct shape shape_of(int rank, const int64_t *dim)
{
    struct shape s = {.rank = rank};
    for (int i = 0; i < rank; i++) s.dim[i] = dim[i];
    return s;
}

bool shape_equal(const struct shape *a, const struct shape *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

bool shape_batched(const struct shape *s)
{
    return s->rank > 0 && s->dim[0] == SHAPE_BATCH;
}

struct shape shape_with_batch(const struct shape *s, int64_t rows)
{
    struct shape out = *s;
    if (shape_batched(s)) out.dim[0] = rows;
    return out;
}

bool shape_count(const struct shape *s, int64_t rows, size_t *out)
{
    size_t n = 1;
    for (int i = 0; i < s->rank; i++) {
        int64_t d = i == 0 && s->dim[0] == SHAPE_BATCH ? rows : s->dim[i];
        if (d < 0 || __builtin_mul_overflow(n, (size_t)d, &n)) return false;
    }
    *out = n;
    return n <= SHAPE_MAX_COUNT;
}

size_t shape_row_count(const struct shape *s)
{
    size_t n = 0;
    return shape_count(s, 1, &n) ? n : 0;
}

char *shape_text(char out[SHAPE_TEXT_MAX], const struct shape *s)
{
    size_t at = (size_t)snprintf(out, SHAPE_TEXT_MAX, "[");
    for (int i = 0; i < s->rank && at < SHAPE_TEXT_MAX - 24; i++) {
        const char *comma = i > 0 ? ", " : "";
        if (i == 0 && s->dim[0] == SHAPE_BATCH)
            at += (size_t)snprintf(out + at, SHAPE_TEXT_MAX - at, "batch");
        else
            at += (size_t)snprintf(out + at, SHAPE_TEXT_MAX - at, "%s%lld", comma, (long long)s->dim[i]);
    }
    snprintf(out + at, SHAPE_TEXT_MAX - at, "]");
    return out;
}

size_t view_count(const struct view *v)
{
    return shape_row_count(&v->shape);
}
