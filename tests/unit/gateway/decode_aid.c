/* Reads bodies by a protocol, and says what was unexpected. */
#include "tests/unit/gateway/decode_aid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

const char decode_image[] =
    "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,2,3]}],"
    "\"outputs\":[{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[-1,2]},"
    "{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[-1]}]}";

int decode_body(struct infer *r, const struct infer_protocol *p, const struct signature *s, const char *body,
                size_t len, size_t json_len, struct err *e, char **copy)
{
    *copy = malloc(len ? len : 1);
    memcpy(*copy, body, len);
    assert_true(infer_init(r, s));
    return p->decode(r, *copy, len, json_len, e);
}

void accept_body(const struct infer_protocol *p, const struct signature *s, const char *body, struct infer *r)
{
    struct err e = {0};
    char *copy;
    if (decode_body(r, p, s, body, strlen(body), SIZE_MAX, &e, &copy)) fail_msg("%s: %s", body, e.message);
    free(copy); /* nothing points into JSON */
}

void refuse_body(const struct infer_protocol *p, const struct signature *s, const char *body,
                 const char *field, const char *words)
{
    struct infer r;
    struct err e = {0};
    char *copy;
    if (decode_body(&r, p, s, body, strlen(body), SIZE_MAX, &e, &copy) != ERR_INVALID)
        fail_msg("accepted: %s", body);
    if (strcmp(e.field, field) != 0)
        fail_msg("%s\n  field \"%s\" where \"%s\" was expected: %s", body, e.field, field, e.message);
    if (!strstr(e.message, words)) fail_msg("%s\n  \"%s\" does not say \"%s\"", body, e.message, words);
    infer_dispose(&r);
    free(copy);
}

const float *input_floats(const struct infer *r, size_t input, size_t n)
{
    assert_int_equal(r->inputs[input].owned.len, n * sizeof(float));
    return (const float *)(const void *)r->inputs[input].owned.data;
}
