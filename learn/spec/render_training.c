/* Writes the settled training part of a spec, so that parsing it gives the same again. */
#include <stdio.h>
#include <string.h>

#include "learn/spec/names.h"
#include "learn/spec/spec.h"

static void exponential_to_json(const struct schedule_spec *s, struct json_writer *w)
{
    jw_kint(w, "decay_steps", s->decay_steps);
    jw_knum(w, "decay_rate", s->decay_rate);
    jw_kbool(w, "staircase", s->staircase);
}

static void pieces_to_json(const struct schedule_spec *s, struct json_writer *w)
{
    jw_name(w, "boundaries");
    jw_arr(w);
    for (int i = 0; i < s->n_boundaries; i++) jw_int(w, s->boundary[i]);
    jw_arr_end(w);
    jw_name(w, "values");
    jw_arr(w);
    for (int i = 0; i <= s->n_boundaries; i++) jw_num(w, s->value[i]);
    jw_arr_end(w);
}

static void rate_to_json(const struct optimizer_spec *o, struct json_writer *w)
{
    static const char *const names[] = {"Constant", "ExponentialDecay", "CosineDecay",
                                        "PiecewiseConstantDecay"};
    const struct schedule_spec *s = &o->schedule;
    if (s->kind == SCHEDULE_CONSTANT && s->warmup_steps == 0) {
        jw_knum(w, "learning_rate", o->learning_rate);
        return;
    }
    jw_name(w, "learning_rate");
    jw_obj(w);
    jw_kstr(w, "name", names[s->kind]);
    if (s->kind != SCHEDULE_PIECEWISE) jw_knum(w, "initial_learning_rate", o->learning_rate);
    if (s->kind == SCHEDULE_EXPONENTIAL) exponential_to_json(s, w);
    if (s->kind == SCHEDULE_COSINE) {
        jw_kint(w, "decay_steps", s->decay_steps);
        jw_knum(w, "alpha", s->alpha);
    }
    if (s->kind == SCHEDULE_PIECEWISE) pieces_to_json(s, w);
    jw_kint(w, "warmup_steps", s->warmup_steps);
    jw_obj_end(w);
}

static void optimizer_to_json(const struct optimizer_spec *o, struct json_writer *w)
{
    bool adam = strncmp(o->name, "adam", 4) == 0, rmsprop = strcmp(o->name, "rmsprop") == 0;
    jw_obj(w);
    jw_kstr(w, "name", o->name);
    if (strcmp(o->name, "least_squares") != 0) {
        rate_to_json(o, w);
        if (o->clipnorm > 0) jw_knum(w, "clipnorm", o->clipnorm);
        if (o->clipvalue > 0) jw_knum(w, "clipvalue", o->clipvalue);
        if (o->global_clipnorm > 0) jw_knum(w, "global_clipnorm", o->global_clipnorm);
        if (adam) {
            jw_knum(w, "beta_1", o->beta_1);
            jw_knum(w, "beta_2", o->beta_2);
        }
        if (adam || rmsprop) jw_knum(w, "epsilon", o->epsilon);
        if (rmsprop) jw_knum(w, "rho", o->rho);
        if (strcmp(o->name, "adamw") == 0) jw_knum(w, "weight_decay", o->weight_decay);
        if (!adam && !rmsprop) {
            jw_knum(w, "momentum", o->momentum);
            if (strcmp(o->name, "nesterov") != 0) jw_kbool(w, "nesterov", o->nesterov);
        }
    }
    jw_obj_end(w);
}

static void weights_to_json(const struct resolved *r, struct json_writer *w)
{
    const struct training_spec *t = &r->training;
    char label[24];
    if (t->weighting == WEIGHTING_BALANCED) jw_kstr(w, "class_weight", "balanced");
    if (t->weighting != WEIGHTING_GIVEN) return;
    jw_name(w, "class_weight");
    jw_obj(w);
    for (size_t c = 0; c < r->n_classes; c++) {
        if (t->class_weights[c] == 1) continue;
        if (r->integer_labels) snprintf(label, sizeof label, "%lld", (long long)r->class_integers[c]);
        jw_knum(w, r->integer_labels ? label : r->class_texts[c], t->class_weights[c]);
    }
    jw_obj_end(w);
}

static void stopping_to_json(const struct early_stopping_spec *s, struct json_writer *w)
{
    if (!s->on) return;
    jw_name(w, "early_stopping");
    jw_obj(w);
    jw_kstr(w, "monitor", s->monitor);
    jw_kint(w, "patience", s->patience);
    jw_knum(w, "min_delta", s->min_delta);
    jw_kbool(w, "restore_best_weights", s->restore_best_weights);
    jw_obj_end(w);
}

void training_to_json(const struct resolved *r, struct json_writer *w)
{
    const struct training_spec *t = &r->training;
    static const char *const objectives[] = {NULL, "mae", "huber"};
    jw_obj(w);
    jw_kint(w, "epochs", t->epochs);
    if (t->batch_full)
        jw_kstr(w, "batch_size", "full");
    else
        jw_kint(w, "batch_size", t->batch_size);
    jw_kbool(w, "shuffle", t->shuffle);
    jw_kbool(w, "stratify", t->stratify);
    jw_kint(w, "seed", (int64_t)t->seed);
    jw_kstr(w, "loss", t->objective ? objectives[t->objective] : loss_name(t->loss));
    if (t->objective == OBJECTIVE_HUBER) jw_knum(w, "huber_delta", t->huber_delta);
    if (t->label_smoothing > 0) jw_knum(w, "label_smoothing", t->label_smoothing);
    weights_to_json(r, w);
    jw_knum(w, "validation_split", t->validation_split);
    if (t->l1 > 0) jw_knum(w, "l1", t->l1);
    jw_knum(w, "l2", t->l2);
    jw_kstr(w, "precision", precision_name(t->precision));
    augmentation_to_json(&t->augmentation, w);
    jw_name(w, "optimizer");
    optimizer_to_json(&t->optimizer, w);
    stopping_to_json(&t->early_stopping, w);
    jw_obj_end(w);
}
