/* Reads a tune job's spec. */
#include "learn/spec/tune.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "learn/spec/names.h"
#include "learn/spec/put.h"
#include "learn/spec/tune_draw.h"

enum { USUAL_TRIALS = 10, USUAL_POINTS = 3 };

static const char *const method_list[] = {"grid", "random", "halving"};
static const struct words words_method = {"method", 3, method_list};
static const char *const range_list[] = {"values", "uniform", "log_uniform", "int", "log_int"};
static const struct words words_range = {"type", 5, range_list};

const char *tune_method_name(enum tune_method m)
{
    return method_list[m];
}

/* ---- one parameter ---- */

/* Fields that decide which rows and columns are compared: the same for all trials. */
static bool is_fixed(const char *path)
{
    static const char *const fixed[] = {
        "target", "features", "task", "training.validation_split", "training.stratify", "training.seed"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        size_t n = strlen(fixed[i]);
        if (strncmp(path, fixed[i], n) == 0 && (path[n] == '\0' || path[n] == '.' || path[n] == '['))
            return true;
    }
    return strcmp(path, "training") == 0;
}

static int check_path(const struct tune_spec *t, const char *path, const char *at, struct err *e)
{
    if (is_fixed(path))
        return err_set(e, ERR_INVALID, at,
                       "%s must be the same for all trials, or their scores could not be compared", path);
    if (t->method == TUNE_HALVING && strcmp(path, "training.epochs") == 0)
        return err_set(e, ERR_INVALID, at,
                       "halving shares out the epochs itself; search them with random or grid");
    return 0;
}

static int take_values(struct tune_spec *t, struct tune_parameter *p, const cJSON *list, const char *at,
                       struct err *e)
{
    char path[JSON_PATH_MAX];
    p->values = spec__alloc(&t->arena, (size_t)cJSON_GetArraySize(list) + 1, sizeof *p->values, e);
    if (!p->values) return ERR_NOMEM;
    for (const cJSON *item = list->child; item; item = item->next) {
        struct buf text = {0};
        struct json_writer w;
        jw_init(&w, &text);
        jw_node(&w, item);
        bool fits = !text.failed && text.len <= TUNE_MAX_VALUE_BYTES;
        buf_dispose(&text);
        json_path_index(path, at, p->n_values);
        if (!fits)
            return err_set(e, ERR_INVALID, path, "a value may have %d bytes of JSON", TUNE_MAX_VALUE_BYTES);
        p->values[p->n_values++] = item;
    }
    return 0;
}

static bool whole(double x)
{
    return x == floor(x) && fabs(x) <= 9007199254740991.0;
}

static int take_range(struct tune_spec *t, struct tune_parameter *p, struct json_obj *o, struct err *e)
{
    char path[JSON_PATH_MAX];
    bool log_scale = p->range == RANGE_LOG_UNIFORM || p->range == RANGE_LOG_INT;
    bool integer = p->range == RANGE_INT || p->range == RANGE_LOG_INT;
    int rc;
    p->points = USUAL_POINTS;
    if ((rc = json_take_num(o, "min", -1e12, 1e12, &p->min, e)) ||
        (rc = json_take_num(o, "max", -1e12, 1e12, &p->max, e)))
        return rc;
    json_path_name(path, o->path, "points");
    if (t->method != TUNE_GRID && json_obj_find(o, "points"))
        return err_set(e, ERR_INVALID, path,
                       "points belong to the method grid; %s draws from the whole range",
                       tune_method_name(t->method));
    if ((rc = json_opt_int(o, "points", 2, TUNE_MAX_VALUES, &p->points, e))) return rc;
    json_path_name(path, o->path, "max");
    if (p->max <= p->min) return err_set(e, ERR_INVALID, path, "max must be above min");
    json_path_name(path, o->path, "min");
    if (log_scale && p->min <= 0) return err_set(e, ERR_INVALID, path, "a logarithmic range begins above 0");
    if (integer && (!whole(p->min) || !whole(p->max)))
        return err_set(e, ERR_INVALID, path, "the bounds of a range of whole numbers are whole numbers");
    if (integer && p->max - p->min + 1 < (double)p->points) p->points = (int64_t)(p->max - p->min) + 1;
    return 0;
}

/* [32,64] | {"values":[32,64]} | {"type":"log_uniform","min":…,"max":…} */
static int take_parameter(struct tune_spec *t, const cJSON *node, const char *up, struct err *e)
{
    struct tune_parameter *p = &t->parameters[t->n_parameters++];
    char at[JSON_PATH_MAX], path[JSON_PATH_MAX];
    const cJSON *list = NULL;
    struct json_obj o;
    int range = RANGE_NONE, rc;
    json_path_name(at, up, node->string);
    p->path = node->string;
    if ((rc = check_path(t, p->path, at, e))) return rc;
    if (cJSON_IsArray(node)) {
        int n = cJSON_GetArraySize(node);
        if (n < 1 || n > TUNE_MAX_VALUES)
            return err_set(e, ERR_INVALID, at, "expected 1 to %d values", TUNE_MAX_VALUES);
        return take_values(t, p, node, at, e);
    }
    if ((rc = json_obj_open(&o, node, at, e)) || (rc = words_opt(&words_range, &o, "type", &range, e)))
        return rc;
    p->range = (enum tune_range)range;
    if (p->range != RANGE_NONE) {
        rc = take_range(t, p, &o, e);
    } else if ((rc = json_take_array(&o, "values", 1, TUNE_MAX_VALUES, &list, e)) == 0) {
        json_path_name(path, at, "values");
        rc = take_values(t, p, list, path, e);
    }
    return rc ? rc : json_obj_close(&o, e);
}

static int take_parameters(struct tune_spec *t, struct json_obj *o, struct err *e)
{
    const cJSON *node = NULL;
    char path[JSON_PATH_MAX];
    int rc = json_take_object(o, "parameters", &node, e), n = node ? cJSON_GetArraySize(node) : 0;
    if (rc) return rc;
    json_path_name(path, o->path, "parameters");
    if (n < 1 || n > TUNE_MAX_PARAMETERS)
        return err_set(e, ERR_INVALID, path, "expected 1 to %d fields of the spec with the values to try",
                       TUNE_MAX_PARAMETERS);
    t->parameters = spec__alloc(&t->arena, (size_t)n, sizeof *t->parameters, e);
    if (!t->parameters) return ERR_NOMEM;
    for (const cJSON *item = node->child; item && !rc; item = item->next)
        rc = take_parameter(t, item, path, e);
    return rc;
}

/* ---- the search ---- */

/* How many trials there are, for a grid and for lists alone; INT64_MAX when the search has no end. */
static int64_t combinations(const struct tune_spec *t)
{
    int64_t product = 1;
    for (size_t i = 0; i < t->n_parameters; i++) {
        const struct tune_parameter *p = &t->parameters[i];
        int64_t n = p->range == RANGE_NONE ? (int64_t)p->n_values : p->points;
        if (p->range != RANGE_NONE && t->method != TUNE_GRID) return INT64_MAX;
        if (__builtin_mul_overflow(product, n, &product)) return INT64_MAX;
    }
    return product;
}

static int take_trials(struct tune_spec *t, struct json_obj *o, struct err *e)
{
    char path[JSON_PATH_MAX];
    int64_t all = combinations(t);
    bool given = json_obj_find(o, "trials") != NULL;
    t->trials = t->method == TUNE_GRID ? all : USUAL_TRIALS;
    json_path_name(path, o->path, t->method == TUNE_GRID ? "parameters" : "trials");
    int rc = json_opt_int(o, "trials", 1, TUNE_MAX_TRIALS, &t->trials, e);
    if (rc) return rc;
    if (t->method == TUNE_GRID && given && t->trials != all)
        return err_set(e, ERR_INVALID, path,
                       "the grid has %lld combinations, not %lld; leave trials out, or use the method random",
                       (long long)all, (long long)t->trials);
    if (t->trials > TUNE_MAX_TRIALS)
        return err_set(e, ERR_INVALID, path,
                       "the grid has %lld combinations; at most %d trials are offered. Use the method random",
                       (long long)all, TUNE_MAX_TRIALS);
    if (t->trials > all) t->trials = all;
    if (t->method == TUNE_GRID || all == INT64_MAX) return 0;
    t->picks = spec__alloc(&t->arena, (size_t)t->trials, sizeof *t->picks, e);
    if (!t->picks) return ERR_NOMEM;
    tune_draw_different(t->seed, all, t->trials, t->picks);
    return 0;
}

/* What the search itself needs of the base. */
static int check_base(const struct tune_spec *t, struct err *e)
{
    const cJSON *held = spec_at(t->base, "training.validation_split");
    const cJSON *epochs = spec_at(t->base, "training.epochs");
    char base[JSON_PATH_MAX], training[JSON_PATH_MAX], path[JSON_PATH_MAX];
    json_path_name(base, t->path, "base");
    json_path_name(training, base, "training");
    json_path_name(path, training, "validation_split");
    if (cJSON_IsNumber(held) && held->valuedouble == 0)
        return err_set(e, ERR_INVALID, path,
                       "trials are compared on rows that are held back; give a share above 0");
    json_path_name(path, training, "epochs");
    if (t->method == TUNE_HALVING && !cJSON_IsNumber(epochs))
        return err_set(e, ERR_INVALID, path,
                       "halving shares out the epochs of a full training; say how many those are");
    return 0;
}

static int parse(struct tune_spec *t, struct err *e)
{
    struct json_obj o;
    int64_t seed = 1;
    int method = TUNE_RANDOM, rc;
    if ((rc = json_obj_open(&o, t->tree, t->path, e)) || (rc = json_take_object(&o, "base", &t->base, e)) ||
        (rc = words_opt(&words_method, &o, "method", &method, e)) ||
        (rc = json_opt_int(&o, "seed", 0, 9007199254740991, &seed, e)) ||
        (rc = score_opt(&o, "metric", &t->score, e)))
        return rc;
    t->method = (enum tune_method)method;
    t->seed = (uint64_t)seed;
    if ((rc = take_parameters(t, &o, e)) || (rc = take_trials(t, &o, e)) || (rc = json_obj_close(&o, e)))
        return rc;
    return check_base(t, e);
}

int tune_parse(struct tune_spec **out, const cJSON *node, const char *path, struct err *e)
{
    struct tune_spec *t = mem_alloc(1, sizeof *t);
    int rc;
    *out = NULL;
    arena_init(&t->arena, SIZE_MAX);
    snprintf(t->path, sizeof t->path, "%s", path);
    t->tree = cJSON_Duplicate(node, true);
    rc = t->tree ? parse(t, e) : err_set(e, ERR_NOMEM, path, "no memory for the spec");
    if (rc)
        tune_free(t);
    else
        *out = t;
    return rc;
}

void tune_free(struct tune_spec *t)
{
    if (!t) return;
    cJSON_Delete(t->tree);
    arena_dispose(&t->arena);
    mem_free(t);
}

/* ---- and writes it ---- */

static void parameter_to_json(const struct tune_spec *t, const struct tune_parameter *p,
                              struct json_writer *w)
{
    jw_name(w, p->path);
    jw_obj(w);
    jw_kstr(w, "type", range_list[p->range]);
    if (p->range == RANGE_NONE) {
        jw_name(w, "values");
        jw_arr(w);
        for (size_t i = 0; i < p->n_values; i++) jw_node(w, p->values[i]);
        jw_arr_end(w);
    } else {
        jw_knum(w, "min", p->min);
        jw_knum(w, "max", p->max);
        if (t->method == TUNE_GRID) jw_kint(w, "points", p->points);
    }
    jw_obj_end(w);
}

void tune_to_json(const struct tune_spec *t, struct json_writer *w)
{
    jw_obj(w);
    jw_name(w, "base");
    jw_node(w, t->base);
    jw_name(w, "parameters");
    jw_obj(w);
    for (size_t i = 0; i < t->n_parameters; i++) parameter_to_json(t, &t->parameters[i], w);
    jw_obj_end(w);
    jw_kstr(w, "method", tune_method_name(t->method));
    jw_kint(w, "trials", t->trials);
    jw_kstr(w, "metric", score_name(t->score));
    jw_kint(w, "seed", (int64_t)t->seed);
    jw_obj_end(w);
}
