/* Lays blocks that live for an interval of steps into one arena, so that blocks that live at the same time
 * never overlap. */
#ifndef TENSOR_PLACE_H
#define TENSOR_PLACE_H

#include <stddef.h>
#include <stdbool.h>
#include "base/err.h"

enum { PLACE_ALIGN = 64 };

struct place_block {
    size_t bytes;
    int first, last; /* steps, inclusive */
    size_t offset;   /* out; a multiple of PLACE_ALIGN */
};

/* Writes every block's offset and the arena's size. Biggest first, each at the lowest offset that is free
 * while it lives. apart: every block gets memory of its own. ERR_NOMEM, or ERR_TOO_LARGE when the sum
 * overflows. */
int place_blocks(struct place_block *blocks, int n, bool apart, size_t *arena_bytes, struct err *e);

#endif
