/* Makes the trials of a search: their values, their specs, what they need. */
#include "learn/spec/tune.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "learn/spec/put.h"
#include "learn/spec/tune_draw.h"

enum { NAMED_BYTES = 200, SHOWN_VALUE_BYTES = 256, COMPARISONS_MAX = 200000000 };
static const double HELD_BACK = 0.2;

/* ---- values ---- */

static bool is_log(const struct tune_parameter *p)
{
    return p->range == RANGE_LOG_UNIFORM || p->range == RANGE_LOG_INT;
}

static bool is_integer(const struct tune_parameter *p)
{
    return p->range == RANGE_INT || p->range == RANGE_LOG_INT;
}

/* Four digits say all that a search can tell apart, and can be read. */
static double shortened(double x)
{
    char text[40];
    snprintf(text, sizeof text, "%.4g", x);
    return strtod(text, NULL);
}

/* The number at a share of the way through a range. closed: share 1 is the upper bound; else drawn from
 * [0, 1), where each whole number has the same part. */
static double in_range(const struct tune_parameter *p, double share, bool closed)
{
    double low = is_log(p) ? log(p->min) : p->min, high = is_log(p) ? log(p->max) : p->max;
    if (is_integer(p) && !closed) {
        low = is_log(p) ? log(p->min - 0.5) : p->min - 0.5;
        high = is_log(p) ? log(p->max + 0.5) : p->max + 0.5;
    }
    double x = low + (high - low) * share;
    if (is_log(p)) x = exp(x);
    x = is_integer(p) ? floor(x + 0.5) : shortened(x);
    return fmin(fmax(x, p->min), p->max);
}

/* Which value or point of parameter k a numbered combination has; the last parameter changes fastest. */
static int64_t place_in(const struct tune_spec *t, int64_t combination, size_t k)
{
    for (size_t i = t->n_parameters; i-- > k;) {
        const struct tune_parameter *p = &t->parameters[i];
        int64_t n = p->range == RANGE_NONE ? (int64_t)p->n_values : p->points;
        if (i == k) return combination % n;
        combination /= n;
    }
    return 0;
}

/* The trial's value of parameter k: one of the list, borrowed, or NULL and the number. */
static const cJSON *value_of(const struct tune_spec *t, int64_t trial, size_t k, double *number)
{
    const struct tune_parameter *p = &t->parameters[k];
    if (t->method == TUNE_GRID || t->picks) {
        int64_t at = place_in(t, t->picks ? t->picks[trial - 1] : trial - 1, k);
        if (p->range == RANGE_NONE) return p->values[at];
        *number = in_range(p, (double)at / (double)(p->points > 1 ? p->points - 1 : 1), true);
        return NULL;
    }
    double u = tune_draw_unit(t->seed, (uint64_t)trial, k);
    if (p->range == RANGE_NONE) return p->values[(size_t)(u * (double)p->n_values)];
    *number = in_range(p, u, false);
    return NULL;
}

static void value_to_json(const struct tune_spec *t, int64_t trial, size_t k, struct json_writer *w)
{
    double number = 0;
    const cJSON *node = value_of(t, trial, k, &number);
    if (node)
        jw_node(w, node);
    else
        jw_num(w, number);
}

void tune_trial_values(const struct tune_spec *t, int64_t trial, struct json_writer *w)
{
    jw_obj(w);
    for (size_t k = 0; k < t->n_parameters; k++) {
        struct buf text = {0};
        struct json_writer one;
        jw_init(&one, &text);
        value_to_json(t, trial, k, &one);
        jw_name(w, t->parameters[k].path);
        /* A whole architecture would fill the result a hundred times over: its place in the list will do. */
        if (!text.failed && text.len <= SHOWN_VALUE_BYTES) {
            jw_raw(w, text.data, text.len);
        } else {
            char place[48];
            size_t at = 0;
            double unused = 0;
            const cJSON *node = value_of(t, trial, k, &unused);
            while (t->parameters[k].values[at] != node) at++;
            snprintf(place, sizeof place, "value %zu of the list", at + 1);
            jw_str(w, place);
        }
        buf_dispose(&text);
    }
    jw_obj_end(w);
}

/* ---- specs ---- */

static int put_value(cJSON *root, const struct tune_spec *t, int64_t trial, size_t k, struct err *e)
{
    char up[JSON_PATH_MAX], field[JSON_PATH_MAX];
    double number = 0;
    const cJSON *value = value_of(t, trial, k, &number);
    cJSON *own = value ? NULL : cJSON_CreateNumber(number);
    json_path_name(up, t->path, "parameters");
    json_path_name(field, up, t->parameters[k].path);
    int rc = value || own ? spec_put(root, t->parameters[k].path, value ? value : own, field, e)
                          : err_set(e, ERR_NOMEM, field, "no memory for the spec");
    cJSON_Delete(own);
    return rc;
}

static int hold_back(cJSON *root, struct err *e)
{
    const cJSON *held = spec_at(root, "training.validation_split");
    if (held && !cJSON_IsNull(held)) return 0;
    cJSON *share = cJSON_CreateNumber(HELD_BACK);
    int rc = share ? spec_put(root, "training.validation_split", share, "spec.base.training", e)
                   : err_set(e, ERR_NOMEM, NULL, "no memory for the spec");
    cJSON_Delete(share);
    return rc;
}

int tune_trial_spec(cJSON **out, const struct tune_spec *t, int64_t trial, struct err *e)
{
    cJSON *root = cJSON_Duplicate(t->base, true);
    int rc = root ? 0 : err_set(e, ERR_NOMEM, t->path, "no memory for the spec");
    for (size_t k = 0; k < t->n_parameters && !rc; k++) rc = put_value(root, t, trial, k, e);
    if (!rc) rc = hold_back(root, e);
    if (rc) {
        cJSON_Delete(root);
        root = NULL;
    }
    *out = root;
    return rc;
}

/* "trial 3 (training.batch_size=32, architecture[0].units=64)" */
static void name_trial(const struct tune_spec *t, int64_t trial, struct err *e)
{
    struct buf text = {0};
    for (size_t k = 0; k < t->n_parameters; k++) {
        struct buf value = {0};
        struct json_writer w;
        jw_init(&w, &value);
        value_to_json(t, trial, k, &w);
        buf_printf(&text, "%s%s=%.40s", k ? ", " : "", t->parameters[k].path, value.data ? value.data : "");
        buf_dispose(&value);
    }
    err_prefix(e, "trial %lld (%.*s)", (long long)trial, NAMED_BYTES, text.data ? text.data : "");
    buf_dispose(&text);
}

int tune_trial_resolve(struct resolved **out, const struct tune_spec *t, int64_t trial,
                       const struct schema *train, const struct schema *test, struct err *e)
{
    char path[JSON_PATH_MAX];
    struct spec *spec = NULL;
    cJSON *tree = NULL;
    *out = NULL;
    json_path_name(path, t->path, "base");
    int rc = tune_trial_spec(&tree, t, trial, e);
    if (!rc) rc = spec_parse(&spec, tree, path, e);
    if (!rc) rc = spec_resolve(out, spec, train, test, e);
    if (rc) name_trial(t, trial, e);
    spec_free(spec);
    cJSON_Delete(tree);
    return rc;
}

/* ---- the whole search ---- */

int tune_rungs(const struct tune_spec *t, int64_t epochs, struct tune_rung rung[TUNE_MAX_RUNGS])
{
    int n = 1;
    int64_t share = 1;
    if (t->method == TUNE_HALVING)
        while (n < TUNE_MAX_RUNGS && t->trials / (share * TUNE_ETA) >= 1 &&
               epochs / (share * TUNE_ETA) >= 1) {
            share *= TUNE_ETA;
            n++;
        }
    for (int i = n; i-- > 0; share /= TUNE_ETA) {
        int at = n - 1 - i; /* the first rung has the largest share of epochs cut off */
        rung[at].epochs = (epochs + share - 1) / share;
        rung[at].trials = t->trials;
        for (int k = 0; k < at; k++) rung[at].trials /= TUNE_ETA;
    }
    return n;
}

/* Epochs that a search runs through, as a multiple of one full training. */
static double trainings_of(const struct tune_spec *t, int64_t epochs)
{
    struct tune_rung rung[TUNE_MAX_RUNGS];
    int n = tune_rungs(t, epochs, rung);
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)rung[i].trials * (double)(rung[i].epochs - (i ? rung[i - 1].epochs : 0));
    return sum / (double)epochs;
}

static int check_task(const struct tune_spec *t, int64_t trial, enum task first, enum task task,
                      struct err *e)
{
    if (trial == 1 || task == first) return 0;
    char path[JSON_PATH_MAX];
    json_path_name(path, t->path, "parameters");
    int rc = err_set(e, ERR_INVALID, path, "it is %s where the first trial is %s; set task in the base",
                     task_name(task), task_name(first));
    name_trial(t, trial, e);
    return rc;
}

static int settle_score(enum score_kind *score, const struct tune_spec *t, enum task task, struct err *e)
{
    char path[JSON_PATH_MAX];
    *score = t->score == SCORE_AUTO ? score_usual(task) : t->score;
    if (score_fits(*score, task)) return 0;
    json_path_name(path, t->path, "metric");
    return err_set(e, ERR_INVALID, path, "%s has no %s; use %s", task_name(task), score_name(*score),
                   score_name(score_usual(task)));
}

/* The most of every trial's needs; their seconds are summed. */
static void add_need(struct estimate *sum, const struct estimate *one)
{
    double steps = sum->step_seconds + one->step_seconds;
    if (steps > 0)
        sum->threads = (sum->threads * sum->step_seconds + one->threads * one->step_seconds) / steps;
    sum->seconds += one->seconds;
    sum->step_seconds += one->step_seconds;
    if (one->parameters > sum->parameters) sum->parameters = one->parameters;
    if (one->flops_per_row > sum->flops_per_row) sum->flops_per_row = one->flops_per_row;
    if (one->memory_bytes > sum->memory_bytes) sum->memory_bytes = one->memory_bytes;
    if (one->checkpoint_bytes > sum->checkpoint_bytes) sum->checkpoint_bytes = one->checkpoint_bytes;
    if (one->thread_bytes > sum->thread_bytes) sum->thread_bytes = one->thread_bytes;
    if (one->model_bytes > sum->model_bytes) sum->model_bytes = one->model_bytes;
    if (one->data_bytes > sum->data_bytes) sum->data_bytes = one->data_bytes;
}

/* How many trials are settled. Settling compares columns with columns: of a very wide table only the first
 * trials' are, so that nobody's submission keeps the gateway busy for long. */
static int64_t trials_checked(const struct tune_spec *t, const struct schema *train)
{
    const int64_t comparisons = (int64_t)train->n_columns * (int64_t)train->n_columns + 1;
    const int64_t most = COMPARISONS_MAX / comparisons > 2 ? COMPARISONS_MAX / comparisons : 2;
    return t->trials < most ? t->trials : most;
}

/* What stays beside the trial that runs: the best one so far, its weights as a checkpoint, the checkpoint
 * that the running one has gone on from or just laid down, and with halving those of all that wait. And all
 * of that once more in each of the two files that the search's own checkpoints are written to. */
static int add_waiting(struct estimate *need, const struct tune_spec *t, struct err *e)
{
    uint64_t each = need->checkpoint_bytes, waiting, sum;
    if (__builtin_mul_overflow(each, (uint64_t)(t->method == TUNE_HALVING ? t->trials : 0), &waiting) ||
        __builtin_add_overflow(waiting, each, &waiting) || /* the best one's weights, amply */
        __builtin_mul_overflow(waiting, (uint64_t)3, &sum) || __builtin_add_overflow(sum, 2 * each, &sum) ||
        __builtin_add_overflow(sum, need->model_bytes, &sum) ||
        __builtin_add_overflow(sum, need->memory_bytes, &need->memory_bytes))
        return err_set(e, ERR_TOO_LARGE, t->path, "the search would need more memory than any machine has");
    return 0;
}

int tune_check(struct estimate *out, enum score_kind *score, const struct tune_spec *t,
               const struct schema *train, const struct schema *test, struct err *e)
{
    enum task task = TASK_AUTO;
    int64_t checked = trials_checked(t, train);
    double trainings = (double)t->trials;
    uint64_t test_bytes = 0;
    int rc = 0;
    *out = (struct estimate){0};
    for (int64_t i = 0; i <= checked && !rc; i++) {
        struct resolved *r = NULL; /* the first trial is settled with the test dataset, then all without */
        int64_t trial = i ? i : 1;
        if ((rc = tune_trial_resolve(&r, t, trial, train, i ? NULL : test, e))) return rc;
        if (i == 0) {
            task = r->task;
            test_bytes = r->estimate.data_bytes;
            if (t->method == TUNE_HALVING) trainings = trainings_of(t, r->training.epochs);
        } else {
            add_need(out, &r->estimate);
        }
        rc = check_task(t, trial, task, r->task, e);
        resolved_free(r);
    }
    if (rc || (rc = add_waiting(out, t, e))) return rc;
    out->memory_bytes += test_bytes > out->data_bytes ? test_bytes - out->data_bytes : 0;
    out->seconds = out->seconds / (double)checked * trainings;
    out->step_seconds = out->step_seconds / (double)checked * trainings;
    return settle_score(score, t, task, e);
}
