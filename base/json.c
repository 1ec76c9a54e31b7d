/* Parses checked JSON into a cJSON tree, and takes values out of it with errors that name their path. */
#include "base/json.h"
#include "base/json_scan.h"
#include "base/mem.h"
#include "base/num.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* Whole numbers up to here are exact as doubles, which is what cJSON reads. */
static const int64_t exact_int_max = 1ll << 53;

static void *cjson_alloc(size_t bytes)
{
    return mem_try_realloc(NULL, bytes, 1);
}

static void use_our_heap(void)
{
    cJSON_Hooks hooks = {.malloc_fn = cjson_alloc, .free_fn = mem_free};
    cJSON_InitHooks(&hooks);
}

int json_parse(cJSON **out, const char *text, size_t len, size_t max_tokens, struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, use_our_heap);
    *out = NULL;
    int rc = json__scan(text, len, max_tokens, e);
    if (rc) return rc;
    /* The scanner vouches for the grammar, so only memory can run out here. */
    *out = cJSON_ParseWithLengthOpts(text, len, NULL, 0);
    return *out ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for a JSON text of %zu bytes", len);
}

/* ---- paths ---- */

/* strlcpy-like append that drops what does not fit, at a UTF-8 boundary. */
static void path_add(char out[JSON_PATH_MAX], const char *text)
{
    size_t have = strnlen(out, JSON_PATH_MAX - 1), n = strlen(text);
    if (n > JSON_PATH_MAX - 1 - have) {
        n = JSON_PATH_MAX - 1 - have;
        while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80) n--;
    }
    memcpy(out + have, text, n);
    out[have + n] = '\0';
}

static void path_start(char out[JSON_PATH_MAX], const char *path)
{
    if (out == path) return;
    out[0] = '\0';
    path_add(out, path);
}

void json_path_name(char out[JSON_PATH_MAX], const char *path, const char *name)
{
    path_start(out, path);
    if (out[0]) path_add(out, ".");
    path_add(out, name);
}

void json_path_index(char out[JSON_PATH_MAX], const char *path, size_t index)
{
    char text[32];
    snprintf(text, sizeof text, "[%zu]", index);
    path_start(out, path);
    path_add(out, text);
}

/* ---- objects ---- */

static const char *kind_of(const cJSON *node)
{
    if (cJSON_IsObject(node)) return "an object";
    if (cJSON_IsArray(node)) return "an array";
    if (cJSON_IsString(node)) return "text";
    if (cJSON_IsNumber(node)) return "a number";
    if (cJSON_IsBool(node)) return "true or false";
    return "null";
}

int json_obj_open(struct json_obj *o, const cJSON *node, const char *path, struct err *e)
{
    *o = (struct json_obj){.node = node};
    path_start(o->path, path);
    const char *what = o->path[0] ? o->path : "the body";
    if (!node) return err_set(e, ERR_INVALID, o->path, "%s is missing; an object was expected", what);
    if (!cJSON_IsObject(node))
        return err_set(e, ERR_INVALID, o->path, "%s must be an object, not %s", what, kind_of(node));
    size_t fields = 0;
    for (const cJSON *c = node->child; c; c = c->next) fields++;
    if (fields > JSON_OBJ_MAX_FIELDS)
        return err_set(e, ERR_INVALID, o->path, "%s has %zu fields; %d are the most", what, fields,
                       JSON_OBJ_MAX_FIELDS);
    return 0;
}

int json_obj_close(struct json_obj *o, struct err *e)
{
    uint64_t bit = 1;
    for (const cJSON *c = o->node->child; c; c = c->next, bit <<= 1) {
        if (o->seen & bit) continue;
        char path[JSON_PATH_MAX];
        json_path_name(path, o->path, c->string);
        return err_set(e, ERR_INVALID, path, "there is no field '%s'; check its spelling or leave it out",
                       path);
    }
    return 0;
}

const cJSON *json_obj_find(struct json_obj *o, const char *name)
{
    uint64_t bit = 1;
    for (const cJSON *c = o->node->child; c; c = c->next, bit <<= 1) {
        if (strcmp(c->string, name) != 0) continue;
        o->seen |= bit;
        return c;
    }
    return NULL;
}

/* ---- values: each check writes *out or fails with "<path> must be …, not …" ---- */

/* What one value must be, and where it goes. */
struct want {
    enum { WANT_STR, WANT_INT, WANT_NUM, WANT_BOOL, WANT_ARRAY, WANT_OBJECT } kind;
    size_t min_len, max_len;
    int64_t min_int, max_int;
    double min_num, max_num;
    void *out;
};

static void range_text(char *out, size_t cap, const char *unit, size_t min, size_t max)
{
    if (min == max)
        snprintf(out, cap, "%zu %s", min, unit);
    else if (max == SIZE_MAX)
        snprintf(out, cap, "at least %zu %s", min, unit);
    else
        snprintf(out, cap, "%zu to %zu %s", min, max, unit);
}

/* "a whole number from 1 to 10000" */
static void describe(char *out, size_t cap, const struct want *w)
{
    char range[96], low[NUM_TEXT_MAX + 1] = "", high[NUM_TEXT_MAX + 1] = "";
    switch (w->kind) {
    case WANT_STR:
        range_text(range, sizeof range, "bytes", w->min_len, w->max_len);
        snprintf(out, cap, "text of %s", range);
        return;
    case WANT_INT:
        if (w->min_int <= -exact_int_max && w->max_int >= exact_int_max)
            snprintf(out, cap, "a whole number");
        else if (w->max_int >= exact_int_max)
            snprintf(out, cap, "a whole number, at least %lld", (long long)w->min_int);
        else
            snprintf(out, cap, "a whole number from %lld to %lld", (long long)w->min_int,
                     (long long)w->max_int);
        return;
    case WANT_NUM:
        if (isfinite(w->min_num)) low[num_format_f64(low, w->min_num)] = '\0';
        if (isfinite(w->max_num)) high[num_format_f64(high, w->max_num)] = '\0';
        if (low[0] && high[0])
            snprintf(out, cap, "a number from %s to %s", low, high);
        else if (low[0] || high[0])
            snprintf(out, cap, "a number, %s %s", low[0] ? "at least" : "at most", low[0] ? low : high);
        else
            snprintf(out, cap, "a number");
        return;
    case WANT_BOOL:
        snprintf(out, cap, "true or false");
        return;
    case WANT_ARRAY:
        range_text(range, sizeof range, "elements", w->min_len, w->max_len);
        snprintf(out, cap, "an array of %s", range);
        return;
    case WANT_OBJECT:
        snprintf(out, cap, "an object");
        return;
    }
}

/* The value as somebody would recognise it: numbers and short texts themselves, else their kind or size. */
static void found(char *out, size_t cap, const cJSON *node, const struct want *w)
{
    char number[NUM_TEXT_MAX + 1];
    if (cJSON_IsNumber(node) && isfinite(node->valuedouble)) {
        number[num_format_f64(number, node->valuedouble)] = '\0';
        snprintf(out, cap, "%s", number);
    } else if (cJSON_IsString(node) && w->kind == WANT_STR) {
        snprintf(out, cap, "%zu bytes", strlen(node->valuestring));
    } else if (cJSON_IsString(node)) {
        snprintf(out, cap, "the text \"%.40s\"", node->valuestring);
    } else if (cJSON_IsArray(node) && w->kind == WANT_ARRAY) {
        snprintf(out, cap, "%d elements", cJSON_GetArraySize(node));
    } else {
        snprintf(out, cap, "%s", kind_of(node));
    }
}

/* Writes *out and returns true when node is what is wanted. */
static bool accept(const cJSON *node, const struct want *w)
{
    double v = node->valuedouble;
    size_t len;
    switch (w->kind) {
    case WANT_STR:
        if (!cJSON_IsString(node)) return false;
        len = strlen(node->valuestring);
        if (len < w->min_len || len > w->max_len) return false;
        *(const char **)w->out = node->valuestring;
        return true;
    case WANT_INT:
        if (!cJSON_IsNumber(node) || v != floor(v) || fabs(v) > (double)exact_int_max) return false;
        if ((int64_t)v < w->min_int || (int64_t)v > w->max_int) return false;
        *(int64_t *)w->out = (int64_t)v;
        return true;
    case WANT_NUM:
        if (!cJSON_IsNumber(node) || !(v >= w->min_num && v <= w->max_num)) return false;
        *(double *)w->out = v;
        return true;
    case WANT_BOOL:
        if (!cJSON_IsBool(node)) return false;
        *(bool *)w->out = cJSON_IsTrue(node);
        return true;
    case WANT_ARRAY:
        if (!cJSON_IsArray(node)) return false;
        len = (size_t)cJSON_GetArraySize(node);
        if (len < w->min_len || len > w->max_len) return false;
        *(const cJSON **)w->out = node;
        return true;
    case WANT_OBJECT:
        if (!cJSON_IsObject(node)) return false;
        *(const cJSON **)w->out = node;
        return true;
    }
    return false;
}

static int take(struct json_obj *o, const char *name, bool required, const struct want *w, struct err *e)
{
    const cJSON *node = json_obj_find(o, name);
    if (!required && (!node || cJSON_IsNull(node))) return 0;
    if (node && accept(node, w)) return 0;
    char path[JSON_PATH_MAX], wanted[160], got[96];
    json_path_name(path, o->path, name);
    describe(wanted, sizeof wanted, w);
    if (!node) return err_set(e, ERR_INVALID, path, "'%s' is missing; it must be %s", path, wanted);
    found(got, sizeof got, node, w);
    return err_set(e, ERR_INVALID, path, "'%s' must be %s, not %s", path, wanted, got);
}

int json_take_str(struct json_obj *o, const char *name, size_t min_len, size_t max_len, const char **out,
                  struct err *e)
{
    return take(o, name, true,
                &(struct want){.kind = WANT_STR, .min_len = min_len, .max_len = max_len, .out = out}, e);
}

int json_take_int(struct json_obj *o, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e)
{
    return take(o, name, true, &(struct want){.kind = WANT_INT, .min_int = min, .max_int = max, .out = out},
                e);
}

int json_take_num(struct json_obj *o, const char *name, double min, double max, double *out, struct err *e)
{
    return take(o, name, true, &(struct want){.kind = WANT_NUM, .min_num = min, .max_num = max, .out = out},
                e);
}

int json_take_bool(struct json_obj *o, const char *name, bool *out, struct err *e)
{
    return take(o, name, true, &(struct want){.kind = WANT_BOOL, .out = out}, e);
}

int json_take_array(struct json_obj *o, const char *name, size_t min_len, size_t max_len, const cJSON **out,
                    struct err *e)
{
    return take(o, name, true,
                &(struct want){.kind = WANT_ARRAY, .min_len = min_len, .max_len = max_len, .out = out}, e);
}

int json_take_object(struct json_obj *o, const char *name, const cJSON **out, struct err *e)
{
    return take(o, name, true, &(struct want){.kind = WANT_OBJECT, .out = out}, e);
}

int json_opt_str(struct json_obj *o, const char *name, size_t min_len, size_t max_len, const char **out,
                 struct err *e)
{
    return take(o, name, false,
                &(struct want){.kind = WANT_STR, .min_len = min_len, .max_len = max_len, .out = out}, e);
}

int json_opt_int(struct json_obj *o, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e)
{
    return take(o, name, false, &(struct want){.kind = WANT_INT, .min_int = min, .max_int = max, .out = out},
                e);
}

int json_opt_num(struct json_obj *o, const char *name, double min, double max, double *out, struct err *e)
{
    return take(o, name, false, &(struct want){.kind = WANT_NUM, .min_num = min, .max_num = max, .out = out},
                e);
}

int json_opt_bool(struct json_obj *o, const char *name, bool *out, struct err *e)
{
    return take(o, name, false, &(struct want){.kind = WANT_BOOL, .out = out}, e);
}

int json_opt_array(struct json_obj *o, const char *name, size_t min_len, size_t max_len, const cJSON **out,
                   struct err *e)
{
    return take(o, name, false,
                &(struct want){.kind = WANT_ARRAY, .min_len = min_len, .max_len = max_len, .out = out}, e);
}

int json_opt_object(struct json_obj *o, const char *name, const cJSON **out, struct err *e)
{
    return take(o, name, false, &(struct want){.kind = WANT_OBJECT, .out = out}, e);
}
