/* Submitting a job: the spec is checked against the data before anything is promised, then one transaction,
 * then a hint. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "learn/data/schema.h"
#include "learn/spec/spec.h"
#include "queue/inbox.h"
#include "store/dataset.h"
#include "store/job.h"
#include "store/tenant.h"

enum { SCHEMA_TOKENS_MAX = 8 * 1024 * 1024, JOB_THREADS = 1, PRIORITY_MAX = 10, SECONDS_DEFAULT = 3600 };

struct submission {
    struct api_call *c;
    const char *idempotency_key; /* or NULL */
    const char *model, *dataset_id, *test_dataset_id;
    int64_t priority, max_seconds; /* max_seconds 0: default */
    struct spec *spec;             /* owned */
    struct schema *train, *test;   /* owned */
    struct resolved *resolved;     /* owned */
    struct buf resolved_json;      /* owned */
    struct idem idem;
    struct job job;
};

static void submission_dispose(struct submission *s)
{
    spec_free(s->spec);
    schema_free(s->train);
    schema_free(s->test);
    resolved_free(s->resolved);
    buf_dispose(&s->resolved_json);
}

/* ---- the request ---- */

static int read_names(struct submission *s, struct json_obj *o, struct err *e)
{
    const char *type;
    int rc;
    if ((rc = json_take_str(o, "type", 1, 32, &type, e)) ||
        (rc = json_take_str(o, "model", 1, 64, &s->model, e)) ||
        (rc = json_take_str(o, "dataset", 1, ID_MAX - 1, &s->dataset_id, e)) ||
        (rc = json_opt_str(o, "test_dataset", 1, ID_MAX - 1, &s->test_dataset_id, e)))
        return rc;
    if (strcmp(type, "train") != 0)
        return err_set(e, ERR_INVALID, "type", "unknown job type; known is train");
    if (!id_name_valid(s->model))
        return err_set(e, ERR_INVALID, "model",
                       "a model's name is 1 to 64 characters of a-z 0-9 . _ - and starts with a "
                       "letter or digit");
    return 0;
}

static int read_request(struct submission *s, struct err *e)
{
    struct json_obj o;
    const cJSON *spec;
    int rc;
    if ((rc = api_body(s->c, &o, e)) || (rc = read_names(s, &o, e)) ||
        (rc = json_opt_int(&o, "priority", -PRIORITY_MAX, PRIORITY_MAX, &s->priority, e)) ||
        (rc = json_opt_int(&o, "max_seconds", 1, 30 * 86400, &s->max_seconds, e)) ||
        (rc = json_take_object(&o, "spec", &spec, e)) || (rc = json_obj_close(&o, e)))
        return rc;
    return spec_parse(&s->spec, spec, "spec", e);
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
    struct json_writer w;
    schema_free(s->train); /* of an earlier try of this transaction */
    schema_free(s->test);
    resolved_free(s->resolved);
    s->train = s->test = NULL;
    s->resolved = NULL;
    int rc = load_schema(s, db, s->dataset_id, "dataset", &s->train, e);
    if (rc == 0 && s->test_dataset_id != NULL)
        rc = load_schema(s, db, s->test_dataset_id, "test_dataset", &s->test, e);
    if (rc == 0) rc = spec_resolve(&s->resolved, s->spec, s->train, s->test, e);
    if (rc != 0) return rc;
    buf_clear(&s->resolved_json);
    jw_init(&w, &s->resolved_json);
    resolved_to_json(s->resolved, s->train, &w);
    return s->resolved_json.failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the spec") : 0;
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
    struct job_new in = {.type = "train",
                         .model = s->model,
                         .dataset_id = s->dataset_id,
                         .test_dataset_id = s->test_dataset_id,
                         .priority = (int)s->priority,
                         .max_seconds = s->max_seconds > 0 ? s->max_seconds : default_seconds(&tenant.plan),
                         .memory_bytes = (int64_t)s->resolved->estimate.memory_bytes,
                         .threads = JOB_THREADS,
                         .spec = s->resolved_json.data};
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

/* The scheduler's sweep finds the row anyway; this is faster. */
static void hint(struct submission *s)
{
    struct err e = {0};
    struct message m = {.type = MESSAGE_HINT};
    snprintf(m.job.job_id, sizeof(m.job.job_id), "%s", s->job.id);
    snprintf(m.job.tenant_id, sizeof(m.job.tenant_id), "%s", s->c->who->tenant_id);
    if (inbox_push(s->c->redis, INBOX_SCHEDULER, &m, &e) != 0)
        log_warn("hint_not_sent", "job=%s reason=%s", s->job.id, e.message);
}

int jobs_create(struct api_call *c, struct err *e)
{
    struct submission s = {.c = c};
    int rc = api_idempotency_key(c, &s.idempotency_key, e);
    if (rc == 0) rc = read_request(&s, e);
    if (rc == 0) rc = db_run(c->db, c->who->tenant_id, submit_tx, &s, e);
    if (rc == 0 && s.idem.outcome == IDEM_REPLAY)
        api_replay(c, &s.idem);
    else if (rc == 0)
        hint(&s);
    submission_dispose(&s);
    return rc;
}
