/* A conversation with a runner child, as its supervisor leads it. Inside worker/ only. */
#ifndef WORKER_SUPERVISOR_TALK_H
#define WORKER_SUPERVISOR_TALK_H

#include <cjson/cJSON.h>
#include "worker/supervisor_child.h"
#include "worker/supervisor_state.h"

enum { REPORT_TEXT_MAX = 128 };

/* How far a run is: in which of its trainings, epoch and step. */
struct report_place {
    double part, epoch, step;
};

/* What a run tells while it runs, thinned out for Postgres: progress at most twice a second, an event per
 * epoch at most four a second after a burst, a bounded number of messages. The newest that was held back is
 * written when its time has come, or by report_flush. */
struct report {
    struct slot *slot;
    const struct run *run;
    double event_credit;
    int64_t credit_ms;   /* when it was last counted */
    int64_t progress_ms; /* when the row was last written */
    int messages;
    char *held;       /* owned JSON of the newest progress not written yet */
    char *held_event; /* owned JSON of the newest epoch's metrics not written yet */
    char held_text[REPORT_TEXT_MAX];
    cJSON *metrics;            /* owned: the newest that were not empty */
    struct report_place floor; /* nothing at or before this is told: an earlier attempt told it */
    bool stale;                /* Postgres said that the fence is old */
};

/* progress: what an earlier attempt, from whose checkpoint this one goes on, told last; NULL: none. */
void report_init(struct report *r, struct slot *slot, const struct run *run, const char *progress);
void report_restart(struct report *r); /* from the beginning after all */
void report_dispose(struct report *r);
/* Messages of the runner, parsed; what is malformed is ignored: it is progress, nothing depends on it. */
void report_progress(struct report *r, const cJSON *message);
/* Whether that report is the account of a trial or fold that has ended. */
bool report_ends_part(const cJSON *message);
void report_message(struct report *r, const cJSON *message);
void report_due(struct report *r); /* writes what was held back and may go now */
void report_flush(struct report *r);

#endif
