/* Checks and converts the tensors of a request. */
#include "learn/input.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "learn/data/utf8.h"

bool input_next_text(struct input_texts *t, const char **text, size_t *len)
{
    if (t->left < 4) return false;
    *len = (size_t)t->data[0] | (size_t)t->data[1] << 8 | (size_t)t->data[2] << 16 | (size_t)t->data[3] << 24;
    if (*len > t->left - 4) return false;
    *text = (const char *)t->data + 4;
    t->data += 4 + *len;
    t->left -= 4 + *len;
    return true;
}

static int check_texts(const struct model_input *in, const struct signature_tensor *want, int64_t rows,
                       struct err *e)
{
    struct input_texts t = {.data = in->data, .left = in->bytes};
    const char *text;
    size_t len;
    for (int64_t row = 0; row < rows; row++) {
        if (!input_next_text(&t, &text, &len))
            return err_set(e, ERR_INVALID, want->name, "\"%s\": the bytes end in row %lld of %lld",
                           want->name, (long long)row, (long long)rows);
        if (!utf8_valid(text, len) || memchr(text, '\0', len))
            return err_set(e, ERR_INVALID, want->name, "\"%s\", row %lld: the text is not valid UTF-8",
                           want->name, (long long)row);
    }
    if (t.left == 0) return 0;
    return err_set(e, ERR_INVALID, want->name, "\"%s\": %zu bytes are left behind the last of %lld rows",
                   want->name, t.left, (long long)rows);
}

int input_check(const struct model_input *in, const struct signature_tensor *want, int64_t rows,
                struct err *e)
{
    bool texts = want->datatype == DATATYPE_BYTES;
    size_t bytes;
    if (texts != (in->datatype == DATATYPE_BYTES))
        return err_set(e, ERR_INVALID, want->name, "\"%s\" is of datatype %s; expected %s", want->name,
                       datatype_name(in->datatype), texts ? "BYTES" : "FP32 (or another number type)");
    if (texts) return check_texts(in, want, rows, e);
    if (__builtin_mul_overflow((size_t)rows, (size_t)signature_width(want) * datatype_bytes(in->datatype),
                               &bytes) ||
        bytes != in->bytes)
        return err_set(e, ERR_INVALID, want->name,
                       "\"%s\" has %zu bytes; %lld rows of %lld %s numbers were expected", want->name,
                       in->bytes, (long long)rows, (long long)signature_width(want),
                       datatype_name(in->datatype));
    return 0;
}

/* One element; p need not be aligned. */
static double number_at(enum datatype t, const unsigned char *p)
{
    union {
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
        float f;
        double d;
    } v;
    switch (t) {
    case DATATYPE_BOOL:
        return p[0] ? 1 : 0;
    case DATATYPE_UINT8:
        return p[0];
    case DATATYPE_INT8:
        return (int8_t)p[0];
    default:
        break;
    }
    memcpy(&v, p, datatype_bytes(t));
    switch (t) {
    case DATATYPE_UINT16:
        return v.u16;
    case DATATYPE_INT16:
        return v.i16;
    case DATATYPE_UINT32:
        return v.u32;
    case DATATYPE_INT32:
        return v.i32;
    case DATATYPE_UINT64:
        return (double)v.u64;
    case DATATYPE_INT64:
        return (double)v.i64;
    case DATATYPE_FP32:
        return (double)v.f;
    default:
        return v.d;
    }
}

static int refuse(const char *name, int64_t row, struct err *e)
{
    return err_set(e, ERR_INVALID, name,
                   "\"%s\", row %lld: expected finite numbers within a 32-bit float (NaN for a missing one)",
                   name, (long long)row);
}

/* In blocks of a fixed length, which compilers turn into vector instructions. False for NaN. */
static bool any_infinite(const float *x, int64_t n)
{
    enum { BLOCK = 16 };
    int found = 0;
    int64_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        for (int k = 0; k < BLOCK; k++) found |= fabsf(x[i + k]) > FLT_MAX;
    for (; i < n; i++) found |= fabsf(x[i]) > FLT_MAX;
    return found != 0;
}

int input_numbers(const struct model_input *in, int64_t at, int64_t n, float *out, const char *name,
                  int64_t row, struct err *e)
{
    size_t size = datatype_bytes(in->datatype);
    const unsigned char *from = (const unsigned char *)in->data + (size_t)at * size;
    if (in->datatype == DATATYPE_FP32) {
        memcpy(out, from, (size_t)n * sizeof *out);
        return any_infinite(out, n) ? refuse(name, row, e) : 0;
    }
    for (int64_t i = 0; i < n; i++) {
        double v = number_at(in->datatype, from + (size_t)i * size);
        if (fabs(v) > (double)FLT_MAX) return refuse(name, row, e);
        out[i] = (float)v;
    }
    return 0;
}
