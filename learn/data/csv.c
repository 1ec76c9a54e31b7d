/* CSV as RFC 4180 has it: a byte machine that keeps no more than the cell at hand and says line and column of
 * what is wrong. */
#include "learn/data/format.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "learn/data/utf8.h"

enum { CELL_MAX = 1 << 20 };

enum csv_state {
    CSV_CELL_START, /* nothing of the cell yet but blanks */
    CSV_PLAIN,      /* inside an unquoted cell */
    CSV_QUOTED,     /* inside quotes */
    CSV_QUOTE,      /* a quote inside quotes: the end, or the first half of a doubled one */
    CSV_CLOSED,     /* behind the closing quote: blanks, then a comma or the line's end */
    CSV_CR,         /* after a carriage return */
};

struct csv {
    struct format_sink sink;
    struct format_limits limits;
    enum csv_state state;
    struct buf cell;
    bool quoted, any_byte; /* of the cell; of the line */
    bool in_header;
    int64_t line, cell_line; /* at hand; where the cell began */
    int64_t blank_line;      /* first of the empty lines just read, 0 for none */
    int64_t rows;
    size_t column; /* of the cell at hand */
    size_t n_names;
    char **names;
    size_t bom; /* bytes of a byte order mark seen at the very start; 3 when decided */
};

static int csv_create(void **self, const struct format_sink *sink, const struct format_limits *l,
                      struct err *e)
{
    (void)e;
    struct csv *c = mem_alloc(1, sizeof *c);
    c->sink = *sink;
    c->limits = *l;
    c->in_header = true;
    c->line = c->cell_line = 1;
    c->cell.limit = CELL_MAX + 1;
    *self = c;
    return 0;
}

static void csv_free(void *self)
{
    struct csv *c = self;
    if (!c) return;
    buf_dispose(&c->cell);
    for (size_t i = 0; i < c->n_names; i++) mem_free(c->names[i]);
    mem_free(c->names);
    mem_free(c);
}

static const char *column_name(const struct csv *c)
{
    return c->in_header || c->column >= c->n_names ? "" : c->names[c->column];
}

/* "line 3, column 2 ("age"): what" */
static int complain(const struct csv *c, int64_t line, const char *what, struct err *e)
{
    const char *name = column_name(c);
    if (name[0])
        return err_set(e, ERR_INVALID, NULL, "line %lld, column %zu (\"%s\"): %s", (long long)line,
                       c->column + 1, name, what);
    return err_set(e, ERR_INVALID, NULL, "line %lld, column %zu: %s", (long long)line, c->column + 1, what);
}

static int add_name(struct csv *c, const struct cell *cell, struct err *e)
{
    if (cell->len == 0) return complain(c, cell->line, "the header leaves this column without a name", e);
    if (cell->len > SCHEMA_MAX_NAME)
        return complain(c, cell->line, "the column's name is longer than 128 bytes", e);
    if (c->n_names == SCHEMA_MAX_COLUMNS)
        return err_set(e, ERR_TOO_LARGE, NULL, "the header names more than %d columns", SCHEMA_MAX_COLUMNS);
    if ((c->n_names & (c->n_names - 1)) == 0) {
        char **more = mem_try_realloc(c->names, c->n_names ? c->n_names * 2 : 1, sizeof *more);
        if (!more) return err_set(e, ERR_NOMEM, NULL, "no memory for the column names");
        c->names = more;
    }
    c->names[c->n_names++] = mem_strndup(cell->text, cell->len);
    return 0;
}

struct named {
    const char *name;
    size_t column;
};

static int named_order(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->column > y->column) - (x->column < y->column);
}

static int refuse_duplicates(struct csv *c, struct err *e)
{
    struct named *all = mem_try_alloc(c->n_names, sizeof *all);
    int rc = 0;
    if (!all) return err_set(e, ERR_NOMEM, NULL, "no memory for the column names");
    for (size_t i = 0; i < c->n_names; i++) all[i] = (struct named){c->names[i], i};
    qsort(all, c->n_names, sizeof *all, named_order);
    for (size_t i = 1; i < c->n_names && !rc; i++)
        if (strcmp(all[i - 1].name, all[i].name) == 0)
            rc = err_set(e, ERR_INVALID, NULL,
                         "line 1, column %zu: the name \"%s\" is taken by column %zu already",
                         all[i].column + 1, all[i].name, all[i - 1].column + 1);
    mem_free(all);
    return rc;
}

static int end_header(struct csv *c, struct err *e)
{
    bool numbers = true;
    for (size_t i = 0; i < c->n_names; i++) {
        double ignored;
        struct cell cell = {.text = c->names[i], .len = strlen(c->names[i])};
        numbers = numbers && cell_number(&cell, &ignored);
    }
    if (numbers)
        return err_set(
            e, ERR_INVALID, NULL,
            "line 1 must name the columns, but every cell of it is a number; put a header line first");
    if (c->n_names == 1 && strpbrk(c->names[0], ";\t|"))
        return err_set(e, ERR_INVALID, NULL, "line 1: columns must be separated by commas, found \"%s\"",
                       c->names[0]);
    int rc = refuse_duplicates(c, e);
    if (rc) return rc;
    c->in_header = false;
    return c->sink.header(c->sink.ctx, c->names, c->n_names, e);
}

static void trim(struct cell *cell, struct buf *b)
{
    if (cell->quoted) return;
    while (cell->len && (b->data[cell->len - 1] == ' ' || b->data[cell->len - 1] == '\t')) cell->len--;
    if (b->data) b->data[cell->len] = '\0';
}

static int end_cell(struct csv *c, struct err *e)
{
    struct cell cell = {.len = c->cell.len, .quoted = c->quoted, .column = c->column, .line = c->cell_line};
    int rc;
    if (c->cell.failed || c->cell.len > CELL_MAX)
        return complain(c, c->cell_line, "the cell is longer than 1 MiB; is a closing quote missing?", e);
    trim(&cell, &c->cell);
    cell.text = cell.len ? c->cell.data : "";
    if (!utf8_valid(cell.text, cell.len)) return complain(c, c->cell_line, "the text is not valid UTF-8", e);
    if (c->in_header) {
        rc = add_name(c, &cell, e);
    } else if (c->column >= c->n_names) {
        rc = err_set(e, ERR_INVALID, NULL, "line %lld, column %zu: the header names only %zu columns",
                     (long long)c->cell_line, c->column + 1, c->n_names);
    } else {
        rc = c->sink.cell(c->sink.ctx, &cell, e);
    }
    c->column++;
    buf_clear(&c->cell);
    c->quoted = false;
    c->cell_line = c->line;
    c->state = CSV_CELL_START;
    return rc;
}

static int end_row(struct csv *c, struct err *e)
{
    int rc = end_cell(c, e);
    if (rc) return rc;
    if (c->in_header) {
        rc = end_header(c, e);
    } else if (c->column < c->n_names) {
        rc = err_set(
            e, ERR_INVALID, NULL,
            "line %lld, column %zu (\"%s\"): the row ends after %zu of the %zu columns that the header names",
            (long long)c->line, c->column + 1, c->names[c->column], c->column, c->n_names);
    } else {
        if (++c->rows > c->limits.max_rows)
            return err_set(e, ERR_TOO_LARGE, NULL, "more than %lld rows", (long long)c->limits.max_rows);
        rc = c->sink.row(c->sink.ctx, e);
    }
    return rc;
}

static int end_line(struct csv *c, struct err *e)
{
    int rc = 0;
    if (c->any_byte)
        rc = end_row(c, e);
    else if (!c->blank_line)
        c->blank_line = c->line;
    c->column = 0;
    c->any_byte = false;
    c->state = CSV_CELL_START;
    c->line++;
    c->cell_line = c->line;
    return rc;
}

/* The first byte of a line. Empty lines are fine at the end of the file only. */
static int begin_line(struct csv *c, struct err *e)
{
    c->any_byte = true;
    if (!c->blank_line) return 0;
    if (c->in_header) return err_set(e, ERR_INVALID, NULL, "line 1 is empty; it must name the columns");
    return err_set(e, ERR_INVALID, NULL,
                   "line %lld is empty; in a file with one column write \"\" for a missing value",
                   (long long)c->blank_line);
}

static int in_quotes(struct csv *c, unsigned char b)
{
    if (b == '"') {
        c->state = CSV_QUOTE;
        return 0;
    }
    if (b == '\n') c->line++;
    buf_char(&c->cell, (char)b);
    return 0;
}

static int at_cell_start(struct csv *c, unsigned char b)
{
    c->cell_line = c->line;
    if (b == ' ' || b == '\t') return 0;
    if (b == '"') {
        c->quoted = true;
        c->state = CSV_QUOTED;
        return 0;
    }
    c->state = CSV_PLAIN;
    buf_char(&c->cell, (char)b);
    return 0;
}

static int behind_quote(struct csv *c, unsigned char b, struct err *e)
{
    if (b == '"' && c->state == CSV_QUOTE) {
        buf_char(&c->cell, '"');
        c->state = CSV_QUOTED;
        return 0;
    }
    if (b != ' ' && b != '\t')
        return complain(c, c->line, "text follows the closing quote; write a quote inside a cell as \"\"", e);
    c->state = CSV_CLOSED;
    return 0;
}

static int push_byte(struct csv *c, unsigned char b, struct err *e)
{
    int rc;
    if (b == '\0') return complain(c, c->line, "a NUL byte; is this a text file?", e);
    if (c->state == CSV_QUOTED) return in_quotes(c, b);
    if (c->state == CSV_CR && b != '\n')
        return complain(c, c->line, "a carriage return must be followed by a line feed", e);
    if (b == '\n') return end_line(c, e);
    if (b == '\r') {
        c->state = CSV_CR;
        return 0;
    }
    if (!c->any_byte && (rc = begin_line(c, e))) return rc;
    if (b == ',') return end_cell(c, e);
    if (c->state == CSV_CELL_START) return at_cell_start(c, b);
    if (c->state == CSV_QUOTE || c->state == CSV_CLOSED) return behind_quote(c, b, e);
    if (b == '"')
        return complain(c, c->line, "a quote inside an unquoted cell; put the whole cell in quotes", e);
    buf_char(&c->cell, (char)b);
    return 0;
}

/* Bytes that may be appended as they are while inside an unquoted cell. */
static size_t plain_run(const unsigned char *p, size_t len)
{
    size_t i = 0;
    while (i < len && p[i] != ',' && p[i] != '\n' && p[i] != '\r' && p[i] != '"' && p[i] != '\0') i++;
    return i;
}

static int csv_push(void *self, const unsigned char *data, size_t len, struct err *e)
{
    static const unsigned char mark[3] = {0xEF, 0xBB, 0xBF};
    struct csv *c = self;
    size_t i = 0;
    while (c->bom < 3 && i < len && data[i] == mark[c->bom]) {
        c->bom++;
        i++;
    }
    if (c->bom < 3 && i < len) { /* no mark: what looked like one belongs to the first cell */
        size_t held = c->bom;
        c->bom = sizeof mark;
        for (size_t k = 0; k < held && k < sizeof mark; k++) {
            int rc = push_byte(c, mark[k], e);
            if (rc) return rc;
        }
    }
    while (i < len) {
        if (c->state == CSV_PLAIN) {
            size_t run = plain_run(data + i, len - i);
            buf_append(&c->cell, data + i, run);
            i += run;
            if (i == len) break;
        }
        int rc = push_byte(c, data[i++], e);
        if (rc) return rc;
        if (c->cell.failed || c->cell.len > CELL_MAX) return end_cell(c, e);
    }
    return 0;
}

static int csv_finish(void *self, int64_t *rows, struct err *e)
{
    struct csv *c = self;
    if (c->state == CSV_QUOTED)
        return complain(c, c->cell_line, "the file ends inside a quoted cell that begins here", e);
    if (c->any_byte) {
        int rc = end_line(c, e);
        if (rc) return rc;
    }
    if (c->in_header)
        return err_set(e, ERR_INVALID, NULL, "the file is empty; expected a header line and rows");
    if (c->rows == 0) return err_set(e, ERR_INVALID, NULL, "the file has a header but no row");
    *rows = c->rows;
    return 0;
}

const struct format_ops format_csv = {
    .format = SCHEMA_CSV, .create = csv_create, .push = csv_push, .finish = csv_finish, .free = csv_free};

bool cell_missing(const struct cell *c)
{
    static const char *const words[] = {"", "NA", "NaN", "nan", "null", "NULL", "N/A"};
    if (c->len > 4) return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(words[i], c->text) == 0) return true;
    return false;
}

bool cell_number(const struct cell *c, double *out)
{
    const char *p = c->text;
    if (c->len == 0 || c->len > 64) return false;
    int64_t whole = 0; /* most cells are short integers */
    size_t i = p[0] == '-';
    if (i < c->len && c->len <= 15) {
        while (i < c->len && p[i] >= '0' && p[i] <= '9') whole = whole * 10 + (p[i++] - '0');
        if (i == c->len) {
            *out = p[0] == '-' ? (double)-whole : (double)whole;
            return true;
        }
    }
    if (strspn(p, "0123456789+-.eE") != c->len) return false;
    char *end;
    double v = strtod(p, &end);
    if (end != p + c->len || v > 1.7e308 || v < -1.7e308) return false;
    *out = v;
    return true;
}
