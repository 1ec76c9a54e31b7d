/* What a link has to send: bytes of its own, and runs of others' bytes between them that are sent from where
 * they lie. Inside queue/ only. */
#ifndef QUEUE_LINK_OUT_H
#define QUEUE_LINK_OUT_H

#include <stdbool.h>
#include "queue/record.h"

struct link_out {
    struct buf text; /* owned: the link's own bytes */
    size_t text_at;  /* of these, taken by the kernel */
    struct link_piece {
        size_t at; /* behind so many bytes of text, counted from its beginning */
        const char *data;
        size_t len;
        struct bytes *of; /* held */
    } * pieces;           /* owned: in order; from first on */
    size_t pieces_len, pieces_cap, first;
    size_t waiting; /* bytes not yet taken */
};

void link_out_dispose(struct link_out *o);

/* false: no memory, and o is as it was. */
bool link_out_append(struct link_out *o, const void *data, size_t len);
/* The record's length as a little-endian u32, and the record. */
bool link_out_record(struct link_out *o, const struct record *r);

/* Gives the kernel as much as it takes: 0, EAGAIN when something is left, or errno. */
int link_out_write(struct link_out *o, int fd);

#endif
