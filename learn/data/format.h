/* What a file format is to the rest of learn/data: bytes in, in any pieces; cells (CSV) or elements (arrays)
 * out, to a sink.
 *
 *     bytes ─▶ decode.h: gunzip, recognise ─▶ format ops ─▶ sink: statistics (scan.c) or columns (table.c)
 *
 * Sinks return 0 or ERR_*; a format passes the first failure on. */
#ifndef LEARN_DATA_FORMAT_H
#define LEARN_DATA_FORMAT_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "learn/data/schema.h"

/* One cell of a CSV. text is borrowed for the call, NUL-terminated, valid UTF-8 without NULs; spaces and tabs
 * around an unquoted cell are gone. line counts from 1 and is where the cell starts. */
struct cell {
    const char *text;
    size_t len;
    bool quoted;
    size_t column; /* from 0 */
    int64_t line;
};

/* What an array file says about itself, before its elements. */
struct array_head {
    enum data_type dtype;
    bool big_endian;
    int rank; /* with the rows */
    int64_t dim[SCHEMA_MAX_RANK + 1];
    int64_t width;     /* elements a row */
    uint64_t elements; /* in all */
};

struct format_sink {
    void *ctx;
    int (*header)(void *ctx, char *const *names, size_t n,
                  struct err *e); /* CSV, once; names stay as long as the format */
    int (*cell)(void *ctx, const struct cell *c, struct err *e);
    int (*row)(void *ctx, struct err *e); /* CSV: a whole row was given */
    int (*array)(void *ctx, const struct array_head *h, struct err *e);
    /* Elements in order, whole ones, as the file stores them; index is that of the first. */
    int (*elements)(void *ctx, const struct array_head *h, const unsigned char *raw, size_t count,
                    uint64_t index, struct err *e);
};

struct format_limits {
    int64_t max_rows;
    uint64_t max_plain_bytes;
};

struct format_ops {
    enum schema_format format;
    int (*create)(void **self, const struct format_sink *sink, const struct format_limits *l, struct err *e);
    int (*push)(void *self, const unsigned char *data, size_t len, struct err *e);
    int (*finish)(void *self, int64_t *rows, struct err *e); /* ERR_INVALID when the file ends too early */
    void (*free)(void *self);
};

extern const struct format_ops format_csv, format_idx, format_npy;

/* Whether a CSV cell stands for "no value": empty, NA, NaN, nan, null, NULL, N/A. */
bool cell_missing(const struct cell *c);

/* Reads a cell that is one finite number. Returns 0 when it is none. */
bool cell_number(const struct cell *c, double *out);

/* Element i of a run of elements as a double; 64-bit integers beyond 2^53 are rounded. */
double array_element(const struct array_head *h, const unsigned char *raw, size_t i);

/* The same for a whole run, to floats. */
void array_floats(const struct array_head *h, const unsigned char *raw, size_t count, float *out);

#endif
