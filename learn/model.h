/* A model version in memory: loaded from its artifact once, shared by any number of threads, each with a
 * session of its own.
 *
 *     bytes ─model_load─▶ model ─┬─ session (thread 1): begin ▸ add request ▸ add request ▸ run ▸ output per
 * request └─ session (thread 2)
 *
 * A session stages the rows of several requests into one batch. A request that fails its check leaves the
 * batch as it was, so nobody suffers from a neighbour, and a row's answer has the same bits alone and in
 * company. */
#ifndef LEARN_MODEL_H
#define LEARN_MODEL_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "learn/spec/signature.h"

struct model;
struct model_session;
struct backend;
struct graph;
struct plan;

/* Checks and unpacks an artifact; bytes may be released afterwards. limit_bytes (0: none) bounds model_bytes.
 * ERR_CORRUPT for bytes that no runner wrote, ERR_TOO_LARGE over the limit, ERR_NOMEM. */
int model_load(struct model **out, const void *bytes, size_t len, size_t limit_bytes, struct err *e);
void model_free(struct model *m); /* after its sessions; NULL is fine */

const struct signature *model_signature(const struct model *m); /* borrowed, lives as long as the model */
const char *model_metrics_json(const struct model *m);          /* borrowed, NUL-terminated */
const char *model_lineage_json(const struct model *m);
size_t model_bytes(const struct model *m); /* resident, without sessions */

/* One thread at a time. Memory for max_rows (≥ 1) is taken here; predicting allocates nothing more than texts
 * of labels. */
int model_session_create(struct model_session **out, const struct model *m, int64_t max_rows, struct err *e);
void model_session_free(struct model_session *s);
size_t model_session_bytes(const struct model_session *s);
int64_t model_session_max_rows(const struct model_session *s);

/* One tensor of a request, in signature order. Row-major little-endian; BYTES: per element a 4-byte
 * little-endian length and that many bytes. A number input takes FP32 and converts every other number type (a
 * value that is no finite float is refused); a BYTES input takes BYTES alone. NaN stands for a missing number
 * and the empty text for a missing category, where the model was trained to fill them. */
struct model_input {
    enum datatype datatype;
    const void *data; /* borrowed for the call */
    size_t bytes;
};

/* Empties the session's batch. */
void model_session_begin(struct model_session *s);

/* Stages rows of one request (inputs: as many as the signature has) and says where they stand in *first_row.
 * ERR_INVALID names input
 * ("input", "species") in `field` and the row in the message; ERR_TOO_LARGE when they don't fit beside what
 * is staged. In both cases the batch is unchanged. */
int model_session_add(struct model_session *s, const struct model_input *inputs, int64_t rows,
                      int64_t *first_row, struct err *e);

/* Computes all that is staged. */
int model_session_run(struct model_session *s, struct err *e);

struct model_output {
    enum datatype datatype;
    const void *data; /* the session's, until its next begin */
    size_t bytes;
};

/* Rows [first_row, first_row + rows) of output `index` (signature order), encoded as inputs are. After
 * model_session_run. */
struct model_output model_session_output(const struct model_session *s, size_t index, int64_t first_row,
                                         int64_t rows);

/* begin + add + run for one request. outputs: as many as the signature has. */
int model_predict(struct model_session *s, const struct model_input *inputs, int64_t rows,
                  struct model_output *outputs, struct err *e);

/* The plan that a version with this graph predicts with: of 128 rows at a time, which stay in the caches, or
 * of fewer where their intermediates would take over 128 MiB, as attention's between many steps do. */
int model_plan(struct plan **out, const struct graph *g, const struct backend *backend, struct err *e);

#endif
