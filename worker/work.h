/* A prediction that waits in a serving thread. Times are clock_mono_us's. */
#ifndef WORKER_WORK_H
#define WORKER_WORK_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "queue/message.h"

/* One request: a single allocation with its record's copy behind it. */
struct work {
    struct work *next;
    struct message message; /* points into this allocation */
    void *from;             /* whom its answer goes to; borrowed */
    size_t bytes;           /* of the allocation */
    int64_t arrived_us;
    int64_t due_us;      /* it waits for company no longer */
    int64_t deadline_us; /* nobody wants its answer any more */
    bool answered;       /* a reply has been made of it */
};

/* m's record is copied, m may go. NULL when memory is out. */
struct work *work_create(const struct message *m, void *from);
void work_free(struct work *w); /* NULL is fine */

#endif
