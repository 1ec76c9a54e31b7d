/* What gateways and workers say: a job waits, a job is over, nobody holds a model. All of it may be lost,
 * repeated or wrong. */
#include "scheduler/scheduler_state.h"

#include <string.h>
#include "base/log.h"
#include "queue/placement.h"
#include "store/job.h"
#include "store/version.h"

struct brief_read {
    const struct message *m;
    struct job_brief brief;
    enum job_state state;
};

static int read_brief(struct db *db, void *arg, struct err *e)
{
    struct brief_read *r = arg;
    return job_brief_find(db, r->m->job.tenant_id, r->m->job.job_id, &r->brief, &r->state, e);
}

/* The row is the truth; the hint only says where to look. What cannot be read now, the next sweep finds. */
static void on_hint(struct scheduler *s, const struct message *m)
{
    struct brief_read r = {.m = m};
    struct err e = {0};
    if (db_run(s->db, NULL, read_brief, &r, &e) != 0) {
        log_debug("hint_unread", "job=%s message=\"%s\"", m->job.job_id, e.message);
        return;
    }
    if (r.state == JOB_QUEUED) {
        sweep__queued(s, &r.brief);
    } else if (policy_job_state(s->policy, m->job.job_id, NULL) == POLICY_WAITING) {
        struct policy_event ev = {.type = POLICY_JOB_GONE};
        scheduler__id(ev.job, m->job.job_id);
        scheduler__step(s, &ev);
    }
}

static void on_ended(struct scheduler *s, const struct message *m)
{
    const struct running_job *j = running_find(s, m->job.job_id);
    if (!j || j->fence != m->job.fence) return;
    log_info("job_ended", "job=%s worker=%s fence=%lld", j->id, j->worker, (long long)j->fence);
    running_end(s, m->job.job_id);
    s->fleet_due_ms = 0; /* its worker may be about to stop: not to be given another one, or this one again */
    s->reap_due_ms = 0;  /* it may have to wait for a retry, or be queued again */
    s->sweep_due_ms = 0;
}

struct size_read {
    const struct message *m;
    int64_t bytes, memory_bytes;
};

static int read_size(struct db *db, void *arg, struct err *e)
{
    struct size_read *r = arg;
    return version_size(db, r->m->model.tenant_id, r->m->model.version_id, &r->bytes, &r->memory_bytes, e);
}

static void on_place(struct scheduler *s, const struct message *m)
{
    struct size_read r = {.m = m};
    struct err e = {0};
    int rc = db_run(s->db, NULL, read_size, &r, &e);
    if (rc != 0) {
        log_info("placement_refused", "version=%s error=%s message=\"%s\"", m->model.version_id, err_name(rc),
                 e.message);
        return;
    }
    struct policy_event ev = {.type = POLICY_MODEL_WANTED,
                              .model_bytes = r.memory_bytes > r.bytes ? r.memory_bytes : r.bytes};
    scheduler__id(ev.version, m->model.version_id);
    scheduler__id(ev.tenant, m->model.tenant_id);
    scheduler__step(s, &ev);
}

void intake_record(struct scheduler *s, const char *data, size_t len)
{
    struct message m;
    struct err e = {0};
    if (message_decode(&m, NULL, 0, data, len, &e) != 0) {
        log_warn("message_refused", "message=\"%s\"", e.message);
        return;
    }
    switch (m.type) {
    case MESSAGE_HINT:
        on_hint(s, &m);
        return;
    case MESSAGE_JOB_ENDED:
        on_ended(s, &m);
        return;
    case MESSAGE_PLACE:
        on_place(s, &m);
        return;
    default:
        log_warn("message_unexpected", "type=%d", (int)m.type);
    }
}
