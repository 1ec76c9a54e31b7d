/* Settles what is learnt from what: target, features, task and classes, against the dataset and its test
 * dataset. */
#include "learn/spec/resolve.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "learn/spec/names.h"

enum {
    FEW_CLASSES = 20,
    MAX_TARGETS = 1024
}; /* FEW_CLASSES: an integer column of a CSV with more is taken for a quantity */

const char *resolve__path(const struct resolving *v, const char *name, char out[JSON_PATH_MAX])
{
    json_path_name(out, v->spec->path, name);
    return out;
}

const struct column *resolve__test_column(const struct resolving *v, const struct column *c)
{
    return v->test ? schema_find(v->test, c->name) : NULL;
}

static bool is_table(const struct resolving *v)
{
    return v->train->format == SCHEMA_CSV;
}

static int column_index(const struct schema *s, const char *name)
{
    const struct column *c = schema_find(s, name);
    return c ? (int)(c - s->columns) : -1;
}

static int find_target(struct resolving *v, struct err *e)
{
    char path[JSON_PATH_MAX];
    const char *name = v->spec->target ? v->spec->target : is_table(v) ? NULL : "labels";
    resolve__path(v, "target", path);
    if (!name)
        return err_set(e, ERR_INVALID, path,
                       "the target is missing; name the column that is to be predicted");
    v->r->target = column_index(v->train, name);
    if (v->r->target < 0 && !is_table(v) && strcmp(name, "labels") == 0)
        return err_set(e, ERR_INVALID, "dataset",
                       "the dataset has no labels; upload features and labels together");
    if (v->r->target < 0) return err_set(e, ERR_INVALID, path, "the dataset has no column \"%s\"", name);
    const struct column *c = &v->train->columns[v->r->target];
    if (c->type == COLUMN_TEXT && v->spec->family != FAMILY_SEQ2SEQ)
        return err_set(e, ERR_INVALID, path,
                       "the column \"%s\" holds free text (more than %d different values)", name,
                       SCHEMA_MAX_CATEGORIES);
    if (!is_table(v) && strcmp(name, "labels") != 0)
        return err_set(e, ERR_INVALID, path, "the target of an array dataset is \"labels\"");
    if (c->missing == v->train->rows)
        return err_set(e, ERR_INVALID, path, "the column \"%s\" has no value at all", name);
    return 0;
}

static int add_feature(struct resolving *v, int column, const char *path, struct err *e)
{
    const struct column *c = &v->train->columns[column];
    if (column == v->r->target)
        return err_set(e, ERR_INVALID, path, "the target \"%s\" cannot be a feature too", c->name);
    if (c->missing == v->train->rows * column_width(c))
        return err_set(e, ERR_INVALID, path,
                       "the column \"%s\" has no value at all; list the features without it", c->name);
    const char *name = spec__text(&v->r->arena, c->name, e);
    if (!name) return ERR_NOMEM;
    v->r->features[v->r->n_features++] =
        (struct feature_spec){.name = name, .column = column, .width = column_width(c)};
    if (c->type == COLUMN_CATEGORY) v->r->has_categories = true;
    return 0;
}

static int find_features(struct resolving *v, struct err *e)
{
    const struct spec *s = v->spec;
    char path[JSON_PATH_MAX], at[JSON_PATH_MAX];
    int rc = 0;
    resolve__path(v, "features", path);
    v->r->table = is_table(v);
    v->r->features = spec__alloc(&v->r->arena, v->train->n_columns, sizeof *v->r->features, e);
    if (!v->r->features) return ERR_NOMEM;
    for (size_t i = 0; i < s->n_features && !rc; i++) {
        int column = column_index(v->train, s->features[i]);
        json_path_index(at, path, i);
        if (column < 0)
            return err_set(e, ERR_INVALID, at, "the dataset has no column \"%s\"", s->features[i]);
        rc = add_feature(v, column, at, e);
    }
    for (size_t i = 0; s->n_features == 0 && i < v->train->n_columns && !rc; i++)
        if ((int)i != v->r->target) rc = add_feature(v, (int)i, path, e);
    if (rc) return rc;
    if (v->r->n_features == 0) return err_set(e, ERR_INVALID, path, "no feature is left beside the target");
    return 0;
}

/* ---- task and classes ---- */

static enum task infer_task(const struct resolving *v, const struct column *c)
{
    if (v->spec->task != TASK_AUTO) return v->spec->task;
    if (v->spec->family == FAMILY_LINEAR_REGRESSION) return TASK_REGRESSION;
    if (v->spec->family == FAMILY_LOGISTIC_REGRESSION || c->type == COLUMN_CATEGORY)
        return TASK_CLASSIFICATION;
    if (c->type == COLUMN_TENSOR || c->n_classes == 0 || c->dtype == DATA_F32 || c->dtype == DATA_F64)
        return TASK_REGRESSION;
    return !is_table(v) || c->n_classes <= FEW_CLASSES ? TASK_CLASSIFICATION : TASK_REGRESSION;
}

static int set_classes(struct resolving *v, const struct column *c, const char *path, struct err *e)
{
    struct resolved *r = v->r;
    if (c->type == COLUMN_TENSOR || (c->type == COLUMN_NUMBER && c->n_classes == 0))
        return err_set(e, ERR_INVALID, path,
                       "\"%s\" cannot be classified: classes are texts, or at most %d different integers",
                       c->name, SCHEMA_MAX_CLASSES);
    r->integer_labels = c->type == COLUMN_NUMBER;
    r->n_classes = r->integer_labels ? c->n_classes : c->n_categories;
    if (r->n_classes < 2)
        return err_set(e, ERR_INVALID, path, "\"%s\" has only one class; there is nothing to tell apart",
                       c->name);
    if (r->integer_labels) {
        r->class_integers = spec__alloc(&r->arena, r->n_classes, sizeof *r->class_integers, e);
        if (!r->class_integers) return ERR_NOMEM;
        memcpy(r->class_integers, c->classes, r->n_classes * sizeof *r->class_integers);
        return 0;
    }
    r->class_texts = spec__alloc(&r->arena, r->n_classes, sizeof *r->class_texts, e);
    for (size_t i = 0; r->class_texts && i < r->n_classes; i++)
        if (!(r->class_texts[i] = spec__text(&r->arena, c->categories[i], e))) return ERR_NOMEM;
    if (!r->class_texts) return ERR_NOMEM;
    return 0;
}

static int settle_task(struct resolving *v, struct err *e)
{
    const struct column *c = &v->train->columns[v->r->target];
    char path[JSON_PATH_MAX];
    resolve__path(v, "target", path);
    v->r->task = infer_task(v, c);
    if (v->r->task == TASK_CLASSIFICATION) return set_classes(v, c, path, e);
    if (c->type == COLUMN_CATEGORY)
        return err_set(e, ERR_INVALID, path,
                       "\"%s\" holds texts, which %s cannot predict; use logistic_regression or mlp", c->name,
                       v->spec->family == FAMILY_LINEAR_REGRESSION ? "linear_regression" : "regression");
    v->r->target_width = column_width(c);
    if (v->r->target_width > MAX_TARGETS)
        return err_set(e, ERR_INVALID, path, "labels of %lld numbers a row; at most %d are offered",
                       (long long)v->r->target_width, MAX_TARGETS);
    return 0;
}

/* ---- the test dataset must be of the same kind ---- */

static int same_columns(const struct resolving *v, const struct column *c, struct err *e)
{
    const struct column *t = resolve__test_column(v, c);
    if (!t) return err_set(e, ERR_INVALID, "test_dataset", "the test dataset has no column \"%s\"", c->name);
    bool target = c == &v->train->columns[v->r->target];
    if (!target && t->dtype == DATA_TEXT && resolve__tokenises(v, c)) return 0;
    if (t->type != c->type && !(t->type == COLUMN_NUMBER && !t->has_stats))
        return err_set(e, ERR_INVALID, "test_dataset",
                       "\"%s\" is a %s column in the test dataset and a %s column in the dataset", c->name,
                       column_type_name(t->type), column_type_name(c->type));
    if (c->type == COLUMN_TENSOR &&
        (t->rank != c->rank || memcmp(t->dim, c->dim, sizeof *c->dim * (size_t)c->rank) != 0 ||
         t->dtype != c->dtype))
        return err_set(e, ERR_INVALID, "test_dataset",
                       "\"%s\" has another shape or element type in the test dataset", c->name);
    for (size_t i = 0; i < t->n_categories; i++) {
        size_t k = 0;
        while (k < c->n_categories && strcmp(c->categories[k], t->categories[i]) != 0) k++;
        if (k == c->n_categories)
            return err_set(e, ERR_INVALID, "test_dataset",
                           "\"%.64s\" in column \"%s\" appears only in the test dataset", t->categories[i],
                           c->name);
    }
    return 0;
}

static int same_classes(const struct resolving *v, struct err *e)
{
    const struct column *c = &v->train->columns[v->r->target], *t = resolve__test_column(v, c);
    if (v->r->task != TASK_CLASSIFICATION || !v->r->integer_labels) return 0;
    if (t->n_classes == 0)
        return err_set(e, ERR_INVALID, "test_dataset", "\"%s\" holds no classes in the test dataset",
                       c->name);
    for (size_t i = 0; i < t->n_classes; i++) {
        size_t k = 0;
        while (k < c->n_classes && c->classes[k] != t->classes[i]) k++;
        if (k == c->n_classes)
            return err_set(e, ERR_INVALID, "test_dataset",
                           "the class %lld of \"%s\" appears only in the test dataset",
                           (long long)t->classes[i], c->name);
    }
    return 0;
}

static int check_test(const struct resolving *v, struct err *e)
{
    int rc = 0;
    if (!v->test) return 0;
    if (v->test->format != v->train->format)
        return err_set(e, ERR_INVALID, "test_dataset", "the test dataset is %s and the dataset %s",
                       schema_format_name(v->test->format), schema_format_name(v->train->format));
    for (size_t i = 0; i < v->r->n_features && !rc; i++)
        rc = same_columns(v, &v->train->columns[v->r->features[i].column], e);
    if (!rc) rc = same_columns(v, &v->train->columns[v->r->target], e);
    return rc ? rc : same_classes(v, e);
}

/* The shape of a row that enters the network. */
static int settle_input(struct resolving *v, struct err *e)
{
    struct resolved *r = v->r;
    const struct column *c = &v->train->columns[r->features[0].column];
    char path[JSON_PATH_MAX];
    int64_t width = 0;
    for (size_t i = 0; i < r->n_features; i++) {
        r->features[i].offset = width;
        width += r->features[i].width;
    }
    if (width > 1 << 24)
        return err_set(e, ERR_TOO_LARGE, resolve__path(v, "features", path),
                       "a row holds %lld numbers; at most 2^24 are offered", (long long)width);
    r->input.rank = 1;
    r->input.dim[0] = width;
    if (r->table) return 0;
    r->input.rank = c->rank;
    memcpy(r->input.dim, c->dim, sizeof *c->dim * (size_t)c->rank);
    return 0;
}

/* From the columns to the layers and the loss. */
static int settle_network(struct resolving *v, struct err *e)
{
    int rc;
    if (v->spec->family == FAMILY_SEQ2SEQ) return resolve__seq2seq(v, e);
    if (v->spec->task == TASK_SEQUENCE) {
        char path[JSON_PATH_MAX];
        return err_set(e, ERR_INVALID, resolve__path(v, "task", path), "the task sequence is for seq2seq");
    }
    if ((rc = settle_task(v, e)) || (rc = check_test(v, e)) || (rc = resolve__steps(v, e)) ||
        (rc = settle_input(v, e)))
        return rc;
    return resolve__layers(v, e);
}

int spec_resolve(struct resolved **out, const struct spec *s, const struct schema *train,
                 const struct schema *test, struct err *e)
{
    struct resolving v = {.spec = s, .train = train, .test = test, .r = mem_alloc(1, sizeof *v.r)};
    int rc;
    *out = NULL;
    arena_init(&v.r->arena, SIZE_MAX);
    v.r->family = s->family;
    v.r->training = s->training;
    if ((rc = find_target(&v, e)) || (rc = find_features(&v, e)) || (rc = settle_network(&v, e)) ||
        (rc = resolve__training(&v, e)) || (rc = resolve__estimate(&v, e)) ||
        (rc = resolve__layer_memory(&v, e))) {
        resolved_free(v.r);
        return rc;
    }
    *out = v.r;
    return 0;
}

void resolved_free(struct resolved *r)
{
    if (!r) return;
    arena_dispose(&r->arena);
    mem_free(r);
}
