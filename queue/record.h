/* An encoded message whose large tensors stay where they were read: what a link sends without copying them.
 */
#ifndef QUEUE_RECORD_H
#define QUEUE_RECORD_H

#include "base/buf.h"
#include "base/bytes.h"
#include "queue/message.h"

enum {
    RECORD_LARGE = 16 * 1024, /* bytes of a tensor from which on it is not copied */
    RECORD_PIECES_MAX = 4,    /* the first so many; further ones are copied */
};

struct record_piece {
    size_t at; /* behind so many bytes of the text */
    const char *data;
    size_t len;
    struct bytes *of; /* in which data lies; held */
};

struct record {
    struct buf text; /* owned: all but the pieces; failed tells of memory */
    struct record_piece pieces[RECORD_PIECES_MAX];
    size_t pieces_len;
};

/* r is zeroed. of: what the bytes of each tensor of at least RECORD_LARGE lie in (not read for smaller ones);
 * NULL: all are copied. */
void record_encode(struct record *r, const struct message *m, struct bytes *const *of);
/* *to is zeroed: another record of the same pieces. */
void record_copy(struct record *to, const struct record *r);
void record_dispose(struct record *r); /* r is zeroed */

size_t record_len(const struct record *r); /* bytes in all */

#endif
