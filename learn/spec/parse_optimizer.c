/* Reads the optimiser: its numbers, its limits on the gradient, and how its learning rate changes. */
#include "learn/spec/parse.h"

#include <string.h>

#include "learn/spec/names.h"

static const char *const optimizer_list[] = {"adam",     "adamw",   "sgd",          "momentum",
                                             "nesterov", "rmsprop", "least_squares"};
static const struct words words_optimizer = {"optimizer", 7, optimizer_list};

/* In the order of enum schedule_kind. */
static const char *const schedule_list[] = {"Constant", "ExponentialDecay", "CosineDecay",
                                            "PiecewiseConstantDecay"};
static const struct words words_schedule = {"schedule", 4, schedule_list};

static const double SMALLEST_RATE = 1e-9, LARGEST_RATE = 100;
static const int64_t MOST_STEPS = 1000000000000;

void spec__optimizer_defaults(struct optimizer_spec *o, const char *name)
{
    bool fixed = strcmp(name, "momentum") == 0 || strcmp(name, "nesterov") == 0;
    bool sgd = fixed || strcmp(name, "sgd") == 0;
    *o = (struct optimizer_spec){.rho = 0.9, .beta_1 = 0.9, .beta_2 = 0.999, .epsilon = 1e-7};
    memcpy(o->name, name, strlen(name) + 1);
    o->learning_rate = sgd ? 0.01 : 0.001;
    o->momentum = fixed ? 0.9 : 0;
    o->weight_decay = strcmp(name, "adamw") == 0 ? 0.004 : 0;
}

/* ---- the learning rate ---- */

/* Numbers of a list that must lie in [min, max]. */
static int parse_numbers(struct json_obj *o, const char *name, size_t least, size_t most, double min,
                         double max, double *out, int *n, struct err *e)
{
    const cJSON *list = NULL;
    char path[JSON_PATH_MAX], at[JSON_PATH_MAX];
    int rc = json_take_array(o, name, least, most, &list, e);
    if (rc) return rc;
    json_path_name(path, o->path, name);
    *n = 0;
    for (const cJSON *item = list->child; item; item = item->next) {
        json_path_index(at, path, (size_t)*n);
        if (!cJSON_IsNumber(item) || !(item->valuedouble >= min && item->valuedouble <= max))
            return err_set(e, ERR_INVALID, at, "expected a number from %g to %g", min, max);
        out[(*n)++] = item->valuedouble;
    }
    return 0;
}

static int parse_pieces(struct optimizer_spec *t, struct json_obj *o, struct err *e)
{
    struct schedule_spec *s = &t->schedule;
    double bound[SCHEDULE_MAX_PIECES];
    char path[JSON_PATH_MAX];
    int values, rc;
    if ((rc = parse_numbers(o, "boundaries", 1, SCHEDULE_MAX_PIECES, 0, (double)MOST_STEPS, bound,
                            &s->n_boundaries, e)) ||
        (rc = parse_numbers(o, "values", 2, SCHEDULE_MAX_PIECES + 1, SMALLEST_RATE, LARGEST_RATE, s->value,
                            &values, e)))
        return rc;
    json_path_name(path, o->path, "values");
    if (values != s->n_boundaries + 1)
        return err_set(e, ERR_INVALID, path, "%d values for %d boundaries; expected one more: %d", values,
                       s->n_boundaries, s->n_boundaries + 1);
    json_path_name(path, o->path, "boundaries");
    for (int i = 0; i < s->n_boundaries; i++) {
        s->boundary[i] = (int64_t)bound[i];
        if ((double)s->boundary[i] != bound[i] || (i > 0 && bound[i] <= bound[i - 1]))
            return err_set(e, ERR_INVALID, path, "boundaries are whole numbers of steps that grow");
    }
    t->learning_rate = s->value[0];
    return 0;
}

static int parse_schedule_fields(struct optimizer_spec *t, struct json_obj *o, struct err *e)
{
    struct schedule_spec *s = &t->schedule;
    int rc;
    if ((rc = json_opt_int(o, "warmup_steps", 0, MOST_STEPS, &s->warmup_steps, e))) return rc;
    if (s->kind == SCHEDULE_PIECEWISE) return parse_pieces(t, o, e);
    if ((rc = json_take_num(o, "initial_learning_rate", SMALLEST_RATE, LARGEST_RATE, &t->learning_rate, e)))
        return rc;
    if (s->kind == SCHEDULE_CONSTANT) return 0;
    if ((rc = json_opt_int(o, "decay_steps", 1, MOST_STEPS, &s->decay_steps, e))) return rc;
    if (s->kind == SCHEDULE_COSINE) return json_opt_num(o, "alpha", 0, 1, &s->alpha, e);
    if ((rc = json_take_num(o, "decay_rate", 1e-9, 1, &s->decay_rate, e))) return rc;
    return json_opt_bool(o, "staircase", &s->staircase, e);
}

/* {"name":"CosineDecay", …} as ours, or Keras's {"class_name":"CosineDecay","config":{…}}. */
static int parse_schedule(struct optimizer_spec *t, const cJSON *node, const char *path, struct err *e)
{
    struct json_obj o, config;
    const cJSON *inner = NULL;
    char at[JSON_PATH_MAX];
    int kind = 0, rc;
    if ((rc = json_obj_open(&o, node, path, e))) return rc;
    if (!json_obj_find(&o, "class_name")) {
        if ((rc = words_take(&words_schedule, &o, "name", &kind, e))) return rc;
        t->schedule.kind = (enum schedule_kind)kind;
        rc = parse_schedule_fields(t, &o, e);
        return rc ? rc : json_obj_close(&o, e);
    }
    if ((rc = words_take(&words_schedule, &o, "class_name", &kind, e)) ||
        (rc = json_take_object(&o, "config", &inner, e)))
        return rc;
    (void)json_obj_find(&o, "module"); /* Keras says where its class lives, and the schedule's label */
    (void)json_obj_find(&o, "registered_name");
    json_path_name(at, path, "config");
    t->schedule.kind = (enum schedule_kind)kind;
    if ((rc = json_obj_open(&config, inner, at, e))) return rc;
    (void)json_obj_find(&config, "name");
    if ((rc = parse_schedule_fields(t, &config, e)) || (rc = json_obj_close(&config, e))) return rc;
    return json_obj_close(&o, e);
}

static int parse_rate(struct optimizer_spec *t, struct json_obj *o, struct err *e)
{
    const cJSON *node = json_obj_find(o, "learning_rate");
    char path[JSON_PATH_MAX];
    json_path_name(path, o->path, "learning_rate");
    if (cJSON_IsObject(node)) return parse_schedule(t, node, path, e);
    if (cJSON_IsString(node) && strcmp(node->valuestring, "auto") == 0) {
        t->rate_auto = true;
        return 0;
    }
    return json_opt_num(o, "learning_rate", SMALLEST_RATE, LARGEST_RATE, &t->learning_rate, e);
}

/* ---- the rest ---- */

static int parse_clipping(struct optimizer_spec *t, struct json_obj *o, struct err *e)
{
    int rc;
    if ((rc = json_opt_num(o, "clipnorm", 0, 1e9, &t->clipnorm, e)) ||
        (rc = json_opt_num(o, "clipvalue", 0, 1e9, &t->clipvalue, e)) ||
        (rc = json_opt_num(o, "global_clipnorm", 0, 1e9, &t->global_clipnorm, e)))
        return rc;
    if ((t->clipnorm > 0) + (t->clipvalue > 0) + (t->global_clipnorm > 0) > 1)
        return err_set(e, ERR_INVALID, o->path, "give only one of clipnorm, clipvalue and global_clipnorm");
    return 0;
}

/* Each optimiser takes the fields that mean something to it; any other is unknown. */
static int optimizer_fields(struct optimizer_spec *t, struct json_obj *o, struct err *e)
{
    bool adam = strncmp(t->name, "adam", 4) == 0, rmsprop = strcmp(t->name, "rmsprop") == 0;
    int rc = 0;
    if (strcmp(t->name, "least_squares") == 0) return 0;
    if ((rc = parse_rate(t, o, e)) || (rc = parse_clipping(t, o, e))) return rc;
    if (adam && ((rc = json_opt_num(o, "beta_1", 0, 0.999999, &t->beta_1, e)) ||
                 (rc = json_opt_num(o, "beta_2", 0, 0.999999999, &t->beta_2, e))))
        return rc;
    if ((adam || rmsprop) && (rc = json_opt_num(o, "epsilon", 1e-15, 1, &t->epsilon, e))) return rc;
    if (rmsprop) return json_opt_num(o, "rho", 0, 0.999999, &t->rho, e);
    if (strcmp(t->name, "adamw") == 0) return json_opt_num(o, "weight_decay", 0, 10, &t->weight_decay, e);
    if (adam) return 0;
    if ((rc = json_opt_num(o, "momentum", 0, 0.999999, &t->momentum, e))) return rc;
    if (strcmp(t->name, "nesterov") == 0) return 0;
    return json_opt_bool(o, "nesterov", &t->nesterov, e);
}

int spec__parse_optimizer(struct spec *s, struct json_obj *up, struct err *e)
{
    const cJSON *node = json_obj_find(up, "optimizer");
    struct training_spec *t = &s->training;
    char path[JSON_PATH_MAX];
    struct json_obj o;
    int which = 0, rc;
    if (!node || cJSON_IsNull(node)) return 0;
    json_path_name(path, up->path, "optimizer");
    if (cJSON_IsString(node)) {
        rc = words_take(&words_optimizer, up, "optimizer", &which, e);
    } else {
        if ((rc = json_obj_open(&o, node, path, e))) return rc;
        rc = words_take(&words_optimizer, &o, "name", &which, e);
    }
    if (rc) return rc;
    spec__optimizer_defaults(&t->optimizer, optimizer_list[which]);
    t->optimizer_given = true;
    if (strcmp(t->optimizer.name, "least_squares") == 0 && s->family != FAMILY_LINEAR_REGRESSION)
        return err_set(e, ERR_INVALID, path, "least_squares solves linear_regression only, not %s",
                       family_name(s->family));
    if (cJSON_IsString(node)) return 0;
    if ((rc = optimizer_fields(&t->optimizer, &o, e))) return rc;
    return json_obj_close(&o, e);
}
