/* The checkpoint of a job that is not one training: a safetensors file with what the job knows as JSON, and
 * bytes by name, such as the checkpoints of the trainings inside it (learn/checkpoint.h).
 *
 *   tensors   as the job names them; flat
 *   metadata  tenor.format    "tenor.search.1", "tenor.folds.1", "tenor.assessment.1"
 *             tenor.digest    SHA-256 of all that decides what the job computes
 *             tenor.state     JSON, the job's own
 *
 * A reader believes nothing: a file of another job, or one that is cut or altered, is refused. Any thread. */
#ifndef LEARN_CHECKPOINT_BUNDLE_H
#define LEARN_CHECKPOINT_BUNDLE_H

#include <stddef.h>
#include <stdint.h>
#include "base/crypto.h"
#include "base/err.h"
#include "base/json.h"
#include "learn/train.h"

enum { BUNDLE_NAME_MAX = 32 };

struct bundle_item {
    char name[BUNDLE_NAME_MAX];
    const char *dtype; /* "U8", "I32", "I64", "F32", "F64" */
    const void *data;  /* borrowed */
    size_t bytes;
};

/* Of the job's spec, its data's schemas, where it comes from, and the format. ERR_NOMEM. */
int bundle_digest(char out[SHA256_HEX_LEN], const char *format, const struct train_request *q, struct err *e);

/* Replaces the file behind fd. state is a whole JSON object. ERR_IO, ERR_NOMEM, ERR_TOO_LARGE. */
int bundle_write(int fd, const char *format, const char *digest, const char *state,
                 const struct bundle_item *items, size_t n, uint64_t *bytes, struct err *e);

struct bundle; /* an open file; its bytes are borrowed until bundle_close */

/* ERR_CORRUPT for what is no sound file of that format, ERR_CONFLICT for that of another job, ERR_NOMEM. */
int bundle_open(struct bundle **out, const void *bytes, size_t len, const char *format, const char *digest,
                struct err *e);
void bundle_close(struct bundle *b);
const cJSON *bundle_state(const struct bundle *b);
size_t bundle_count(const struct bundle *b);
/* Item i of bundle_count; its data points into the file's bytes, aligned to nothing. ERR_CORRUPT for one that
 * is not flat, or whose name is too long. */
int bundle_item(struct bundle_item *out, const struct bundle *b, size_t i, struct err *e);

#endif
