/* Answers side by side, number by number. */
#include "gateway/predict/compare.h"

#include <math.h>
#include <string.h>

static bool same_shape(const struct message_tensor *a, const struct message_tensor *b)
{
    return a->dtype == b->dtype && a->ndim == b->ndim &&
           memcmp(a->dims, b->dims, (size_t)a->ndim * sizeof a->dims[0]) == 0;
}

static bool same_number(double a, double b, double tolerance, double *largest)
{
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    if (isinf(a) || isinf(b)) return isinf(a) && isinf(b) && signbit(a) == signbit(b);
    double difference = fabs(a - b);
    if (isinf(difference)) return false;
    if (difference > *largest) *largest = difference;
    return difference <= tolerance;
}

/* The data may stand at any alignment. */
static double number_at(const struct message_tensor *t, size_t i)
{
    const char *data = t->data;
    if (t->dtype == MESSAGE_FP64) {
        double v;
        memcpy(&v, data + i * sizeof v, sizeof v);
        return v;
    }
    float v;
    memcpy(&v, data + i * sizeof v, sizeof v);
    return (double)v;
}

static bool same_tensor(const struct message_tensor *a, const struct message_tensor *b, double tolerance,
                        double *largest)
{
    if (!same_shape(a, b) || a->data_len != b->data_len) return false;
    if (a->dtype != MESSAGE_FP32 && a->dtype != MESSAGE_FP64)
        return a->data_len == 0 || memcmp(a->data, b->data, a->data_len) == 0;
    bool same = true;
    size_t n = a->data_len / message_dtype_size(a->dtype);
    for (size_t i = 0; i < n; i++)
        if (!same_number(number_at(a, i), number_at(b, i), tolerance, largest)) same = false;
    return same;
}

struct comparison compare_answers(const struct message_tensor *a, size_t n, const struct message_tensor *b,
                                  size_t m, double tolerance)
{
    struct comparison c = {.equal = n == m};
    for (size_t i = 0; i < n && i < m; i++)
        if (!same_tensor(&a[i], &b[i], tolerance, &c.largest)) c.equal = false;
    return c;
}
