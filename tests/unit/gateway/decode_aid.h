/* For tests of what the predict protocols read: bodies that are accepted, and refused at a place. */
#ifndef TESTS_UNIT_GATEWAY_DECODE_AID_H
#define TESTS_UNIT_GATEWAY_DECODE_AID_H

#include "gateway/predict/infer.h"
#include "tests/unit/gateway/signature_fixture.h"

/* A signature: "input", rows of 2 × 3 numbers; out come "probabilities", two of them, and "label". */
extern const char decode_image[];

/* An Open Inference body for it. */
#define OIP_IMAGE(rows, data)                                                                                \
    "{\"inputs\":[{\"name\":\"input\",\"shape\":[" rows ",2,3],\"datatype\":\"FP32\",\"data\":" data "}]}"

/* Decodes from memory of exactly that size, so that a sanitizer sees a read beyond it: *copy, to be freed. */
int decode_body(struct infer *r, const struct infer_protocol *p, const struct signature *s, const char *body,
                size_t len, size_t json_len, struct err *e, char **copy);
void accept_body(const struct infer_protocol *p, const struct signature *s, const char *body,
                 struct infer *r);
/* As ERR_INVALID of that field, in words that contain `words`. */
void refuse_body(const struct infer_protocol *p, const struct signature *s, const char *body,
                 const char *field, const char *words);

/* The n floats that an input was read as. */
const float *input_floats(const struct infer *r, size_t input, size_t n);

#endif
