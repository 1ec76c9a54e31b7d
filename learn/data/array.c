/* Hands an array's elements on, whole, whatever the pieces that they come in, and turns them into numbers. */
#include "learn/data/array.h"

#include <string.h>

int array_open(struct array_body *b, const struct array_head *h, struct err *e)
{
    struct array_head *o = &b->head;
    size_t bytes = data_type_bytes(h->dtype);
    *o = *h;
    o->width = 1;
    if (h->rank < 1 || h->rank > SCHEMA_MAX_RANK + 1)
        return err_set(e, ERR_INVALID, NULL,
                       "the array has %d dimensions; expected 1 to %d, the first one the rows", h->rank,
                       SCHEMA_MAX_RANK + 1);
    for (int i = 0; i < h->rank; i++)
        if (h->dim[i] < 1)
            return err_set(e, ERR_INVALID, NULL, "dimension %d of the array is %lld; expected at least 1", i,
                           (long long)h->dim[i]);
    for (int i = 1; i < h->rank; i++)
        if (__builtin_mul_overflow(o->width, h->dim[i], &o->width) || o->width > 1 << 30)
            return err_set(e, ERR_TOO_LARGE, NULL, "a row of the array holds more than 2^30 numbers");
    if (h->dim[0] > b->limits.max_rows)
        return err_set(e, ERR_TOO_LARGE, NULL, "the array has %lld rows; at most %lld are allowed",
                       (long long)h->dim[0], (long long)b->limits.max_rows);
    uint64_t plain;
    if (__builtin_mul_overflow((uint64_t)h->dim[0], (uint64_t)o->width, &o->elements) ||
        __builtin_mul_overflow(o->elements, bytes, &plain) || plain > b->limits.max_plain_bytes)
        return err_set(e, ERR_TOO_LARGE, NULL,
                       "the array's head announces more than the %llu bytes that are allowed",
                       (unsigned long long)b->limits.max_plain_bytes);
    b->open = true;
    return b->sink.array(b->sink.ctx, o, e);
}

/* What is wrong with an element is said before what is wrong with the length, whatever the pieces. */
static int hand_on(struct array_body *b, const unsigned char *data, size_t count, struct err *e)
{
    uint64_t left = b->head.elements - b->given;
    size_t take = count > left ? (size_t)left : count;
    int rc = take ? b->sink.elements(b->sink.ctx, &b->head, data, take, b->given, e) : 0;
    b->given += take;
    if (rc || take == count) return rc;
    return err_set(e, ERR_INVALID, NULL,
                   "more bytes follow after the %llu elements that the file's head announces",
                   (unsigned long long)b->head.elements);
}

int array_push(struct array_body *b, const unsigned char *data, size_t len, struct err *e)
{
    size_t size = data_type_bytes(b->head.dtype);
    int rc;
    if (b->carried) {
        size_t need = size - b->carried, take = need < len ? need : len;
        memcpy(b->carry + b->carried, data, take);
        b->carried += take;
        data += take;
        len -= take;
        if (b->carried < size) return 0;
        b->carried = 0;
        if ((rc = hand_on(b, b->carry, 1, e))) return rc;
    }
    if ((rc = hand_on(b, data, len / size, e))) return rc;
    b->carried = len % size;
    memcpy(b->carry, data + (len - b->carried), b->carried);
    return 0;
}

int array_finish(struct array_body *b, int64_t *rows, struct err *e)
{
    if (!b->open) return err_set(e, ERR_INVALID, NULL, "the file ends inside its head");
    size_t size = data_type_bytes(b->head.dtype);
    if (b->given < b->head.elements)
        return err_set(e, ERR_INVALID, NULL,
                       "the file is cut short: its head announces %llu bytes of elements (%lld rows), %llu "
                       "came (%lld whole rows)",
                       (unsigned long long)(b->head.elements * size), (long long)b->head.dim[0],
                       (unsigned long long)(b->given * size + b->carried),
                       (long long)(b->given / (uint64_t)b->head.width));
    if (b->carried) return hand_on(b, b->carry, 1, e);
    *rows = b->head.dim[0];
    return 0;
}

static uint64_t load(const unsigned char *p, size_t size, bool big_endian)
{
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++) v = v << 8 | p[big_endian ? i : size - 1 - i];
    return v;
}

double array_element(const struct array_head *h, const unsigned char *raw, size_t i)
{
    size_t size = data_type_bytes(h->dtype);
    uint64_t v = load(raw + i * size, size, h->big_endian);
    switch (h->dtype) {
    case DATA_I8:
        return (int8_t)v;
    case DATA_I16:
        return (int16_t)v;
    case DATA_I32:
        return (int32_t)v;
    case DATA_I64:
        return (double)(int64_t)v;
    case DATA_F32: {
        uint32_t bits = (uint32_t)v;
        float f;
        memcpy(&f, &bits, sizeof f);
        return (double)f;
    }
    case DATA_F64: {
        double d;
        memcpy(&d, &v, sizeof d);
        return d;
    }
    case DATA_BOOL:
        return v ? 1 : 0;
    default:
        return (double)v;
    }
}

void array_floats(const struct array_head *h, const unsigned char *raw, size_t count, float *out)
{
    if (h->dtype == DATA_U8) {
        for (size_t i = 0; i < count; i++) out[i] = (float)raw[i];
    } else if (h->dtype == DATA_F32 && !h->big_endian) {
        memcpy(out, raw, count * sizeof *out);
    } else {
        for (size_t i = 0; i < count; i++) out[i] = (float)array_element(h, raw, i);
    }
}
