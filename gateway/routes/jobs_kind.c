/* Reads and settles the specs of train, tune and evaluate jobs. */
#include "gateway/routes/jobs_kind.h"

#include <stdio.h>
#include <string.h>
#include "store/job.h"
#include "store/version.h"

enum { SPEC_TOKENS_MAX = 1000000 };

static const char *const type_names[] = {"train", "tune", "evaluate"};

const char *job_type_name(enum job_type t)
{
    return type_names[t];
}

static int find_type(struct job_kind *k, const char *name, struct err *e)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(type_names[i], name) == 0) {
            k->type = (enum job_type)i;
            return 0;
        }
    return err_set(e, ERR_INVALID, "type", "unknown job type; known are train, tune and evaluate");
}

int job_kind_parse(struct job_kind *k, const char *type, const cJSON *spec, struct err *e)
{
    int rc = find_type(k, type, e);
    if (rc != 0) return rc;
    if (k->type == JOB_EVALUATE && spec == NULL) {
        cJSON *none = cJSON_CreateObject();
        rc = review_parse(&k->review, none, "spec", e);
        cJSON_Delete(none);
        return rc;
    }
    if (spec == NULL) return err_set(e, ERR_INVALID, "spec", "'spec' is missing; it must be an object");
    if (k->type == JOB_TRAIN) return spec_parse(&k->train, spec, "spec", e);
    if (k->type == JOB_TUNE) return tune_parse(&k->tune, spec, "spec", e);
    return review_parse(&k->review, spec, "spec", e);
}

/* ---- settling ---- */

static int settle_train(struct job_kind *k, const struct schema *train, const struct schema *test,
                        struct err *e)
{
    struct resolved *r = NULL;
    struct json_writer w;
    int rc = spec_resolve(&r, k->train, train, test, e);
    if (rc != 0) return rc;
    jw_init(&w, &k->json);
    resolved_to_json(r, train, &w);
    k->estimate = r->estimate;
    resolved_free(r);
    return 0;
}

static int settle_tune(struct job_kind *k, const struct schema *train, const struct schema *test,
                       struct err *e)
{
    struct json_writer w;
    enum score_kind score;
    int rc = tune_check(&k->estimate, &score, k->tune, train, test, e);
    if (rc != 0) return rc;
    jw_init(&w, &k->json);
    tune_to_json(k->tune, &w);
    return 0;
}

static int settle_folds(struct job_kind *k, const struct schema *data, struct err *e)
{
    struct resolved *r = NULL;
    struct json_writer w;
    int rc = review_resolve(&r, k->review, data, e);
    if (rc != 0) return rc;
    k->estimate = r->estimate;
    resolved_free(r);
    jw_init(&w, &k->json);
    review_to_json(k->review, &w);
    return 0;
}

/* What the version was made of is in its job; the runner looks closer, at the version itself. */
static int check_columns(struct db *db, const struct version *v, const struct schema *data, struct arena *a,
                         struct err *e)
{
    struct job job;
    cJSON *spec = NULL;
    if (v->job_id[0] == '\0') return 0;
    int rc = job_find(db, v->job_id, a, &job, e);
    if (rc == 0) rc = json_parse(&spec, job.spec, strlen(job.spec), SPEC_TOKENS_MAX, e);
    if (rc == 0) rc = review_columns(spec, data, e);
    cJSON_Delete(spec);
    return rc;
}

static int settle_version(struct job_kind *k, struct db *db, const char *model, const struct schema *data,
                          struct arena *a, struct err *e)
{
    struct version v;
    struct json_writer w;
    int rc = version_find(db, model, k->review->version, k->review->alias, a, &v, e);
    if (rc == ERR_NOT_FOUND && strcmp(e->field, "model") != 0) err_under(e, "spec");
    if (rc == 0) rc = check_columns(db, &v, data, a, e);
    if (rc == 0) rc = review_estimate(&k->estimate, data, (uint64_t)v.bytes, (uint64_t)v.memory_bytes, e);
    if (rc != 0) return rc;
    snprintf(k->version_id, sizeof k->version_id, "%s", v.id);
    jw_init(&w, &k->json);
    jw_obj(&w);
    jw_kint(&w, "version", v.number);
    jw_obj_end(&w);
    return 0;
}

int job_kind_settle(struct job_kind *k, struct db *db, const char *model, const struct schema *train,
                    const struct schema *test, struct arena *a, struct err *e)
{
    int rc;
    buf_clear(&k->json);
    if (k->type == JOB_EVALUATE && test != NULL)
        return err_set(e, ERR_INVALID, "test_dataset",
                       "an evaluate job looks at one dataset; give the rows to measure on as \"dataset\"");
    if (k->train)
        rc = settle_train(k, train, test, e);
    else if (k->tune)
        rc = settle_tune(k, train, test, e);
    else if (k->review->base)
        rc = settle_folds(k, train, e);
    else
        rc = settle_version(k, db, model, train, a, e);
    return rc == 0 && k->json.failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the spec") : rc;
}

void job_kind_dispose(struct job_kind *k)
{
    spec_free(k->train);
    tune_free(k->tune);
    review_free(k->review);
    buf_dispose(&k->json);
}
