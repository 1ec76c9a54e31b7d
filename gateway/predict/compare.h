/* Whether two versions gave the same answer. Pure. */
#ifndef GATEWAY_PREDICT_COMPARE_H
#define GATEWAY_PREDICT_COMPARE_H

#include <stddef.h>
#include <stdbool.h>
#include "queue/message.h"

struct comparison {
    bool equal;
    double largest; /* difference of two finite numbers in FP32 and FP64 tensors; 0 when there are none */
};

/* Two answers, n and m tensors in signature order. Equal: as many tensors, each of the same datatype and
 * shape; numbers of FP32 and FP64 that differ by at most tolerance (NaN equals NaN, an infinity itself);
 * every other datatype byte by byte. */
struct comparison compare_answers(const struct message_tensor *a, size_t n, const struct message_tensor *b,
                                  size_t m, double tolerance);

#endif
