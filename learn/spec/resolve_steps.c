/* Settles preprocessing: which step touches which feature, in which order, and how wide each feature gets. */
#include "learn/spec/resolve.h"
#include "learn/spec/names.h"

#include <stdio.h>
#include <string.h>

/* A fitted step keeps numbers for each element of a tensor, in the version's metadata: images stay below
 * this. */
enum { MAX_FITTED_WIDTH = 65536, USUAL_STEPS = 6 };

static const struct column *column_of(const struct resolving *v, const struct feature_spec *f)
{
    return &v->train->columns[f->column];
}

static int64_t missing_in(const struct resolving *v, const struct column *c)
{
    const struct column *t = resolve__test_column(v, c);
    return c->missing + (t ? t->missing : 0);
}

/* Why a step cannot touch a feature as it is now; NULL when it can. */
static const char *misfit(const struct column *c, const struct feature_spec *f, const struct step_spec *t)
{
    if (f->one_hot) return "it is one-hot already";
    if (f->text) return "its texts are made ids already";
    if (t->op == STEP_TOKENISE) {
        if (c->dtype != DATA_TEXT) return "it holds no texts";
        return f->n_steps ? "tokenise must be its only step" : NULL;
    }
    if (c->type == COLUMN_TEXT) return "it holds free text; tokenise is the step for it";
    if (t->op == STEP_ONE_HOT) {
        if (c->type == COLUMN_CATEGORY || c->n_classes) return NULL;
        return "one_hot needs categories, or integers with few different values";
    }
    if (t->op == STEP_IMPUTE) {
        if (c->type == COLUMN_CATEGORY && t->impute != IMPUTE_MOST_FREQUENT)
            return "categories have no mean; use most_frequent";
        if (c->type == COLUMN_TENSOR && t->impute == IMPUTE_MOST_FREQUENT)
            return "most_frequent is for table columns";
    } else if (c->type == COLUMN_CATEGORY) {
        return "it holds categories; one_hot is the step for them";
    }
    bool fitted = t->op == STEP_STANDARDISE || t->op == STEP_SCALE || t->op == STEP_IMPUTE;
    if (fitted && column_width(c) > MAX_FITTED_WIDTH)
        return "its rows are too large for a fitted step; use rescale";
    return NULL;
}

/* Whether a step without a list of columns means this one. */
static bool meant(const struct column *c, const struct feature_spec *f, const struct step_spec *t)
{
    if (misfit(c, f, t)) return false;
    return t->op != STEP_ONE_HOT || c->type == COLUMN_CATEGORY;
}

static void touch(struct feature_spec *f, const struct column *c, const struct step_spec *t, int index)
{
    f->steps[f->n_steps++] = index;
    if (t->op == STEP_TOKENISE) {
        f->text = true;
        f->width = t->text.length;
    }
    if (t->op != STEP_ONE_HOT) return;
    f->one_hot = true;
    f->width = (int64_t)(c->type == COLUMN_CATEGORY ? c->n_categories : c->n_classes);
}

static struct feature_spec *find_feature(struct resolving *v, const char *name)
{
    for (size_t i = 0; i < v->r->n_features; i++)
        if (strcmp(column_of(v, &v->r->features[i])->name, name) == 0) return &v->r->features[i];
    return NULL;
}

static int settle_listed(struct resolving *v, size_t index, const struct step_spec *given, const char *path,
                         struct err *e)
{
    struct step_spec *t = &v->r->steps[index];
    char list[JSON_PATH_MAX], at[JSON_PATH_MAX];
    json_path_name(list, path, "columns");
    for (size_t i = 0; i < given->n_columns; i++) {
        struct feature_spec *f = find_feature(v, given->columns[i]);
        json_path_index(at, list, i);
        if (!f) return err_set(e, ERR_INVALID, at, "\"%s\" is none of the features", given->columns[i]);
        const char *why = misfit(column_of(v, f), f, t);
        if (why)
            return err_set(e, ERR_INVALID, at, "%s cannot be applied to \"%s\": %s", step_op_name(t->op),
                           given->columns[i], why);
        touch(f, column_of(v, f), t, (int)index);
        t->columns[t->n_columns++] = f->name;
    }
    return 0;
}

static void settle_all(struct resolving *v, size_t index)
{
    struct step_spec *t = &v->r->steps[index];
    for (size_t i = 0; i < v->r->n_features; i++) {
        struct feature_spec *f = &v->r->features[i];
        if (!meant(column_of(v, f), f, t)) continue;
        touch(f, column_of(v, f), t, (int)index);
        t->columns[t->n_columns++] = f->name;
    }
}

static struct step_spec *add_step(struct resolving *v, const struct step_spec *given, struct err *e)
{
    struct step_spec *t = &v->r->steps[v->r->n_steps++];
    *t = *given;
    t->n_columns = 0;
    t->columns = spec__alloc(&v->r->arena, v->r->n_features, sizeof *t->columns, e);
    return t->columns ? t : NULL;
}

static int settle_given(struct resolving *v, struct err *e)
{
    char list[JSON_PATH_MAX], path[JSON_PATH_MAX];
    resolve__path(v, "preprocess", list);
    for (size_t i = 0; i < v->spec->n_steps; i++) {
        const struct step_spec *given = &v->spec->steps[i];
        if (!add_step(v, given, e)) return ERR_NOMEM;
        json_path_index(path, list, i);
        int rc = 0;
        if (given->n_columns)
            rc = settle_listed(v, i, given, path, e);
        else
            settle_all(v, i);
        if (rc) return rc;
    }
    return 0;
}

/* What a feature gets when the spec says nothing about preprocessing. Returns the number of steps. */
static int usual_steps(const struct resolving *v, const struct column *c, struct step_spec out[2])
{
    int n = 0;
    bool images = c->type == COLUMN_TENSOR && c->dtype == DATA_U8;
    bool fits = column_width(c) <= MAX_FITTED_WIDTH;
    if (resolve__tokenises(v, c)) {
        out[0] = (struct step_spec){.op = STEP_TOKENISE};
        return 1;
    }
    if (c->type == COLUMN_TEXT) return 0; /* check_feature refuses it */
    if (missing_in(v, c) && fits)
        out[n++] = (struct step_spec){
            .op = STEP_IMPUTE, .impute = c->type == COLUMN_CATEGORY ? IMPUTE_MOST_FREQUENT : IMPUTE_MEAN};
    if (c->type == COLUMN_CATEGORY)
        out[n++] = (struct step_spec){.op = STEP_ONE_HOT};
    else if (images)
        out[n++] = (struct step_spec){.op = STEP_RESCALE, .factor = 1.0 / 255};
    else if (fits)
        out[n++] = (struct step_spec){.op = STEP_STANDARDISE};
    return n;
}

static bool same_step(const struct step_spec *a, const struct step_spec *b)
{
    return a->op == b->op && (a->op != STEP_IMPUTE || a->impute == b->impute);
}

/* Imputation comes first in every feature's list, so that steps can be shared between features in this order.
 */
static int settle_usual(struct resolving *v, struct err *e)
{
    const struct step_spec order[USUAL_STEPS] = {
        {.op = STEP_IMPUTE, .impute = IMPUTE_MEAN},
        {.op = STEP_IMPUTE, .impute = IMPUTE_MOST_FREQUENT},
        {.op = STEP_STANDARDISE},
        {.op = STEP_RESCALE, .factor = 1.0 / 255},
        {.op = STEP_ONE_HOT},
        {.op = STEP_TOKENISE, .text = text_options_usual(TEXT_WORD)}};
    struct step_spec usual[2];
    for (size_t k = 0; k < USUAL_STEPS; k++) {
        struct step_spec *t = NULL;
        for (size_t i = 0; i < v->r->n_features; i++) {
            struct feature_spec *f = &v->r->features[i];
            const struct column *c = column_of(v, f);
            int n = usual_steps(v, c, usual);
            for (int u = 0; u < n; u++) {
                if (!same_step(&usual[u], &order[k])) continue;
                if (!t && !(t = add_step(v, &order[k], e))) return ERR_NOMEM;
                touch(f, c, t, (int)(v->r->n_steps - 1));
                t->columns[t->n_columns++] = f->name;
            }
        }
    }
    return 0;
}

/* After its steps a feature must be numbers, without gaps. */
static int check_feature(const struct resolving *v, const struct feature_spec *f, struct err *e)
{
    const struct column *c = column_of(v, f);
    char path[JSON_PATH_MAX];
    bool filled = false;
    if (f->text) return 0; /* a missing text is an empty one */
    if (c->type == COLUMN_TEXT)
        return err_set(e, ERR_INVALID, resolve__path(v, "features", path),
                       "the column \"%s\" holds free text (more than %d different values); list the features "
                       "without it, or it alone, with a tokenise step and an Embedding as the first layer",
                       c->name, SCHEMA_MAX_CATEGORIES);
    resolve__path(v, "preprocess", path);
    for (size_t i = 0; i < f->n_steps; i++) {
        enum step_op op = v->r->steps[f->steps[i]].op;
        if (op == STEP_IMPUTE) filled = true;
        if (op == STEP_ONE_HOT && i > 0 && v->r->steps[f->steps[i - 1]].op != STEP_IMPUTE)
            return err_set(e, ERR_INVALID, path, "one_hot must come first (or right after impute) for \"%s\"",
                           c->name);
    }
    if (c->type == COLUMN_CATEGORY && !f->one_hot)
        return err_set(e, ERR_INVALID, path,
                       "\"%s\" holds categories; add {\"op\":\"one_hot\",\"columns\":[\"%s\"]}", c->name,
                       c->name);
    if (missing_in(v, c) && !filled)
        return err_set(e, ERR_INVALID, path,
                       "\"%s\" has %lld missing values; add {\"op\":\"impute\",\"columns\":[\"%s\"]} first",
                       c->name, (long long)missing_in(v, c), c->name);
    return 0;
}

/* The Embedding that the spec begins with; NULL without one. */
static const struct layer_spec *embedding(const struct spec *s)
{
    size_t first = s->n_layers && s->layers[0].kind == KIND_INPUT;
    return first < s->n_layers && s->layers[first].kind == KIND_EMBEDDING ? &s->layers[first] : NULL;
}

bool resolve__tokenises(const struct resolving *v, const struct column *c)
{
    const struct spec *s = v->spec;
    if (c->dtype != DATA_TEXT) return false;
    if (!s->preprocess_given)
        return v->r->n_features == 1 && (c->type == COLUMN_TEXT || embedding(s) != NULL);
    for (size_t i = 0; i < s->n_steps; i++) {
        if (s->steps[i].op != STEP_TOKENISE) continue;
        if (s->steps[i].n_columns == 0) return true;
        for (size_t k = 0; k < s->steps[i].n_columns; k++)
            if (strcmp(s->steps[i].columns[k], c->name) == 0) return true;
    }
    return false;
}

/* A network takes either one text or numbers. */
static int check_texts(struct resolving *v, struct err *e)
{
    struct resolved *r = v->r;
    const struct feature_spec *f = &r->features[0];
    char path[JSON_PATH_MAX];
    for (size_t i = 0; i < r->n_features; i++) r->has_texts = r->has_texts || r->features[i].text;
    if (!r->has_texts) return 0;
    if (r->n_features > 1)
        return err_set(e, ERR_INVALID, resolve__path(v, "features", path),
                       "a network takes one text, or numbers; list the tokenised column alone");
    if (r->family == FAMILY_LINEAR_REGRESSION || r->family == FAMILY_LOGISTIC_REGRESSION)
        return err_set(e, ERR_INVALID, resolve__path(v, "family", path),
                       "%s takes numbers, and \"%s\" holds texts; use the family mlp", family_name(r->family),
                       f->name);
    if (v->spec->n_layers && !embedding(v->spec))
        return err_set(e, ERR_INVALID, v->spec->layers[0].path,
                       "layer \"%s\": the first layer for texts is an Embedding", v->spec->layers[0].name);
    const struct column *c = column_of(v, f), *t = resolve__test_column(v, c);
    if (c->text_bytes < 0 || (t && t->text_bytes < 0))
        return err_set(e, ERR_INVALID, c->text_bytes < 0 ? "dataset" : "test_dataset",
                       "the dataset was uploaded before texts could be used; upload it again");
    v->ids = r->steps[f->steps[0]].text.max_ids;
    return 0;
}

int resolve__steps(struct resolving *v, struct err *e)
{
    struct resolved *r = v->r;
    const struct layer_spec *ids = embedding(v->spec);
    char path[JSON_PATH_MAX];
    int rc = 0;
    size_t most = v->spec->n_steps > USUAL_STEPS ? v->spec->n_steps : USUAL_STEPS;
    bool texts = false;
    for (size_t i = 0; i < r->n_features; i++)
        texts = texts || resolve__tokenises(v, column_of(v, &r->features[i]));
    if (ids && !texts && v->spec->n_steps)
        return err_set(
            e, ERR_INVALID, resolve__path(v, "preprocess", path),
            "layer \"%s\" (Embedding) takes the dataset's numbers as they are; leave out preprocess, but for "
            "the tokenise step of a text",
            ids->name);
    r->steps = spec__alloc(&r->arena, most, sizeof *r->steps, e);
    if (!r->steps) return ERR_NOMEM;
    for (size_t i = 0; i < r->n_features; i++)
        if (!(r->features[i].steps = spec__alloc(&r->arena, most, sizeof(int), e))) return ERR_NOMEM;
    if (ids && !texts) return 0; /* settle_embedding checks the columns */
    rc = v->spec->preprocess_given ? settle_given(v, e) : settle_usual(v, e);
    for (size_t i = 0; i < r->n_features && !rc; i++) rc = check_feature(v, &r->features[i], e);
    return rc ? rc : check_texts(v, e);
}
