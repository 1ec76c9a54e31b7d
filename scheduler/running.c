/* The books of running jobs: which worker, under which fence, and when it was last told. */
#include "scheduler/scheduler_state.h"

#include <string.h>
#include "base/mem.h"

struct running_job *running_find(const struct scheduler *s, const char *job)
{
    return table_find(&s->running, job);
}

int running_add(struct scheduler *s, struct running_job **out, const struct running_job *job, struct err *e)
{
    struct running_job *known = running_find(s, job->id);
    aside_changed(s);
    if (known) {
        *known = *job;
        if (out) *out = known;
        return 0;
    }
    struct running_job *j = mem_try_alloc(1, sizeof *j);
    if (j) *j = *job;
    if (!j || table_put(&s->running, j->id, j) != 0) {
        mem_free(j);
        return err_set(e, ERR_NOMEM, NULL, "no memory for the books of running jobs");
    }
    if (out) *out = j;
    return 0;
}

void running_remove(struct scheduler *s, const char *job)
{
    struct running_job *j = running_find(s, job);
    if (!j) return;
    aside_changed(s);
    table_remove(&s->running, job);
    mem_free(j);
}

void running_clear(struct scheduler *s)
{
    size_t cursor = 0;
    struct running_job *j;
    aside_changed(s);
    while ((j = table_next(&s->running, &cursor)) != NULL) mem_free(j);
    table_dispose(&s->running);
}

void running_end(struct scheduler *s, const char *job)
{
    struct policy_event ev = {.type = POLICY_JOB_ENDED, .used_ms = -1};
    scheduler__id(ev.job, job);
    running_remove(s, ev.job);
    scheduler__step(s, &ev);
}
