/* Reads an evaluate job's spec, and settles what its run needs. */
#include "learn/spec/review.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "learn/spec/put.h"
#include "learn/spec/resolve.h"

enum { USUAL_FOLDS = 5, ALIAS_MAX = 64, BATCH_ROWS = 256 };
/* The most of a model's scores that an assessment keeps (learn/metrics.h): of 100 classes, and in all. */
enum { SCORES_A_ROW = 400, SCORES_MAX_BYTES = 64 << 20 };

static int parse_folds(struct review_spec *s, struct json_obj *o, struct err *e)
{
    int64_t seed = 1;
    int rc;
    s->folds = USUAL_FOLDS;
    s->stratified = true;
    if ((rc = json_opt_int(o, "folds", 2, REVIEW_MAX_FOLDS, &s->folds, e)) ||
        (rc = json_opt_bool(o, "stratified", &s->stratified, e)) ||
        (rc = json_opt_int(o, "seed", 0, 9007199254740991, &seed, e)))
        return rc;
    s->seed = (uint64_t)seed;
    return json_obj_close(o, e);
}

static int parse(struct review_spec *s, struct err *e)
{
    struct json_obj o;
    char path[JSON_PATH_MAX];
    int rc;
    if ((rc = json_obj_open(&o, s->tree, s->path, e)) || (rc = json_opt_object(&o, "base", &s->base, e)))
        return rc;
    if (s->base) return parse_folds(s, &o, e);
    json_path_name(path, o.path, "base");
    if (json_obj_find(&o, "folds"))
        return err_set(e, ERR_INVALID, path, "folds cross-validate a training spec; put it under \"base\"");
    if ((rc = json_opt_int(&o, "version", 1, INT32_MAX, &s->version, e)) ||
        (rc = json_opt_str(&o, "alias", 1, ALIAS_MAX, &s->alias, e)))
        return rc;
    json_path_name(path, o.path, "alias");
    if (s->version && s->alias)
        return err_set(e, ERR_INVALID, path, "a version and an alias are two answers to one question");
    return json_obj_close(&o, e);
}

int review_parse(struct review_spec **out, const cJSON *node, const char *path, struct err *e)
{
    struct review_spec *s = mem_alloc(1, sizeof *s);
    *out = NULL;
    snprintf(s->path, sizeof s->path, "%s", path);
    s->tree = cJSON_Duplicate(node, true);
    int rc = s->tree ? parse(s, e) : err_set(e, ERR_NOMEM, path, "no memory for the spec");
    if (rc)
        review_free(s);
    else
        *out = s;
    return rc;
}

void review_free(struct review_spec *s)
{
    if (!s) return;
    cJSON_Delete(s->tree);
    mem_free(s);
}

void review_to_json(const struct review_spec *s, struct json_writer *w)
{
    jw_obj(w);
    jw_name(w, "base");
    jw_node(w, s->base);
    jw_kint(w, "folds", s->folds);
    jw_kbool(w, "stratified", s->stratified);
    jw_kint(w, "seed", (int64_t)s->seed);
    jw_obj_end(w);
}

/* The fold itself is what is held back; a second part only for a run that stops by it. */
static int settle_split(cJSON *base, struct err *e)
{
    const cJSON *held = spec_at(base, "training.validation_split");
    const cJSON *stopping = spec_at(base, "training.early_stopping");
    const cJSON *monitor = spec_at(base, "training.early_stopping.monitor");
    bool by_validation = cJSON_IsObject(stopping) &&
                         (!cJSON_IsString(monitor) || strncmp(monitor->valuestring, "val_", 4) == 0);
    if ((held && !cJSON_IsNull(held)) || by_validation) return 0;
    cJSON *none = cJSON_CreateNumber(0);
    int rc = none ? spec_put(base, "training.validation_split", none, "spec.base.training", e)
                  : err_set(e, ERR_NOMEM, NULL, "no memory for the spec");
    cJSON_Delete(none);
    return rc;
}

int review_base(cJSON **out, const struct review_spec *s, struct err *e)
{
    cJSON *base = cJSON_Duplicate(s->base, true);
    int rc = base ? settle_split(base, e) : err_set(e, ERR_NOMEM, s->path, "no memory for the spec");
    if (rc) {
        cJSON_Delete(base);
        base = NULL;
    }
    *out = base;
    return rc;
}

int review_resolve(struct resolved **out, const struct review_spec *s, const struct schema *data,
                   struct err *e)
{
    struct schema most = *data; /* shallow: all but the rows of one fold */
    struct spec *spec = NULL;
    char path[JSON_PATH_MAX];
    cJSON *base = NULL;
    *out = NULL;
    json_path_name(path, s->path, "folds");
    int rc = review_base(&base, s, e);
    if (!rc && data->rows < 2 * s->folds)
        rc = err_set(e, ERR_INVALID, path, "%lld rows are too few for %lld folds; a fold needs two",
                     (long long)data->rows, (long long)s->folds);
    most.rows -= (data->rows + s->folds - 1) / s->folds;
    json_path_name(path, s->path, "base");
    if (!rc) rc = spec_parse(&spec, base, path, e);
    if (!rc) rc = spec_resolve(out, spec, &most, NULL, e);
    spec_free(spec);
    cJSON_Delete(base);
    if (rc) return rc;
    struct estimate *need = &(*out)->estimate;
    need->seconds *= (double)s->folds;
    need->step_seconds *= (double)s->folds;
    /* all rows at once, and the fold's checkpoint on its way into the job's own */
    if (!__builtin_add_overflow(need->memory_bytes, need->data_bytes, &need->memory_bytes) &&
        !__builtin_add_overflow(need->memory_bytes, 2 * need->checkpoint_bytes, &need->memory_bytes))
        return 0;
    resolved_free(*out);
    *out = NULL;
    return err_set(e, ERR_TOO_LARGE, "dataset", "the run would need more memory than any machine has");
}

int review_columns(const cJSON *made_of, const struct schema *data, struct err *e)
{
    const cJSON *base = spec_at(made_of, "base"), *spec = base ? base : made_of;
    const cJSON *target = spec_at(spec, "target"), *feature;
    if (cJSON_IsString(target) && !schema_find(data, target->valuestring))
        return err_set(e, ERR_INVALID, "dataset",
                       "the dataset has no column \"%s\", which the version predicts; without it there is "
                       "nothing to compare with",
                       target->valuestring);
    cJSON_ArrayForEach(feature, spec_at(spec, "features"))
    {
        if (cJSON_IsString(feature) && !schema_find(data, feature->valuestring))
            return err_set(e, ERR_INVALID, "dataset",
                           "the dataset has no column \"%s\", which the version takes", feature->valuestring);
    }
    return 0;
}

int review_estimate(struct estimate *out, const struct schema *data, uint64_t artifact_bytes,
                    uint64_t model_bytes, struct err *e)
{
    const uint64_t fixed = (uint64_t)48 << 20;
    uint64_t row = 16, table, floats = 0, once, scores;
    for (size_t i = 0; i < data->n_columns; i++) {
        const struct column *c = &data->columns[i];
        uint64_t width = (uint64_t)column_width(c);
        row += width * (c->type == COLUMN_TENSOR && c->dtype == DATA_U8 ? 1 : 8);
        floats += width;
    }
    *out = (struct estimate){.model_bytes = model_bytes, .threads = 1};
    scores = (uint64_t)data->rows * SCORES_A_ROW;
    if (scores > SCORES_MAX_BYTES) scores = SCORES_MAX_BYTES;
    out->checkpoint_bytes = scores + CHECKPOINT_TEXTS;
    /* the file and what is unpacked of it; batches of evaluation are larger than those of serving; the scores
     * that are kept, and those in two checkpoints */
    if (__builtin_mul_overflow(row, (uint64_t)data->rows, &table) ||
        __builtin_mul_overflow(artifact_bytes, 3, &once) ||
        __builtin_mul_overflow(model_bytes, BATCH_ROWS / 64, &model_bytes) ||
        __builtin_add_overflow(table, once, &once) || __builtin_add_overflow(once, model_bytes, &once) ||
        __builtin_add_overflow(once, fixed + floats * BATCH_ROWS * 8 + scores + 2 * out->checkpoint_bytes,
                               &out->memory_bytes))
        return err_set(e, ERR_TOO_LARGE, "dataset", "the run would need more memory than any machine has");
    out->data_bytes = table;
    out->seconds = 0.2 + (double)table / 100e6;
    return 0;
}
