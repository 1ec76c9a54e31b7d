/* Fitted preprocessing as JSON, and back with every size checked. */
#include "learn/preprocess.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "learn/spec/names.h"

static const char *const kind_list[] = {"number", "category", "integer", "tensor", "text"};
static const struct words words_kind = {"kind", 5, kind_list};
enum { MAX_WIDTH = 1 << 24 };

static void floats_to_json(const char *name, const float *list, int64_t n, struct json_writer *w)
{
    jw_name(w, name);
    jw_arr(w);
    for (int64_t i = 0; i < n; i++) jw_f32(w, list[i]); /* NaN becomes null */
    jw_arr_end(w);
}

static void integers_to_json(const char *name, const int64_t *list, size_t n, struct json_writer *w)
{
    jw_name(w, name);
    jw_arr(w);
    for (size_t i = 0; i < n; i++) jw_int(w, list[i]);
    jw_arr_end(w);
}

static void texts_to_json(const char *name, char *const *list, size_t n, struct json_writer *w)
{
    jw_name(w, name);
    jw_arr(w);
    for (size_t i = 0; i < n; i++) jw_str(w, list[i]);
    jw_arr_end(w);
}

static void feature_to_json(const struct feature *f, struct json_writer *w)
{
    jw_obj(w);
    jw_kstr(w, "name", f->name);
    jw_kstr(w, "kind", kind_list[f->kind]);
    if (f->kind == FEATURE_NUMBER || f->kind == FEATURE_TENSOR) {
        jw_kint(w, "width", f->in_width);
        floats_to_json("fill", f->fill, f->n, w);
        floats_to_json("shift", f->shift, f->n, w);
        floats_to_json("scale", f->scale, f->n, w);
        floats_to_json("offset", f->offset, f->n, w);
    } else if (f->kind == FEATURE_TEXT) {
        jw_name(w, "vocabulary");
        vocabulary_to_json(f->vocabulary, w);
    } else {
        if (f->kind == FEATURE_CATEGORY)
            texts_to_json("values", f->categories, f->n_values, w);
        else
            integers_to_json("values", f->integers, f->n_values, w);
        jw_kint(w, "fill", f->fill_code);
    }
    jw_obj_end(w);
}

void preprocess_to_json(const struct preprocess *p, struct json_writer *w)
{
    jw_obj(w);
    if (p->ids_below) jw_kint(w, "ids_below", p->ids_below);
    jw_name(w, "features");
    jw_arr(w);
    for (size_t i = 0; i < p->n_features; i++) feature_to_json(&p->features[i], w);
    jw_arr_end(w);
    jw_kstr(w, "task", task_name(p->task));
    if (p->task == TASK_SEQUENCE) {
        jw_name(w, "target");
        feature_to_json(&p->target, w);
    }
    if (p->class_integers) integers_to_json("classes", p->class_integers, p->n_classes, w);
    if (p->class_texts) texts_to_json("classes", p->class_texts, p->n_classes, w);
    if (p->task == TASK_REGRESSION) {
        floats_to_json("target_mean", p->target_mean, p->target_width, w);
        jw_name(w, "target_std");
        jw_f32(w, p->target_std);
    }
    jw_obj_end(w);
}

/* ---- reading ---- */

static int bad(const struct json_obj *o, const char *name, const char *what, struct err *e)
{
    char path[JSON_PATH_MAX];
    json_path_name(path, o->path, name);
    return err_set(e, ERR_INVALID, path, "%s", what);
}

/* A list of finite floats; nulls become NaN where allowed. want < 0: as many as there are, in *n. */
static int take_floats(struct json_obj *o, const char *name, int64_t want, bool nulls, float **out,
                       int64_t *n, struct err *e)
{
    const cJSON *list = NULL;
    size_t least = want < 0 ? 1 : (size_t)want, most = want < 0 ? MAX_WIDTH : (size_t)want;
    int rc = json_take_array(o, name, least, most, &list, e);
    if (rc) return rc;
    *n = cJSON_GetArraySize(list);
    *out = mem_try_alloc((size_t)*n, sizeof **out);
    if (!*out) return err_set(e, ERR_NOMEM, NULL, "no memory for preprocessing");
    float *to = *out;
    for (const cJSON *c = list->child; c; c = c->next) {
        bool null = nulls && cJSON_IsNull(c);
        *to = null ? NAN : (float)c->valuedouble;
        if (!null && (!cJSON_IsNumber(c) || !isfinite(*to)))
            return bad(o, name, "expected finite numbers", e);
        to++;
    }
    return 0;
}

static int take_integers(struct json_obj *o, const char *name, const cJSON *list, int64_t **out,
                         struct err *e)
{
    int64_t *to = *out = mem_try_alloc((size_t)cJSON_GetArraySize(list), sizeof **out);
    if (!to) return err_set(e, ERR_NOMEM, NULL, "no memory for preprocessing");
    for (const cJSON *c = list->child; c; c = c->next, to++) {
        if (!cJSON_IsNumber(c) || !(fabs(c->valuedouble) <= 9007199254740992.0) ||
            c->valuedouble != floor(c->valuedouble))
            return bad(o, name, "expected integers", e);
        *to = (int64_t)c->valuedouble;
        if (to > *out && to[-1] >= *to) return bad(o, name, "expected ascending integers", e);
    }
    return 0;
}

static int take_texts(struct json_obj *o, const char *name, const cJSON *list, char ***out, struct err *e)
{
    char **to = *out = mem_try_alloc((size_t)cJSON_GetArraySize(list), sizeof **out);
    if (!to) return err_set(e, ERR_NOMEM, NULL, "no memory for preprocessing");
    for (const cJSON *c = list->child; c; c = c->next, to++) {
        if (!cJSON_IsString(c) || strlen(c->valuestring) > SCHEMA_MAX_CATEGORY)
            return bad(o, name, "expected short texts", e);
        *to = mem_strdup(c->valuestring);
        if (to > *out && strcmp(to[-1], *to) >= 0) return bad(o, name, "expected sorted texts", e);
    }
    return 0;
}

static int values_from_json(struct feature *f, struct json_obj *o, struct err *e)
{
    const cJSON *list = NULL;
    int64_t fill = -1;
    int rc = json_take_array(o, "values", 1, SCHEMA_MAX_CATEGORIES, &list, e);
    if (rc) return rc;
    f->in_width = 1;
    f->n_values = (size_t)cJSON_GetArraySize(list);
    f->width = (int64_t)f->n_values;
    if (f->kind == FEATURE_CATEGORY)
        rc = take_texts(o, "values", list, &f->categories, e);
    else
        rc = take_integers(o, "values", list, &f->integers, e);
    if (rc || (rc = json_take_int(o, "fill", -1, (int64_t)f->n_values - 1, &fill, e))) return rc;
    f->fill_code = (int32_t)fill;
    if (f->kind == FEATURE_CATEGORY && !texts_load(&f->codes, f->categories, f->n_values))
        return err_set(e, ERR_NOMEM, NULL, "no memory for preprocessing");
    return 0;
}

static int numbers_from_json(struct feature *f, struct json_obj *o, struct err *e)
{
    int64_t n;
    int rc;
    if ((rc = json_take_int(o, "width", 1, f->kind == FEATURE_NUMBER ? 1 : MAX_WIDTH, &f->in_width, e)) ||
        (rc = take_floats(o, "fill", -1, true, &f->fill, &f->n, e)))
        return rc;
    f->width = f->in_width;
    if (f->n != 1 && f->n != f->in_width)
        return bad(o, "fill", "expected one number, or one for each element", e);
    if ((rc = take_floats(o, "shift", f->n, false, &f->shift, &n, e)) ||
        (rc = take_floats(o, "scale", f->n, false, &f->scale, &n, e)))
        return rc;
    return take_floats(o, "offset", f->n, false, &f->offset, &n, e);
}

static int text_from_json(struct feature *f, struct json_obj *o, struct err *e)
{
    const cJSON *node = NULL;
    char path[JSON_PATH_MAX];
    int rc = json_take_object(o, "vocabulary", &node, e);
    json_path_name(path, o->path, "vocabulary");
    if (rc || (rc = vocabulary_from_json(&f->vocabulary, node, path, e))) return rc;
    f->in_width = 1;
    f->width = vocabulary_options(f->vocabulary)->length;
    return 0;
}

static int feature_from_json(struct feature *f, const cJSON *node, const char *path, struct err *e)
{
    struct json_obj o;
    const char *name = NULL;
    int kind = 0, rc;
    if ((rc = json_obj_open(&o, node, path, e)) ||
        (rc = json_take_str(&o, "name", 1, SCHEMA_MAX_NAME, &name, e)) ||
        (rc = words_take(&words_kind, &o, "kind", &kind, e)))
        return rc;
    f->name = mem_strdup(name);
    f->kind = (enum feature_kind)kind;
    bool values = f->kind == FEATURE_CATEGORY || f->kind == FEATURE_INTEGER;
    rc = f->kind == FEATURE_TEXT ? text_from_json(f, &o, e)
         : values                ? values_from_json(f, &o, e)
                                 : numbers_from_json(f, &o, e);
    return rc ? rc : json_obj_close(&o, e);
}

static int features_from_json(struct preprocess *p, struct json_obj *o, struct err *e)
{
    const cJSON *list = NULL;
    char path[JSON_PATH_MAX], at[JSON_PATH_MAX];
    int rc = json_take_array(o, "features", 1, SCHEMA_MAX_COLUMNS, &list, e);
    if (rc) return rc;
    json_path_name(path, o->path, "features");
    p->features = mem_try_alloc((size_t)cJSON_GetArraySize(list), sizeof *p->features);
    if (!p->features) return err_set(e, ERR_NOMEM, NULL, "no memory for preprocessing");
    for (const cJSON *c = list->child; c && !rc; c = c->next) {
        struct feature *f = &p->features[p->n_features];
        json_path_index(at, path, p->n_features++);
        rc = feature_from_json(f, c, at, e);
        f->offset_in_row = p->width;
        p->width += f->width;
        if (!rc && p->width > MAX_WIDTH) rc = bad(o, "features", "more numbers a row than fit", e);
    }
    return rc;
}

/* A text is the one feature of a network that takes ids, and gives none that it does not take. */
static int check_texts(const struct preprocess *p, const struct json_obj *o, struct err *e)
{
    for (size_t i = 0; i < p->n_features; i++) {
        const struct vocabulary *v = p->features[i].vocabulary;
        if (v && (p->n_features > 1 || p->ids_below < vocabulary_size(v)))
            return bad(o, "ids_below", "a text must stand alone, and its ids must be below ids_below", e);
    }
    return 0;
}

/* Both ends are texts; the target's rows hold a start, an end and something between them. */
static int pair_from_json(struct preprocess *p, struct json_obj *o, struct err *e)
{
    const cJSON *node = NULL;
    char path[JSON_PATH_MAX];
    int rc = json_take_object(o, "target", &node, e);
    json_path_name(path, o->path, "target");
    if (rc || (rc = feature_from_json(&p->target, node, path, e))) return rc;
    if (p->features[0].kind != FEATURE_TEXT || p->target.kind != FEATURE_TEXT ||
        !vocabulary_options(p->target.vocabulary)->marks)
        return bad(o, "target", "expected a text with marks, made of another text", e);
    return 0;
}

static int output_from_json(struct preprocess *p, struct json_obj *o, struct err *e)
{
    int task = 0, rc = words_take(&words_task, o, "task", &task, e);
    const cJSON *list = NULL;
    double std = 1;
    if (rc) return rc;
    p->task = (enum task)task;
    if (p->task == TASK_AUTO) return bad(o, "task", "expected regression, classification or sequence", e);
    if (p->task == TASK_SEQUENCE) return pair_from_json(p, o, e);
    if (p->task == TASK_REGRESSION) {
        if ((rc = take_floats(o, "target_mean", -1, false, &p->target_mean, &p->target_width, e))) return rc;
        rc = json_take_num(o, "target_std", 1e-38, 3.4e38, &std, e);
        p->target_std = (float)std;
        return rc;
    }
    if ((rc = json_take_array(o, "classes", 2, SCHEMA_MAX_CATEGORIES, &list, e))) return rc;
    p->n_classes = (size_t)cJSON_GetArraySize(list);
    return cJSON_IsString(list->child) ? take_texts(o, "classes", list, &p->class_texts, e)
                                       : take_integers(o, "classes", list, &p->class_integers, e);
}

/* Rows of one tensor, or of numbers alone, are made in one pass (preprocess_row). */
static int join_row(struct preprocess *p, struct err *e)
{
    const struct feature *f = p->features;
    size_t n = p->n_features;
    if (n == 1 && f->kind == FEATURE_TENSOR && !p->ids_below)
        p->row = (struct normaliser){f->fill, f->shift, f->scale, f->offset, f->n > 1};
    for (size_t i = 0; i < n; i++)
        if (f[i].kind != FEATURE_NUMBER || p->ids_below) return 0;
    float *to = p->row_values = mem_try_alloc(n, 4 * sizeof *to);
    if (!to) return err_set(e, ERR_NOMEM, NULL, "no memory for preprocessing");
    p->row = (struct normaliser){to, to + n, to + 2 * n, to + 3 * n, true};
    for (size_t i = 0; i < n; i++, to++) {
        to[0] = f[i].fill[0];
        to[n] = f[i].shift[0];
        to[2 * n] = f[i].scale[0];
        to[3 * n] = f[i].offset[0];
    }
    return 0;
}

int preprocess_from_json(struct preprocess **out, const cJSON *node, const char *path, struct err *e)
{
    struct json_obj o;
    struct preprocess *p = mem_alloc(1, sizeof *p);
    int rc;
    *out = NULL;
    p->kernels = kernels_best();
    if ((rc = json_obj_open(&o, node, path, e)) || (rc = features_from_json(p, &o, e)) ||
        (rc = json_opt_int(&o, "ids_below", 1, MAX_WIDTH, &p->ids_below, e)) ||
        (rc = check_texts(p, &o, e)) || (rc = join_row(p, e)) || (rc = output_from_json(p, &o, e)) ||
        (rc = json_obj_close(&o, e)))
        preprocess_free(p);
    else
        *out = p;
    return rc;
}
