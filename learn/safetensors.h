/* The safetensors format: tensors and texts in one file, nothing that could run.
 *
 *     8 bytes: header length (little-endian) | header, JSON, padded with blanks to 8 | tensors, back to back
 *
 * The reader believes nothing: every size is checked against the bytes that are there before it is used. */
#ifndef LEARN_SAFETENSORS_H
#define LEARN_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

enum { SAFETENSORS_MAX_RANK = 8, SAFETENSORS_MAX_HEADER = 32 << 20, SAFETENSORS_MAX_TENSORS = 65536 };

struct safetensor {
    const char *name;
    const char *dtype; /* "F32", "F64", "F16", "BF16", "I8" … "U64", "BOOL" */
    int rank;
    int64_t dim[SAFETENSORS_MAX_RANK];
    const void *data; /* writer: borrowed; reader: points into the file's bytes, aligned to nothing */
    size_t bytes;
};

struct safetensors_meta {
    const char *key, *value; /* borrowed */
};

/* Writes a whole file to fd; *written gets its bytes. ERR_IO, ERR_TOO_LARGE when the header passes its limit.
 */
int safetensors_write(int fd, const struct safetensors_meta *meta, size_t n_meta,
                      const struct safetensor *tensors, size_t n_tensors, uint64_t *written, struct err *e);

struct safetensors;

/* bytes are borrowed until safetensors_free. ERR_CORRUPT saying what is wrong. */
int safetensors_open(struct safetensors **out, const void *bytes, size_t len, struct err *e);
void safetensors_free(struct safetensors *s);

size_t safetensors_count(const struct safetensors *s);
const struct safetensor *safetensors_at(const struct safetensors *s, size_t index);
const struct safetensor *safetensors_find(const struct safetensors *s,
                                          const char *name);                    /* NULL when absent */
const char *safetensors_metadata(const struct safetensors *s, const char *key); /* NULL when absent */

#endif
