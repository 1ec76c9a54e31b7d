/* Predictions that are answered later: what of a request its answer needs, as JSON, and the way back from a
 * stored reply to the client's protocol.
 *
 *   predict_run with options.defer ─▶ … decoded, encoded ─▶ defer(x, {record, note}) ─▶ a job (routes/)
 *   a job's stored reply and note ─▶ async_encode ─▶ what the client would have been answered at once
 */
#ifndef GATEWAY_PREDICT_ASYNC_H
#define GATEWAY_PREDICT_ASYNC_H

#include "gateway/predict/infer.h"

/* {"protocol","rows"[,"id"][,"columns"][,"outputs":[{"name"[,"binary"]}]]} */
void async_note(struct buf *out, const struct infer_protocol *protocol, const struct infer *r);

/* reply: an encoded PREDICT_REPLY. route: whose signature the request was checked against, and who has
 * answered. Appends the body; *json_len as infer_protocol.encode. ERR_CORRUPT when they don't belong
 * together. Any thread. */
int async_encode(struct buf *out, size_t *json_len, const char *note, const struct model_route *route,
                 const void *reply, size_t len, struct err *e);

#endif
