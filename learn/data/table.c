/* Pulls a stored file through its format's reader into columns of known size. */
#include "learn/data/table.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "learn/data/decode.h"
#include "learn/data/texts.h"

enum { READ_BYTES = 256 * 1024 };

static size_t cells_bytes(enum cells c)
{
    return c == CELLS_U8 ? 1 : c == CELLS_F64 || c == CELLS_TEXT ? 8 : 4;
}

bool table_bytes(const struct table_want *want, size_t n, int64_t rows, uint64_t *out)
{
    uint64_t total = 0, column;
    for (size_t i = 0; i < n; i++)
        if (__builtin_mul_overflow((uint64_t)rows, (uint64_t)want[i].width, &column) ||
            __builtin_mul_overflow(column, cells_bytes(want[i].cells), &column) ||
            __builtin_add_overflow(total, column, &total) ||
            __builtin_add_overflow(total, (uint64_t)want[i].text_bytes, &total))
            return false;
    *out = total;
    return total <= SIZE_MAX / 2;
}

int table_create(struct table **out, const struct table_want *want, size_t n, int64_t rows,
                 uint64_t limit_bytes, struct err *e)
{
    uint64_t bytes;
    *out = NULL;
    if (!table_bytes(want, n, rows, &bytes) || (limit_bytes && bytes > limit_bytes))
        return err_set(e, ERR_TOO_LARGE, "dataset",
                       "the dataset needs more memory than the %llu bytes that the run may use",
                       (unsigned long long)limit_bytes);
    struct table *t = mem_alloc(1, sizeof *t);
    t->rows = rows;
    t->want = want;
    t->columns = mem_try_alloc(n, sizeof *t->columns);
    bool ok = t->columns != NULL;
    for (; ok && t->n_columns < n; t->n_columns++) {
        struct table_column *c = &t->columns[t->n_columns];
        c->cells = want[t->n_columns].cells;
        c->width = want[t->n_columns].width;
        c->data = mem_try_alloc((size_t)rows * (size_t)c->width, cells_bytes(c->cells));
        c->text_cap = (size_t)want[t->n_columns].text_bytes;
        if (c->cells == CELLS_TEXT) c->text = mem_try_alloc(c->text_cap + 1, 1);
        ok = c->data && (c->text || c->cells != CELLS_TEXT);
    }
    if (!ok) {
        table_free(t);
        return err_set(e, ERR_NOMEM, "dataset", "no memory for the dataset's %llu bytes",
                       (unsigned long long)bytes);
    }
    *out = t;
    return 0;
}

void table_free(struct table *t)
{
    if (!t) return;
    for (size_t i = 0; t->columns && i < t->n_columns; i++) {
        mem_free(t->columns[i].data);
        mem_free(t->columns[i].text);
    }
    mem_free(t->columns);
    mem_free(t);
}

const char *table_text(const struct table_column *c, int64_t row, size_t *len)
{
    const uint64_t *end = c->data;
    uint64_t begin = row ? end[row - 1] : 0;
    *len = (size_t)(end[row] - begin);
    return c->text + begin;
}

/* ---- one source ---- */

struct fill {
    struct table *table;
    const struct table_source *from;
    int *to;             /* CSV: file column → wanted column, or -1 */
    struct texts *texts; /* per wanted column, loaded for CELLS_CODE */
    struct table_column *array;
    int64_t row;
};

static int differs(struct err *e, const char *what)
{
    return err_set(e, ERR_CORRUPT, "dataset", "the stored dataset is not what its schema says: %s", what);
}

static int on_header(void *ctx, char *const *names, size_t n, struct err *e)
{
    struct fill *f = ctx;
    size_t found = 0;
    f->to = mem_try_alloc(n, sizeof *f->to);
    if (!f->to) return err_set(e, ERR_NOMEM, NULL, "no memory for %zu columns", n);
    for (size_t i = 0; i < n; i++) {
        f->to[i] = -1;
        for (size_t k = 0; k < f->table->n_columns && f->to[i] < 0; k++)
            if (strcmp(names[i], f->table->want[k].name) == 0) f->to[i] = (int)k;
        found += f->to[i] >= 0;
    }
    return found == f->table->n_columns ? 0 : differs(e, "a column is missing");
}

static int put_code(struct fill *f, const struct cell *c, int to, struct err *e)
{
    int32_t *code = (int32_t *)f->table->columns[to].data + f->row;
    *code = texts_code(&f->texts[to], c->text, c->len);
    if (*code >= 0 || cell_missing(c)) return 0;
    return err_set(e, ERR_INVALID, "test_dataset",
                   "line %lld, column \"%s\": the category \"%.40s\" does not occur in the training dataset",
                   (long long)c->line, f->table->want[to].name, c->text);
}

static int put_text(struct fill *f, const struct cell *c, struct table_column *to, struct err *e)
{
    uint64_t *end = to->data, begin = f->row ? end[f->row - 1] : 0;
    if (to->text_cap - begin < c->len) return differs(e, "its texts are longer");
    memcpy(to->text + begin, c->text, c->len);
    end[f->row] = begin + c->len;
    return 0;
}

static int on_cell(void *ctx, const struct cell *c, struct err *e)
{
    struct fill *f = ctx;
    int to = f->to[c->column];
    double v = NAN;
    if (to < 0) return 0;
    if (f->row == f->table->rows) return differs(e, "it has more rows");
    if (f->table->columns[to].cells == CELLS_CODE) return put_code(f, c, to, e);
    if (f->table->columns[to].cells == CELLS_TEXT) return put_text(f, c, &f->table->columns[to], e);
    if (!cell_number(c, &v) && !cell_missing(c)) return differs(e, "a column of numbers holds a text");
    if (f->table->columns[to].cells == CELLS_F64)
        ((double *)f->table->columns[to].data)[f->row] = v;
    else
        ((float *)f->table->columns[to].data)[f->row] = (float)v;
    return 0;
}

static int on_row(void *ctx, struct err *e)
{
    struct fill *f = ctx;
    (void)e;
    f->row++;
    return 0;
}

static int on_array(void *ctx, const struct array_head *h, struct err *e)
{
    struct fill *f = ctx;
    for (size_t i = 0; i < f->table->n_columns; i++)
        if (strcmp(f->table->want[i].name, f->from->role) == 0) f->array = &f->table->columns[i];
    if (!f->array) return differs(e, "nobody wants this array");
    if (h->dim[0] != f->table->rows || h->width != f->array->width)
        return differs(e, "the array has another shape");
    if (f->array->cells == CELLS_U8 && h->dtype != DATA_U8)
        return differs(e, "the array has another element type");
    return 0;
}

static int on_elements(void *ctx, const struct array_head *h, const unsigned char *raw, size_t count,
                       uint64_t index, struct err *e)
{
    struct fill *f = ctx;
    (void)e;
    if (f->array->cells == CELLS_U8)
        memcpy((uint8_t *)f->array->data + index, raw, count);
    else if (f->array->cells == CELLS_F64)
        for (size_t i = 0; i < count; i++) ((double *)f->array->data)[index + i] = array_element(h, raw, i);
    else
        array_floats(h, raw, count, (float *)f->array->data + index);
    return 0;
}

static int pump(struct decode *d, const struct table_source *from, int64_t *rows, struct err *e)
{
    unsigned char *piece = mem_try_alloc(READ_BYTES, 1);
    int rc = piece ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory to read the dataset");
    while (!rc) {
        ssize_t n = read(from->fd, piece, READ_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) rc = err_errno(e, ERR_IO, "read the dataset's %s", from->role);
        if (n <= 0) break;
        rc = decode_push(d, piece, (size_t)n, e);
        if (!rc && from->cancelled && from->cancelled(from->ctx))
            rc = err_set(e, ERR_CANCELLED, NULL, "cancelled");
    }
    mem_free(piece);
    return rc ? rc : decode_finish(d, rows, e);
}

static bool load_texts(struct fill *f)
{
    f->texts = mem_try_alloc(f->table->n_columns, sizeof *f->texts);
    if (!f->texts) return false;
    for (size_t i = 0; i < f->table->n_columns; i++)
        if (!texts_load(&f->texts[i], f->table->want[i].categories, f->table->want[i].n_categories))
            return false;
    return true;
}

int table_read(struct table *t, const struct table_source *from, struct err *e)
{
    struct fill f = {.table = t, .from = from};
    struct decode_options o = {.format = (int)from->format, .arrays_only = false};
    struct format_sink sink = {.ctx = &f,
                               .header = on_header,
                               .cell = on_cell,
                               .row = on_row,
                               .array = on_array,
                               .elements = on_elements};
    struct decode *d = NULL;
    int64_t rows = 0;
    o.limits.max_plain_bytes =
        UINT64_MAX; /* the rows and the width bound it: both are checked as they come */
    o.limits.max_rows = t->rows;
    int rc = load_texts(&f) ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for the categories");
    if (!rc) rc = decode_create(&d, &o, &sink, e);
    if (!rc) rc = pump(d, from, &rows, e);
    if (!rc && rows != t->rows) rc = differs(e, "it has fewer rows");
    decode_free(d);
    mem_free(f.to);
    for (size_t i = 0; f.texts && i < t->n_columns; i++) texts_dispose(&f.texts[i]);
    mem_free(f.texts);
    return rc;
}
