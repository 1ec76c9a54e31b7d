/* A prediction that waits in a serving thread. Times are clock_mono_us's. */
#ifndef WORKER_WORK_H
#define WORKER_WORK_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/bytes.h"
#include "queue/message.h"

/* One request: a single allocation with its tensors behind it, unless they stay where they were read. */
struct work {
    struct work *next;
    struct message message; /* points into this allocation and into kept */
    struct bytes *kept;     /* in which its tensors' bytes lie; held. NULL: behind it */
    void *from;             /* whom its answer goes to; borrowed */
    size_t bytes;           /* that it takes */
    int64_t arrived_us;
    int64_t due_us;      /* it waits for company no longer */
    int64_t deadline_us; /* nobody wants its answer any more */
    bool answered;       /* a reply has been made of it */
};

/* m may go. kept: what m's record lies in, taken over also on failure; NULL: its bytes are copied. NULL when
 * memory is out. */
struct work *work_create(const struct message *m, void *from, struct bytes *kept);
void work_free(struct work *w); /* NULL is fine */

#endif
