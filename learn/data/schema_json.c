/* Schemas as JSON, and back: the reader accepts only what the writer can have written. */
#include "learn/data/schema.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const double EXACT = 9007199254740992.0; /* 2^53: integers up to here survive a double */

static void column_to_json(const struct column *c, struct json_writer *w)
{
    jw_obj(w);
    jw_kstr(w, "name", c->name);
    jw_kstr(w, "type", column_type_name(c->type));
    jw_kstr(w, "dtype", data_type_name(c->dtype));
    jw_name(w, "shape");
    jw_arr(w);
    for (int i = 0; i < c->rank; i++) jw_int(w, c->dim[i]);
    jw_arr_end(w);
    jw_kint(w, "missing", c->missing);
    if (c->has_stats) {
        jw_knum(w, "min", c->min);
        jw_knum(w, "max", c->max);
        jw_knum(w, "mean", c->mean);
        jw_knum(w, "std", c->std);
    }
    if (c->dtype == DATA_TEXT && c->text_bytes >= 0) jw_kint(w, "text_bytes", c->text_bytes);
    if (c->type == COLUMN_CATEGORY) {
        jw_name(w, "categories");
        jw_arr(w);
        for (size_t i = 0; i < c->n_categories; i++) jw_str(w, c->categories[i]);
        jw_arr_end(w);
    }
    if (c->n_classes) {
        jw_name(w, "classes");
        jw_arr(w);
        for (size_t i = 0; i < c->n_classes; i++) jw_int(w, c->classes[i]);
        jw_arr_end(w);
    }
    jw_obj_end(w);
}

void schema_to_json(const struct schema *s, struct json_writer *w)
{
    jw_obj(w);
    jw_kstr(w, "format", schema_format_name(s->format));
    jw_kint(w, "rows", s->rows);
    jw_name(w, "columns");
    jw_arr(w);
    for (size_t i = 0; i < s->n_columns; i++) column_to_json(&s->columns[i], w);
    jw_arr_end(w);
    jw_obj_end(w);
}

static const char *format_text(int i)
{
    return schema_format_name((enum schema_format)i);
}

static const char *type_text(int i)
{
    return column_type_name((enum column_type)i);
}

static const char *dtype_text(int i)
{
    return data_type_name((enum data_type)i);
}

/* One of a closed set of names: text(0) … text(n-1). */
static int take_enum(struct json_obj *o, const char *field, int n, const char *(*text)(int), int *out,
                     struct err *e)
{
    const char *name = NULL;
    int rc = json_take_str(o, field, 1, 16, &name, e);
    if (rc) return rc;
    for (int i = 0; i < n; i++)
        if (strcmp(text(i), name) == 0) {
            *out = i;
            return 0;
        }
    char path[JSON_PATH_MAX];
    json_path_name(path, o->path, field);
    return err_set(e, ERR_INVALID, path, "\"%s\" is no known %s", name, field);
}

static int whole_number(const cJSON *n, double min, double max, int64_t *out)
{
    if (!cJSON_IsNumber(n) || n->valuedouble != floor(n->valuedouble)) return ERR_INVALID;
    if (n->valuedouble < min || n->valuedouble > max) return ERR_INVALID;
    *out = (int64_t)n->valuedouble;
    return 0;
}

static int read_shape(struct column *c, struct json_obj *o, struct err *e)
{
    const cJSON *list = NULL;
    char path[JSON_PATH_MAX];
    json_path_name(path, o->path, "shape");
    int rc = json_take_array(o, "shape", 0, SCHEMA_MAX_RANK, &list, e);
    if (rc) return rc;
    double total = 1;
    for (const cJSON *n = list->child; n; n = n->next) {
        int64_t *dim = &c->dim[c->rank++];
        if (whole_number(n, 1, 1 << 30, dim))
            return err_set(e, ERR_INVALID, path, "shape must hold sizes of at least 1");
        total *= (double)*dim;
    }
    if (total > (double)(1 << 30))
        return err_set(e, ERR_INVALID, path, "a row may hold at most 2^30 numbers");
    if ((c->type == COLUMN_TENSOR) != (c->rank > 0))
        return err_set(e, ERR_INVALID, path, "a tensor column has a shape, and no other column has one");
    return 0;
}

static int read_categories(struct column *c, struct json_obj *o, struct err *e)
{
    const cJSON *list = NULL;
    char path[JSON_PATH_MAX];
    json_path_name(path, o->path, "categories");
    int rc = json_take_array(o, "categories", 1, SCHEMA_MAX_CATEGORIES, &list, e);
    if (rc) return rc;
    c->categories = mem_try_alloc((size_t)cJSON_GetArraySize(list), sizeof *c->categories);
    if (!c->categories) return err_set(e, ERR_NOMEM, path, "no memory for the categories");
    for (const cJSON *n = list->child; n; n = n->next) {
        if (!cJSON_IsString(n) || strlen(n->valuestring) > SCHEMA_MAX_CATEGORY)
            return err_set(e, ERR_INVALID, path, "categories must be texts of at most %d bytes",
                           SCHEMA_MAX_CATEGORY);
        if (c->n_categories && strcmp(c->categories[c->n_categories - 1], n->valuestring) >= 0)
            return err_set(e, ERR_INVALID, path, "categories must be sorted and different from each other");
        c->categories[c->n_categories++] = mem_strdup(n->valuestring);
    }
    return 0;
}

static int read_classes(struct column *c, struct json_obj *o, struct err *e)
{
    const cJSON *list = NULL;
    char path[JSON_PATH_MAX];
    json_path_name(path, o->path, "classes");
    int rc = json_opt_array(o, "classes", 0, SCHEMA_MAX_CLASSES, &list, e);
    if (rc || !list || !list->child) return rc;
    c->classes = mem_try_alloc((size_t)cJSON_GetArraySize(list), sizeof *c->classes);
    if (!c->classes) return err_set(e, ERR_NOMEM, path, "no memory for the classes");
    for (const cJSON *n = list->child; n; n = n->next) {
        int64_t *v = &c->classes[c->n_classes];
        if (whole_number(n, -EXACT, EXACT, v))
            return err_set(e, ERR_INVALID, path, "classes must be integers");
        if (c->n_classes && c->classes[c->n_classes - 1] >= *v)
            return err_set(e, ERR_INVALID, path, "classes must be sorted and different from each other");
        c->n_classes++;
    }
    return 0;
}

static int read_stats(struct column *c, struct json_obj *o, struct err *e)
{
    const double big = DBL_MAX;
    c->has_stats = json_obj_find(o, "min") != NULL;
    if (!c->has_stats) return 0;
    int rc;
    if ((rc = json_take_num(o, "min", -big, big, &c->min, e)) ||
        (rc = json_take_num(o, "max", -big, big, &c->max, e)) ||
        (rc = json_take_num(o, "mean", -big, big, &c->mean, e)) ||
        (rc = json_take_num(o, "std", 0, big, &c->std, e)))
        return rc;
    return 0;
}

static int column_from_json(struct column *c, const cJSON *node, const char *path, int64_t rows,
                            struct err *e)
{
    struct json_obj o;
    const char *name = NULL;
    int type = 0, dtype = 0;
    int64_t max_missing = 0;
    int rc;
    if ((rc = json_obj_open(&o, node, path, e)) ||
        (rc = json_take_str(&o, "name", 1, SCHEMA_MAX_NAME, &name, e)) ||
        (rc = take_enum(&o, "type", COLUMN_TENSOR + 1, type_text, &type, e)) ||
        (rc = take_enum(&o, "dtype", DATA_TYPE_COUNT, dtype_text, &dtype, e)))
        return rc;
    c->name = mem_strdup(name);
    c->type = (enum column_type)type;
    c->dtype = (enum data_type)dtype;
    if ((rc = read_shape(c, &o, e))) return rc;
    if (__builtin_mul_overflow(rows, column_width(c), &max_missing))
        return err_set(e, ERR_INVALID, path, "the column has more numbers than fit");
    if ((rc = json_take_int(&o, "missing", 0, max_missing, &c->missing, e)) || (rc = read_stats(c, &o, e)))
        return rc;
    if (c->dtype == DATA_TEXT) {
        c->text_bytes = -1;
        if ((rc = json_opt_int(&o, "text_bytes", 0, (int64_t)1 << 50, &c->text_bytes, e))) return rc;
    }
    if (c->type == COLUMN_CATEGORY && (rc = read_categories(c, &o, e))) return rc;
    if (c->type == COLUMN_NUMBER && (rc = read_classes(c, &o, e))) return rc;
    return json_obj_close(&o, e);
}

static int name_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_names(const struct schema *s, const char *path, struct err *e)
{
    const char **names = mem_try_alloc(s->n_columns, sizeof *names);
    int rc = 0;
    if (!names) return err_set(e, ERR_NOMEM, path, "no memory for the columns");
    for (size_t i = 0; i < s->n_columns; i++) names[i] = s->columns[i].name;
    qsort(names, s->n_columns, sizeof *names, name_order);
    for (size_t i = 1; i < s->n_columns && !rc; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            rc = err_set(e, ERR_INVALID, path, "two columns are named \"%s\"", names[i]);
    mem_free(names);
    return rc;
}

int schema_from_json(struct schema **out, const cJSON *node, const char *path, struct err *e)
{
    struct json_obj o;
    const cJSON *list = NULL;
    int rc, format = 0;
    char columns_path[JSON_PATH_MAX], at[JSON_PATH_MAX];
    struct schema *s = mem_alloc(1, sizeof *s);
    *out = NULL;
    json_path_name(columns_path, path, "columns");
    if ((rc = json_obj_open(&o, node, path, e)) ||
        (rc = take_enum(&o, "format", SCHEMA_NPY + 1, format_text, &format, e)) ||
        (rc = json_take_int(&o, "rows", 1, (int64_t)1 << 40, &s->rows, e)) ||
        (rc = json_take_array(&o, "columns", 1, SCHEMA_MAX_COLUMNS, &list, e)) ||
        (rc = json_obj_close(&o, e)))
        goto out;
    s->format = (enum schema_format)format;
    s->columns = mem_try_alloc((size_t)cJSON_GetArraySize(list), sizeof *s->columns);
    if (!s->columns) {
        rc = err_set(e, ERR_NOMEM, columns_path, "no memory for the columns");
        goto out;
    }
    for (const cJSON *n = list->child; n && !rc; n = n->next) {
        json_path_index(at, columns_path, s->n_columns);
        rc = column_from_json(&s->columns[s->n_columns++], n, at, s->rows, e);
    }
    if (!rc) rc = check_names(s, columns_path, e);
out:
    if (rc)
        schema_free(s);
    else
        *out = s;
    return rc;
}
