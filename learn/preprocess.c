/* Applies fitted preprocessing to rows, of a table or of a request. */
#include "learn/preprocess.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

static void feature_dispose(struct feature *f)
{
    for (size_t i = 0; f->categories && i < f->n_values; i++) mem_free(f->categories[i]);
    mem_free(f->categories);
    mem_free(f->integers);
    texts_dispose(&f->codes);
    vocabulary_free(f->vocabulary);
    mem_free(f->ids);
    mem_free(f->fill);
    mem_free(f->shift);
    mem_free(f->scale);
    mem_free(f->offset);
    mem_free(f->name);
}

void preprocess_free(struct preprocess *p)
{
    if (!p) return;
    for (size_t i = 0; p->features && i < p->n_features; i++) feature_dispose(&p->features[i]);
    for (size_t i = 0; p->class_texts && i < p->n_classes; i++) mem_free(p->class_texts[i]);
    feature_dispose(&p->target);
    mem_free(p->features);
    mem_free(p->row_values);
    mem_free(p->class_integers);
    mem_free(p->class_texts);
    mem_free(p->target_mean);
    mem_free(p);
}

static void one_hot(const struct feature *f, int32_t code, float *out)
{
    memset(out, 0, f->n_values * sizeof *out);
    out[code] = 1;
}

bool preprocess_code(const struct feature *f, int32_t code, float *out)
{
    if (code < 0) code = f->fill_code;
    if (code < 0 || (size_t)code >= f->n_values) return false;
    one_hot(f, code, out);
    return true;
}

/* Index of v among ascending integers, or -1. */
static int32_t integer_index(const int64_t *list, size_t n, double v)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if ((double)list[mid] < v)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && (double)list[lo] == v ? (int32_t)lo : -1;
}

static bool integer_to_one_hot(const struct feature *f, float raw, float *out)
{
    if (isnan(raw)) return preprocess_code(f, -1, out);
    int32_t code = integer_index(f->integers, f->n_values, (double)raw);
    if (code < 0) return false;
    one_hot(f, code, out);
    return true;
}

/* Floats that are whole numbers → int32_t in their place. */
static bool to_ids(const struct preprocess *p, int64_t n, float *row)
{
    for (int64_t i = 0; i < n; i++) {
        if (!(row[i] >= 0 && row[i] < (float)p->ids_below) || row[i] != floorf(row[i])) return false;
        int32_t id = (int32_t)row[i];
        memcpy(row + i, &id, sizeof id);
    }
    return true;
}

static float filled(const struct feature *f, const float *raw, int64_t i)
{
    return isnan(raw[i]) ? f->fill[f->n > 1 ? i : 0] : raw[i];
}

static bool numbers(const struct preprocess *p, const struct feature *f, const float *raw, float *out)
{
    if (f->kind == FEATURE_INTEGER) return integer_to_one_hot(f, raw[0], out);
    if (f->in_width == 1) {
        float x = filled(f, raw, 0);
        out[0] = (x - f->shift[0]) * f->scale[0] + f->offset[0];
        return !isnan(x);
    }
    struct normaliser by = {f->fill, f->shift, f->scale, f->offset, f->n > 1};
    if (p->kernels->normalise(&by, raw, out, (size_t)f->in_width)) return true;
    for (int64_t i = 0; i < f->in_width; i++) /* what is infinite is not missing */
        if (isnan(filled(f, raw, i))) return false;
    return true;
}

bool preprocess_numbers(const struct preprocess *p, const struct feature *f, const float *raw, float *out)
{
    return numbers(p, f, raw, out) && (!p->ids_below || to_ids(p, f->in_width, out));
}

bool preprocess_row(const struct preprocess *p, const void *raw, float *out)
{
    return p->row.fill && p->kernels->normalise(&p->row, raw, out, (size_t)p->width);
}

/* As preprocess_numbers, for bytes, which are never missing: the same arithmetic on the same floats. In
 * blocks of a fixed length, which compilers turn into vector instructions. */
static void bytes_to_numbers(const struct feature *f, const uint8_t *restrict raw, float *restrict out)
{
    enum { BLOCK = 16 };
    int64_t i = 0;
    if (f->n == 1) {
        float shift = f->shift[0], scale = f->scale[0], offset = f->offset[0];
        for (; i + BLOCK <= f->in_width; i += BLOCK)
            for (int k = 0; k < BLOCK; k++) out[i + k] = ((float)raw[i + k] - shift) * scale + offset;
        for (; i < f->in_width; i++) out[i] = ((float)raw[i] - shift) * scale + offset;
        return;
    }
    for (; i < f->in_width; i++) out[i] = ((float)raw[i] - f->shift[i]) * f->scale[i] + f->offset[i];
}

_Static_assert(sizeof(float) == sizeof(int32_t), "ids stand where floats would");

void preprocess_text(const struct feature *f, const char *text, size_t len, float *out)
{
    vocabulary_encode(f->vocabulary, text, len, (int32_t *)(void *)out);
}

static void text_of(const struct feature *f, const struct table *table, const struct table_column *c,
                    uint32_t row, int32_t *out)
{
    size_t len;
    if (f->encoded == table) {
        memcpy(out, f->ids + (size_t)row * (size_t)f->width, (size_t)f->width * sizeof *f->ids);
        return;
    }
    const char *text = table_text(c, row, &len);
    vocabulary_encode(f->vocabulary, text, len, out);
}

void preprocess_source_ids(const struct preprocess *p, const struct table *table, uint32_t row, int32_t *out)
{
    text_of(&p->features[0], table, &table->columns[0], row, out);
}

void preprocess_target_ids(const struct preprocess *p, const struct table *table, uint32_t row, int32_t *out)
{
    text_of(&p->target, table, &table->columns[p->n_features], row, out);
}

static bool row_of(const struct preprocess *p, const struct feature *f, const struct table_column *c,
                   uint32_t row, float *out)
{
    if (c->cells == CELLS_CODE) return preprocess_code(f, ((const int32_t *)c->data)[row], out);
    size_t at = (size_t)row * (size_t)c->width;
    if (c->cells == CELLS_F32) return preprocess_numbers(p, f, (const float *)c->data + at, out);
    bytes_to_numbers(f, (const uint8_t *)c->data + at, out);
    return !p->ids_below || to_ids(p, f->in_width, out);
}

int preprocess_rows(const struct preprocess *p, const struct table *table, const uint32_t *rows,
                    size_t n_rows, float *out, struct err *e)
{
    for (size_t i = 0; i < p->n_features; i++) {
        const struct feature *f = &p->features[i];
        float *to = out + f->offset_in_row;
        for (size_t k = 0; k < n_rows && f->kind == FEATURE_TEXT; k++, to += p->width)
            text_of(f, table, &table->columns[i], rows[k], (int32_t *)(void *)to);
        for (size_t k = 0; k < n_rows && f->kind != FEATURE_TEXT; k++, to += p->width)
            if (!row_of(p, f, &table->columns[i], rows[k], to))
                return err_set(
                    e, ERR_INVALID, "dataset",
                    "row %lu, column \"%s\": a value is missing, or one that the training data does not have",
                    (unsigned long)rows[k] + 1, f->name);
    }
    return 0;
}

int preprocess_classes(const struct resolved *r, const struct table *table, int32_t *out, struct err *e)
{
    const struct table_column *c = &table->columns[r->n_features];
    for (int64_t i = 0; i < table->rows; i++) {
        if (c->cells == CELLS_CODE) {
            out[i] = ((const int32_t *)c->data)[i];
            continue;
        }
        double v = ((const double *)c->data)[i];
        out[i] = isnan(v) ? -1 : integer_index(r->class_integers, r->n_classes, v);
        if (out[i] < 0 && !isnan(v))
            return err_set(e, ERR_INVALID, "dataset", "row %lld: the label %g is none of the classes",
                           (long long)i + 1, v);
    }
    return 0;
}

size_t preprocess_bytes(const struct preprocess *p)
{
    size_t bytes = p->target.vocabulary ? vocabulary_bytes(p->target.vocabulary) : 0;
    bytes += sizeof *p + p->n_features * sizeof *p->features + p->n_classes * 40;
    if (p->row_values) bytes += (size_t)p->width * sizeof *p->row_values * 4;
    for (size_t i = 0; i < p->n_features; i++) {
        const struct feature *f = &p->features[i];
        bytes += (size_t)f->n * 16 + f->n_values * 128 + f->codes.used_bytes;
        if (f->vocabulary) bytes += vocabulary_bytes(f->vocabulary);
    }
    return bytes;
}
