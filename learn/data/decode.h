/* A file as it is stored or uploaded, in pieces: unpacks gzip, recognises the format by its first bytes,
 * feeds its reader. Used by the scanner and by the table reader, so that both read the same thing from the
 * same bytes. */
#ifndef LEARN_DATA_DECODE_H
#define LEARN_DATA_DECODE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "learn/data/format.h"

struct decode_options {
    int format;       /* enum schema_format, or -1: recognise */
    bool arrays_only; /* refuse CSV */
    struct format_limits limits;
};

struct decode;

int decode_create(struct decode **out, const struct decode_options *o, const struct format_sink *sink,
                  struct err *e);
int decode_push(struct decode *d, const void *data, size_t len, struct err *e);
int decode_finish(struct decode *d, int64_t *rows, struct err *e);
enum schema_format decode_format(const struct decode *d); /* after decode_finish */
void decode_free(struct decode *d);

#endif
