/* Takes the rows of requests into a session's batch: checked, preprocessed, one request after the other. */
#include "learn/input.h"
#include "learn/model_impl.h"

void model_session_begin(struct model_session *s)
{
    s->rows = 0;
}

static int refuse_row(const struct model_session *s, size_t input, int64_t row, const struct feature *f,
                      struct err *e)
{
    if (preprocess_of(s->model)->ids_below)
        return err_set(e, ERR_INVALID, model_signature(s->model)->inputs[input].name,
                       "row %lld, \"%s\": the model takes whole numbers from 0 to %lld only", (long long)row,
                       f->name, (long long)preprocess_of(s->model)->ids_below - 1);
    const char *what = f->kind == FEATURE_INTEGER
                           ? "a missing value, or an integer that the training data does not have"
                       : f->kind == FEATURE_CATEGORY ? "a missing value"
                                                     : "a missing value (NaN)";
    return err_set(e, ERR_INVALID, model_signature(s->model)->inputs[input].name,
                   "row %lld, \"%s\": %s; the model was not trained to fill it", (long long)row, f->name,
                   what);
}

/* A row of the single input of numbers: converted, then made in one pass, or feature by feature. */
static int stage_row(struct model_session *s, const struct model_input *in, int64_t row, float *to,
                     struct err *e)
{
    const struct preprocess *p = preprocess_of(s->model);
    const char *name = model_signature(s->model)->inputs[0].name;
    const float *raw = s->raw;
    int rc = input_numbers(in, row * s->raw_width, s->raw_width, s->raw, name, row, e);
    if (rc || preprocess_row(p, raw, to)) return rc;
    for (size_t i = 0; i < p->n_features; i++) {
        const struct feature *f = &p->features[i];
        if (!preprocess_numbers(p, f, raw, to + f->offset_in_row)) return refuse_row(s, 0, row, f, e);
        raw += f->in_width;
    }
    return 0;
}

/* The single input of numbers: each row holds the features one after the other. */
static int stage_numbers(struct model_session *s, const struct model_input *in, int64_t rows, struct err *e)
{
    const struct preprocess *p = preprocess_of(s->model);
    const char *raw = in->data;
    int64_t row_bytes = s->raw_width * (int64_t)sizeof(float);
    float *to = s->input + s->rows * p->width;
    bool floats = in->datatype == DATATYPE_FP32;
    for (int64_t row = 0; row < rows; row++, to += p->width) {
        if (floats && preprocess_row(p, raw + row * row_bytes, to)) continue;
        int rc = stage_row(s, in, row, to, e);
        if (rc) return rc;
    }
    return 0;
}

static int stage_categories(struct model_session *s, size_t input, const struct model_input *in, int64_t rows,
                            struct err *e)
{
    const struct preprocess *p = preprocess_of(s->model);
    const struct feature *f = &p->features[input];
    struct input_texts texts = {.data = in->data, .left = in->bytes};
    for (int64_t row = 0; row < rows; row++) {
        const char *text;
        size_t len;
        input_next_text(&texts, &text, &len); /* input_check has walked them all */
        int32_t code = texts_code(&f->codes, text, len);
        if (code < 0 && len > 0)
            return err_set(
                e, ERR_INVALID, f->name,
                "row %lld, \"%s\": \"%.*s\" is none of the %zu categories that the model was trained "
                "with",
                (long long)row, f->name, (int)(len < 40 ? len : 40), text, f->n_values);
        if (!preprocess_code(f, code, s->input + (s->rows + row) * p->width + f->offset_in_row))
            return refuse_row(s, input, row, f, e);
    }
    return 0;
}

static int stage_texts(struct model_session *s, size_t input, const struct model_input *in, int64_t rows)
{
    const struct preprocess *p = preprocess_of(s->model);
    const struct feature *f = &p->features[input];
    struct input_texts texts = {.data = in->data, .left = in->bytes};
    for (int64_t row = 0; row < rows; row++) {
        const char *text;
        size_t len;
        input_next_text(&texts, &text, &len); /* input_check has walked them all */
        preprocess_text(f, text, len, s->input + (s->rows + row) * p->width + f->offset_in_row);
    }
    return 0;
}

static int stage_column(struct model_session *s, size_t input, const struct model_input *in, int64_t rows,
                        struct err *e)
{
    const struct preprocess *p = preprocess_of(s->model);
    const struct feature *f = &p->features[input];
    for (int64_t row = 0; row < rows; row++) {
        float raw;
        int rc = input_numbers(in, row, 1, &raw, f->name, row, e);
        if (rc) return rc;
        if (!preprocess_numbers(preprocess_of(s->model), f, &raw,
                                s->input + (s->rows + row) * p->width + f->offset_in_row))
            return refuse_row(s, input, row, f, e);
    }
    return 0;
}

int model_session_add(struct model_session *s, const struct model_input *inputs, int64_t rows,
                      int64_t *first_row, struct err *e)
{
    const struct signature *sig = model_signature(s->model);
    bool single = true;
    int rc = 0;
    if (rows < 1) return err_set(e, ERR_INVALID, NULL, "a request needs at least one row");
    if (rows > s->max_rows - s->rows)
        return err_set(e, ERR_TOO_LARGE, NULL, "%lld rows do not fit beside %lld; a batch holds %lld",
                       (long long)rows, (long long)s->rows, (long long)s->max_rows);
    for (size_t i = 0; i < sig->n_inputs && !rc; i++) {
        rc = input_check(&inputs[i], &sig->inputs[i], rows, e);
        if (sig->inputs[i].datatype == DATATYPE_BYTES) single = false;
    }
    if (!rc && single) {
        rc = stage_numbers(s, &inputs[0], rows, e);
    } else {
        for (size_t i = 0; i < sig->n_inputs && !rc; i++)
            rc = preprocess_of(s->model)->features[i].kind == FEATURE_TEXT
                     ? stage_texts(s, i, &inputs[i], rows)
                 : sig->inputs[i].datatype == DATATYPE_BYTES ? stage_categories(s, i, &inputs[i], rows, e)
                                                             : stage_column(s, i, &inputs[i], rows, e);
    }
    if (rc) return rc;
    *first_row = s->rows;
    s->rows += rows;
    return 0;
}
