/* Schemas in memory: names of their enums, look-up, and joining a features file with its labels file. */
#include "learn/data/schema.h"

#include <string.h>

#include "base/mem.h"

static const char *const format_names[] = {"csv", "idx", "npy"};
static const char *const type_names[] = {"number", "category", "text", "tensor"};
static const struct {
    const char *name;
    size_t bytes;
} data_types[DATA_TYPE_COUNT] = {
    [DATA_U8] = {"u8", 1},   [DATA_I8] = {"i8", 1},   [DATA_U16] = {"u16", 2},   [DATA_I16] = {"i16", 2},
    [DATA_U32] = {"u32", 4}, [DATA_I32] = {"i32", 4}, [DATA_U64] = {"u64", 8},   [DATA_I64] = {"i64", 8},
    [DATA_F32] = {"f32", 4}, [DATA_F64] = {"f64", 8}, [DATA_BOOL] = {"bool", 1}, [DATA_TEXT] = {"text", 0},
};

const char *schema_format_name(enum schema_format f)
{
    return format_names[f];
}

int schema_format_of(const char *name)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(format_names[i], name) == 0) return i;
    return -1;
}

const char *column_type_name(enum column_type t)
{
    return type_names[t];
}

const char *data_type_name(enum data_type t)
{
    return data_types[t].name;
}

size_t data_type_bytes(enum data_type t)
{
    return data_types[t].bytes;
}

static void column_dispose(struct column *c)
{
    for (size_t i = 0; c->categories && i < c->n_categories; i++) mem_free(c->categories[i]);
    mem_free(c->categories);
    mem_free(c->classes);
    mem_free(c->name);
}

void schema_free(struct schema *s)
{
    if (!s) return;
    for (size_t i = 0; s->columns && i < s->n_columns; i++) column_dispose(&s->columns[i]);
    mem_free(s->columns);
    mem_free(s);
}

const struct column *schema_find(const struct schema *s, const char *name)
{
    for (size_t i = 0; i < s->n_columns; i++)
        if (strcmp(s->columns[i].name, name) == 0) return &s->columns[i];
    return NULL;
}

int64_t column_width(const struct column *c)
{
    int64_t n = 1;
    for (int i = 0; i < c->rank; i++) n *= c->dim[i];
    return n;
}

static int column_copy(struct column *to, const struct column *from)
{
    *to = *from;
    to->categories = NULL;
    to->classes = NULL;
    to->name = mem_strdup(from->name);
    if (from->n_classes) {
        to->classes = mem_try_alloc(from->n_classes, sizeof *to->classes);
        if (!to->classes) return ERR_NOMEM;
        memcpy(to->classes, from->classes, from->n_classes * sizeof *to->classes);
    }
    if (from->n_categories) {
        to->categories = mem_try_alloc(from->n_categories, sizeof *to->categories);
        if (!to->categories) return ERR_NOMEM;
        for (size_t i = 0; i < from->n_categories; i++) to->categories[i] = mem_strdup(from->categories[i]);
    }
    return 0;
}

int schema_join(struct schema **out, const struct schema *features, const struct schema *labels,
                struct err *e)
{
    *out = NULL;
    if (features->n_columns != 1 || labels->n_columns != 1 || features->format == SCHEMA_CSV ||
        labels->format == SCHEMA_CSV)
        return err_set(e, ERR_INVALID, "labels", "features and labels must each be one IDX or npy array");
    if (features->format != labels->format)
        return err_set(e, ERR_INVALID, "labels",
                       "the features are %s and the labels %s; both must be the same format",
                       schema_format_name(features->format), schema_format_name(labels->format));
    if (features->rows != labels->rows)
        return err_set(e, ERR_INVALID, "labels",
                       "there are %lld features and %lld labels; each row needs one label",
                       (long long)features->rows, (long long)labels->rows);
    struct schema *s = mem_alloc(1, sizeof *s);
    s->format = features->format;
    s->rows = features->rows;
    s->n_columns = 2;
    s->columns = mem_alloc(2, sizeof *s->columns);
    if (column_copy(&s->columns[0], &features->columns[0]) ||
        column_copy(&s->columns[1], &labels->columns[0])) {
        schema_free(s);
        return err_set(e, ERR_NOMEM, NULL, "no memory for the dataset's schema");
    }
    *out = s;
    return 0;
}
