/* A run of bytes with several holders, freed with the last. The count is not atomic: one thread, or one loop.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include "base/buf.h"

struct bytes;

/* Takes b's memory over; b is empty after. The caller is the first holder. NULL when b has failed, holds no
 * memory, or memory is out: then b is left as it is. */
struct bytes *bytes_share(struct buf *b);
struct bytes *bytes_hold(struct bytes *s); /* s; NULL is fine */
void bytes_drop(struct bytes *s);          /* NULL is fine */

/* b has its memory back when nobody else holds it: true, and s is gone. Else the caller goes on holding. */
bool bytes_return(struct bytes *s, struct buf *b);

#endif
