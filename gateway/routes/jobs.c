/* Jobs as they are listed, shown and cancelled, and their events. Submitting is in jobs_submit.c. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "queue/inbox.h"
#include "store/job.h"
#include "store/job_event.h"

static bool is_predict(const struct job *j)
{
    return strcmp(j->type, "predict") == 0;
}

static void error_write(struct json_writer *w, const struct job *j)
{
    jw_name(w, "error");
    if (j->error_code[0] == '\0') {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_kstr(w, "code", j->error_code);
    jw_kstr(w, "message", j->error_message);
    jw_kstr(w, "param", j->error_param);
    jw_obj_end(w);
}

/* What it should take, as far as that can be told beforehand: at the price per second, and never more than
 * what is held. */
static void estimate_write(struct json_writer *w, const struct job *j)
{
    int64_t seconds = (j->estimate_ms + 999) / 1000, cost;
    if (seconds > j->max_seconds) seconds = j->max_seconds;
    if (is_predict(j))
        cost = j->hold_micros; /* rows are known */
    else if (__builtin_mul_overflow(seconds * j->threads, j->price_micros, &cost) || cost > j->hold_micros)
        cost = j->hold_micros;
    jw_name(w, "estimate");
    jw_obj(w);
    jw_knum(w, "seconds", (double)j->estimate_ms / 1e3);
    jw_kint(w, "memory_bytes", j->memory_bytes);
    jw_kint_str(w, "cost_micros", cost);
    jw_obj_end(w);
}

int job__check_visible(const struct api_call *c, const struct job *j, struct err *e)
{
    bool sees_all = (c->who->scopes & c->route->scopes & ~(unsigned)SCOPE_PREDICT) != 0;
    if (sees_all || (is_predict(j) && principal_may_call(c->who, j->model))) return 0;
    return err_set(e, ERR_NOT_FOUND, NULL, "not this key's");
}

static void fields_write(struct json_writer *w, const struct job *j)
{
    jw_kstr(w, "id", j->id);
    jw_kstr(w, "object", "job");
    jw_kstr(w, "type", j->type);
    jw_kstr(w, "status", job_state_name(j->state));
    jw_kbool(w, "cancel_requested", j->cancel_requested);
    jw_kstr(w, "model", j->model);
    api_write_opt(w, "dataset", j->dataset_id);
    api_write_opt(w, "test_dataset", j->test_dataset_id);
    if (j->version_id[0] != '\0')
        jw_kstr(w, is_predict(j) ? "version_id" : "evaluated_version_id", j->version_id);
    jw_kint(w, "priority", j->priority);
    jw_kint(w, "max_seconds", j->max_seconds);
    jw_kint(w, "threads", j->threads);
    api_write_time(w, "created_at", j->created_at_us);
    api_write_time(w, "started_at", j->started_at_us);
    api_write_time(w, "finished_at", j->finished_at_us);
    jw_kint(w, "attempt", j->attempt);
    jw_kint(w, "crashes", j->crashes);
    api_write_raw(w, "progress", j->progress);
    api_write_raw(w, "result", j->result);
    error_write(w, j);
    estimate_write(w, j);
    jw_kint_str(w, "hold_micros", j->hold_micros);
    jw_kint_str(w, "cost_micros", j->cost_micros);
}

void job__write(struct json_writer *w, const struct job *j)
{
    jw_obj(w);
    fields_write(w, j);
    jw_obj_end(w);
}

/* The filters of the list: status and model. */
static int filters(struct api_call *c, int *state, const char **model, struct err *e)
{
    const char *status = request_query(c->request, "status");
    *state = -1;
    *model = request_query(c->request, "model");
    if (status == NULL || (*state = job_state_of(status)) >= 0) return 0;
    return err_set(e, ERR_INVALID, "status",
                   "unknown status; known are queued, running, retry_wait, succeeded, failed, "
                   "cancelled, dead");
}

int jobs_list(struct api_call *c, struct err *e)
{
    struct page page;
    struct job_list list = {0};
    int state;
    const char *model;
    int rc = api_page(c, "job_", &page, e);
    if (rc == 0) rc = filters(c, &state, &model, e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = job_list(c->db, &page, state, model, c->arena, &list, e);
    if ((rc = api_end(c, rc, e)) != 0) return rc;
    struct json_writer *w = api_list_begin(c);
    for (int i = 0; i < list.n; i++) job__write(w, &list.items[i]);
    api_list_end(c, list.n ? list.items[0].id : NULL, list.n ? list.items[list.n - 1].id : NULL,
                 list.has_more);
    return 0;
}

int jobs_get(struct api_call *c, struct err *e)
{
    struct job job;
    char why[JOB_WAITING_MAX];
    int rc = api_param_id(c, 0, "job_", "job", e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = job_find(c->db, api_param(c, 0), c->arena, &job, e);
    if (rc == 0) rc = job__check_visible(c, &job, e);
    if ((rc = api_end(c, rc, e)) != 0) return api_not_found(rc, "job", e);
    const char *waits = job__waiting_reason(c, &job, why);
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    fields_write(w, &job);
    if (waits) jw_kstr(w, "waiting_reason", waits);
    jw_obj_end(w);
    return 0;
}

/* ---- cancelling ---- */

struct cancel {
    struct api_call *c;
    struct job job;
    char worker[ID_MAX];
};

static int cancel_tx(struct db *db, void *arg, struct err *e)
{
    struct cancel *k = arg;
    int rc = job_find(db, api_param(k->c, 0), k->c->arena, &k->job, e);
    if (rc == 0) rc = job__check_visible(k->c, &k->job, e);
    return rc != 0 ? rc : job_cancel(db, api_param(k->c, 0), &k->c->by, k->c->arena, &k->job, k->worker, e);
}

/* A body is not needed; an empty object is what many clients send. */
static int check_empty(struct api_call *c, struct err *e)
{
    struct json_obj o;
    if (c->call->body_len == 0) return 0;
    int rc = api_body(c, &o, e);
    return rc != 0 ? rc : json_obj_close(&o, e);
}

/* The worker would see it at its next renewal anyway; this is faster. */
static void tell_worker(struct cancel *k)
{
    struct err e = {0};
    char key[INBOX_KEY_MAX];
    struct message m = {.type = MESSAGE_JOB_CANCEL, .job = {.fence = k->job.fence}};
    snprintf(m.job.job_id, sizeof(m.job.job_id), "%s", k->job.id);
    snprintf(m.job.tenant_id, sizeof(m.job.tenant_id), "%s", k->job.tenant_id);
    inbox_worker_key(key, k->worker);
    if (inbox_push(k->c->redis, key, &m, &e) != 0)
        log_warn("cancel_not_sent", "job=%s reason=%s", k->job.id, e.message);
}

int jobs_cancel(struct api_call *c, struct err *e)
{
    struct cancel k = {.c = c};
    int rc = api_param_id(c, 0, "job_", "job", e);
    if (rc == 0) rc = check_empty(c, e);
    if (rc == 0) rc = db_run(c->db, c->who->tenant_id, cancel_tx, &k, e);
    if (rc != 0) return api_not_found(rc, "job", e);
    if (!job_state_ended(k.job.state) && k.worker[0] != '\0') tell_worker(&k);
    job__write(api_reply(c, 200), &k.job);
    return 0;
}

/* ---- events ---- */

static void event_write(struct json_writer *w, const struct job_event *v)
{
    jw_obj(w);
    jw_kstr(w, "id", v->id);
    jw_kstr(w, "object", "job.event");
    api_write_time(w, "created_at", v->created_at_us);
    jw_kstr(w, "level", v->level);
    jw_kstr(w, "type", v->type);
    jw_kstr(w, "message", v->message);
    api_write_raw(w, "data", v->data);
    jw_obj_end(w);
}

int jobs_events(struct api_call *c, struct err *e)
{
    struct page page;
    struct job_event_list list = {0};
    int rc = api_param_id(c, 0, "job_", "job", e);
    if (rc == 0) rc = api_page(c, "evt_", &page, e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = job_event_list(c->db, api_param(c, 0), &page, c->arena, &list, e);
    if ((rc = api_end(c, rc, e)) != 0) return api_not_found(rc, "job", e);
    struct json_writer *w = api_list_begin(c);
    for (int i = 0; i < list.n; i++) event_write(w, &list.items[i]);
    api_list_end(c, list.n ? list.items[0].id : NULL, list.n ? list.items[list.n - 1].id : NULL,
                 list.has_more);
    return 0;
}
