/* TensorFlow Serving's :classify and :regress: rows as examples of named features, answered by the classes
 * with their probabilities, or by the value. */
#include "gateway/predict/tfs_internal.h"

#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "base/mem.h"

/* The context is read anew for each example: in all as much of it as a request may be long that writes it out
 * in each. */
enum { CONTEXT_READ_MAX = 32 * 1024 * 1024 };

/* An answer names every class in each example: in all as many bytes of names, so that a short request does
 * not keep a loop at writing. */
enum { NAMES_WRITTEN_MAX = 32 * 1024 * 1024 };

/* The members of the body while they arrive in any order: the rows are read when both are known. */
struct body {
    struct infer *out;
    struct json_reader examples, context; /* where their values begin */
    size_t context_len, context_read;     /* bytes: of its text; of it, for all examples so far */
    bool has_examples, has_context, has_signature;
    int64_t *seen; /* owned: per input, the row that it was last given in, plus one */
};

/* ---- rows
 * ---------------------------------------------------------------------------------------------------------
 */

/* A feature is a value or a list of values, flat or nested as the input's shape; where one value is all that
 * it holds, it may stand alone. */
static int read_feature(struct infer *r, struct json_reader *json, size_t input, const char *path,
                        struct err *e)
{
    struct tensor_reader t = tfs__reader(r, json, input, path);
    struct signature_tensor alone = *t.spec;
    struct json_reader ahead = *json;
    bool list = json_take(&ahead, '[');
    if (list && json_peek(&ahead) != '[') return tensor_read_flat(&t, 1, e);
    if (!list && signature_width(t.spec) == 1) {
        alone.rank = 1;
        t.spec = &alone;
    }
    return tensor_read_row(&t, e);
}

/* The features of an object. Those of the context stand behind an example's own. */
static int read_features(struct body *b, struct json_reader *json, int64_t row, const char *where,
                         bool context, struct err *e)
{
    char name[TFS_NAME_MAX], path[TENSOR_PATH_MAX + 32];
    bool first = true;
    int rc = json_open(json, '{', where, e);
    if (rc) return rc;
    while ((rc = json_member(json, &first, name, sizeof name, e)) == 1) {
        size_t input = 0;
        if ((rc = tfs__find_input(b->out, where, name, &input, e))) return rc;
        snprintf(path, sizeof path, "%s.%.40s", where, name);
        bool seen = b->seen[input] == row + 1;
        if (seen && !context) return err_set(e, ERR_INVALID, path, "%s: stands there twice", path);
        rc = seen ? json_skip(json, e) : read_feature(b->out, json, input, path, e);
        if (rc) return rc;
        b->seen[input] = row + 1;
    }
    return rc;
}

/* The shared features, for the example that has been read. */
static int read_context(struct body *b, int64_t row, struct err *e)
{
    struct json_reader context = b->context;
    if (!b->has_context) return 0;
    b->context_read += b->context_len;
    if (b->context_read > CONTEXT_READ_MAX)
        return err_set(
            e, ERR_TOO_LARGE, "context",
            "context: its %zu bytes for each example come to more than %d bytes; send the examples "
            "in several requests",
            b->context_len, CONTEXT_READ_MAX);
    return read_features(b, &context, row, "context", true, e);
}

static int read_example(struct body *b, int64_t row, struct err *e)
{
    struct infer *r = b->out;
    char where[32];
    snprintf(where, sizeof where, "examples[%lld]", (long long)row);
    int rc = read_features(b, &b->examples, row, where, false, e);
    if (rc == 0) rc = read_context(b, row, e);
    for (size_t i = 0; rc == 0 && i < r->signature->n_inputs; i++)
        if (b->seen[i] != row + 1)
            rc = err_set(e, ERR_INVALID, where, "%s: the input \"%.64s\" is missing", where,
                         r->signature->inputs[i].name);
    return rc;
}

static int read_examples(struct body *b, struct err *e)
{
    struct infer *r = b->out;
    bool first = true;
    int rc = json_open(&b->examples, '[', "examples", e);
    while (rc == 0 && (rc = json_element(&b->examples, &first, e)) == 1) {
        if (r->rows == MESSAGE_ROWS_MAX)
            return err_set(e, ERR_INVALID, "examples",
                           "examples: more than the %d rows that one request may hold", MESSAGE_ROWS_MAX);
        rc = read_example(b, r->rows, e);
        r->rows++;
    }
    for (size_t i = 0; rc == 0 && i < r->signature->n_inputs; i++) {
        r->inputs[i].given = true;
        r->inputs[i].datatype = r->signature->inputs[i].datatype;
    }
    if (rc == 0 && r->rows == 0)
        return err_set(e, ERR_INVALID, "examples", "a request must have at least one example");
    return rc;
}

/* ---- the body
 * ------------------------------------------------------------------------------------------------------- */

static int keep_place(struct json_reader *json, struct json_reader *place, bool *has, const char *name,
                      struct err *e)
{
    if (*has) return err_set(e, ERR_INVALID, name, "%s: stands there twice", name);
    *has = true;
    *place = *json;
    return json_skip(json, e);
}

static int body_member(struct body *b, struct json_reader *json, const char *name, struct err *e)
{
    if (strcmp(name, "examples") == 0) return keep_place(json, &b->examples, &b->has_examples, name, e);
    if (strcmp(name, "context") == 0) {
        int rc = keep_place(json, &b->context, &b->has_context, name, e);
        b->context_len = (size_t)(json->p - b->context.p);
        return rc;
    }
    if (strcmp(name, "signature_name") != 0)
        return err_set(e, ERR_INVALID, name, "%.64s: unknown field", name);
    if (b->has_signature) return err_set(e, ERR_INVALID, name, "signature_name: stands there twice");
    b->has_signature = true;
    return tfs__signature_name(json, e);
}

static int decode(struct infer *r, const char *text, size_t len, struct err *e)
{
    struct body b = {.out = r};
    struct json_reader json;
    char name[TFS_NAME_MAX];
    bool first = true;
    json_reader_init(&json, text, len);
    int rc = json_open(&json, '{', "the body", e);
    while (rc == 0 && (rc = json_member(&json, &first, name, sizeof name, e)) == 1)
        rc = body_member(&b, &json, name, e);
    if (rc == 0) rc = json_end(&json, e);
    if (rc) return rc;
    if (!b.has_examples)
        return err_set(e, ERR_INVALID, "examples",
                       "examples: missing; give rows as \"examples\": [{\"<input>\": <value>, …}, …]");
    b.seen = mem_try_alloc(r->signature->n_inputs, sizeof *b.seen);
    if (!b.seen) return err_set(e, ERR_NOMEM, NULL, "no memory for the request");
    rc = read_examples(&b, e);
    mem_free(b.seen);
    return rc;
}

/* ---- classes
 * -------------------------------------------------------------------------------------------------------- */

static int classify_suits(const struct signature *s, struct err *e)
{
    if (signature_output_find(s, "probabilities") >= 0 && signature_output_find(s, "label") >= 0) return 0;
    return err_set(e, ERR_INVALID, NULL,
                   "this model does not tell classes apart; :predict gives what it has");
}

static const struct signature_classes *classes_of(const struct signature *s)
{
    return &s->outputs[signature_output_find(s, "probabilities")].classes;
}

static int classify_decode(struct infer *r, const char *body, size_t len, size_t json_len, struct err *e)
{
    (void)json_len;
    int rc = classify_suits(r->signature, e);
    if (rc == 0) rc = decode(r, body, len, e);
    if (rc) return rc;
    const struct signature_classes *c = classes_of(r->signature);
    if (c->json_len * (size_t)r->rows > NAMES_WRITTEN_MAX)
        return err_set(e, ERR_TOO_LARGE, "examples",
                       "examples: the names of %zu classes for each of %lld examples come to more than %d "
                       "bytes; send the examples in several requests, or call :predict",
                       c->n, (long long)r->rows, NAMES_WRITTEN_MAX);
    return 0;
}

/* Every class with its probability. A row's width is c->n. */
static void write_all(struct buf *out, const struct signature_classes *c, struct tensor_cursor *scores)
{
    size_t len;
    for (size_t i = 0; i < c->n; i++) {
        const char *name = signature_class(c, i, &len);
        buf_str(out, i ? "],[" : "[[");
        buf_append(out, name, len);
        buf_char(out, ',');
        tensor_write_row(scores, out);
    }
    buf_str(out, "]]");
}

/* The greatest of a row's probabilities: the one of the label. */
static void write_score(struct buf *out, const struct message_tensor *t, int64_t row)
{
    int64_t width = 1;
    float best = 0, p;
    for (int d = 1; d < t->ndim; d++) width *= t->dims[d];
    for (int64_t i = 0; i < width; i++) {
        memcpy(&p, (const char *)t->data + (size_t)(row * width + i) * sizeof p, sizeof p);
        if (i == 0 || p > best) best = p;
    }
    struct message_tensor one = {
        .dtype = MESSAGE_FP32, .ndim = 1, .dims = {1}, .data = &best, .data_len = sizeof best};
    struct tensor_cursor c;
    tensor_cursor_init(&c, &one);
    tensor_write_row(&c, out);
}

/* A label is a text here, of integers too. */
static void write_label(struct buf *out, struct tensor_cursor *c)
{
    bool number = c->tensor->dtype != MESSAGE_BYTES;
    if (number) buf_char(out, '"');
    tensor_write_row(c, out);
    if (number) buf_char(out, '"');
}

/* The class that was chosen: of versions whose signature names none. */
static void write_chosen(struct buf *out, struct tensor_cursor *labels, const struct message_tensor *scores,
                         int64_t row)
{
    buf_str(out, "[[");
    write_label(out, labels);
    buf_char(out, ',');
    write_score(out, scores, row);
    buf_str(out, "]]");
}

static void classify_encode(const struct infer *r, const struct infer_answer *a, struct buf *out,
                            size_t *json_len)
{
    const struct message_tensor *scores = &a->tensors[signature_output_find(r->signature, "probabilities")];
    const struct signature_classes *classes = classes_of(r->signature);
    struct message_tensor each = *scores; /* its elements as rows of their own */
    struct tensor_cursor labels, score;
    size_t elements = 0;
    message_tensor_elements(scores, &elements);
    bool named = classes->n && elements == classes->n * (size_t)r->rows;
    each.ndim = 1;
    each.dims[0] = (int64_t)elements;
    tensor_cursor_init(&score, &each);
    tensor_cursor_init(&labels, &a->tensors[signature_output_find(r->signature, "label")]);
    *json_len = 0;
    buf_str(out, "{\"result\":[");
    for (int64_t row = 0; row < r->rows; row++) {
        if (row) buf_char(out, ',');
        if (named)
            write_all(out, classes, &score);
        else
            write_chosen(out, &labels, scores, row);
    }
    buf_str(out, "]}");
}

/* ---- values
 * ---------------------------------------------------------------------------------------------------------
 */

static int regress_suits(const struct signature *s, struct err *e)
{
    int i = signature_output_find(s, "prediction");
    if (i >= 0 && signature_width(&s->outputs[i]) == 1) return 0;
    return err_set(e, ERR_INVALID, NULL,
                   "this model does not predict one number a row; :predict gives what it has");
}

static int regress_decode(struct infer *r, const char *body, size_t len, size_t json_len, struct err *e)
{
    (void)json_len;
    int rc = regress_suits(r->signature, e);
    return rc ? rc : decode(r, body, len, e);
}

static void regress_encode(const struct infer *r, const struct infer_answer *a, struct buf *out,
                           size_t *json_len)
{
    struct tensor_cursor c;
    tensor_cursor_init(&c, &a->tensors[signature_output_find(r->signature, "prediction")]);
    *json_len = 0;
    buf_str(out, "{\"result\":");
    tensor_write_flat(&c, out);
    buf_char(out, '}');
}

const struct infer_protocol tfs_classify_protocol = {"tfs-classify", "examples", classify_suits,
                                                     classify_decode, classify_encode};
const struct infer_protocol tfs_regress_protocol = {"tfs-regress", "examples", regress_suits, regress_decode,
                                                    regress_encode};
