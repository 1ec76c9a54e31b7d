/* Runs epochs of mini-batches over the training part. */
#include "learn/fit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "learn/family.h"
#include "learn/flush.h"
#include "learn/objective.h"
#include "learn/schedule.h"
#include "learn/update.h"
#include "tensor/plan.h"
#include "tensor/rng.h"
#include "tensor/run.h"

enum { SHUFFLE_STREAM = 0x5A0FF1E };
static const double EXPLODED = 1e15; /* a loss beyond it will not come back */

/* What one epoch comes to. Losses in the target's own units. */
struct epoch_scores {
    double loss, accuracy;                   /* while training: means over the batches so far */
    double val_loss, val_accuracy, val_rmse; /* NaN without a validation part */
};

struct fit {
    const struct fit_request *q;
    const struct training_spec *training;
    struct params *params, *best; /* best: NULL unless early stopping restores */
    struct plan *plan;
    struct run *run;
    struct metrics validation;
    uint32_t *order; /* the training part's rows, shuffled anew each epoch */
    float *input;    /* [batch, width] */
    void *target;    /* [batch] int32_t or [batch, k] float */
    const void *feeds[4];
    bool own_loss; /* the loss is objective's; zero and pull [batch, width of the output] feed it */
    struct objective objective;
    float *zero, *pull;
    struct update *update; /* NULL: the plan's own optimiser moves the weights */
    int64_t steps;         /* per epoch */
    int64_t epoch;         /* from 1 */
    double loss_sum, hits, rows_done;
    double best_score;
    int64_t best_epoch, started_ns;
    double loss_scale; /* network units → own units */
};

static bool is_classification(const struct fit *f)
{
    return f->q->classes != NULL;
}

/* ---- setting up ---- */

static int check_feeds(struct fit *f, struct err *e)
{
    const struct {
        const char *name;
        const void *data;
    } fed[] = {{FAMILY_INPUT, f->input},
               {f->own_loss ? OBJECTIVE_ZERO : FAMILY_TARGET, f->own_loss ? f->zero : f->target},
               {OBJECTIVE_PULL, f->pull}};
    int n = f->own_loss ? 3 : 2;
    for (int i = 0; i < n; i++) {
        int at = plan_input_find(f->plan, fed[i].name);
        if (plan_input_count(f->plan) != n || at < 0)
            return err_set(e, ERR_INTERNAL, NULL,
                           "the training plan has other inputs than it was built with");
        f->feeds[at] = fed[i].data;
    }
    return 0;
}

/* Rows of each class in the training part. */
static int64_t *count_classes(const struct fit_request *q)
{
    int64_t *counts = mem_try_alloc(q->preprocess->n_classes + 1, sizeof *counts);
    for (size_t i = 0; counts && q->classes && i < q->split->n_train; i++)
        counts[q->classes[q->split->train[i]]]++;
    return counts;
}

static int open_objective(struct fit *f, int64_t batch, struct err *e)
{
    const struct graph *g = f->q->graph;
    const struct value *y = graph_value(g, graph_output_value(g, graph_output_find(g, FAMILY_OUTPUT)));
    size_t width = (size_t)y->shape.dim[1];
    f->own_loss = objective_wanted(f->training);
    if (!f->own_loss) return 0;
    int64_t *counts = count_classes(f->q);
    f->zero = mem_try_alloc((size_t)batch, width * sizeof *f->zero);
    f->pull = mem_try_alloc((size_t)batch, width * sizeof *f->pull);
    int rc = counts && f->zero && f->pull ? objective_init(&f->objective, f->q->resolved, counts, width, e)
                                          : err_set(e, ERR_NOMEM, NULL, "no memory for the loss");
    mem_free(counts);
    return rc;
}

static int open_plan(struct fit *f, int64_t batch, struct err *e)
{
    const struct fit_request *q = f->q;
    struct plan_options o = {.mode = PLAN_TRAIN,
                             .max_batch = batch,
                             .keep_outputs = is_classification(f) || f->own_loss,
                             .limit_bytes = q->limit_bytes,
                             .optim = family_optim(&f->training->optimizer)};
    struct graph *own = NULL;
    int rc = f->own_loss ? objective_graph(&own, q->graph, is_classification(f), e) : 0;
    o.optim.clip_norm = f->training->optimizer.global_clipnorm;
    if (update_wanted(f->training)) o.optim = update_plain();
    if (!rc) rc = plan_create(&f->plan, own ? own : q->graph, &o, e);
    graph_free(own);
    if (!rc && update_wanted(f->training)) {
        size_t used = plan_bytes(f->plan)->total, limit = q->limit_bytes;
        if (limit) limit = limit > used ? limit - used : 1;
        rc = update_create(&f->update, f->training, f->params, limit, e);
    }
    return rc ? rc : check_feeds(f, e);
}

static int open_fit(struct fit *f, struct err *e)
{
    const struct fit_request *q = f->q;
    int64_t batch = f->training->batch_size;
    if (batch > (int64_t)q->split->n_train) batch = (int64_t)q->split->n_train;
    size_t targets = q->preprocess->target_width > 1 ? (size_t)q->preprocess->target_width : 1;
    int rc;
    f->order = mem_try_alloc(q->split->n_train, sizeof *f->order);
    f->input = mem_try_alloc((size_t)batch, (size_t)q->preprocess->width * sizeof *f->input);
    f->target = mem_try_alloc((size_t)batch, targets * 4);
    if (!f->order || !f->input || !f->target) return err_set(e, ERR_NOMEM, NULL, "no memory for the batches");
    if ((rc = metrics_init(&f->validation, is_classification(f),
                           q->classes ? q->preprocess->n_classes : targets, e)) ||
        (rc = open_objective(f, batch, e)) || (rc = open_plan(f, batch, e)))
        return rc;
    metrics_minimise(&f->validation, f->training->objective,
                     f->training->huber_delta * (double)q->preprocess->target_std);
    params_init(f->params, q->graph, f->training->seed);
    if (f->training->early_stopping.on && f->training->early_stopping.restore_best_weights &&
        (rc = params_create(&f->best, q->graph, e)))
        return rc;
    return run_create(&f->run, f->plan, f->params, e);
}

static void close_fit(struct fit *f)
{
    run_free(f->run);
    plan_free(f->plan);
    params_free(f->best);
    update_free(f->update);
    metrics_dispose(&f->validation);
    objective_dispose(&f->objective);
    mem_free(f->zero);
    mem_free(f->pull);
    mem_free(f->order);
    mem_free(f->input);
    mem_free(f->target);
}

/* ---- one batch ---- */

static void fill_target(struct fit *f, const uint32_t *rows, size_t n)
{
    const struct preprocess *p = f->q->preprocess;
    if (is_classification(f)) {
        bool sparse = f->own_loss || f->training->loss == LOSS_CROSS_ENTROPY;
        for (size_t i = 0; i < n; i++)
            if (sparse)
                ((int32_t *)f->target)[i] = f->q->classes[rows[i]];
            else
                ((float *)f->target)[i] = (float)f->q->classes[rows[i]];
        return;
    }
    size_t width = (size_t)p->target_width;
    const double *values = f->q->table->columns[p->n_features].data;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < width; k++)
            ((float *)f->target)[i * width + k] =
                (float)((values[(size_t)rows[i] * width + k] - (double)p->target_mean[k]) /
                        (double)p->target_std);
}

static void count_hits(struct fit *f, const uint32_t *rows, size_t n)
{
    struct view y = run_output(f->run, 0);
    size_t width = (size_t)y.shape.dim[1];
    const float *p = y.data;
    for (size_t i = 0; i < n; i++) {
        size_t guess = width == 1 ? p[i] > 0.5F : metrics_argmax(p + i * width, width);
        f->hits += guess == (size_t)f->q->classes[rows[i]];
    }
}

static int diverged(const struct fit *f, int64_t step, double loss, struct err *e)
{
    const struct schedule_spec *o = &f->training->optimizer.schedule;
    return err_set(e, ERR_INVALID, "spec.training.optimizer.learning_rate",
                   "training diverged in epoch %lld, step %lld: the loss became %s; lower the learning rate "
                   "or standardise "
                   "the features%s",
                   (long long)f->epoch, (long long)step + 1, isnan(loss) ? "no number (NaN)" : "too large",
                   o->kind || o->warmup_steps ? ", or warm up longer" : "");
}

/* The loss of the batch by the outputs of a pass without pull, and the pull for the pass that counts. */
static int find_pull(struct fit *f, const struct step *s, double *loss, struct err *e)
{
    float unused;
    size_t n = (size_t)s->rows;
    memset(f->pull, 0, n * f->objective.width * sizeof *f->pull);
    int rc = run_gradients(f->run, s, &unused, e);
    if (rc) return rc;
    struct view y = run_output(f->run, 0);
    *loss = is_classification(f) ? objective_classes(&f->objective, y.data, f->target, n, f->pull)
                                 : objective_values(&f->objective, y.data, f->target, n, f->pull);
    return 0;
}

static int take_step(struct fit *f, const struct step *s, double *loss, struct err *e)
{
    struct step plain = *s;
    float own = 0;
    int rc = f->own_loss ? find_pull(f, s, loss, e) : 0;
    if (f->update) plain.rate = 0;
    if (rc || (rc = run_step(f->run, &plain, &own, e))) return rc;
    if (!f->own_loss) *loss = (double)own;
    if (f->update) update_apply(f->update, f->run, s->index, s->rate);
    return 0;
}

static int run_batch(struct fit *f, int64_t step, struct err *e)
{
    size_t at = (size_t)step * (size_t)f->training->batch_size, left = f->q->split->n_train - at;
    size_t n = left < (size_t)f->training->batch_size ? left : (size_t)f->training->batch_size;
    const uint32_t *rows = f->order + at;
    int64_t index = (f->epoch - 1) * f->steps + step;
    struct step s = {.feeds = f->feeds,
                     .rows = (int64_t)n,
                     .seed = f->training->seed,
                     .index = (uint64_t)index,
                     .rate = schedule_rate(&f->training->optimizer, index)};
    double loss = 0;
    int rc;
    if ((rc = watch_check(f->q->watch, e)) ||
        (rc = preprocess_rows(f->q->preprocess, f->q->table, rows, n, f->input, e)))
        return rc;
    fill_target(f, rows, n);
    uint64_t before = flush_begin();
    rc = take_step(f, &s, &loss, e);
    flush_end(before);
    if (rc) return rc;
    if (!isfinite(loss) || fabs(loss) > EXPLODED) return diverged(f, step, loss, e);
    f->loss_sum += loss * f->loss_scale * (double)n;
    f->rows_done += (double)n;
    if (is_classification(f)) count_hits(f, rows, n);
    return 0;
}

/* ---- reports ---- */

static void scores_to_json(const struct fit *f, const struct epoch_scores *s, bool end, struct json_writer *w)
{
    bool validated = end && !isnan(s->val_loss), squared = f->training->objective == OBJECTIVE_USUAL;
    jw_knum(w, "loss", s->loss);
    if (is_classification(f)) jw_knum(w, "accuracy", s->accuracy);
    if (!is_classification(f) && squared) jw_knum(w, "rmse", sqrt(s->loss));
    if (validated) jw_knum(w, "val_loss", s->val_loss);
    if (validated && is_classification(f)) jw_knum(w, "val_accuracy", s->val_accuracy);
    if (validated && !is_classification(f)) jw_knum(w, "val_rmse", s->val_rmse);
}

static void report(struct fit *f, int64_t step, const struct epoch_scores *s, bool end)
{
    struct buf text = {0};
    struct json_writer w;
    double done = (double)((f->epoch - 1) * f->steps + step), all = (double)(f->training->epochs * f->steps);
    double elapsed = (double)(clock_mono_ns() - f->started_ns) / 1e9;
    jw_init(&w, &text);
    jw_obj(&w);
    scores_to_json(f, s, end, &w);
    jw_obj_end(&w);
    struct train_progress p = {.phase = "train",
                               .epoch = f->epoch,
                               .epochs = f->training->epochs,
                               .step = step,
                               .steps = f->steps,
                               .epoch_end = end,
                               .metrics_json = text.failed ? "{}" : text.data,
                               .eta_seconds = done > 0 ? elapsed * (all - done) / done : -1};
    watch_report(f->q->watch, &p);
    buf_dispose(&text);
}

static struct epoch_scores scores_so_far(const struct fit *f)
{
    return (struct epoch_scores){.loss = f->loss_sum / f->rows_done,
                                 .accuracy = f->hits / f->rows_done,
                                 .val_loss = NAN,
                                 .val_accuracy = NAN,
                                 .val_rmse = NAN};
}

static void add_history(const struct fit *f, const struct epoch_scores *s, struct buf *history)
{
    struct json_writer w;
    buf_char(history, f->epoch == 1 ? '[' : ',');
    jw_init(&w, history);
    jw_obj(&w);
    jw_kint(&w, "epoch", f->epoch);
    scores_to_json(f, s, true, &w);
    jw_obj_end(&w);
}

/* ---- epochs ---- */

static int validate(struct fit *f, struct epoch_scores *s, struct err *e)
{
    struct evaluation what = {.table = f->q->table,
                              .classes = f->q->classes,
                              .rows = f->q->split->validation,
                              .n_rows = f->q->split->n_validation};
    if (what.n_rows == 0) return 0;
    int rc = evaluator_run(f->q->evaluator, f->params, &what, &f->validation, f->q->watch, e);
    if (rc) return rc;
    s->val_loss = metrics_loss(&f->validation);
    if (is_classification(f)) s->val_accuracy = metrics_accuracy(&f->validation);
    if (!is_classification(f)) s->val_rmse = sqrt(metrics_mse(&f->validation));
    return isfinite(s->val_loss) ? 0 : diverged(f, f->steps - 1, s->val_loss, e);
}

/* The last step of an epoch may have spoilt the weights after a loss that was still sound. */
static bool weights_are_finite(const struct params *p)
{
    float sum = 0; /* of x·0: 0 unless some x is NaN or infinite */
    for (size_t i = 0; i < p->len; i++) sum += p->data[i] * 0.0F;
    return sum == 0;
}

static int run_epoch(struct fit *f, struct epoch_scores *s, struct err *e)
{
    struct rng_key key = {.seed = f->training->seed, .step = (uint32_t)f->epoch, .stream = SHUFFLE_STREAM};
    int rc = 0;
    memcpy(f->order, f->q->split->train, f->q->split->n_train * sizeof *f->order);
    if (f->training->shuffle) rng_shuffle(&key, f->order, f->q->split->n_train);
    f->loss_sum = f->hits = f->rows_done = 0;
    for (int64_t step = 0; step < f->steps; step++) {
        if ((rc = run_batch(f, step, e))) return rc;
        if (step + 1 == f->steps || !watch_may_report(f->q->watch)) continue;
        struct epoch_scores now = scores_so_far(f);
        report(f, step + 1, &now, false);
    }
    *s = scores_so_far(f);
    if (!weights_are_finite(f->params)) return diverged(f, f->steps - 1, (double)NAN, e);
    if ((rc = validate(f, s, e))) return rc;
    report(f, f->steps, s, true);
    return 0;
}

static double monitored(const struct fit *f, const struct epoch_scores *s)
{
    const char *m = f->training->early_stopping.monitor;
    bool val = strncmp(m, "val_", 4) == 0;
    if (strstr(m, "accuracy")) return val ? s->val_accuracy : s->accuracy;
    if (strstr(m, "rmse")) return val ? s->val_rmse : sqrt(s->loss);
    return val ? s->val_loss : s->loss;
}

/* Whether to stop after this epoch. Keeps the best weights. */
static bool stop_now(struct fit *f, const struct epoch_scores *s)
{
    const struct early_stopping_spec *o = &f->training->early_stopping;
    if (!o->on) return false;
    double score = o->higher_is_better ? -monitored(f, s) : monitored(f, s); /* less is better */
    if (f->best_epoch == 0 || score < f->best_score - o->min_delta) {
        f->best_score = score;
        f->best_epoch = f->epoch;
        if (f->best) params_copy(f->best, f->params);
        return false;
    }
    return f->epoch - f->best_epoch >=
           o->patience; /* as Keras counts: patience epochs without a better one */
}

static int run_epochs(struct fit *f, struct fit_result *out, struct err *e)
{
    for (f->epoch = 1; f->epoch <= f->training->epochs && !out->stopped_early; f->epoch++) {
        struct epoch_scores s;
        int rc = run_epoch(f, &s, e);
        if (rc) return rc;
        add_history(f, &s, &out->history);
        out->epochs_run = f->epoch;
        out->stopped_early = stop_now(f, &s) && f->epoch < f->training->epochs;
    }
    buf_char(&out->history, ']');
    out->best_epoch = out->epochs_run;
    if (f->best && f->best_epoch) {
        params_copy(f->params, f->best);
        out->best_epoch = f->best_epoch;
    }
    return out->history.failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the history") : 0;
}

int fit_run(const struct fit_request *q, struct params *params, struct fit_result *out, struct err *e)
{
    struct fit f = {
        .q = q, .training = &q->resolved->training, .params = params, .started_ns = clock_mono_ns()};
    int64_t batch = f.training->batch_size;
    *out = (struct fit_result){0};
    f.steps = ((int64_t)q->split->n_train + batch - 1) / batch;
    double unit = q->classes ? 1 : (double)q->preprocess->target_std;
    f.loss_scale = f.training->objective == OBJECTIVE_MAE ? unit : unit * unit;
    int rc = open_fit(&f, e);
    if (!rc) rc = run_epochs(&f, out, e);
    close_fit(&f);
    if (rc) buf_dispose(&out->history);
    return rc;
}
