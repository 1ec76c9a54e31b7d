/* The part that IDX and npy share: a checked head, then elements in pieces of any length. */
#ifndef LEARN_DATA_ARRAY_H
#define LEARN_DATA_ARRAY_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "learn/data/format.h"

struct array_body {
    struct format_sink sink;
    struct format_limits limits;
    struct array_head head;
    bool open;              /* the head is known */
    uint64_t given;         /* elements handed to the sink */
    unsigned char carry[8]; /* the first bytes of an element cut by a piece's end */
    size_t carried;
};

/* Takes a head with dtype, big_endian, rank and dim set; fills width and elements, checks every size, tells
 * the sink. */
int array_open(struct array_body *b, const struct array_head *h, struct err *e);
int array_push(struct array_body *b, const unsigned char *data, size_t len, struct err *e);
int array_finish(struct array_body *b, int64_t *rows, struct err *e);

#endif
