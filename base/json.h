/* JSON in (strict, over cJSON) and JSON out (a writer over struct buf).
 *
 * Reading refuses, before cJSON sees a byte: bad UTF-8, depth > 32, more tokens than the limit, \u0000,
 * duplicate names, numbers beyond double, anything after the end. The accessors below look names up
 * case-sensitively and report failures with the path of the value, so that a handler reads like the schema
 * that it accepts:
 *
 *     struct json_obj o;
 *     if ((rc = json_obj_open(&o, root, "spec", e)) ||
 *         (rc = json_take_int(&o, "epochs", 1, 10000, &epochs, e)) ||      required
 *         (rc = json_opt_bool(&o, "shuffle", &shuffle, e)) ||              optional: *out is left alone when
 * absent (rc = json_obj_close(&o, e)))                                    refuses unknown names, by name
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cjson/cJSON.h>
#include "base/err.h"
#include "base/buf.h"

/* Parses exactly len bytes. On success *out is the caller's (cJSON_Delete). ERR_INVALID, and
 * ERR_TOO_LARGE for too many tokens (values and names), say line and column. A number may have 63 characters
 * at most. */
int json_parse(cJSON **out, const char *text, size_t len, size_t max_tokens, struct err *e);

enum { JSON_OBJ_MAX_FIELDS = 64, JSON_PATH_MAX = 96 };

struct json_obj {
    const cJSON *node;        /* borrowed */
    char path[JSON_PATH_MAX]; /* "" at the top */
    uint64_t seen;            /* bit i: child i was taken */
};

/* node must be an object of at most 64 names; path is where it stands ("" at the top). */
int json_obj_open(struct json_obj *o, const cJSON *node, const char *path, struct err *e);
int json_obj_close(struct json_obj *o, struct err *e); /* ERR_INVALID for the first name nobody asked for */
const cJSON *json_obj_find(struct json_obj *o, const char *name); /* NULL when absent; marks it as seen */

/* Required values. Strings are borrowed from the tree. Bounds are inclusive; string length is in bytes. A
 * whole number must be within ±2^53, where doubles are exact: larger ones travel as strings. */
int json_take_str(struct json_obj *o, const char *name, size_t min_len, size_t max_len, const char **out,
                  struct err *e);
int json_take_int(struct json_obj *o, const char *name, int64_t min, int64_t max, int64_t *out,
                  struct err *e);
int json_take_num(struct json_obj *o, const char *name, double min, double max, double *out, struct err *e);
int json_take_bool(struct json_obj *o, const char *name, bool *out, struct err *e);
int json_take_array(struct json_obj *o, const char *name, size_t min_len, size_t max_len, const cJSON **out,
                    struct err *e);
int json_take_object(struct json_obj *o, const char *name, const cJSON **out, struct err *e);

/* Optional values: an absent name or JSON null leaves *out as it was. */
int json_opt_str(struct json_obj *o, const char *name, size_t min_len, size_t max_len, const char **out,
                 struct err *e);
int json_opt_int(struct json_obj *o, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e);
int json_opt_num(struct json_obj *o, const char *name, double min, double max, double *out, struct err *e);
int json_opt_bool(struct json_obj *o, const char *name, bool *out, struct err *e);
int json_opt_array(struct json_obj *o, const char *name, size_t min_len, size_t max_len, const cJSON **out,
                   struct err *e);
int json_opt_object(struct json_obj *o, const char *name, const cJSON **out, struct err *e);

/* "layers[2].units": path + name / path + index, into out. */
void json_path_name(char out[JSON_PATH_MAX], const char *path, const char *name);
void json_path_index(char out[JSON_PATH_MAX], const char *path, size_t index);

/* How many of the first len bytes at s stand in a JSON string as they are and need no look: printable ASCII
 * up to a quote, a backslash or anything else. */
size_t json_plain_run(const char *s, size_t len);

/* ---- writer: commas and quoting are its business. Nesting ≤ 32. Misuse is an assert. ---- */
struct json_writer {
    struct buf *out; /* borrowed */
    uint32_t open;   /* bit per depth: something was written there already */
    int depth;
    bool after_name;
};

void jw_init(struct json_writer *w, struct buf *out);
void jw_obj(struct json_writer *w);
void jw_obj_end(struct json_writer *w);
void jw_arr(struct json_writer *w);
void jw_arr_end(struct json_writer *w);
void jw_name(struct json_writer *w, const char *name);
void jw_str(struct json_writer *w, const char *s); /* NULL writes null */
void jw_strn(struct json_writer *w, const char *s, size_t len);
void jw_int(struct json_writer *w, int64_t v);
void jw_num(struct json_writer *w,
            double v); /* shortest text that reads back as v; NaN and ±Inf write null */
void jw_f32(struct json_writer *w, float v); /* shortest text that reads back as the float v */
void jw_bool(struct json_writer *w, bool v);
void jw_null(struct json_writer *w);
void jw_raw(struct json_writer *w, const char *json, size_t len); /* a value that is JSON already */
void jw_node(struct json_writer *w, const cJSON *node);           /* NULL writes null */
/* name + value */
void jw_kstr(struct json_writer *w, const char *name, const char *v);
void jw_kint(struct json_writer *w, const char *name, int64_t v);
void jw_knum(struct json_writer *w, const char *name, double v);
void jw_kbool(struct json_writer *w, const char *name, bool v);
/* int64 as a string ("micros" and other 64-bit values that a JavaScript client must not round) */
void jw_kint_str(struct json_writer *w, const char *name, int64_t v);

#endif
