/* Settles the training's defaults by the size of the data, and estimates what the run will need. */
#include "learn/spec/layers.h"
#include "learn/spec/resolve.h"

#include <math.h>
#include <string.h>

enum {
    LEAST_SQUARES_WIDTH = 2048, /* widest input that the closed form takes: its matrix is width² doubles */
    USUAL_STEPS = 5000,         /* updates that small data is given by default */
    FEWEST_EPOCHS = 10,
    MOST_EPOCHS = 200,
    EVALUATION_ROWS = 256, /* batch of validation and test, and more than a session takes */
    USUAL_BATCH = 32,      /* that the usual learning rates go with */
    LARGEST_AUTO = 128,    /* "auto": about STEPS_AN_EPOCH, between SMALLEST_AUTO and this */
    SMALLEST_AUTO = 16,
    STEPS_AN_EPOCH = 250,
};

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static const char *training_path(const struct resolving *v, const char *name, char out[JSON_PATH_MAX])
{
    char up[JSON_PATH_MAX];
    resolve__path(v, "training", up);
    json_path_name(out, up, name);
    return out;
}

static int settle_rows(struct resolving *v, struct err *e)
{
    struct training_spec *t = &v->r->training;
    int64_t rows = v->train->rows - v->train->columns[v->r->target].missing;
    char path[JSON_PATH_MAX];
    if (v->r->target_width > 1) rows = v->train->rows;
    if (t->validation_split < 0) t->validation_split = v->test || rows < 20 ? 0 : 0.1;
    int64_t held = (int64_t)((double)rows * t->validation_split);
    if (t->validation_split > 0 && held == 0) held = 1;
    v->r->validation_rows = held;
    v->r->train_rows = rows - held;
    if (v->r->train_rows < 1 || (held && v->r->train_rows < (int64_t)v->r->n_classes))
        return err_set(e, ERR_INVALID, training_path(v, "validation_split", path),
                       "%lld rows are too few to hold %lld back for validation", (long long)rows,
                       (long long)held);
    return 0;
}

static int settle_optimizer(struct resolving *v, struct err *e)
{
    struct training_spec *t = &v->r->training;
    char path[JSON_PATH_MAX];
    int64_t width = v->r->layers[v->r->n_layers - 1].in.dim[0];
    bool linear = v->r->family == FAMILY_LINEAR_REGRESSION, narrow = width <= LEAST_SQUARES_WIDTH;
    bool closed = strcmp(t->optimizer.name, "least_squares") == 0;
    /* more than the closed form can do */
    bool tiles = t->precision == PRECISION_BF16 || t->precision == PRECISION_BF16X3;
    bool asks =
        t->objective != OBJECTIVE_USUAL || t->l1 > 0 || tiles || augmentation_wanted(&t->augmentation);
    if (closed && tiles)
        return err_set(e, ERR_INVALID, training_path(v, "precision", path),
                       "least_squares solves in double precision; leave precision out, or use adam");
    if (closed && asks)
        return err_set(
            e, ERR_INVALID, training_path(v, "optimizer", path),
            "least_squares minimises mse with l2 alone; use adam for l1, mae, huber and augmentation");
    if (closed && !narrow)
        return err_set(e, ERR_INVALID, training_path(v, "optimizer", path),
                       "least_squares takes at most %d numbers a row, not %lld; use adam",
                       LEAST_SQUARES_WIDTH, (long long)width);
    if (!t->optimizer_given && linear && narrow && !asks && !t->early_stopping.on) {
        memcpy(t->optimizer.name, "least_squares", sizeof "least_squares");
        closed = true;
    } else if (!t->optimizer_given && v->r->family != FAMILY_MLP) {
        t->optimizer.learning_rate = 0.01;
    }
    if (closed && t->early_stopping.on)
        return err_set(e, ERR_INVALID, training_path(v, "early_stopping", path),
                       "least_squares has no epochs to stop early");
    if (closed) t->epochs = 1;
    return 0;
}

static int check_monitor(const struct resolving *v, struct err *e)
{
    const struct early_stopping_spec *s = &v->r->training.early_stopping;
    char up[JSON_PATH_MAX], path[JSON_PATH_MAX];
    if (!s->on) return 0;
    training_path(v, "early_stopping", up);
    json_path_name(path, up, "monitor");
    if (strncmp(s->monitor, "val_", 4) == 0 && v->r->validation_rows == 0)
        return err_set(e, ERR_INVALID, path,
                       "%s needs a validation part; set training.validation_split above 0", s->monitor);
    if (strstr(s->monitor, "accuracy") && v->r->task == TASK_REGRESSION)
        return err_set(e, ERR_INVALID, path, "%s is for classification; use val_loss", s->monitor);
    if (strcmp(s->monitor, "rmse") == 0 && v->r->training.objective != OBJECTIVE_USUAL)
        return err_set(e, ERR_INVALID, path,
                       "rmse of the training part comes with the loss mse only; use val_rmse or loss");
    if (strstr(s->monitor, "rmse") && v->r->task != TASK_REGRESSION)
        return err_set(e, ERR_INVALID, path, "%s is for regression; use val_loss", s->monitor);
    return 0;
}

static void settle_batch(struct resolving *v)
{
    struct training_spec *t = &v->r->training;
    if (t->batch_full) t->batch_size = v->r->train_rows;
    if (!t->batch_auto) return;
    t->batch_size = SMALLEST_AUTO;
    while (t->batch_size < LARGEST_AUTO && v->r->train_rows / t->batch_size > STEPS_AN_EPOCH)
        t->batch_size *= 2;
}

/* The optimiser's usual rate at a batch of 32, raised with the root of the batch (the noise of a gradient
 * falls with it), at most fourfold. */
static void settle_rate(struct resolving *v)
{
    struct training_spec *t = &v->r->training;
    if (!t->optimizer.rate_auto) return;
    double factor = sqrt((double)t->batch_size / USUAL_BATCH);
    if (v->r->family != FAMILY_MLP && t->optimizer.learning_rate < 0.01) t->optimizer.learning_rate = 0.01;
    t->optimizer.learning_rate *= factor > 4 ? 4 : factor < 0.5 ? 0.5 : factor;
}

static int settle_schedule(struct resolving *v, struct err *e)
{
    struct training_spec *t = &v->r->training;
    struct schedule_spec *s = &t->optimizer.schedule;
    char up[JSON_PATH_MAX], rate[JSON_PATH_MAX], path[JSON_PATH_MAX];
    int64_t steps = t->epochs * ceil_div(v->r->train_rows, t->batch_size);
    training_path(v, "optimizer", up);
    json_path_name(rate, up, "learning_rate");
    json_path_name(path, rate, "warmup_steps");
    if (s->warmup_steps >= steps)
        return err_set(e, ERR_INVALID, path, "a warm-up of %lld steps leaves nothing of the run's %lld steps",
                       (long long)s->warmup_steps, (long long)steps);
    if (s->decay_steps == 0) s->decay_steps = steps - s->warmup_steps;
    return 0;
}

int resolve__training(struct resolving *v, struct err *e)
{
    struct training_spec *t = &v->r->training;
    int rc;
    if ((rc = resolve__objective(v, e)) || (rc = resolve__augmentation(v, e)) || (rc = settle_rows(v, e)) ||
        (rc = settle_optimizer(v, e)) || (rc = check_monitor(v, e)))
        return rc;
    settle_batch(v);
    settle_rate(v);
    if (t->epochs == 0) {
        int64_t wanted = ceil_div(USUAL_STEPS, ceil_div(v->r->train_rows, t->batch_size));
        t->epochs = wanted < FEWEST_EPOCHS ? FEWEST_EPOCHS : wanted > MOST_EPOCHS ? MOST_EPOCHS : wanted;
    }
    return strcmp(t->optimizer.name, "least_squares") == 0 ? 0 : settle_schedule(v, e);
}

/* Bytes of a dataset in the runner: bytes stay bytes, all else becomes floats, targets doubles. */
static bool data_bytes(const struct resolving *v, const struct schema *s, uint64_t *out)
{
    uint64_t per_row = (uint64_t)(v->r->target_width > 1 ? v->r->target_width : 1) * 8 + 8, texts = 0, total;
    for (size_t i = 0; i < v->r->n_features; i++) {
        const struct column *c = &v->train->columns[v->r->features[i].column];
        per_row += (uint64_t)column_width(c) * (c->type == COLUMN_TENSOR && c->dtype == DATA_U8 ? 1 : 4);
        if (!v->r->features[i].text) continue;
        per_row += 8 + 4 * (uint64_t)v->r->features[i].width; /* where it ends; its ids */
        texts += (uint64_t)schema_find(s, c->name)->text_bytes;
    }
    return !__builtin_mul_overflow(per_row, (uint64_t)s->rows, &total) &&
           !__builtin_add_overflow(texts, total, &total) && !__builtin_add_overflow(*out, total, out);
}

/* What it takes to learn a vocabulary and to keep it. */
static uint64_t learning_bytes(const struct resolving *v)
{
    if (!v->r->has_texts) return 0;
    const struct column *c = &v->train->columns[v->r->features[0].column];
    return text_learner_bytes((uint64_t)c->text_bytes) + text_vocabulary_bytes(v->ids);
}

/* As many threads as a plan would take: each needs work enough to be worth a meeting, and moments over the
 * rows of a batch need one (tensor/plan.c, docs/decisions/0008). */
static double useful_threads(const struct resolved *r)
{
    const double thread_flops = 2e6, weight_flops = 100;
    double batch = (double)r->training.batch_size, parameters = (double)r->estimate.parameters;
    double most =
        floor(batch * (double)r->estimate.flops_per_row / (thread_flops + weight_flops * parameters));
    bool together = strcmp(r->training.optimizer.name, "least_squares") == 0;
    for (size_t i = 0; i < r->n_layers; i++)
        together = together || r->layers[i].kind == KIND_BATCH_NORMALIZATION;
    return together || most < 1 ? 1 : fmin(most, batch);
}

static void estimate_time(struct resolved *r)
{
    struct estimate *est = &r->estimate;
    double rows = (double)r->train_rows * (double)r->training.epochs;
    double steps = rows / (double)r->training.batch_size;
    est->step_seconds = rows * 3 * (double)est->flops_per_row / 20e9;
    est->seconds = 0.2 + est->step_seconds + steps * 30e-6 + (double)est->data_bytes / 100e6;
    est->threads = useful_threads(r);
}

int resolve__estimate(struct resolving *v, struct err *e)
{
    struct resolved *r = v->r;
    struct estimate *est = &r->estimate;
    const uint64_t fixed = (uint64_t)48 << 20, part = (uint64_t)2 << 20;
    uint64_t row_floats = 0, weights = (uint64_t)est->parameters * 4, activations, total;
    int64_t batch = r->training.batch_size > RESOLVE_PART_ROWS ? r->training.batch_size : RESOLVE_PART_ROWS;
    for (size_t i = 0; i < r->n_layers; i++) {
        uint64_t in = 1, out = 1;
        for (int k = 0; k < r->layers[i].in.rank; k++) in *= (uint64_t)r->layers[i].in.dim[k];
        for (int k = 0; k < r->layers[i].out.rank; k++) out *= (uint64_t)r->layers[i].out.dim[k];
        row_floats += in + 3 * out; /* value, activation, gradient */
    }
    uint64_t ends = (uint64_t)layer__product(&r->layers[0].in) +
                    (uint64_t)layer__product(&r->layers[r->n_layers - 1].out);
    est->checkpoint_bytes = weights * CHECKPOINT_GROUPS + CHECKPOINT_TEXTS;
    /* weights, gradient, two optimiser slots, best weights so far, the packed copy for validation, and the
     * artifact; and two checkpoints, one being stored while the next is written */
    if (!data_bytes(v, v->train, &est->data_bytes) ||
        (v->test && !data_bytes(v, v->test, &est->data_bytes)) ||
        __builtin_mul_overflow(row_floats * 4, (uint64_t)batch, &activations) ||
        __builtin_add_overflow(weights * 8 + fixed + 2 * est->checkpoint_bytes, est->data_bytes, &total) ||
        __builtin_add_overflow(total, activations, &total) ||
        __builtin_add_overflow(total, part + ends * 4 * EVALUATION_ROWS, &total) || total > SIZE_MAX / 4)
        return err_set(e, ERR_TOO_LARGE, "dataset", "the run would need more memory than any machine has");
    if (strcmp(r->training.optimizer.name, "least_squares") == 0) {
        uint64_t width = (uint64_t)r->layers[r->n_layers - 1].in.dim[0] + 1;
        total += width * width * 8;
    }
    est->memory_bytes = total + learning_bytes(v) + augmentation_bytes(r);
    /* gradients, a second set of input batches, a stack and the bookkeeping of its walk over the graph */
    uint64_t row = (uint64_t)(layer__product(&r->input) + r->target_width + 1) * 4;
    est->thread_bytes = weights + row * (uint64_t)batch + (6 << 20);
    est->model_bytes = weights * 2 + row_floats * 4 * RESOLVE_PART_ROWS + ends * 4 * EVALUATION_ROWS + part +
                       (1 << 20) + text_vocabulary_bytes(v->ids);
    estimate_time(r);
    return 0;
}

double estimate_seconds(const struct estimate *e, int64_t threads)
{
    const double worth = 0.9; /* a thread beyond the first, against that (measured: 0.76 … 0.93) */
    double n = fmin((double)threads, e->threads);
    return n > 1 ? e->seconds - e->step_seconds * (1 - 1 / (1 + worth * (n - 1))) : e->seconds;
}

uint64_t estimate_bytes(const struct estimate *e, int64_t threads)
{
    uint64_t more = threads > 1 ? (uint64_t)(threads - 1) : 0, bytes;
    return __builtin_mul_overflow(more, e->thread_bytes, &bytes) ||
                   __builtin_add_overflow(bytes, e->memory_bytes, &bytes)
               ? UINT64_MAX / 2
               : bytes;
}
