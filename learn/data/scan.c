/* Gathers a schema from a stream: per CSV column its kind of values, per array its statistics. */
#include "learn/data/scan.h"

#include <math.h>
#include <float.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "learn/data/decode.h"
#include "learn/data/stats.h"
#include "learn/data/texts.h"

static const uint64_t DEFAULT_PLAIN_BYTES = (uint64_t)16 << 30;
static const int64_t DEFAULT_ROWS = 100000000;
enum { TEXT_BUDGET_BYTES = 8 << 20, SAMPLE_MAX = 40 };

/* What a CSV column has shown so far. */
struct column_scan {
    struct stats stats;
    struct classes classes;          /* integers, while few */
    struct texts texts;              /* cells that are no numbers */
    int64_t n_texts, missing, bytes; /* bytes: of all cells */
    bool decimals;                   /* some number was no integer */
    bool odd;                /* some number was not written the plain way ("007", "1.0"): no category name */
    int64_t text_line;       /* where the first text stood */
    char sample[SAMPLE_MAX]; /* and how it began */
};

struct scan {
    struct scan_options options;
    struct decode *decode;
    struct err failed; /* code 0 while all is well */
    size_t n_columns;
    struct column_scan *columns;
    char **names; /* owned copies: the format's go with it */
    size_t text_budget;
    struct array_head head;
    struct stats array_stats;
    struct classes array_classes;
    int64_t *histogram; /* 256 counts, for one-byte elements */
    int64_t array_missing;
};

static bool is_labels(const struct scan *s)
{
    return s->options.role == SCAN_LABELS;
}

/* ---- CSV ---- */

static int on_header(void *ctx, char *const *names, size_t n, struct err *e)
{
    struct scan *s = ctx;
    s->columns = mem_try_alloc(n, sizeof *s->columns);
    s->names = mem_try_alloc(n, sizeof *s->names);
    if (!s->columns || !s->names) return err_set(e, ERR_NOMEM, NULL, "no memory for %zu columns", n);
    s->n_columns = n;
    for (size_t i = 0; i < n; i++) {
        s->columns[i].texts.budget_bytes = &s->text_budget;
        s->names[i] = mem_strdup(names[i]);
    }
    return 0;
}

/* Whether an integer is written as %lld would write it. */
static bool plainly_written(const struct cell *c)
{
    const char *p = c->text + (c->text[0] == '-');
    size_t digits = c->len - (size_t)(p - c->text);
    if (digits == 0 || strspn(p, "0123456789") != digits) return false;
    return p[0] != '0' || (digits == 1 && p == c->text);
}

static int add_number(struct column_scan *k, const struct cell *c, const char *name, double v, struct err *e)
{
    if (fabs(v) > (double)FLT_MAX)
        return err_set(e, ERR_INVALID, NULL,
                       "line %lld, column %zu (\"%s\"): %.40s is beyond what a 32-bit float can hold",
                       (long long)c->line, c->column + 1, name, c->text);
    stats_add(&k->stats, v);
    if (v != floor(v)) k->decimals = true;
    if (!k->odd && !plainly_written(c)) k->odd = true;
    classes_add(&k->classes, v);
    return 0;
}

static void add_text(struct column_scan *k, const struct cell *c)
{
    if (k->n_texts++ == 0) {
        k->text_line = c->line;
        size_t n = c->len < SAMPLE_MAX ? c->len : SAMPLE_MAX - 1;
        while (n < c->len && n > 0 && ((unsigned char)c->text[n] & 0xC0) == 0x80)
            n--; /* not inside a character */
        memcpy(k->sample, c->text, n);
    }
    texts_add(&k->texts, c->text, c->len, SCHEMA_MAX_CATEGORIES);
}

static int on_cell(void *ctx, const struct cell *c, struct err *e)
{
    struct scan *s = ctx;
    struct column_scan *k = &s->columns[c->column];
    double v;
    k->bytes += (int64_t)c->len;
    if (cell_number(c, &v)) return add_number(k, c, s->names[c->column], v, e);
    if (cell_missing(c))
        k->missing++;
    else
        add_text(k, c);
    return 0;
}

static int on_row(void *ctx, struct err *e)
{
    (void)ctx;
    (void)e;
    return 0;
}

static void set_stats(struct column *c, const struct stats *s)
{
    c->has_stats = s->n > 0;
    if (!c->has_stats) return;
    c->min = s->min;
    c->max = s->max;
    c->mean = s->mean;
    c->std = stats_std(s);
}

static void set_classes(struct column *c, struct classes *from)
{
    c->classes = from->value;
    c->n_classes = from->n;
    *from = (struct classes){.lost = true};
    if (!c->n_classes) {
        mem_free(c->classes);
        c->classes = NULL;
    }
}

/* Texts and numbers in one column: a typing error in a column of numbers, or categories some of which look
 * like numbers? */
static int settle_mixed(struct column_scan *k, size_t column, const char *name, struct err *e)
{
    bool few = !k->odd && !k->decimals && !k->classes.lost;
    if (few) {
        char text[24];
        for (size_t i = 0; i < k->classes.n; i++) {
            int n = snprintf(text, sizeof text, "%lld", (long long)k->classes.value[i]);
            texts_add(&k->texts, text, (size_t)n, SCHEMA_MAX_CATEGORIES);
        }
        return 0;
    }
    if (k->n_texts > k->stats.n) {
        if (!k->texts.full) texts_dispose(&k->texts);
        k->texts.full = true;
        return 0;
    }
    return err_set(
        e, ERR_INVALID, NULL,
        "line %lld, column %zu (\"%s\"): \"%s\" is not a number, but %lld other cells of the column are; "
        "leave a missing value empty",
        (long long)k->text_line, column + 1, name, k->sample, (long long)k->stats.n);
}

static int settle_column(struct scan *s, size_t i, struct column *c, struct err *e)
{
    struct column_scan *k = &s->columns[i];
    int rc;
    c->name = mem_strdup(s->names[i]);
    c->missing = k->missing;
    if (k->texts.starved || k->classes.starved)
        return err_set(e, ERR_NOMEM, NULL, "no memory to gather the values of column \"%s\"", s->names[i]);
    if (k->n_texts == 0) {
        c->type = COLUMN_NUMBER;
        c->dtype = k->decimals ? DATA_F64 : DATA_I64;
        set_stats(c, &k->stats);
        set_classes(c, &k->classes);
        return 0;
    }
    if (k->stats.n && (rc = settle_mixed(k, i, s->names[i], e))) return rc;
    c->dtype = DATA_TEXT;
    c->text_bytes = k->bytes;
    c->type = k->texts.full ? COLUMN_TEXT : COLUMN_CATEGORY;
    if (k->texts.full) return 0;
    c->n_categories = k->texts.n;
    c->categories = texts_take_sorted(&k->texts);
    if (c->categories) return 0;
    c->n_categories = 0;
    return err_set(e, ERR_NOMEM, NULL, "no memory for the categories of column \"%s\"", s->names[i]);
}

/* ---- arrays ---- */

static int on_array(void *ctx, const struct array_head *h, struct err *e)
{
    struct scan *s = ctx;
    s->head = *h;
    if (is_labels(s) && h->rank > 2)
        return err_set(e, ERR_INVALID, NULL, "labels must have one or two dimensions; this array has %d",
                       h->rank);
    if (data_type_bytes(h->dtype) == 1) {
        s->histogram = mem_try_alloc(256, sizeof *s->histogram);
        if (!s->histogram) return err_set(e, ERR_NOMEM, NULL, "no memory to scan the array");
    }
    if (!is_labels(s) || h->width != 1) s->array_classes.lost = true;
    return 0;
}

static int refuse_element(const struct array_head *h, uint64_t index, double v, struct err *e)
{
    return err_set(e, ERR_INVALID, NULL,
                   "row %llu, element %llu is %s; expected a finite 32-bit float (or NaN for missing)",
                   (unsigned long long)(index / (uint64_t)h->width),
                   (unsigned long long)(index % (uint64_t)h->width), isinf(v) ? "infinite" : "too large");
}

static int on_elements(void *ctx, const struct array_head *h, const unsigned char *raw, size_t count,
                       uint64_t index, struct err *e)
{
    struct scan *s = ctx;
    if (s->histogram) {
        for (size_t i = 0; i < count; i++) s->histogram[raw[i]]++;
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        double v = array_element(h, raw, i);
        if (isnan(v)) {
            s->array_missing++;
            continue;
        }
        if (fabs(v) > (double)FLT_MAX) return refuse_element(h, index + i, v, e);
        stats_add(&s->array_stats, v);
        classes_add(&s->array_classes, v);
    }
    return 0;
}

static void settle_array(struct scan *s, struct column *c)
{
    const struct array_head *h = &s->head;
    for (int i = 0; s->histogram && i < 256; i++) {
        unsigned char byte = (unsigned char)(h->dtype == DATA_I8 ? i + 128 : i); /* ascending */
        struct array_head one = {.dtype = h->dtype};
        double v = array_element(&one, &byte, 0);
        stats_add_many(&s->array_stats, v, s->histogram[byte]);
        if (s->histogram[byte]) classes_add(&s->array_classes, v);
    }
    c->name = mem_strdup(is_labels(s) ? "labels" : "features");
    c->dtype = h->dtype;
    c->missing = s->array_missing;
    c->type = is_labels(s) && h->width == 1 ? COLUMN_NUMBER : COLUMN_TENSOR;
    if (c->type == COLUMN_TENSOR) {
        c->rank = h->rank > 1 ? h->rank - 1 : 1;
        for (int i = 0; i < c->rank; i++) c->dim[i] = h->rank > 1 ? h->dim[i + 1] : 1;
    }
    set_stats(c, &s->array_stats);
    set_classes(c, &s->array_classes);
}

/* ---- the scanner ---- */

static const char *role_field(enum scan_role role)
{
    return role == SCAN_FEATURES ? "features" : role == SCAN_LABELS ? "labels" : "file";
}

int scan_create(struct scan **out, const struct scan_options *o, struct err *e)
{
    struct scan *s = mem_alloc(1, sizeof *s);
    s->options = *o;
    s->text_budget = TEXT_BUDGET_BYTES;
    struct decode_options d = {.format = o->format, .arrays_only = o->role != SCAN_FILE};
    d.limits.max_plain_bytes = o->max_plain_bytes ? o->max_plain_bytes : DEFAULT_PLAIN_BYTES;
    d.limits.max_rows = o->max_rows ? o->max_rows : DEFAULT_ROWS;
    struct format_sink sink = {.ctx = s,
                               .header = on_header,
                               .cell = on_cell,
                               .row = on_row,
                               .array = on_array,
                               .elements = on_elements};
    int rc = decode_create(&s->decode, &d, &sink, e);
    if (rc)
        scan_free(s);
    else
        *out = s;
    return rc;
}

/* Remembers a failure and names the part that it is about. */
static int fail(struct scan *s, struct err *e)
{
    if (!s->failed.field[0]) err_under(&s->failed, role_field(s->options.role));
    if (e) *e = s->failed;
    return s->failed.code;
}

int scan_push(struct scan *s, const void *data, size_t len, struct err *e)
{
    if (s->failed.code) return fail(s, e);
    return decode_push(s->decode, data, len, &s->failed) ? fail(s, e) : 0;
}

static int build(struct scan *s, int64_t rows, struct schema **out, struct err *e)
{
    struct schema *schema = mem_alloc(1, sizeof *schema);
    bool csv = decode_format(s->decode) == SCHEMA_CSV;
    int rc = 0;
    schema->format = decode_format(s->decode);
    schema->rows = rows;
    schema->columns = mem_try_alloc(csv ? s->n_columns : 1, sizeof *schema->columns);
    if (!schema->columns) {
        rc = err_set(e, ERR_NOMEM, NULL, "no memory for the schema");
    } else if (csv) {
        for (; schema->n_columns < s->n_columns && !rc; schema->n_columns++)
            rc = settle_column(s, schema->n_columns, &schema->columns[schema->n_columns], e);
    } else {
        schema->n_columns = 1;
        settle_array(s, &schema->columns[0]);
    }
    if (rc)
        schema_free(schema);
    else
        *out = schema;
    return rc;
}

int scan_finish(struct scan *s, struct schema **out, struct err *e)
{
    int64_t rows = 0;
    *out = NULL;
    if (s->failed.code) return fail(s, e);
    if (decode_finish(s->decode, &rows, &s->failed) || build(s, rows, out, &s->failed)) return fail(s, e);
    return 0;
}

void scan_free(struct scan *s)
{
    if (!s) return;
    decode_free(s->decode);
    for (size_t i = 0; i < s->n_columns; i++) {
        texts_dispose(&s->columns[i].texts);
        mem_free(s->columns[i].classes.value);
        mem_free(s->names[i]);
    }
    mem_free(s->names);
    mem_free(s->columns);
    mem_free(s->array_classes.value);
    mem_free(s->histogram);
    mem_free(s);
}

const char *scan_part(const struct schema *s, enum scan_role role)
{
    if (role == SCAN_LABELS) return "labels";
    return s->format == SCHEMA_CSV ? "table" : "features";
}
