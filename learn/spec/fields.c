/* Reads and writes the fields of a layer by their types. */
#include "learn/spec/fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "learn/spec/names.h"

/* Where a field of this layer lies. */
static void *place(struct layer_spec *l, const struct layer_field *f)
{
    return (char *)l + f->at;
}

static int not_offered(const struct json_obj *o, const char *field, const char *what, struct err *e)
{
    char path[JSON_PATH_MAX];
    json_path_name(path, o->path, field);
    return err_set(e, ERR_UNSUPPORTED, path, "%s", what);
}

void fields_snake_case(char *out, size_t cap, const char *camel)
{
    size_t n = 0;
    for (const char *p = camel; *p && n + 2 < cap; p++) {
        bool upper = *p >= 'A' && *p <= 'Z';
        bool after_lower = p > camel && p[-1] >= 'a' && p[-1] <= 'z';
        bool before_lower = p > camel && p[1] >= 'a' && p[1] <= 'z';
        if (upper && (after_lower || before_lower)) out[n++] = '_';
        out[n++] = upper ? (char)(*p - 'A' + 'a') : *p;
    }
    out[n] = '\0';
}

/* ---- words ---- */

static int read_activation(struct json_obj *o, const struct layer_field *f, enum activation *out,
                           struct err *e)
{
    const char *text = NULL;
    char path[JSON_PATH_MAX], list[256];
    int rc =
        f->required ? json_take_str(o, f->name, 1, 64, &text, e) : json_opt_str(o, f->name, 1, 64, &text, e);
    if (rc || !text) return rc;
    if (strcmp(text, "swish") == 0) text = "silu";
    int i = words_find(&words_activation, text);
    json_path_name(path, o->path, f->name);
    if (i < 0)
        return err_set(e, ERR_UNSUPPORTED, path, "the activation \"%.40s\" is not offered; expected %s", text,
                       words_list(&words_activation, list, sizeof list));
    *out = (enum activation)i;
    return 0;
}

static int read_padding(struct json_obj *o, const struct layer_field *f, int *out, struct err *e)
{
    char path[JSON_PATH_MAX];
    int rc = words_opt(&words_padding, o, f->name, out, e);
    json_path_name(path, o->path, f->name);
    if (!rc && *out >= (int)f->max)
        return err_set(e, ERR_INVALID, path, "causal padding is for Conv1D; expected valid or same");
    return rc;
}

static int init_config(struct layer_spec *l, const cJSON *config, const char *path, struct err *e)
{
    struct json_obj o;
    int rc;
    double ignored = 0;
    if (!config || cJSON_IsNull(config)) return 0;
    if ((rc = json_obj_open(&o, config, path, e)) ||
        (rc = json_opt_num(&o, "value", -1e6, 1e6, &l->init_value, e)) ||
        (rc = json_opt_num(&o, "stddev", 0, 1e6, &l->init_value, e)) ||
        (rc = json_opt_num(&o, "maxval", 0, 1e6, &l->init_value, e)) ||
        (rc = json_opt_num(&o, "minval", -1e6, 0, &ignored, e)) ||
        (rc = json_opt_num(&o, "mean", 0, 0, &ignored, e)) ||
        (rc = json_opt_num(&o, "gain", 1, 1, &ignored, e)))
        return rc;
    json_obj_find(&o, "seed"); /* the run's seed counts */
    return json_obj_close(&o, e);
}

/* Keras's {"class_name","config"}: its name in snake_case. */
static int init_object(struct layer_spec *l, const cJSON *node, const char *path, char *name, size_t cap,
                       struct err *e)
{
    char at[JSON_PATH_MAX];
    const char *text = NULL;
    struct json_obj o;
    int rc;
    json_path_name(at, path, "config");
    if ((rc = json_obj_open(&o, node, path, e)) || (rc = json_take_str(&o, "class_name", 1, 60, &text, e)) ||
        (rc = init_config(l, json_obj_find(&o, "config"), at, e)))
        return rc;
    json_obj_find(&o, "module");
    json_obj_find(&o, "registered_name");
    fields_snake_case(name, cap, text);
    return json_obj_close(&o, e);
}

static int read_init(struct layer_spec *l, struct json_obj *o, const struct layer_field *f, const char **out,
                     struct err *e)
{
    const cJSON *node = json_obj_find(o, f->name);
    char path[JSON_PATH_MAX], name[64] = "", list[256];
    int rc;
    if (!node || cJSON_IsNull(node)) return 0;
    json_path_name(path, o->path, f->name);
    if (cJSON_IsString(node))
        snprintf(name, sizeof name, "%s", node->valuestring);
    else if ((rc = init_object(l, node, path, name, sizeof name, e)))
        return rc;
    int i = words_find(&words_init, name);
    if (i < 0)
        return err_set(e, ERR_UNSUPPORTED, path, "the initializer \"%s\" is not offered; expected %s", name,
                       words_list(&words_init, list, sizeof list));
    *out = words_init.word[i];
    return 0;
}

/* ---- "l2": 0.01, or kernel_regularizer: null or {"class_name":"L2","config":{"l2":0.01}} ---- */

static int read_l2(struct json_obj *outer, const struct layer_field *f, bool keras, double *out,
                   struct err *e)
{
    const cJSON *node = json_obj_find(outer, "kernel_regularizer"), *config = NULL;
    char path[JSON_PATH_MAX], at[JSON_PATH_MAX];
    const char *name = NULL;
    struct json_obj o, c;
    int rc = keras ? 0 : json_opt_num(outer, f->name, f->min, f->max, out, e);
    if (rc || !node || cJSON_IsNull(node)) return rc;
    json_path_name(path, outer->path, "kernel_regularizer");
    json_path_name(at, path, "config");
    if ((rc = json_obj_open(&o, node, path, e)) || (rc = json_take_str(&o, "class_name", 1, 60, &name, e)) ||
        (rc = json_take_object(&o, "config", &config, e)))
        return rc;
    if (strcmp(name, "L2") != 0)
        return not_offered(outer, "kernel_regularizer", "of the regularizers only L2 is offered", e);
    json_obj_find(&o, "module");
    json_obj_find(&o, "registered_name");
    if ((rc = json_obj_close(&o, e)) || (rc = json_obj_open(&c, config, at, e)) ||
        (rc = json_take_num(&c, "l2", f->min, f->max, out, e)))
        return rc;
    return json_obj_close(&c, e);
}

/* ---- lists ---- */

static bool whole_between(const cJSON *n, double min, double max)
{
    return cJSON_IsNumber(n) && n->valuedouble >= min && n->valuedouble <= max &&
           n->valuedouble == (double)(int64_t)n->valuedouble;
}

static int read_sizes(const struct layer_spec *l, struct json_obj *o, const struct layer_field *f,
                      int64_t *out, struct err *e)
{
    const cJSON *node = json_obj_find(o, f->name);
    int n = layer_class_of(l->kind)->spatial;
    char path[JSON_PATH_MAX];
    json_path_name(path, o->path, f->name);
    if (!f->required && (!node || cJSON_IsNull(node))) return 0;
    bool list = cJSON_IsArray(node) && cJSON_GetArraySize(node) == n;
    for (int i = 0; i < n; i++) {
        const cJSON *item = list ? cJSON_GetArrayItem(node, i) : node;
        if (!whole_between(item, f->min, f->max))
            return err_set(e, ERR_INVALID, path,
                           "%sexpected a whole number from %.0f to %.0f, or a list of %d of them",
                           node ? "" : "the field is missing; ", f->min, f->max, n);
        out[i] = (int64_t)item->valuedouble;
    }
    return 0;
}

int fields_read_shape(struct layer_spec *l, struct json_obj *o, const struct layer_field *f, bool batch,
                      struct err *e)
{
    const cJSON *list = NULL;
    char path[JSON_PATH_MAX];
    struct layer_shape *s = place(l, f);
    bool free_dim = f->min < 0;
    int rc = json_take_array(o, f->name, batch ? 2 : 1, SPEC_MAX_RANK + (batch ? 1 : 0), &list, e), open = 0;
    if (rc) return rc;
    json_path_name(path, o->path, f->name);
    for (const cJSON *n = batch ? list->child->next : list->child; n; n = n->next) {
        bool is_free = free_dim && cJSON_IsNumber(n) && n->valuedouble == -1 && open++ == 0;
        if (!is_free && !whole_between(n, 1, 1 << 30))
            return err_set(e, ERR_INVALID, path, "a shape holds sizes of at least 1%s",
                           free_dim ? ", and at most one -1" : "");
        s->dim[s->rank++] = (int64_t)n->valuedouble;
    }
    return 0;
}

static int read_axis(struct json_obj *o, const struct layer_field *f, int64_t *out, struct err *e)
{
    const cJSON *node = json_obj_find(o, f->name);
    char path[JSON_PATH_MAX];
    if (!node || cJSON_IsNull(node)) return 0;
    if (cJSON_IsArray(node) && cJSON_GetArraySize(node) == 1) node = node->child;
    json_path_name(path, o->path, f->name);
    if (!whole_between(node, -1, SPEC_MAX_RANK)) return err_set(e, ERR_INVALID, path, "expected one axis");
    *out = (int64_t)node->valuedouble;
    return 0;
}

/* ---- no choice ---- */

static int read_fixed(struct layer_spec *l, struct json_obj *o, const struct layer_field *f, struct err *e)
{
    const cJSON *node = json_obj_find(o, f->name);
    char path[JSON_PATH_MAX], name[64] = "";
    int rc = 0;
    if (!node || cJSON_IsNull(node)) return 0;
    json_path_name(path, o->path, f->name);
    if (!f->only) return err_set(e, ERR_UNSUPPORTED, path, "this is not offered; leave it out");
    if (cJSON_IsString(node)) snprintf(name, sizeof name, "%s", node->valuestring);
    if (cJSON_IsBool(node)) snprintf(name, sizeof name, "%s", cJSON_IsTrue(node) ? "true" : "false");
    if (cJSON_IsNumber(node)) snprintf(name, sizeof name, "%g", node->valuedouble);
    if (cJSON_IsObject(node)) rc = init_object(l, node, path, name, sizeof name, e);
    if (rc || strcmp(name, f->only) == 0) return rc;
    return err_set(e, ERR_UNSUPPORTED, path, "only %s is offered here", f->only);
}

static int read_field(struct layer_spec *l, struct json_obj *o, const struct layer_field *f, bool keras,
                      struct err *e)
{
    void *at = place(l, f);
    switch (f->type) {
    case FIELD_INT:
        return f->required ? json_take_int(o, f->name, (int64_t)f->min, (int64_t)f->max, at, e)
                           : json_opt_int(o, f->name, (int64_t)f->min, (int64_t)f->max, at, e);
    case FIELD_NUM:
        return f->required ? json_take_num(o, f->name, f->min, f->max, at, e)
                           : json_opt_num(o, f->name, f->min, f->max, at, e);
    case FIELD_BOOL:
        return json_opt_bool(o, f->name, at, e);
    case FIELD_ACTIVATION:
        return read_activation(o, f, at, e);
    case FIELD_PADDING:
        return read_padding(o, f, at, e);
    case FIELD_INIT:
        return read_init(l, o, f, at, e);
    case FIELD_L2:
        return read_l2(o, f, keras, at, e);
    case FIELD_SIZES:
        return read_sizes(l, o, f, at, e);
    case FIELD_SHAPE:
        return fields_read_shape(l, o, f, false, e);
    case FIELD_AXIS:
        return read_axis(o, f, at, e);
    case FIELD_FIXED:
        return read_fixed(l, o, f, e);
    case FIELD_IGNORED:
        if (keras) json_obj_find(o, f->name);
        return 0;
    }
    return 0;
}

int fields_read(struct layer_spec *l, struct json_obj *o, bool keras, struct err *e)
{
    int rc = 0;
    for (const struct layer_field *f = layer_class_of(l->kind)->fields; f->name && !rc; f++)
        rc = read_field(l, o, f, keras, e);
    return rc;
}

/* ---- writing ---- */

static void write_init(const char *field, const char *init, double value, struct json_writer *w)
{
    const char *parameter = strcmp(init, "constant") == 0         ? "value"
                            : strcmp(init, "random_normal") == 0  ? "stddev"
                            : strcmp(init, "random_uniform") == 0 ? "maxval"
                                                                  : NULL;
    if (!parameter) {
        jw_kstr(w, field, init);
        return;
    }
    jw_name(w, field);
    jw_obj(w);
    jw_kstr(w, "class_name", init);
    jw_name(w, "config");
    jw_obj(w);
    jw_knum(w, parameter, value);
    jw_obj_end(w);
    jw_obj_end(w);
}

static void write_list(const char *field, const int64_t *values, int n, struct json_writer *w)
{
    jw_name(w, field);
    jw_arr(w);
    for (int i = 0; i < n; i++) jw_int(w, values[i]);
    jw_arr_end(w);
}

static void write_field(const struct layer_spec *l, const struct layer_field *f, struct json_writer *w)
{
    const void *at = (const char *)l + f->at;
    switch (f->type) {
    case FIELD_INT:
    case FIELD_AXIS:
        jw_kint(w, f->name, *(const int64_t *)at);
        break;
    case FIELD_NUM:
    case FIELD_L2:
        jw_knum(w, f->name, *(const double *)at);
        break;
    case FIELD_BOOL:
        jw_kbool(w, f->name, *(const bool *)at);
        break;
    case FIELD_ACTIVATION:
        jw_kstr(w, f->name, activation_name(*(const enum activation *)at));
        break;
    case FIELD_PADDING:
        jw_kstr(w, f->name, words_padding.word[*(const int *)at]);
        break;
    case FIELD_INIT:
        write_init(f->name, *(const char *const *)at, l->init_value, w);
        break;
    case FIELD_SIZES:
        write_list(f->name, at, layer_class_of(l->kind)->spatial, w);
        break;
    case FIELD_SHAPE:
        write_list(f->name, ((const struct layer_shape *)at)->dim, ((const struct layer_shape *)at)->rank, w);
        break;
    case FIELD_FIXED:
    case FIELD_IGNORED:
        break;
    }
}

void fields_write(const struct layer_spec *l, struct json_writer *w)
{
    for (const struct layer_field *f = layer_class_of(l->kind)->fields; f->name; f++)
        if (!f->alias) write_field(l, f, w);
}
