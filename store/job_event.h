/* Job events: what happened to a job, in order. Appended in the transaction of what they tell. */
#ifndef STORE_JOB_EVENT_H
#define STORE_JOB_EVENT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/ids.h"
#include "store/db.h"

struct job_event {
    char id[ID_MAX]; /* "evt_…" */
    int64_t seq;     /* 1, 2, … without a gap inside the job, in order of commit */
    int64_t created_at_us;
    char level[8];       /* "info", "warn", "error" */
    char type[16];       /* "status", "metrics", "message" */
    const char *message; /* in the arena */
    const char *data;    /* JSON or NULL */
};

struct job_event_list {
    struct job_event *items; /* in the arena */
    int n;
    bool has_more;
};

/* Oldest first, so `after` the last one seen gives what is new. ERR_NOT_FOUND when there is no such job. */
int job_event_list(struct db *db, const char *job_id, const struct page *p, struct arena *a,
                   struct job_event_list *out, struct err *e);

#endif
