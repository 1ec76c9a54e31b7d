/* Submitting a job: the spec is checked against the data before anything is promised, then one transaction,
 * then a hint. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "gateway/routes/jobs_kind.h"
#include "learn/data/schema.h"
#include "queue/heartbeat.h"
#include "queue/inbox.h"
#include "store/dataset.h"
#include "store/job.h"
#include "store/tenant.h"

enum { SCHEMA_TOKENS_MAX = 8 * 1024 * 1024, PRIORITY_MAX = 10, SECONDS_DEFAULT = 3600 };

struct submission {
    struct api_call *c;
    const char *idempotency_key; /* or NULL */
    const char *model, *dataset_id, *test_dataset_id;
    int64_t priority, max_seconds, threads; /* max_seconds 0: default */
    struct job_kind kind;                   /* owned */
    struct schema *train, *test;            /* owned */
    struct idem idem;
    struct job job;
};

static void submission_dispose(struct submission *s)
{
    job_kind_dispose(&s->kind);
    schema_free(s->train);
    schema_free(s->test);
}

/* ---- the request ---- */

static int read_names(struct submission *s, struct json_obj *o, const char **type, struct err *e)
{
    int rc;
    if ((rc = json_take_str(o, "type", 1, 32, type, e)) ||
        (rc = json_take_str(o, "model", 1, 64, &s->model, e)) ||
        (rc = json_take_str(o, "dataset", 1, ID_MAX - 1, &s->dataset_id, e)) ||
        (rc = json_opt_str(o, "test_dataset", 1, ID_MAX - 1, &s->test_dataset_id, e)))
        return rc;
    if (!id_name_valid(s->model))
        return err_set(e, ERR_INVALID, "model",
                       "a model's name is 1 to 64 characters of a-z 0-9 . _ - and starts with a "
                       "letter or digit");
    return 0;
}

static int read_request(struct submission *s, struct err *e)
{
    struct json_obj o;
    const cJSON *spec = NULL;
    const char *type;
    int rc;
    if ((rc = api_body(s->c, &o, e)) || (rc = read_names(s, &o, &type, e)) ||
        (rc = json_opt_int(&o, "priority", -PRIORITY_MAX, PRIORITY_MAX, &s->priority, e)) ||
        (rc = json_opt_int(&o, "max_seconds", 1, 30 * 86400, &s->max_seconds, e)) ||
        (rc = json_opt_int(&o, "threads", 1, HEARTBEAT_JOBS_MAX, &s->threads, e)) ||
        (rc = json_opt_object(&o, "spec", &spec, e)) || (rc = json_obj_close(&o, e)))
        return rc;
    return job_kind_parse(&s->kind, type, spec, e);
}

/* A job of several threads takes as many slots of one worker. One that no worker has would wait for ever
 * without a word; while no worker is there at all, nobody knows. */
static int check_fleet(const struct submission *s, struct err *e)
{
    struct heartbeat *workers;
    struct err away = {0};
    size_t n;
    int64_t most = 0;
    if (heartbeat_list(s->c->redis, &workers, &n, &away) != 0) return 0;
    for (size_t i = 0; i < n; i++) most = workers[i].slots > most ? workers[i].slots : most;
    mem_free(workers);
    if (most == 0 || s->threads <= most) return 0;
    return err_set(e, ERR_INVALID, "threads",
                   "the job asks for %lld threads; the largest worker now has %lld slots for training",
                   (long long)s->threads, (long long)most);
}

/* ---- inside the transaction ---- */

static int load_schema(struct submission *s, struct db *db, const char *id, const char *field,
                       struct schema **out, struct err *e)
{
    struct dataset d;
    cJSON *tree = NULL;
    int rc = id_valid(id, "ds_") ? dataset_find(db, id, s->c->arena, &d, e)
                                 : err_set(e, ERR_NOT_FOUND, NULL, "no id");
    if (rc == ERR_NOT_FOUND) return err_set(e, rc, field, "there is no such dataset");
    if (rc != 0) return rc;
    rc = json_parse(&tree, d.schema, strlen(d.schema), SCHEMA_TOKENS_MAX, e);
    if (rc == 0) rc = schema_from_json(out, tree, "", e);
    cJSON_Delete(tree);
    if (rc == 0) return 0;
    return err_set(e, ERR_CORRUPT, NULL, "the stored schema of %s cannot be read: %s", id, e->message);
}

static int resolve(struct submission *s, struct db *db, struct err *e)
{
    schema_free(s->train); /* of an earlier try of this transaction */
    schema_free(s->test);
    s->train = s->test = NULL;
    int rc = load_schema(s, db, s->dataset_id, "dataset", &s->train, e);
    if (rc == 0 && s->test_dataset_id != NULL)
        rc = load_schema(s, db, s->test_dataset_id, "test_dataset", &s->test, e);
    return rc != 0 ? rc : job_kind_settle(&s->kind, db, s->model, s->train, s->test, s->c->arena, e);
}

/* An hour, where the plan allows that: the time limit decides how much money is set aside. */
static int64_t default_seconds(const struct plan *plan)
{
    return plan->max_job_seconds < SECONDS_DEFAULT ? plan->max_job_seconds : SECONDS_DEFAULT;
}

static int submit(struct submission *s, struct db *db, struct err *e)
{
    struct tenant tenant;
    int rc = tenant_find(db, s->c->who->tenant_id, &tenant, e);
    if (rc != 0) return rc;
    const struct estimate *need = &s->kind.estimate;
    double seconds = estimate_seconds(need, s->threads);
    struct job_new in = {.type = job_type_name(s->kind.type),
                         .model = s->model,
                         .dataset_id = s->dataset_id,
                         .test_dataset_id = s->test_dataset_id,
                         .priority = (int)s->priority,
                         .max_seconds = s->max_seconds > 0 ? s->max_seconds : default_seconds(&tenant.plan),
                         .memory_bytes = (int64_t)estimate_bytes(need, (int)s->threads),
                         .threads = (int)s->threads,
                         .spec = s->kind.json.data,
                         .version_id = s->kind.version_id[0] ? s->kind.version_id : NULL,
                         .estimate_ms = seconds < 1e12 ? (int64_t)(seconds * 1e3) : 0};
    return job_submit(db, &in, &s->c->by, s->c->arena, &s->job, e);
}

static int submit_tx(struct db *db, void *arg, struct err *e)
{
    struct submission *s = arg;
    struct api_call *c = s->c;
    int rc = api_idem_take(c, s->idempotency_key, c->call->body, c->call->body_len, &s->idem, e);
    if (rc != 0 || s->idem.outcome == IDEM_REPLAY) return rc;
    if ((rc = resolve(s, db, e)) || (rc = submit(s, db, e))) return rc;
    job__write(api_reply(c, 201), &s->job);
    return api_idem_finish(c, s->idempotency_key, &s->idem, e);
}

/* ---- after it ---- */

void job__hint(struct api_call *c, const struct job *job)
{
    struct err e = {0};
    struct message m = {.type = MESSAGE_HINT};
    snprintf(m.job.job_id, sizeof(m.job.job_id), "%s", job->id);
    snprintf(m.job.tenant_id, sizeof(m.job.tenant_id), "%s", c->who->tenant_id);
    if (inbox_push(c->redis, INBOX_SCHEDULER, &m, &e) != 0)
        log_warn("hint_not_sent", "job=%s reason=%s", job->id, e.message);
}

int jobs_create(struct api_call *c, struct err *e)
{
    struct submission s = {.c = c, .threads = 1};
    int rc = api_idempotency_key(c, &s.idempotency_key, e);
    if (rc == 0) rc = read_request(&s, e);
    if (rc == 0 && s.threads > 1) rc = check_fleet(&s, e);
    if (rc == 0) rc = db_run(c->db, c->who->tenant_id, submit_tx, &s, e);
    if (rc == 0 && s.idem.outcome == IDEM_REPLAY)
        api_replay(c, &s.idem);
    else if (rc == 0)
        job__hint(c, &s.job);
    submission_dispose(&s);
    return rc;
}
