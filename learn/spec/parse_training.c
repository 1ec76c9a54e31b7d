/* Reads how to train: passes, batches, loss, early stopping. */
#include "learn/spec/parse.h"

#include <string.h>

#include "learn/spec/names.h"

static const char *const monitor_list[] = {"val_loss", "val_accuracy", "loss",
                                           "accuracy", "val_rmse",     "rmse"};
static const struct words words_monitor = {"monitor", 6, monitor_list};

struct training_spec spec__training_defaults(void)
{
    struct training_spec t = {.batch_size = 32,
                              .shuffle = true,
                              .stratify = true,
                              .seed = 1,
                              .validation_split = -1,
                              .huber_delta = 1,
                              .augmentation = {.crop = 1}};
    spec__optimizer_defaults(&t.optimizer, "adam");
    t.early_stopping =
        (struct early_stopping_spec){.patience = 3, .restore_best_weights = true, .monitor = "val_loss"};
    return t;
}

static int parse_early_stopping(struct spec *s, struct json_obj *up, struct err *e)
{
    struct early_stopping_spec *t = &s->training.early_stopping;
    const cJSON *node = NULL;
    char path[JSON_PATH_MAX];
    struct json_obj o;
    int monitor = 0, rc;
    if ((rc = json_opt_object(up, "early_stopping", &node, e)) || !node) return rc;
    json_path_name(path, up->path, "early_stopping");
    if ((rc = json_obj_open(&o, node, path, e)) ||
        (rc = words_opt(&words_monitor, &o, "monitor", &monitor, e)) ||
        (rc = json_opt_int(&o, "patience", 0, 100000, &t->patience, e)) ||
        (rc = json_opt_num(&o, "min_delta", 0, 1e9, &t->min_delta, e)) ||
        (rc = json_opt_bool(&o, "restore_best_weights", &t->restore_best_weights, e)) ||
        (rc = json_obj_close(&o, e)))
        return rc;
    t->on = true;
    memcpy(t->monitor, monitor_list[monitor], strlen(monitor_list[monitor]) + 1);
    t->higher_is_better = strstr(t->monitor, "accuracy") != NULL;
    return 0;
}

/* A whole number or a word that stands for one. */
static int int_or_word(struct json_obj *o, const char *name, const char *word, int64_t max, int64_t *out,
                       bool *is_word, struct err *e)
{
    const cJSON *node = json_obj_find(o, name);
    *is_word = cJSON_IsString(node) && strcmp(node->valuestring, word) == 0;
    return *is_word ? 0 : json_opt_int(o, name, 1, max, out, e);
}

static int parse_lengths(struct training_spec *t, struct json_obj *o, struct err *e)
{
    int rc = int_or_word(o, "epochs", "auto", 100000, &t->epochs, &t->epochs_auto, e);
    const cJSON *batch = json_obj_find(o, "batch_size");
    t->batch_full = cJSON_IsString(batch) && strcmp(batch->valuestring, "full") == 0;
    if (rc || t->batch_full) return rc;
    return int_or_word(o, "batch_size", "auto", 65536, &t->batch_size, &t->batch_auto, e);
}

/* The losses that go with an output come first, in the order of enum loss; mae and huber replace mse. The
 * long names are Keras's too. */
static const char *const loss_list[] = {"auto",
                                        "mse",
                                        "sparse_categorical_crossentropy",
                                        "binary_crossentropy",
                                        "mae",
                                        "huber",
                                        "mean_squared_error",
                                        "mean_absolute_error"};
static const struct words words_any_loss = {"loss", 8, loss_list};
enum { WORD_MAE = 4, WORD_HUBER, WORD_LONG_MSE, WORD_LONG_MAE };

static int parse_loss(struct training_spec *t, struct json_obj *o, struct err *e)
{
    int loss = LOSS_AUTO, rc = words_opt(&words_any_loss, o, "loss", &loss, e);
    if (rc) return rc;
    if (loss == WORD_MAE || loss == WORD_LONG_MAE)
        t->objective = OBJECTIVE_MAE;
    else if (loss == WORD_HUBER)
        t->objective = OBJECTIVE_HUBER;
    else
        t->loss = loss == WORD_LONG_MSE ? LOSS_MSE : (enum loss)loss;
    if (t->objective == OBJECTIVE_HUBER &&
        (rc = json_opt_num(o, "huber_delta", 1e-6, 1e6, &t->huber_delta, e)))
        return rc;
    return json_opt_num(o, "label_smoothing", 0, 0.999, &t->label_smoothing, e);
}

/* "balanced", or {"label": weight, …}. */
static int parse_class_weight(struct spec *s, struct json_obj *o, struct err *e)
{
    const cJSON *node = json_obj_find(o, "class_weight");
    struct training_spec *t = &s->training;
    char path[JSON_PATH_MAX], at[JSON_PATH_MAX];
    if (!node || cJSON_IsNull(node)) return 0;
    json_path_name(path, o->path, "class_weight");
    if (cJSON_IsString(node) && strcmp(node->valuestring, "balanced") == 0) {
        t->weighting = WEIGHTING_BALANCED;
        return 0;
    }
    int n = cJSON_IsObject(node) ? cJSON_GetArraySize(node) : 0;
    if (n < 1 || n > SCHEMA_MAX_CATEGORIES)
        return err_set(e, ERR_INVALID, path,
                       "expected \"balanced\" or an object of up to %d labels with their weights",
                       SCHEMA_MAX_CATEGORIES);
    t->class_weight_names = spec__alloc(&s->arena, (size_t)n, sizeof *t->class_weight_names, e);
    t->class_weights = spec__alloc(&s->arena, (size_t)n, sizeof *t->class_weights, e);
    if (!t->class_weight_names || !t->class_weights) return ERR_NOMEM;
    for (const cJSON *item = node->child; item; item = item->next) {
        json_path_name(at, path, item->string);
        if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= 1e6))
            return err_set(e, ERR_INVALID, at, "expected a weight from 0 to 1000000");
        t->class_weights[t->n_class_weights] = item->valuedouble;
        t->class_weight_names[t->n_class_weights] = spec__text(&s->arena, item->string, e);
        if (!t->class_weight_names[t->n_class_weights++]) return ERR_NOMEM;
    }
    t->weighting = WEIGHTING_GIVEN;
    return 0;
}

static int parse_precision(struct training_spec *t, struct json_obj *o, struct err *e)
{
    int precision = PRECISION_AUTO, rc = words_opt(&words_precision, o, "precision", &precision, e);
    t->precision = (enum precision)precision;
    return rc;
}

int spec__parse_training(struct spec *s, const cJSON *node, const char *path, struct err *e)
{
    struct training_spec *t = &s->training;
    struct json_obj o;
    int64_t seed = 1;
    int rc;
    if ((rc = json_obj_open(&o, node, path, e)) || (rc = parse_lengths(t, &o, e)) ||
        (rc = json_opt_bool(&o, "shuffle", &t->shuffle, e)) ||
        (rc = json_opt_bool(&o, "stratify", &t->stratify, e)) ||
        (rc = json_opt_int(&o, "seed", 0, 9007199254740991, &seed, e)) || (rc = parse_loss(t, &o, e)) ||
        (rc = parse_class_weight(s, &o, e)) ||
        (rc = json_opt_num(&o, "validation_split", 0, 0.9, &t->validation_split, e)) ||
        (rc = json_opt_num(&o, "l1", 0, 1000, &t->l1, e)) ||
        (rc = json_opt_num(&o, "l2", 0, 1000, &t->l2, e)) || (rc = parse_precision(t, &o, e)) ||
        (rc = spec__parse_augmentation(s, &o, e)) || (rc = spec__parse_optimizer(s, &o, e)) ||
        (rc = parse_early_stopping(s, &o, e)))
        return rc;
    t->seed = (uint64_t)seed;
    return json_obj_close(&o, e);
}
