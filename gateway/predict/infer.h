/* A predict request between its protocol and the wire: checked tensors in signature order, and what the
 * client wants back. */
#ifndef GATEWAY_PREDICT_INFER_H
#define GATEWAY_PREDICT_INFER_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/buf.h"
#include "base/err.h"
#include "gateway/predict/predict.h"
#include "learn/spec/signature.h"
#include "queue/message.h"

_Static_assert((int)MESSAGE_BOOL == (int)DATATYPE_BOOL + 1 && (int)MESSAGE_FP32 == (int)DATATYPE_FP32 + 1 &&
                   (int)MESSAGE_BYTES == (int)DATATYPE_BYTES + 1 && DATATYPE_COUNT == (int)MESSAGE_BYTES,
               "wire datatypes are the signature's, plus one");

struct infer_input {
    bool given;
    enum datatype datatype;
    struct buf owned; /* decoded from JSON, or empty */
    const char *raw;  /* or bytes of the request's body (binary extension); borrowed */
    size_t raw_len;
};

struct infer_output {
    size_t index; /* in the signature */
    bool binary;
    bool chosen; /* binary is what this output itself asked for */
};

struct infer {
    const struct signature *signature; /* borrowed */
    struct infer_input *inputs;        /* owned: one per input of the signature */
    int64_t rows;                      /* 1 … MESSAGE_ROWS_MAX */
    int64_t timeout_us;                /* parameters.timeout; 0: none given */

    /* What the reply needs. */
    struct buf id; /* OIP: the client's id, when has_id */
    bool has_id;
    struct infer_output *outputs; /* owned: wanted, in order of the reply */
    size_t outputs_len;
    bool columns; /* TensorFlow Serving: "inputs" was used, so "outputs" answers */
};

/* false: no memory. Every output is wanted, in signature order, as JSON. */
bool infer_init(struct infer *r, const struct signature *s);
void infer_dispose(struct infer *r);

/* Each input was given: 0, or ERR_INVALID naming the first that was not. */
int infer_check_complete(const struct infer *r, struct err *e);

/* What a reply is written from. tensors: all outputs in signature order. */
struct infer_answer {
    const struct model_route *route; /* borrowed, as all below */
    const struct message_tensor *tensors;
    size_t tensors_len;
};

/* A predict protocol: a decoder of bodies and an encoder of replies. */
struct infer_protocol {
    const char *name;       /* "oip" */
    const char *rows_field; /* where its rows stand, unless in columns: for messages */
    /* 0 when models of that signature can answer it; else ERR_INVALID. NULL: all can. */
    int (*suits)(const struct signature *s, struct err *e);
    /* json_len: the part of the body that is JSON; SIZE_MAX: all of it. r is initialised. */
    int (*decode)(struct infer *r, const char *body, size_t len, size_t json_len, struct err *e);
    /* Appends the reply; *json_len is the length of its JSON part when raw tensors follow, else 0. */
    void (*encode)(const struct infer *r, const struct infer_answer *a, struct buf *out, size_t *json_len);
};

extern const struct infer_protocol oip_protocol; /* Open Inference Protocol */
extern const struct infer_protocol tfs_protocol; /* TensorFlow Serving REST: :predict */
extern const struct infer_protocol tfs_classify_protocol, tfs_regress_protocol; /* :classify, :regress */
const struct infer_protocol *infer_protocol_find(const char *name);             /* by its name, or NULL */

#endif
