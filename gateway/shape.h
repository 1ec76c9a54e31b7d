/* The shapes of request and response bodies, as a table: /openapi.json's components come from it.
 *
 * A field's type is "string", "integer", "number", "boolean", "object" (free form), "any", "[T]" for an array
 * of T, or the name of another shape; "?" behind it allows null. Immutable: any thread. */
#ifndef GATEWAY_SHAPE_H
#define GATEWAY_SHAPE_H

#include <stddef.h>
#include <stdbool.h>
#include "base/json.h"

enum { SHAPE_FIELDS_MAX = 32 };

struct shape_field {
    const char *name; /* NULL ends the fields */
    const char *type;
    bool required;
    const char *help;
};

struct shape {
    const char *name;    /* "Job" */
    const char *summary; /* one line */
    struct shape_field fields[SHAPE_FIELDS_MAX];
};

extern const struct shape shape_table[];
extern const size_t shape_table_len;

/* NULL when there is none of that name. */
const struct shape *shape_find(const char *name);

/* The JSON Schema of s, or of a type text. */
void shape_write(struct json_writer *w, const struct shape *s);
void shape_type_write(struct json_writer *w, const char *type);

/* Whether the type text is well-formed and names only shapes that exist. */
bool shape_type_known(const char *type);

#endif
