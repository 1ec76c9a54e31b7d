/* Settles pairs of texts: the vocabularies' bounds, the encoder's and the decoder's layers, and what the
 * output over the target's ids costs. */
#include "learn/spec/layers.h"
#include "learn/spec/names.h"

#include <stdio.h>
#include <string.h>

enum {
    USUAL_LENGTH = 64, /* ids a row; attention's work grows with its square */
    USUAL_FEATURES = 64,
    USUAL_HEADS = 4,
    USUAL_HIDDEN = 128
};

/* ---- columns and their texts ---- */

static int need_text(const struct resolving *v, const struct column *c, const char *field, struct err *e)
{
    const struct column *t = resolve__test_column(v, c);
    char path[JSON_PATH_MAX];
    resolve__path(v, field, path);
    if (c->dtype != DATA_TEXT)
        return err_set(e, ERR_INVALID, path, "\"%s\" holds no texts; seq2seq makes texts of texts", c->name);
    if (v->test && (!t || t->dtype != DATA_TEXT))
        return err_set(e, ERR_INVALID, "test_dataset", "the test dataset has no texts in a column \"%s\"",
                       c->name);
    if (c->text_bytes < 0 || (t && t->text_bytes < 0))
        return err_set(e, ERR_INVALID, c->text_bytes < 0 ? "dataset" : "test_dataset",
                       "the dataset was uploaded before texts could be used; upload it again");
    return 0;
}

static int check_columns(struct resolving *v, struct err *e)
{
    struct resolved *r = v->r;
    char path[JSON_PATH_MAX];
    int rc;
    if (v->spec->task != TASK_AUTO && v->spec->task != TASK_SEQUENCE)
        return err_set(e, ERR_INVALID, resolve__path(v, "task", path), "the task of seq2seq is sequence");
    if (r->n_features != 1)
        return err_set(e, ERR_INVALID, resolve__path(v, "features", path),
                       "seq2seq learns from one column; list it in features");
    if ((rc = need_text(v, &v->train->columns[r->features[0].column], "features", e)) ||
        (rc = need_text(v, &v->train->columns[r->target], "target", e)))
        return rc;
    if (!v->test || v->test->format == v->train->format) return 0;
    return err_set(e, ERR_INVALID, "test_dataset", "the test dataset is %s and the dataset %s",
                   schema_format_name(v->test->format), schema_format_name(v->train->format));
}

/* The step that speaks of the column: the last that lists it, or lists none. */
static int find_step(const struct resolving *v, const char *column, const struct step_spec **out,
                     struct err *e)
{
    char list[JSON_PATH_MAX], path[JSON_PATH_MAX];
    resolve__path(v, "preprocess", list);
    for (size_t i = 0; i < v->spec->n_steps; i++) {
        const struct step_spec *t = &v->spec->steps[i];
        json_path_index(path, list, i);
        if (t->op != STEP_TOKENISE)
            return err_set(e, ERR_INVALID, path, "of the steps only tokenise is for texts");
        bool listed = t->n_columns == 0;
        for (size_t k = 0; k < t->n_columns; k++) listed = listed || strcmp(t->columns[k], column) == 0;
        if (listed) *out = t;
    }
    return 0;
}

static int add_step(struct resolving *v, const char *column, bool marks, struct err *e)
{
    struct resolved *r = v->r;
    struct step_spec *t = &r->steps[r->n_steps];
    const struct step_spec *given = NULL;
    int rc = find_step(v, column, &given, e);
    if (rc) return rc;
    *t = (struct step_spec){.op = STEP_TOKENISE, .text = text_options_usual(TEXT_CHARACTER), .n_columns = 1};
    t->text.length = USUAL_LENGTH;
    if (given) t->text = given->text;
    t->text.marks = marks;
    if (!(t->columns = spec__alloc(&r->arena, 1, sizeof *t->columns, e))) return ERR_NOMEM;
    if (!(t->columns[0] = spec__text(&r->arena, column, e))) return ERR_NOMEM;
    r->n_steps++;
    return 0;
}

static int check_listed(const struct resolving *v, struct err *e)
{
    const char *source = v->r->features[0].name, *target = v->train->columns[v->r->target].name;
    char list[JSON_PATH_MAX], path[JSON_PATH_MAX];
    resolve__path(v, "preprocess", list);
    for (size_t i = 0; i < v->spec->n_steps; i++)
        for (size_t k = 0; k < v->spec->steps[i].n_columns; k++) {
            const char *name = v->spec->steps[i].columns[k];
            json_path_index(path, list, i);
            if (strcmp(name, source) != 0 && strcmp(name, target) != 0)
                return err_set(e, ERR_INVALID, path, "\"%s\" is neither the feature nor the target", name);
        }
    return 0;
}

static int settle_texts(struct resolving *v, struct err *e)
{
    struct resolved *r = v->r;
    struct feature_spec *f = &r->features[0];
    int rc;
    r->steps = spec__alloc(&r->arena, 2, sizeof *r->steps, e);
    f->steps = spec__alloc(&r->arena, 1, sizeof *f->steps, e);
    if (!r->steps || !f->steps) return ERR_NOMEM;
    if ((rc = check_listed(v, e)) || (rc = add_step(v, f->name, false, e)) ||
        (rc = add_step(v, v->train->columns[r->target].name, true, e)))
        return rc;
    r->source_text = r->steps[0].text;
    r->target_text = r->steps[1].text;
    f->n_steps = 1;
    f->text = true;
    f->width = r->source_text.length;
    r->has_texts = true;
    r->has_categories = false;
    r->ids_below = r->source_text.max_ids;
    r->input = (struct layer_shape){.rank = 1, .dim = {f->width}};
    return 0;
}

/* ---- layers ---- */

static struct layer_spec usual(const struct resolving *v, enum layer_kind kind, const char *name)
{
    struct layer_spec l = layer_usual(kind);
    snprintf(l.name, sizeof l.name, "%s", name);
    resolve__path(v, "architecture", l.path);
    l.units = USUAL_FEATURES;
    l.heads = USUAL_HEADS;
    l.intermediate_dim = USUAL_HIDDEN;
    return l;
}

static int usual_layers(struct resolving *v, struct err *e)
{
    struct resolved *r = v->r;
    r->layers = spec__alloc(&r->arena, 3, sizeof *r->layers, e);
    r->decoder = spec__alloc(&r->arena, 3, sizeof *r->decoder, e);
    if (!r->layers || !r->decoder) return ERR_NOMEM;
    r->layers[0] = usual(v, KIND_EMBEDDING, "source");
    r->layers[0].mask_zero = true;
    r->layers[1] = usual(v, KIND_POSITION_EMBEDDING, "source.positions");
    r->layers[2] = usual(v, KIND_TRANSFORMER_ENCODER, "encoder");
    r->decoder[0] = usual(v, KIND_EMBEDDING, "target");
    r->decoder[1] = usual(v, KIND_POSITION_EMBEDDING, "target.positions");
    r->decoder[2] = usual(v, KIND_TRANSFORMER_DECODER, "decoder");
    r->n_layers = r->n_decoder = 3;
    return 0;
}

/* Whether a step of the layer's rows depends on no later one: else training would be shown the answer. */
static bool looks_back_only(const struct layer_spec *l)
{
    switch (l->kind) {
    case KIND_EMBEDDING:
    case KIND_POSITION_EMBEDDING:
    case KIND_SINE_POSITION_ENCODING:
    case KIND_DENSE:
    case KIND_DROPOUT:
    case KIND_RELU:
    case KIND_LEAKY_RELU:
    case KIND_LAYER_NORMALIZATION:
    case KIND_TRANSFORMER_DECODER:
        return true;
    case KIND_ACTIVATION:
    case KIND_SOFTMAX:
        return l->in.rank == 2; /* over a step's features */
    case KIND_MULTI_HEAD_ATTENTION:
        return l->causal;
    case KIND_SIMPLE_RNN:
    case KIND_GRU:
    case KIND_LSTM:
        return !l->bidirectional;
    case KIND_CONV1D:
        return l->padding == PADDING_CAUSAL && l->strides[0] == 1;
    default:
        return false;
    }
}

/* Also counts the layers that look at the encoder's rows. */
static int check_decoder(const struct layer_spec *layers, size_t n, int *crossing, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        const struct layer_spec *l = &layers[i];
        *crossing += l->crosses;
        if (l->kind == KIND_RESIDUAL)
            rc = check_decoder(l->layers, l->n_layers, crossing, e);
        else if (!looks_back_only(l))
            rc = err_set(
                e, ERR_INVALID, l->path,
                "layer \"%s\": in a decoder no step may see a later one, which a %s like this lets it; "
                "use TransformerDecoder, MultiHeadAttention with use_causal_mask, a recurrent layer of "
                "one direction, or Conv1D with causal padding and strides of 1",
                l->name, layer_kind_name(l->kind));
    }
    return rc;
}

/* A chain from ids to rows [steps, features]. */
static int settle_chain(struct resolving *v, struct layer_spec *layers, size_t n,
                        const struct text_options *o, int64_t steps, struct layer_shape *at, struct err *e)
{
    char got[96];
    if (layers[0].kind != KIND_EMBEDDING)
        return err_set(e, ERR_INVALID, layers[0].path,
                       "layer \"%s\": the first layer for texts is an Embedding", layers[0].name);
    v->ids = o->max_ids;
    v->first = layers;
    *at = (struct layer_shape){.rank = 1, .dim = {steps}};
    int rc = layer__settle_chain(v, layers, n, at, e);
    if (rc || at->rank == 2) return rc;
    return err_set(e, ERR_INVALID, layers[n - 1].path,
                   "layer \"%s\" gives rows of shape %s; expected [steps, features]", layers[n - 1].name,
                   layer__shape_text(got, at));
}

/* What layers keep of each row, as resolve__estimate counts it for those of r->layers. */
static void keep_rows(struct resolving *v, const struct layer_spec *layers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        v->row_floats +=
            (uint64_t)layer__product(&layers[i].in) + 3 * (uint64_t)layer__product(&layers[i].out);
}

/* A Dense over the target's ids behind every step, and its softmax. */
static int settle_output(struct resolving *v, const struct layer_shape *at, struct err *e)
{
    struct layer_spec output = layer_usual(KIND_DENSE);
    int64_t ids = v->r->target_text.max_ids;
    resolve__path(v, "architecture", output.path);
    snprintf(output.name, sizeof output.name, "output");
    v->row_floats += (uint64_t)(at->dim[0] * ids) * 5;
    v->r->estimate.flops_per_row += at->dim[0] * ids * 15;
    return layer__weigh(v, &output, at->dim[1], ids, at->dim[0], ids, e);
}

static int settle_layers(struct resolving *v, struct err *e)
{
    struct resolved *r = v->r;
    const struct spec *s = v->spec;
    int64_t steps = r->target_text.length - 1; /* each predicts the next id */
    struct layer_shape at;
    int crossing = 0, rc;
    if ((rc = s->n_layers ? resolve__copy_layers(v, s->layers, s->n_layers, &r->layers, &r->n_layers, e)
                          : usual_layers(v, e)) ||
        (s->n_decoder &&
         (rc = resolve__copy_layers(v, s->decoder, s->n_decoder, &r->decoder, &r->n_decoder, e))) ||
        (rc = settle_chain(v, r->layers, r->n_layers, &r->source_text, r->source_text.length, &at, e)))
        return rc;
    v->memory = at;
    if ((rc = settle_chain(v, r->decoder, r->n_decoder, &r->target_text, steps, &at, e)) ||
        (rc = check_decoder(r->decoder, r->n_decoder, &crossing, e)))
        return rc;
    if (!crossing)
        return err_set(
            e, ERR_INVALID, r->decoder[0].path,
            "no layer of the decoder looks at what the encoder gives; put a TransformerDecoder there");
    keep_rows(v, r->decoder, r->n_decoder);
    return settle_output(v, &at, e);
}

static int settle_loss(struct resolving *v, struct err *e)
{
    struct training_spec *t = &v->r->training;
    char up[JSON_PATH_MAX], path[JSON_PATH_MAX];
    resolve__path(v, "training", up);
    json_path_name(path, up, "loss");
    if ((t->loss != LOSS_AUTO && t->loss != LOSS_CROSS_ENTROPY) || t->objective != OBJECTIVE_USUAL)
        return err_set(e, ERR_INVALID, path, "this loss does not fit texts; expected %s",
                       loss_name(LOSS_CROSS_ENTROPY));
    t->loss = LOSS_CROSS_ENTROPY;
    json_path_name(path, up, "label_smoothing");
    if (t->label_smoothing > 0)
        return err_set(e, ERR_UNSUPPORTED, path, "label smoothing is not offered for seq2seq");
    json_path_name(path, up, "class_weight");
    if (t->weighting != WEIGHTING_NONE)
        return err_set(e, ERR_UNSUPPORTED, path, "class weights are not offered for seq2seq");
    return 0;
}

/* The target's texts and ids, and its vocabulary; what the source takes is counted with all features. */
static void count_target(struct resolving *v)
{
    const struct column *c = &v->train->columns[v->r->target], *t = resolve__test_column(v, c);
    const struct text_options *o = &v->r->target_text;
    uint64_t row = 8 + 4 * (uint64_t)o->length;
    v->work_bytes += text_learner_bytes((uint64_t)c->text_bytes) + 2 * text_vocabulary_bytes(o->max_ids);
    v->work_bytes += (uint64_t)v->train->rows * row + (uint64_t)c->text_bytes;
    if (t) v->work_bytes += (uint64_t)v->test->rows * row + (uint64_t)t->text_bytes;
}

int resolve__seq2seq(struct resolving *v, struct err *e)
{
    int rc;
    v->r->task = TASK_SEQUENCE;
    if ((rc = check_columns(v, e)) || (rc = settle_texts(v, e)) || (rc = settle_layers(v, e)) ||
        (rc = settle_loss(v, e)))
        return rc;
    count_target(v);
    return 0;
}
