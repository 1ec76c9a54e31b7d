/* What a dataset is: its columns, their types, shapes, statistics. Made once while it is uploaded
 * (learn/data/scan.h), kept as JSON, and enough to check a job's spec without the data. Knows no tensor core.
 * Immutable once made; any thread may read.
 *
 *     {"format":"csv","rows":150,"columns":[
 *       {"name":"length","type":"number","dtype":"f64","shape":[],"missing":0,"min":4.3,"max":7.9,"mean":5.8,"std":0.8},
 *       {"name":"grade","type":"number","dtype":"i64","shape":[],"missing":0,…,"classes":[1,2,3]},
 *       {"name":"species","type":"category","dtype":"text","shape":[],"missing":0,"text_bytes":150,"categories":["a","b"]}]}
 *
 * A CSV gives scalar columns. An IDX or npy file gives one tensor column "features", and with a second file
 * "labels". */
#ifndef LEARN_DATA_SCHEMA_H
#define LEARN_DATA_SCHEMA_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cjson/cJSON.h>
#include "base/err.h"
#include "base/json.h"

enum {
    SCHEMA_MAX_COLUMNS = 4096,
    SCHEMA_MAX_RANK = 5,   /* dimensions of one row of a tensor column */
    SCHEMA_MAX_NAME = 128, /* bytes of a column's name */
    SCHEMA_MAX_CATEGORIES = 1000,
    SCHEMA_MAX_CATEGORY = 256, /* bytes of one category */
    SCHEMA_MAX_CLASSES = 256,  /* distinct integers kept of a number column */
};

enum schema_format { SCHEMA_CSV, SCHEMA_IDX, SCHEMA_NPY };

enum column_type {
    COLUMN_NUMBER,   /* one number a row */
    COLUMN_CATEGORY, /* one of few texts a row */
    COLUMN_TEXT,     /* free text: too many different values to be categories */
    COLUMN_TENSOR,   /* shape numbers a row */
};

/* How the file stores an element. CSV: F64, I64 when all numbers are integers, TEXT. */
enum data_type {
    DATA_U8,
    DATA_I8,
    DATA_U16,
    DATA_I16,
    DATA_U32,
    DATA_I32,
    DATA_U64,
    DATA_I64,
    DATA_F32,
    DATA_F64,
    DATA_BOOL,
    DATA_TEXT,
    DATA_TYPE_COUNT
};

struct column {
    char *name; /* owned */
    enum column_type type;
    enum data_type dtype;
    int rank; /* of one row; 0 for scalars */
    int64_t dim[SCHEMA_MAX_RANK];
    int64_t missing;            /* cells without a value */
    bool has_stats;             /* some value was there: min … std hold over all its numbers */
    double min, max, mean, std; /* std: population */
    int64_t text_bytes;         /* DATA_TEXT: of all cells; -1 in schemas from before they were counted */
    size_t n_categories;        /* COLUMN_CATEGORY: sorted by bytes */
    char **categories;          /* owned */
    size_t n_classes; /* COLUMN_NUMBER of integers with at most SCHEMA_MAX_CLASSES distinct ones; else 0 */
    int64_t *classes; /* owned, ascending */
};

struct schema {
    enum schema_format format;
    int64_t rows;
    size_t n_columns;
    struct column *columns; /* owned */
};

const char *schema_format_name(enum schema_format f); /* "csv" */
int schema_format_of(const char *name);               /* the format, or -1 */
const char *column_type_name(enum column_type t);     /* "number" */
const char *data_type_name(enum data_type t);         /* "u8" */
size_t data_type_bytes(enum data_type t);             /* 0 for DATA_TEXT */

void schema_free(struct schema *s);                                         /* NULL is fine */
const struct column *schema_find(const struct schema *s, const char *name); /* NULL when absent */
int64_t column_width(const struct column *c); /* numbers a row: 1, or the product of dim */

/* A features schema and a labels schema (from their scanners) as one dataset. Takes over neither. ERR_INVALID
 * when the formats or the row counts differ, both numbers in the message, `field` "labels". */
int schema_join(struct schema **out, const struct schema *features, const struct schema *labels,
                struct err *e);

/* One JSON object through w, and back. The reader refuses whatever the writer would not write (ERR_INVALID
 * with the path); path is where node stands ("" at the top). */
void schema_to_json(const struct schema *s, struct json_writer *w);
int schema_from_json(struct schema **out, const cJSON *node, const char *path, struct err *e);

#endif
