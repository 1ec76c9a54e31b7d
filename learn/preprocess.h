/* What happens to raw values before the network and to its outputs after it; fitted on the training part of
 * the data alone, kept as JSON in the version, and applied by the same code when training and when
 * predicting, so that both see the same bits.
 *
 *     number, tensor   x → fill where missing → (x − shift)·scale + offset   (steps folded into one)
 *     category         text → index → one-hot;     integer   number → index → one-hot
 *     text             text → ids of a vocabulary: the row is int32_t in the floats' place
 *
 * Immutable once made; any thread may read. */
#ifndef LEARN_PREPROCESS_H
#define LEARN_PREPROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cjson/cJSON.h>
#include "base/err.h"
#include "base/json.h"
#include "learn/data/schema.h"
#include "learn/data/table.h"
#include "learn/data/texts.h"
#include "learn/spec/spec.h"
#include "learn/text/vocabulary.h"
#include "tensor/kernel.h"

enum feature_kind { FEATURE_NUMBER, FEATURE_CATEGORY, FEATURE_INTEGER, FEATURE_TENSOR, FEATURE_TEXT };

struct feature {
    char *name; /* owned */
    enum feature_kind kind;
    int64_t in_width, width; /* raw numbers a row; floats in the network's row */
    int64_t offset_in_row;   /* where those floats begin */
    int64_t n;   /* NUMBER, TENSOR: length of the arrays below: 1 (the same for all) or in_width */
    float *fill; /* [n], owned; NaN where a missing value is refused */
    float *shift, *scale, *offset; /* [n], owned */
    size_t n_values;               /* CATEGORY, INTEGER */
    char **categories;             /* owned, sorted */
    struct texts codes;            /* CATEGORY: categories → index */
    int64_t *integers;             /* owned, ascending */
    int32_t fill_code;             /* CATEGORY, INTEGER: index for a missing value, or -1: refused */
    struct vocabulary *vocabulary; /* TEXT, owned */
    const struct table *encoded;   /* TEXT: the table whose ids are below; borrowed, only ever compared */
    int32_t *ids;                  /* TEXT: [rows, width], owned; NULL but after preprocess_fit */
};

struct preprocess {
    size_t n_features;
    struct feature *features; /* owned, in the order of the row */
    int64_t width;            /* floats in the network's row */
    int64_t ids_below; /* > 0: the row is int32_t in the floats' place, whole numbers from 0 below this */
    const struct kernels *kernels; /* this CPU's */
    struct normaliser row; /* of all the numbers of a row; fill NULL: one by one they become something else,
                              or it was not read from JSON */
    float *row_values;     /* owned: what row points into, unless that is the one feature's */
    enum task task;
    struct feature target;   /* SEQUENCE: of kind TEXT */
    size_t n_classes;        /* CLASSIFICATION */
    int64_t *class_integers; /* owned; NULL for text labels */
    char **class_texts;      /* owned; NULL for integer labels */
    int64_t target_width;    /* REGRESSION */
    float *target_mean;      /* owned, [target_width]; output = network·target_std + target_mean */
    float target_std;
};

/* What a table must read for a text feature: the column, which the test dataset (or NULL) has too. */
struct table_want preprocess_want_text(const struct column *train, const struct column *test);

/* table: the columns of the features in order, then the target; rows: indices of the training part. Texts of
 * all rows are made ids here, once; the table must not change while the result lives. ERR_INVALID when a
 * column has no value there. */
int preprocess_fit(struct preprocess **out, const struct resolved *r, const struct schema *s,
                   const struct table *table, const uint32_t *rows, size_t n_rows, struct err *e);
void preprocess_free(struct preprocess *p);

/* in_width raw numbers of one row → width floats at out. False when a value is missing or unknown and nothing
 * fills it, or is none of the numbers below ids_below. */
bool preprocess_numbers(const struct preprocess *p, const struct feature *f, const float *raw, float *out);

/* As that for all features of a row, in one pass from its bytes: width floats at any alignment. False also
 * where this row, or no row of these features, can be done so: then preprocess_numbers tells for each. */
bool preprocess_row(const struct preprocess *p, const void *raw, float *out);

/* The index of a category, or -1 for a missing one. False as above. */
bool preprocess_code(const struct feature *f, int32_t code, float *out);

/* A text as a row's ids; any text will do. */
void preprocess_text(const struct feature *f, const char *text, size_t len, float *out);

/* Rows of a table (as in preprocess_fit) → out [n_rows, width]. ERR_INVALID names the column. */
int preprocess_rows(const struct preprocess *p, const struct table *table, const uint32_t *rows,
                    size_t n_rows, float *out, struct err *e);

/* SEQUENCE: a row's source as ids [width], and its target, with marks, [target.width]. */
void preprocess_source_ids(const struct preprocess *p, const struct table *table, uint32_t row, int32_t *out);
void preprocess_target_ids(const struct preprocess *p, const struct table *table, uint32_t row, int32_t *out);

/* The class of each row of the target column: out[rows], -1 where missing. ERR_INVALID for a value that is no
 * class. */
int preprocess_classes(const struct resolved *r, const struct table *table, int32_t *out, struct err *e);

size_t preprocess_bytes(const struct preprocess *p); /* resident, about; without the ids of a table */

void preprocess_to_json(const struct preprocess *p, struct json_writer *w);
int preprocess_from_json(struct preprocess **out, const cJSON *node, const char *path,
                         struct err *e); /* refuses all but what was written */

#endif
