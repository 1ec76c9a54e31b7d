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

/* Whole numbers of any of the types are finite floats. By way of doubles: so large ones are rounded as ever.
 */
#define CONVERT(type)                                                                                        \
    for (int64_t i = 0; i < n; i++) {                                                                        \
        type v;                                                                                              \
        memcpy(&v, from + (size_t)i * sizeof v, sizeof v);                                                   \
        out[i] = (float)(double)v;                                                                           \
    }                                                                                                        \
    return true

/* n elements at any alignment. False: one of them, a double, is infinite as a float. */
static bool convert(enum datatype t, const unsigned char *from, int64_t n, float *out)
{
    int found = 0;
    switch (t) {
    case DATATYPE_UINT8:
        CONVERT(uint8_t);
    case DATATYPE_INT8:
        CONVERT(int8_t);
    case DATATYPE_UINT16:
        CONVERT(uint16_t);
    case DATATYPE_INT16:
        CONVERT(int16_t);
    case DATATYPE_UINT32:
        CONVERT(uint32_t);
    case DATATYPE_INT32:
        CONVERT(int32_t);
    case DATATYPE_UINT64:
        CONVERT(uint64_t);
    case DATATYPE_INT64:
        CONVERT(int64_t);
    case DATATYPE_BOOL:
        for (int64_t i = 0; i < n; i++) out[i] = from[i] ? 1 : 0;
        return true;
    case DATATYPE_FP32:
        memcpy(out, from, (size_t)n * sizeof *out);
        return !any_infinite(out, n);
    default:
        break;
    }
    for (int64_t i = 0; i < n; i++) {
        double v;
        memcpy(&v, from + (size_t)i * sizeof v, sizeof v);
        found |= fabs(v) > (double)FLT_MAX;
        out[i] = (float)v;
    }
    return found == 0;
}

int input_numbers(const struct model_input *in, int64_t at, int64_t n, float *out, const char *name,
                  int64_t row, struct err *e)
{
    const unsigned char *from = (const unsigned char *)in->data + (size_t)at * datatype_bytes(in->datatype);
    return convert(in->datatype, from, n, out) ? 0 : refuse(name, row, e);
}
