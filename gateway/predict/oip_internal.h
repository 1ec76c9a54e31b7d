/* What oip.c, which reads, has of oip_reply.c, which writes. */
#ifndef GATEWAY_PREDICT_OIP_INTERNAL_H
#define GATEWAY_PREDICT_OIP_INTERNAL_H

#include "gateway/predict/infer.h"

/* As infer_protocol.encode. */
void oip__encode(const struct infer *r, const struct infer_answer *a, struct buf *out, size_t *json_len);

#endif
