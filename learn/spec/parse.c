/* Reads the top of a spec: what to learn from what, and the preprocessing steps. */
#include "learn/spec/parse.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "learn/spec/names.h"

/* A list of different column names. */
static int parse_names(struct spec *s, struct json_obj *o, const char *field, const char ***out, size_t *n,
                       struct err *e)
{
    const cJSON *list = NULL;
    char path[JSON_PATH_MAX], at[JSON_PATH_MAX];
    int rc = json_opt_array(o, field, 1, SCHEMA_MAX_COLUMNS, &list, e);
    if (rc || !list) return rc;
    json_path_name(path, o->path, field);
    *out = spec__alloc(&s->arena, (size_t)cJSON_GetArraySize(list), sizeof **out, e);
    if (!*out) return ERR_NOMEM;
    for (const cJSON *item = list->child; item; item = item->next) {
        json_path_index(at, path, *n);
        if (!cJSON_IsString(item) || !item->valuestring[0])
            return err_set(e, ERR_INVALID, at, "expected the name of a column");
        (*out)[*n] = spec__text(&s->arena, item->valuestring, e);
        if (!(*out)[(*n)++]) return ERR_NOMEM;
    }
    return 0;
}

static int name_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int refuse_twice(const char *const *names, size_t n, const char *path, struct err *e)
{
    const char **sorted = mem_try_alloc(n + 1, sizeof *sorted);
    int rc = 0;
    if (!sorted) return err_set(e, ERR_NOMEM, path, "no memory for the list");
    if (n) memcpy(sorted, names, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, name_order);
    for (size_t i = 1; i < n && !rc; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            rc = err_set(e, ERR_INVALID, path, "the column \"%s\" is listed twice", sorted[i]);
    mem_free(sorted);
    return rc;
}

static int parse_scale(struct step_spec *t, struct json_obj *o, struct err *e)
{
    int rc;
    char path[JSON_PATH_MAX];
    t->min = 0;
    t->max = 1;
    if ((rc = json_opt_num(o, "min", -1e6, 1e6, &t->min, e)) ||
        (rc = json_opt_num(o, "max", -1e6, 1e6, &t->max, e)))
        return rc;
    json_path_name(path, o->path, "max");
    if (t->max <= t->min) return err_set(e, ERR_INVALID, path, "max must be above min");
    return 0;
}

static int parse_rescale(struct step_spec *t, struct json_obj *o, struct err *e)
{
    int rc;
    char path[JSON_PATH_MAX];
    if ((rc = json_take_num(o, "factor", -1e9, 1e9, &t->factor, e)) ||
        (rc = json_opt_num(o, "offset", -1e9, 1e9, &t->offset, e)))
        return rc;
    json_path_name(path, o->path, "factor");
    if (t->factor == 0) return err_set(e, ERR_INVALID, path, "factor must not be 0");
    return 0;
}

static int parse_impute(struct step_spec *t, struct json_obj *o, struct err *e)
{
    int strategy = IMPUTE_MEAN, rc;
    if ((rc = words_opt(&words_impute, o, "strategy", &strategy, e))) return rc;
    t->impute = (enum impute)strategy;
    return t->impute == IMPUTE_CONSTANT ? json_take_num(o, "value", -1e30, 1e30, &t->value, e) : 0;
}

static int parse_tokenise(struct step_spec *t, struct json_obj *o, struct err *e)
{
    struct text_options *x = &t->text;
    int mode = TEXT_WORD, truncate = TEXT_TRUNCATE_END, rc = words_opt(&words_text_mode, o, "mode", &mode, e);
    if (rc) return rc;
    *x = text_options_usual((enum text_mode)mode);
    if ((rc = json_opt_bool(o, "lower", &x->tokenise.lower, e)) ||
        (rc = json_opt_bool(o, "punctuation", &x->tokenise.punctuation, e)) ||
        (rc = json_opt_int(o, "vocabulary", TEXT_ID_FIRST + 1, TEXT_MAX_IDS, &x->max_ids, e)) ||
        (rc = json_opt_int(o, "min_count", 1, INT32_MAX, &x->min_count, e)) ||
        (rc = json_opt_int(o, "length", TEXT_MIN_LENGTH, TEXT_MAX_LENGTH, &x->length, e)) ||
        (rc = words_opt(&words_text_truncate, o, "truncate", &truncate, e)))
        return rc;
    x->truncate = (enum text_truncate)truncate;
    return json_opt_bool(o, "marks", &x->marks, e);
}

static int parse_step(struct spec *s, struct step_spec *t, const cJSON *node, const char *path, struct err *e)
{
    struct json_obj o;
    int op = 0, rc;
    if ((rc = json_obj_open(&o, node, path, e)) || (rc = words_take(&words_step, &o, "op", &op, e)) ||
        (rc = parse_names(s, &o, "columns", &t->columns, &t->n_columns, e)) ||
        (rc = refuse_twice(t->columns, t->n_columns, path, e)))
        return rc;
    t->op = (enum step_op)op;
    switch (t->op) {
    case STEP_SCALE:
        rc = parse_scale(t, &o, e);
        break;
    case STEP_RESCALE:
        rc = parse_rescale(t, &o, e);
        break;
    case STEP_IMPUTE:
        rc = parse_impute(t, &o, e);
        break;
    case STEP_TOKENISE:
        rc = parse_tokenise(t, &o, e);
        break;
    case STEP_STANDARDISE:
    case STEP_ONE_HOT:
        break;
    }
    return rc ? rc : json_obj_close(&o, e);
}

static int parse_steps(struct spec *s, struct json_obj *o, struct err *e)
{
    const cJSON *list = NULL;
    char path[JSON_PATH_MAX], at[JSON_PATH_MAX];
    int rc = json_opt_array(o, "preprocess", 0, SPEC_MAX_STEPS, &list, e);
    if (rc || !list) return rc;
    json_path_name(path, o->path, "preprocess");
    s->preprocess_given = true;
    s->steps = spec__alloc(&s->arena, (size_t)cJSON_GetArraySize(list) + 1, sizeof *s->steps, e);
    if (!s->steps) return ERR_NOMEM;
    for (const cJSON *item = list->child; item && !rc; item = item->next) {
        json_path_index(at, path, s->n_steps);
        rc = parse_step(s, &s->steps[s->n_steps++], item, at, e);
    }
    return rc;
}

static int parse_top(struct spec *s, struct json_obj *o, struct err *e)
{
    const cJSON *architecture = json_obj_find(o, "architecture"), *training = json_obj_find(o, "training");
    char path[JSON_PATH_MAX];
    int rc, task = TASK_AUTO, family = FAMILY_MLP;
    if ((rc = json_opt_str(o, "target", 1, SCHEMA_MAX_NAME, &s->target, e)) ||
        (rc = parse_names(s, o, "features", &s->features, &s->n_features, e)) ||
        (rc = words_opt(&words_task, o, "task", &task, e)) ||
        (rc = words_opt(&words_family, o, "family", &family, e)) || (rc = parse_steps(s, o, e)))
        return rc;
    if (s->target && !(s->target = spec__text(&s->arena, s->target, e))) return ERR_NOMEM;
    s->task = (enum task)task;
    s->family = (enum family)family;
    json_path_name(path, o->path, "features");
    if ((rc = refuse_twice(s->features, s->n_features, path, e))) return rc;
    if ((s->family == FAMILY_LINEAR_REGRESSION && s->task == TASK_CLASSIFICATION) ||
        (s->family == FAMILY_LOGISTIC_REGRESSION && s->task == TASK_REGRESSION)) {
        json_path_name(path, o->path, "task");
        return err_set(e, ERR_INVALID, path, "%s cannot do %s", family_name(s->family), task_name(s->task));
    }
    json_path_name(path, o->path, "training");
    if (training && !cJSON_IsNull(training) && (rc = spec__parse_training(s, training, path, e))) return rc;
    json_path_name(path, o->path, "architecture");
    if (!architecture || cJSON_IsNull(architecture)) return 0;
    if (s->family != FAMILY_MLP && s->family != FAMILY_SEQ2SEQ)
        return err_set(e, ERR_INVALID, path, "the family %s takes no architecture; use the family mlp",
                       family_name(s->family));
    return spec__parse_layers(s, architecture, path, e);
}

int spec_parse(struct spec **out, const cJSON *node, const char *path, struct err *e)
{
    struct json_obj o;
    struct spec *s = mem_alloc(1, sizeof *s);
    int rc;
    *out = NULL;
    arena_init(&s->arena, SIZE_MAX);
    s->training = spec__training_defaults();
    if ((rc = json_obj_open(&o, node, path, e)) || (rc = parse_top(s, &o, e)) ||
        (rc = json_obj_close(&o, e))) {
        spec_free(s);
        return rc;
    }
    memcpy(s->path, o.path, sizeof s->path);
    *out = s;
    return 0;
}

void spec_free(struct spec *s)
{
    if (!s) return;
    arena_dispose(&s->arena);
    mem_free(s);
}
