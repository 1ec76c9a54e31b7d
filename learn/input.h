/* A request's tensors as numbers and texts: sizes checked, datatypes converted. Inside learn. */
#ifndef LEARN_INPUT_H
#define LEARN_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "learn/model.h"
#include "learn/spec/signature.h"

/* Whether the bytes are exactly rows of what the signature says, in a datatype that converts to it.
 * ERR_INVALID with the input's name as `field`. */
int input_check(const struct model_input *in, const struct signature_tensor *want, int64_t rows,
                struct err *e);

/* n elements from element `at`, as floats. ERR_INVALID for an infinite value, or one beyond floats; row and
 * name for the message. */
int input_numbers(const struct model_input *in, int64_t at, int64_t n, float *out, const char *name,
                  int64_t row, struct err *e);

struct input_texts {
    const unsigned char *data; /* borrowed */
    size_t left;
};

/* The next text of a BYTES tensor. False when no whole one is left. */
bool input_next_text(struct input_texts *t, const char **text, size_t *len);

#endif
