/* Walks the layers with the shape of a row, refuses the first that cannot fit, and settles output and loss.
 */
#include "learn/spec/layers.h"
#include "learn/spec/names.h"

#include <stdio.h>
#include <string.h>

enum {
    MAX_ROW = 1 << 28, /* numbers of one row, between two layers */
    USUAL_WORD_WIDTH = 32,
};

/* Sizes are at least 1 each and not yet multiplied: a product could overflow. */
static bool fits(const struct layer_shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        if (__builtin_mul_overflow(n, s->dim[i], &n) || n > MAX_ROW) return false;
    return true;
}

bool layer__same_shape(const struct layer_shape *a, const struct layer_shape *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, sizeof *a->dim * (size_t)a->rank) == 0;
}

static struct layer_spec dense(const struct resolving *v, const char *name, int64_t units,
                               enum activation activation)
{
    struct layer_spec l = layer_usual(KIND_DENSE);
    l.units = units;
    l.activation = activation;
    snprintf(l.name, sizeof l.name, "%s", name);
    resolve__path(v, "architecture", l.path);
    return l;
}

static int64_t outputs_wanted(const struct resolved *r)
{
    return r->task == TASK_CLASSIFICATION ? (int64_t)r->n_classes : r->target_width;
}

/* The mean of a text's words, each of them a learnt vector. */
static void text_layers(struct resolving *v)
{
    struct layer_spec words = layer_usual(KIND_EMBEDDING), mean = layer_usual(KIND_GLOBAL_AVERAGE_POOLING1D);
    snprintf(words.name, sizeof words.name, "words");
    snprintf(mean.name, sizeof mean.name, "mean");
    resolve__path(v, "architecture", words.path);
    resolve__path(v, "architecture", mean.path);
    words.units = USUAL_WORD_WIDTH;
    words.mask_zero = true;
    v->r->layers[v->r->n_layers++] = words;
    v->r->layers[v->r->n_layers++] = mean;
}

/* The layers of the linear families, and those of an mlp without an architecture. */
static int usual_layers(struct resolving *v, struct err *e)
{
    struct resolved *r = v->r;
    r->layers = spec__alloc(&r->arena, 3, sizeof *r->layers, e);
    if (!r->layers) return ERR_NOMEM;
    if (r->input.rank > 1) {
        struct layer_spec flatten = {.kind = KIND_FLATTEN, .name = "flatten"};
        resolve__path(v, "architecture", flatten.path);
        r->layers[r->n_layers++] = flatten;
    }
    if (r->has_texts)
        text_layers(v);
    else if (r->family == FAMILY_MLP)
        r->layers[r->n_layers++] = dense(v, "hidden", 128, ACTIVATION_RELU);
    r->layers[r->n_layers++] = dense(v, "output", outputs_wanted(r), ACTIVATION_LINEAR);
    return 0;
}

static int check_input_layer(const struct resolving *v, const struct layer_spec *l, struct err *e)
{
    char got[96], want[96];
    if (layer__same_shape(&l->shape, &v->r->input)) return 0;
    if (l->shape.rank == v->r->input.rank + 1 && l->shape.dim[v->r->input.rank] == 1 &&
        layer__product(&l->shape) == layer__product(&v->r->input))
        return err_set(e, ERR_INVALID, l->path,
                       "layer \"%s\": it declares rows of shape %s, but the dataset's rows have %s; declare "
                       "those, and put "
                       "a Reshape layer with target_shape %s behind it",
                       l->name, layer__shape_text(got, &l->shape), layer__shape_text(want, &v->r->input),
                       got);
    return err_set(e, ERR_INVALID, l->path,
                   "layer \"%s\": it declares rows of shape %s, but the dataset's rows have %s", l->name,
                   layer__shape_text(got, &l->shape), layer__shape_text(want, &v->r->input));
}

/* What a composite holds, into the memory of what is resolved. */
static int copy_inner(struct arena *a, struct layer_spec *l, struct err *e)
{
    int rc = 0;
    if (!l->n_layers) return 0;
    struct layer_spec *inner = spec__alloc(a, l->n_layers, sizeof *inner, e);
    if (!inner) return ERR_NOMEM;
    memcpy(inner, l->layers, l->n_layers * sizeof *inner);
    l->layers = inner;
    for (size_t i = 0; i < l->n_layers && !rc; i++) rc = copy_inner(a, &inner[i], e);
    return rc;
}

int resolve__copy_layers(struct resolving *v, const struct layer_spec *from, size_t n, struct layer_spec **to,
                         size_t *n_to, struct err *e)
{
    struct layer_spec *list = *to = spec__alloc(&v->r->arena, n, sizeof *list, e);
    if (!list) return ERR_NOMEM;
    for (size_t i = 0; i < n; i++) {
        int rc = 0;
        if (from[i].kind == KIND_INPUT && i == 0) {
            rc = check_input_layer(v, &from[i], e);
        } else {
            list[*n_to] = from[i];
            rc = copy_inner(&v->r->arena, &list[(*n_to)++], e);
        }
        if (rc) return rc;
    }
    if (*n_to) return 0;
    char path[JSON_PATH_MAX];
    return err_set(e, ERR_INVALID, resolve__path(v, "architecture", path),
                   "there is no layer behind the InputLayer");
}

static int copy_layers(struct resolving *v, struct err *e)
{
    return resolve__copy_layers(v, v->spec->layers, v->spec->n_layers, &v->r->layers, &v->r->n_layers, e);
}

static int settle_layer(struct resolving *v, struct layer_spec *l, struct err *e)
{
    const struct layer_class *c = layer_class_of(l->kind);
    int rc = 0;
    if (l->l2 < 0) l->l2 = v->r->training.l2;
    if (c->settle) rc = c->settle(v, l, e);
    v->r->estimate.flops_per_row += rc ? 0 : layer__product(&l->out);
    return rc;
}

int layer__settle_chain(struct resolving *v, struct layer_spec *layers, size_t n, struct layer_shape *at,
                        struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        struct layer_spec *l = &layers[i];
        l->in = l->out = *at;
        rc = settle_layer(v, l, e);
        *at = l->out;
        if (!rc && !fits(at))
            rc = err_set(e, ERR_TOO_LARGE, l->path,
                         "layer \"%s\": its rows of more than %d numbers do not fit", l->name, MAX_ROW);
    }
    return rc;
}

static int settle_shapes(struct resolving *v, struct err *e)
{
    struct layer_shape at = v->r->input;
    v->first = v->r->layers;
    return layer__settle_chain(v, v->r->layers, v->r->n_layers, &at, e);
}

/* The Dense that makes the output: only activations may stand behind it. */
static struct layer_spec *output_dense(struct resolving *v, struct err *e)
{
    for (size_t i = v->r->n_layers; i-- > 0;) {
        struct layer_spec *l = &v->r->layers[i];
        if (l->kind == KIND_DENSE) return l;
        if (layer_is_activation(l->kind)) continue;
        err_set(e, ERR_INVALID, l->path, "layer \"%s\": a %s cannot be the output; end with a Dense layer",
                l->name, layer_kind_name(l->kind));
        return NULL;
    }
    err_set(e, ERR_INVALID, v->r->layers[0].path, "the architecture has no Dense layer; end with one");
    return NULL;
}

static int wrong_units(const struct resolving *v, const struct layer_spec *d, struct err *e)
{
    const struct column *target = &v->train->columns[v->r->target];
    char path[JSON_PATH_MAX];
    json_path_name(path, d->path, "units");
    if (v->r->task == TASK_CLASSIFICATION)
        return err_set(e, ERR_INVALID, path,
                       "layer \"%s\" has %lld units, but \"%s\" has %zu classes; set units to %zu", d->name,
                       (long long)d->units, target->name, v->r->n_classes, v->r->n_classes);
    return err_set(e, ERR_INVALID, path,
                   "layer \"%s\" has %lld units, but \"%s\" is %lld number%s a row; set units to %lld",
                   d->name, (long long)d->units, target->name, (long long)v->r->target_width,
                   v->r->target_width == 1 ? "" : "s", (long long)v->r->target_width);
}

static int wrong_activation(const struct layer_spec *l, const char *wanted, struct err *e)
{
    char path[JSON_PATH_MAX];
    json_path_name(path, l->path, "activation");
    return err_set(e, ERR_INVALID, path, "layer \"%s\": the output cannot end with %s; expected %s", l->name,
                   activation_name(l->activation), wanted);
}

/* Output width, output activation, and the loss that goes with them. */
static int settle_output(struct resolving *v, enum loss *loss, struct err *e)
{
    struct resolved *r = v->r;
    const struct layer_spec *d = output_dense(v, e);
    if (!d) return ERR_INVALID;
    struct layer_spec *last = &r->layers[r->n_layers - 1];
    char got[96];
    if (d->out.rank != 1)
        return err_set(e, ERR_INVALID, d->path,
                       "layer \"%s\" gives rows of shape %s; put a Flatten layer before it", d->name,
                       layer__shape_text(got, &d->out));
    if (r->task == TASK_REGRESSION) {
        *loss = LOSS_MSE;
        if (d->units != r->target_width) return wrong_units(v, d, e);
        return last->activation == ACTIVATION_SOFTMAX ? wrong_activation(last, "no activation", e) : 0;
    }
    bool binary = d->units == 1 && r->n_classes == 2;
    if (!binary && d->units != (int64_t)r->n_classes) return wrong_units(v, d, e);
    enum activation right = binary ? ACTIVATION_SIGMOID : ACTIVATION_SOFTMAX;
    *loss = binary ? LOSS_BINARY_CROSS_ENTROPY : LOSS_CROSS_ENTROPY;
    if (last->activation == ACTIVATION_LINEAR) last->activation = right;
    return last->activation == right
               ? 0
               : wrong_activation(last, binary ? "sigmoid or nothing" : "softmax or nothing", e);
}

int resolve__layers(struct resolving *v, struct err *e)
{
    char path[JSON_PATH_MAX];
    enum loss fitting = LOSS_AUTO;
    int rc = v->spec->n_layers ? copy_layers(v, e) : usual_layers(v, e);
    if (rc || (rc = settle_shapes(v, e)) || (rc = settle_output(v, &fitting, e))) return rc;
    resolve__path(v, "training", path);
    if (v->r->training.loss != LOSS_AUTO && v->r->training.loss != fitting) {
        char at[JSON_PATH_MAX];
        json_path_name(at, path, "loss");
        return err_set(e, ERR_INVALID, at, "the loss %s does not fit this output; expected %s",
                       loss_name(v->r->training.loss), loss_name(fitting));
    }
    v->r->training.loss = fitting;
    return 0;
}

int resolve__layer_memory(struct resolving *v, struct err *e)
{
    struct estimate *est = &v->r->estimate;
    uint64_t rows = (uint64_t)(v->r->training.batch_size > RESOLVE_PART_ROWS ? v->r->training.batch_size
                                                                             : RESOLVE_PART_ROWS);
    uint64_t at_once = (uint64_t)v->r->training.batch_size + RESOLVE_PART_ROWS;
    uint64_t kept = (uint64_t)v->kept * 4, extra, scores;
    if (__builtin_mul_overflow(v->row_floats * 4, rows, &extra) ||
        __builtin_mul_overflow(v->score_floats * 4, at_once, &scores) ||
        __builtin_add_overflow(extra, scores, &extra) ||
        __builtin_add_overflow(extra, (8 + 2 * CHECKPOINT_GROUPS) * kept + v->work_bytes, &extra) ||
        __builtin_add_overflow(est->memory_bytes, extra, &est->memory_bytes) ||
        est->memory_bytes > SIZE_MAX / 4)
        return err_set(e, ERR_TOO_LARGE, "dataset", "the run would need more memory than any machine has");
    est->checkpoint_bytes += CHECKPOINT_GROUPS * kept;
    est->model_bytes += 2 * kept + (v->row_floats + v->score_floats) * 4 * RESOLVE_PART_ROWS + v->work_bytes;
    return 0;
}
