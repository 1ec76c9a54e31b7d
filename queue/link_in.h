/* What a link has read and not yet handed on: records as they come, in memory that their receiver may keep.
 * Inside queue/ only. */
#ifndef QUEUE_LINK_IN_H
#define QUEUE_LINK_IN_H

#include <stdbool.h>
#include "queue/record.h"

struct link_in {
    struct buf memory;  /* owned, or by lent */
    struct bytes *lent; /* memory, held by us and by others; NULL: it is our own */
    size_t at;          /* bytes of memory that were taken */
    size_t reads;       /* what one read is to bring: as much as the last record had, if that was large */
};

void link_in_init(struct link_in *in);
void link_in_dispose(struct link_in *in);

/* Where the next read may put *len bytes; NULL: no memory. records: what comes are records, not the proof. */
char *link_in_room(struct link_in *in, bool records, size_t *len);
/* A read brought so many. */
void link_in_came(struct link_in *in, size_t len);

/* What has come and was not taken: *len bytes. */
const char *link_in_rest(const struct link_in *in, size_t *len);
void link_in_take(struct link_in *in, size_t len);
/* Takes the next record: borrowed until link_in_settle. ERR_NOT_FOUND: it is not whole yet;
 * ERR_TOO_LARGE: longer than LINK_RECORD_MAX. */
int link_in_record(struct link_in *in, const char **data, size_t *len);
/* What a record of len bytes lies in, for somebody to hold; NULL when copying it is cheaper than holding
 * that, or memory is out. */
struct bytes *link_in_keep(struct link_in *in, size_t len);
/* All that was whole has been taken: makes room. False: no memory. */
bool link_in_settle(struct link_in *in);

#endif
