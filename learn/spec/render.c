/* Writes a resolved spec as the JSON that gives it again, and the signature of the version that it will make.
 */
#include <string.h>

#include "base/mem.h"
#include "learn/spec/fields.h"
#include "learn/spec/names.h"
#include "learn/spec/spec.h"

static void step_to_json(const struct step_spec *t, struct json_writer *w)
{
    jw_obj(w);
    jw_kstr(w, "op", step_op_name(t->op));
    if (t->op == STEP_SCALE) {
        jw_knum(w, "min", t->min);
        jw_knum(w, "max", t->max);
    }
    if (t->op == STEP_RESCALE) {
        jw_knum(w, "factor", t->factor);
        jw_knum(w, "offset", t->offset);
    }
    if (t->op == STEP_TOKENISE) text_options_to_json(&t->text, w);
    if (t->op == STEP_IMPUTE) jw_kstr(w, "strategy", words_impute.word[t->impute]);
    if (t->op == STEP_IMPUTE && t->impute == IMPUTE_CONSTANT) jw_knum(w, "value", t->value);
    jw_name(w, "columns");
    jw_arr(w);
    for (size_t i = 0; i < t->n_columns; i++) jw_str(w, t->columns[i]);
    jw_arr_end(w);
    jw_obj_end(w);
}

static void layers_to_json(const char *name, const struct layer_spec *layers, size_t n, struct json_writer *w)
{
    jw_name(w, name);
    jw_arr(w);
    for (size_t i = 0; i < n; i++) {
        const struct layer_spec *l = &layers[i];
        jw_obj(w);
        jw_kstr(w, "layer", layer_kind_name(l->kind));
        jw_kstr(w, "name", l->name);
        fields_write(l, w);
        if (l->n_layers) layers_to_json("layers", l->layers, l->n_layers, w);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

void resolved_to_json(const struct resolved *r, const struct schema *train, struct json_writer *w)
{
    jw_obj(w);
    jw_kstr(w, "target", train->columns[r->target].name);
    jw_name(w, "features");
    jw_arr(w);
    for (size_t i = 0; i < r->n_features; i++) jw_str(w, train->columns[r->features[i].column].name);
    jw_arr_end(w);
    jw_kstr(w, "task", task_name(r->task));
    jw_kstr(w, "family", family_name(r->family));
    jw_name(w, "preprocess");
    jw_arr(w);
    for (size_t i = 0; i < r->n_steps; i++)
        if (r->steps[i].n_columns) step_to_json(&r->steps[i], w);
    jw_arr_end(w);
    if (r->family == FAMILY_MLP) layers_to_json("architecture", r->layers, r->n_layers, w);
    if (r->family == FAMILY_SEQ2SEQ) {
        jw_name(w, "architecture");
        jw_obj(w);
        layers_to_json("encoder", r->layers, r->n_layers, w);
        layers_to_json("decoder", r->decoder, r->n_decoder, w);
        jw_obj_end(w);
    }
    jw_name(w, "training");
    training_to_json(r, w);
    jw_obj_end(w);
}

/* ---- signature ---- */

static void tensor(struct signature_tensor *t, const char *name, enum datatype datatype, int rank,
                   const int64_t *dim)
{
    t->name = mem_strdup(name);
    t->datatype = datatype;
    t->rank = rank + 1;
    t->shape[0] = -1;
    if (rank) memcpy(t->shape + 1, dim, (size_t)rank * sizeof *dim);
}

static int inputs(struct signature *s, const struct resolved *r, const struct schema *train, struct err *e)
{
    bool columns = r->has_categories || r->has_texts;
    size_t n = columns ? r->n_features : 1;
    s->inputs = mem_try_alloc(n, sizeof *s->inputs);
    if (!s->inputs) return err_set(e, ERR_NOMEM, NULL, "no memory for the signature");
    s->n_inputs = n;
    if (columns) {
        for (size_t i = 0; i < n; i++) {
            const struct column *c = &train->columns[r->features[i].column];
            tensor(&s->inputs[i], c->name, c->dtype == DATA_TEXT ? DATATYPE_BYTES : DATATYPE_FP32, 0, NULL);
        }
    } else if (r->table) {
        int64_t width = (int64_t)r->n_features;
        tensor(&s->inputs[0], "input", DATATYPE_FP32, 1, &width);
    } else {
        tensor(&s->inputs[0], "input", DATATYPE_FP32, r->input.rank, r->input.dim);
    }
    return 0;
}

static int outputs(struct signature *s, const struct resolved *r, struct err *e)
{
    struct signature_tensor *t = s->outputs = mem_alloc(2, sizeof *s->outputs);
    s->n_outputs = 1;
    if (r->task == TASK_SEQUENCE) {
        tensor(&t[0], "text", DATATYPE_BYTES, 0, NULL);
        return 0;
    }
    if (r->task == TASK_REGRESSION) {
        tensor(&t[0], "prediction", DATATYPE_FP32, r->target_width > 1, &r->target_width);
        return 0;
    }
    int64_t classes = (int64_t)r->n_classes;
    s->n_outputs = 2;
    tensor(&t[0], "probabilities", DATATYPE_FP32, 1, &classes);
    tensor(&t[1], "label", r->integer_labels ? DATATYPE_INT64 : DATATYPE_BYTES, 0, NULL);
    return signature_name_classes(&t[0], r->n_classes, r->class_texts, r->class_integers, e);
}

int resolved_signature(struct signature **out, const struct resolved *r, const struct schema *train,
                       struct err *e)
{
    struct signature *s = mem_alloc(1, sizeof *s);
    int rc = inputs(s, r, train, e);
    if (!rc) rc = outputs(s, r, e);
    *out = NULL;
    if (rc)
        signature_free(s);
    else
        *out = s;
    return rc;
}
