/* A dataset's wanted columns in memory, read from descriptors that give the stored files (packed or not) from
 * start to end. The rows, and so the memory, are known from the schema before a byte is read. One thread at a
 * time. */
#ifndef LEARN_DATA_TABLE_H
#define LEARN_DATA_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "learn/data/schema.h"

enum cells {
    CELLS_F32,  /* float, NaN where missing */
    CELLS_F64,  /* double, NaN where missing: targets, whose integers must stay exact */
    CELLS_U8,   /* bytes as the file has them: images take a quarter of the room */
    CELLS_CODE, /* int32_t: index in categories, -1 where missing */
    CELLS_TEXT, /* the cells' bytes as the file has them, a missing one empty or "NA": table_text */
};

struct table_want {
    const char *name; /* of the column; "features" and "labels" for arrays. Borrowed for the table's life */
    enum cells cells;
    int64_t width; /* numbers a row; 1 for scalars */
    size_t n_categories;
    char *const *categories; /* CELLS_CODE: what the codes mean. Borrowed for the table's life */
    int64_t text_bytes;      /* CELLS_TEXT: of the whole column */
};

struct table_column {
    enum cells cells;
    int64_t width;
    void *data;      /* [rows, width], owned; CELLS_TEXT: uint64_t, where each row's text ends in `text` */
    char *text;      /* CELLS_TEXT: the rows' texts one behind the other, owned */
    size_t text_cap; /* its bytes */
};

struct table {
    int64_t rows;
    size_t n_columns;
    struct table_column *columns;  /* as many as wanted, in that order */
    const struct table_want *want; /* borrowed */
};

/* The text of a row of a CELLS_TEXT column: valid UTF-8 without NULs, not NUL-terminated, borrowed. */
const char *table_text(const struct table_column *c, int64_t row, size_t *len);

/* Bytes that such a table takes; false on overflow. */
bool table_bytes(const struct table_want *want, size_t n, int64_t rows, uint64_t *out);

/* Room for the columns. want is borrowed for the table's life; a CELLS_TEXT column has a width of 1.
 * ERR_TOO_LARGE above limit_bytes (0: none), ERR_NOMEM. */
int table_create(struct table **out, const struct table_want *want, size_t n, int64_t rows,
                 uint64_t limit_bytes, struct err *e);
void table_free(struct table *t);

struct table_source {
    int fd; /* read to its end, not closed */
    const char
        *role; /* "table": every wanted column by its name; "features" or "labels": the column of that name */
    enum schema_format format;
    bool (*cancelled)(void *ctx); /* NULL: never; asked between reads */
    void *ctx;
};

/* Fills the columns of one source. ERR_CORRUPT when the file is not what its schema said (rows, types,
 * columns), ERR_INVALID for a category that is not in the list, ERR_IO, ERR_CANCELLED. */
int table_read(struct table *t, const struct table_source *from, struct err *e);

#endif
