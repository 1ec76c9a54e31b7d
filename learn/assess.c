/* Brings a version and a dataset together, and measures. */
#include "learn/assess.h"

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "learn/assess_save.h"
#include "learn/precision.h"
#include "learn/report.h"
#include "learn/spec/put.h"
#include "learn/training.h"

enum { LINEAGE_TOKENS = 1000000 };

struct assessment {
    const struct train_request *request;
    struct train_request data_request; /* the request without the artifact, with the mapped schema */
    struct artifact artifact;
    cJSON *lineage, *schema; /* owned */
    cJSON *spec;             /* inside lineage: what the version was trained by */
    struct training_data data;
    struct training training;
    struct watch watch;
};

/* ---- the version ---- */

static int read_artifact(struct assessment *a, struct err *e)
{
    const struct train_request *q = a->request;
    struct buf bytes = {0};
    int fd = -1;
    a->data_request = *q;
    a->data_request.n_inputs = 0;
    for (size_t i = 0; i < q->n_inputs; i++)
        if (strcmp(q->inputs[i].role, ASSESS_ROLE) == 0)
            fd = q->inputs[i].fd;
        else
            a->data_request.inputs[a->data_request.n_inputs++] = q->inputs[i];
    if (fd < 0) return err_set(e, ERR_INTERNAL, "inputs", "the run was given no model to evaluate");
    int rc = fs_read_fd(&bytes, fd, q->memory_bytes ? q->memory_bytes : SIZE_MAX / 2, e);
    if (!rc) rc = artifact_read(&a->artifact, bytes.data ? bytes.data : "", bytes.len, q->memory_bytes, e);
    buf_dispose(&bytes);
    return rc;
}

/* Of how it was trained only the loss matters now: the rest could not fit a dataset of another size. */
static int keep_loss(cJSON *spec, struct err *e)
{
    static const char *const kept[] = {"loss", "huber_delta"};
    cJSON *old = cJSON_DetachItemFromObjectCaseSensitive(spec, "training");
    cJSON *training = cJSON_AddObjectToObject(spec, "training");
    bool whole = training && cJSON_AddNumberToObject(training, "validation_split", 0);
    for (size_t i = 0; whole && i < 2; i++) {
        cJSON *item = cJSON_DetachItemFromObjectCaseSensitive(old, kept[i]);
        if (item) whole = cJSON_AddItemToObject(training, kept[i], item);
    }
    cJSON_Delete(old);
    return whole ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for the spec");
}

static int read_lineage(struct assessment *a, struct err *e)
{
    const char *text = a->artifact.lineage;
    int rc = json_parse(&a->lineage, text, strlen(text), LINEAGE_TOKENS, e);
    if (rc == ERR_NOMEM) return rc;
    if (rc) return err_set(e, ERR_CORRUPT, NULL, "the model's lineage cannot be read");
    a->spec = cJSON_GetObjectItemCaseSensitive(a->lineage, "spec");
    if (!cJSON_IsObject(a->spec) || !cJSON_IsString(cJSON_GetObjectItemCaseSensitive(a->spec, "target")))
        return err_set(e, ERR_UNSUPPORTED, "version",
                       "the version doesn't say what it was trained to predict; evaluate one that was "
                       "trained here");
    return keep_loss(a->spec, e);
}

/* ---- the dataset in the version's words ---- */

static cJSON *find_column(const cJSON *schema, const char *name)
{
    cJSON *column;
    cJSON_ArrayForEach(column, cJSON_GetObjectItemCaseSensitive(schema, "columns"))
    {
        const cJSON *own = cJSON_GetObjectItemCaseSensitive(column, "name");
        if (cJSON_IsString(own) && strcmp(own->valuestring, name) == 0) return column;
    }
    return NULL;
}

static bool is_type(const cJSON *column, const char *type)
{
    const cJSON *own = cJSON_GetObjectItemCaseSensitive(column, "type");
    return cJSON_IsString(own) && strcmp(own->valuestring, type) == 0;
}

/* Texts, or whole numbers when texts is NULL. */
struct known {
    char *const *texts;
    const int64_t *integers;
    size_t n;
};

static bool knows(const struct known *k, const cJSON *value)
{
    for (size_t i = 0; i < k->n; i++)
        if (k->texts ? cJSON_IsString(value) && strcmp(k->texts[i], value->valuestring) == 0
                     : cJSON_IsNumber(value) && value->valuedouble == (double)k->integers[i])
            return true;
    return false;
}

/* Replaces a column's list of categories or classes by the version's, of which it must be a part: codes then
 * mean what they meant in training. */
static int replace_list(cJSON *column, const char *list, const struct known *k, const char *name,
                        struct err *e)
{
    if (!k->texts && !k->integers)
        return err_set(e, ERR_CORRUPT, "version", "the version has no list for the column \"%s\"", name);
    cJSON *all = cJSON_CreateArray(), *value;
    cJSON_ArrayForEach(value, cJSON_GetObjectItemCaseSensitive(column, list))
    {
        if (knows(k, value)) continue;
        cJSON_Delete(all);
        if (cJSON_IsString(value))
            return err_set(e, ERR_INVALID, "dataset", "the version does not know \"%.64s\" of column \"%s\"",
                           value->valuestring, name);
        return err_set(e, ERR_INVALID, "dataset",
                       "the version does not know the class %.17g of column \"%s\"", value->valuedouble,
                       name);
    }
    bool whole = all != NULL;
    for (size_t i = 0; whole && i < k->n; i++) {
        cJSON *item = k->texts ? cJSON_CreateString(k->texts[i]) : cJSON_CreateNumber((double)k->integers[i]);
        whole = item && cJSON_AddItemToArray(all, item);
        if (!whole) cJSON_Delete(item);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(column, list);
    if (whole && cJSON_AddItemToObject(column, list, all)) return 0;
    cJSON_Delete(all);
    return err_set(e, ERR_NOMEM, NULL, "no memory for the dataset's schema");
}

static int other_type(const char *name, const char *wanted, struct err *e)
{
    return err_set(e, ERR_INVALID, "dataset",
                   "the column \"%s\" is no %s column in this dataset, as it was in training", name, wanted);
}

static int map_feature(cJSON *schema, const struct feature *f, struct err *e)
{
    cJSON *column = find_column(schema, f->name);
    if (!column)
        return err_set(e, ERR_INVALID, "dataset", "the dataset has no column \"%s\", which the version takes",
                       f->name);
    switch (f->kind) {
    case FEATURE_CATEGORY:
        if (!is_type(column, "category")) return other_type(f->name, "category", e);
        return replace_list(column, "categories", &(struct known){.texts = f->categories, .n = f->n_values},
                            f->name, e);
    case FEATURE_NUMBER:
    case FEATURE_INTEGER:
        return is_type(column, "number") ? 0 : other_type(f->name, "number", e);
    case FEATURE_TENSOR:
        return is_type(column, "tensor") ? 0 : other_type(f->name, "tensor", e);
    default:
        return 0;
    }
}

static int map_target(cJSON *schema, const char *name, const struct preprocess *p, struct err *e)
{
    cJSON *column = find_column(schema, name);
    if (!column)
        return err_set(e, ERR_INVALID, "dataset",
                       "the dataset has no column \"%s\", which the version predicts; without it there is "
                       "nothing to compare with",
                       name);
    if (p->task == TASK_SEQUENCE)
        return is_type(column, "text") || is_type(column, "category") ? 0 : other_type(name, "text", e);
    if (p->task != TASK_CLASSIFICATION)
        return is_type(column, "category") ? other_type(name, "number", e) : 0;
    if (p->class_texts) {
        if (!is_type(column, "category")) return other_type(name, "category", e);
        return replace_list(column, "categories", &(struct known){.texts = p->class_texts, .n = p->n_classes},
                            name, e);
    }
    if (!is_type(column, "number") || !cJSON_GetObjectItemCaseSensitive(column, "classes"))
        return err_set(e, ERR_INVALID, "dataset",
                       "the column \"%s\" holds no whole numbers that could be classes", name);
    return replace_list(column, "classes", &(struct known){.integers = p->class_integers, .n = p->n_classes},
                        name, e);
}

static int map_schema(struct assessment *a, struct err *e)
{
    const struct preprocess *p = a->artifact.preprocess;
    int rc = 0;
    a->schema = cJSON_Duplicate(a->request->schema, true);
    if (!a->schema) return err_set(e, ERR_NOMEM, NULL, "no memory for the dataset's schema");
    a->data_request.schema = a->schema;
    for (size_t i = 0; i < p->n_features && !rc; i++) rc = map_feature(a->schema, &p->features[i], e);
    if (rc) return rc;
    return map_target(a->schema, cJSON_GetObjectItemCaseSensitive(a->spec, "target")->valuestring, p, e);
}

/* ---- measuring ---- */

/* What still doesn't fit is the dataset's fault: the spec has trained a version. */
static int resolve(struct assessment *a, struct err *e)
{
    struct train_request unlimited = a->data_request;
    unlimited.memory_bytes = 0; /* it is not trained: the estimate doesn't count */
    a->training =
        (struct training){.request = &unlimited, .spec_json = a->spec, .data = &a->data, .watch = &a->watch};
    int rc = training_resolve(&a->training, e);
    a->training.request = &a->data_request;
    if (rc == ERR_INVALID || rc == ERR_UNSUPPORTED) snprintf(e->field, sizeof e->field, "dataset");
    return rc;
}

static int open_evaluator(struct assessment *a, struct err *e)
{
    a->training.artifact = a->artifact; /* training_dispose releases it from here on */
    a->artifact = (struct artifact){0};
    return evaluator_create(&a->training.evaluator, a->training.artifact.graph,
                            a->training.artifact.preprocess,
                            precision_backend(a->training.artifact.precision), e);
}

static void report(struct assessment *a, const struct assess_place *p)
{
    struct train_progress said = {.phase = "evaluate",
                                  .epoch = 1,
                                  .epochs = 1,
                                  .step = (int64_t)((p->at + p->batch - 1) / p->batch),
                                  .steps = (int64_t)((p->n_rows + p->batch - 1) / p->batch),
                                  .metrics_json = "{}",
                                  .eta_seconds = -1};
    if (watch_may_report(&a->watch)) watch_report(&a->watch, &said);
}

/* Every row with a target, batch by batch, with a checkpoint between two of them. */
static int measure(struct assessment *a, struct err *e)
{
    struct training *t = &a->training;
    const struct training_part *data = &a->data.train;
    struct assess_place p = {
        .request = a->request, .n_rows = data->n_rows, .batch = EVALUATOR_BATCH_ROWS, .m = &t->on_train};
    struct err why = {0};
    int rc;
    if ((rc = training_metrics(t, p.m, p.n_rows, true, e)) || (rc = assess_resume(&p, &a->watch, e)) ||
        (rc = evaluator_load(t->evaluator, t->artifact.params, e)))
        return rc;
    while (p.at < p.n_rows && !rc) {
        size_t left = p.n_rows - p.at, n = left < p.batch ? left : p.batch;
        struct evaluation what = {
            .table = data->table, .classes = data->classes, .rows = data->rows + p.at, .n_rows = n};
        if ((rc = evaluator_add(t->evaluator, &what, p.m, &a->watch, e))) break;
        p.at += n;
        report(a, &p);
        if (p.at < p.n_rows && watch_save_due(&a->watch)) rc = assess_save(&p, &a->watch, e);
    }
    if (rc == ERR_CANCELLED && assess_save(&p, &a->watch, &why))
        watch_message(&a->watch, "warn", "no checkpoint was made: %s", why.message);
    return rc;
}

static int describe(const struct assessment *a, struct buf *out, struct err *e)
{
    struct json_writer w;
    jw_init(&w, out);
    report_assessment(&a->training.on_train, a->training.artifact.preprocess, &w);
    return out->failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the results") : 0;
}

int assess_run(struct train_result *out, const struct train_request *request,
               const struct train_callbacks *callbacks, struct err *e)
{
    struct assessment a = {.request = request};
    int rc;
    *out = (struct train_result){0};
    watch_init(&a.watch, callbacks, request->seconds, request->used_seconds);
    if ((rc = read_artifact(&a, e)) == 0 && (rc = read_lineage(&a, e)) == 0 &&
        (rc = map_schema(&a, e)) == 0 && (rc = training_schemas(&a.data, &a.data_request, e)) == 0 &&
        (rc = resolve(&a, e)) == 0 &&
        (rc = training_read(&a.data, a.training.resolved, &a.data_request, &a.watch, e)) == 0 &&
        (rc = open_evaluator(&a, e)) == 0 && (rc = measure(&a, e)) == 0)
        rc = describe(&a, &out->metrics, e);
    training_dispose(&a.training);
    artifact_dispose(&a.artifact);
    training_data_dispose(&a.data);
    cJSON_Delete(a.lineage);
    cJSON_Delete(a.schema);
    if (rc) train_result_dispose(out);
    return rc;
}
