/* Runs epochs of mini-batches over the training part, from the start or from where a checkpoint stands. */
#include "learn/fit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "learn/fit_state.h"
#include "tensor/backend.h"
#include "tensor/kernel.h"
#include "tensor/rng.h"

enum { SHUFFLE_STREAM = 0x5A0FF1E };

/* ---- checkpoints ---- */

static void find_slots(const struct fit *f, struct checkpoint *c)
{
    c->n_slots = run_slot_count(f->run);
    for (int i = 0; i < c->n_slots; i++) {
        c->slot_name[i] = run_slot_name(f->run, i);
        c->slot[i] = run_slot(f->run, i);
    }
}

static struct checkpoint checkpoint_of(const struct fit_request *q, struct params *params)
{
    int64_t batch = q->resolved->training.batch_size;
    const struct backend *b = q->backend ? q->backend : backend_auto();
    struct checkpoint c = {.threads = q->threads > 1 ? q->threads : 1,
                           .epochs = q->resolved->training.epochs,
                           .steps = ((int64_t)q->split->n_train + batch - 1) / batch,
                           .weights = params};
    memcpy(c.digest, q->digest, sizeof c.digest);
    snprintf(c.backend, sizeof c.backend, "%s/%s", b->name, b->kernels->name);
    return c;
}

static double thread_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Where the watch wants it; nowhere is fine. */
static int save(const struct fit_request *q, const struct checkpoint *c, struct err *e)
{
    struct train_mark mark = {.epoch = c->state.epoch, .step = c->state.step};
    double began_ms = thread_ms();
    int fd = watch_save_to(q->watch);
    int rc = fd < 0 ? 0 : checkpoint_write(c, fd, &mark.bytes, e);
    mark.took_ms = thread_ms() - began_ms;
    if (!rc && fd >= 0) watch_saved(q->watch, &mark);
    return rc;
}

static double seconds_spent(const struct fit *f)
{
    return f->seconds + (double)(clock_mono_ns() - f->started_ns) / 1e9;
}

static int save_here(struct fit *f, struct err *e)
{
    if (!f->q->digest) return 0;
    struct checkpoint c = checkpoint_of(f->q, f->params);
    f->at.seconds = seconds_spent(f);
    c.state = f->at;
    c.best = f->best;
    c.history = *f->history; /* lent: a checkpoint that is written owns nothing */
    find_slots(f, &c);
    return save(f->q, &c, e);
}

int fit_save_fitted(const struct fit_request *q, struct params *params, const struct fit_result *r,
                    struct err *e)
{
    if (!q->digest) return 0;
    struct checkpoint c = checkpoint_of(q, params);
    c.state = (struct checkpoint_state){.epoch = r->epochs_run,
                                        .step = c.steps,
                                        .fitted = true,
                                        .stopped_early = r->stopped_early,
                                        .best_epoch = r->best_epoch,
                                        .seconds = r->seconds};
    buf_append(&c.history, r->history.data, r->history.len - 1); /* without the ']' */
    int rc = save(q, &c, e);
    buf_dispose(&c.history);
    return rc;
}

/* What is wrong with a checkpoint is told, and the run starts from the beginning. */
static int resume(struct fit *f, struct err *e)
{
    struct err why = {0};
    bool same_machine = true;
    if (!f->q->digest || !f->q->resume) return 0;
    struct checkpoint c = checkpoint_of(f->q, f->params);
    c.best = f->best;
    find_slots(f, &c);
    int rc = checkpoint_read(&c, f->q->resume, f->q->resume_bytes, &same_machine, &why);
    if (rc == ERR_NOMEM) return err_set(e, rc, NULL, "%s", why.message);
    if (rc) {
        watch_refused(f->q->watch, why.message);
        watch_message(f->q->watch, "warn", "%s; the run starts from the beginning", why.message);
        return 0;
    }
    if (!same_machine)
        watch_message(f->q->watch, "info",
                      "resumed on another kind of processor or number of threads than before: the result may "
                      "differ in its last bits from an undisturbed run's");
    f->at = c.state;
    f->seconds = c.state.seconds;
    f->started_done = (double)((f->at.epoch - 1) * f->steps + f->at.step);
    *f->history = c.history;
    return 0;
}

/* ---- epochs ---- */

static int validate(struct fit *f, struct epoch_scores *s, struct err *e)
{
    const struct split *split = f->q->split;
    struct feed_scores got = {0};
    if (split->n_validation == 0) return 0;
    int rc = f->q->feed ? f->feed.measure(f->feed.ctx, f->params, split->validation, split->n_validation,
                                          &got, f->q->watch, e)
                        : fit__rows_measure(f, s, e);
    if (rc) return rc;
    if (f->q->feed) {
        s->val_loss = got.loss;
        s->val_accuracy = got.accuracy;
    }
    return isfinite(s->val_loss) ? 0 : fit__diverged(f, f->steps - 1, s->val_loss, e);
}

/* The last step of an epoch may have spoilt the weights after a loss that was still sound. */
static bool weights_are_finite(const struct params *p)
{
    float sum = 0; /* of x·0: 0 unless some x is NaN or infinite */
    for (size_t i = 0; i < p->len; i++) sum += p->data[i] * 0.0F;
    return sum == 0;
}

static void order_rows(struct fit *f)
{
    struct rng_key key = {.seed = f->training->seed, .step = (uint32_t)f->at.epoch, .stream = SHUFFLE_STREAM};
    memcpy(f->order, f->q->split->train, f->q->split->n_train * sizeof *f->order);
    if (f->training->shuffle) rng_shuffle(&key, f->order, f->q->split->n_train);
}

/* From f->at.step to the epoch's end. */
static int run_epoch(struct fit *f, struct epoch_scores *s, struct err *e)
{
    int rc;
    order_rows(f);
    loader_begin(f->loader, f->order, f->q->split->n_train,
                 (size_t)f->at.step * (size_t)f->training->batch_size, f->at.epoch);
    while (f->at.step < f->steps) {
        if ((rc = fit__step(f, e))) return rc;
        if (watch_save_due(f->q->watch) && (rc = save_here(f, e))) return rc;
        if (f->at.step == f->steps || !watch_may_report(f->q->watch)) continue;
        struct epoch_scores now = fit__scores(f);
        fit__report(f, &now, false);
    }
    *s = fit__scores(f);
    if (!weights_are_finite(f->params)) return fit__diverged(f, f->steps - 1, (double)NAN, e);
    if ((rc = validate(f, s, e))) return rc;
    fit__report(f, s, true);
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
    if (f->at.best_epoch == 0 || score < f->at.best_score - o->min_delta) {
        f->at.best_score = score;
        f->at.best_epoch = f->at.epoch;
        if (f->best) params_copy(f->best, f->params);
        return false;
    }
    return f->at.epoch - f->at.best_epoch >=
           o->patience; /* as Keras counts: patience epochs without a better one */
}

/* Behind the epoch that it is to have had: come to, or gone on from with that done already. */
static bool pauses_here(const struct fit *f)
{
    return f->q->until_epoch > 0 && f->at.step == 0 && f->at.epoch == f->q->until_epoch + 1;
}

static int run_epochs(struct fit *f, struct fit_result *out, struct err *e)
{
    int rc;
    out->epochs_run = f->at.epoch - 1;
    for (bool stop = false; !stop;) {
        struct epoch_scores s;
        if (pauses_here(f)) {
            if ((rc = save_here(f, e))) return rc;
            out->paused = true;
            break;
        }
        if ((rc = run_epoch(f, &s, e))) return rc;
        fit__add_history(f, &s);
        bool last = f->at.epoch == f->training->epochs;
        stop = stop_now(f, &s);
        out->epochs_run = f->at.epoch;
        out->stopped_early = stop && !last;
        stop = stop || last;
        if (stop) break;
        f->at.epoch++;
        f->at.step = 0;
        f->at.loss_sum = f->at.hits = f->at.rows_done = 0;
    }
    buf_char(&out->history, ']');
    out->best_epoch = out->epochs_run;
    if (f->best && f->at.best_epoch) {
        params_copy(f->params, f->best);
        out->best_epoch = f->at.best_epoch;
    }
    return out->history.failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the history") : 0;
}

/* The checkpoint was of a run whose training was over. */
static void take_fitted(const struct fit *f, struct fit_result *out)
{
    buf_char(&out->history, ']');
    out->epochs_run = f->at.epoch;
    out->best_epoch = f->at.best_epoch;
    out->stopped_early = f->at.stopped_early;
}

static int run(struct fit *f, struct fit_result *out, struct err *e)
{
    int rc = fit__open(f, e);
    if (rc) return rc;
    params_init(f->params, f->q->graph, f->training->seed);
    if ((rc = fit__open_run(f, e)) || (rc = resume(f, e))) return rc;
    if (f->at.fitted) {
        take_fitted(f, out);
        return 0;
    }
    rc = run_epochs(f, out, e);
    if (rc != ERR_CANCELLED) return rc;
    struct err why = {0};
    if (save_here(f, &why)) watch_message(f->q->watch, "warn", "no checkpoint was made: %s", why.message);
    return rc;
}

int fit_run(const struct fit_request *q, struct params *params, struct fit_result *out, struct err *e)
{
    struct fit f = {.q = q,
                    .training = &q->resolved->training,
                    .params = params,
                    .at = {.epoch = 1},
                    .history = &out->history,
                    .started_ns = clock_mono_ns(),
                    .loss_scale = 1};
    int64_t batch = f.training->batch_size;
    *out = (struct fit_result){0};
    f.steps = ((int64_t)q->split->n_train + batch - 1) / batch;
    double unit = q->feed || q->classes ? 1 : (double)q->preprocess->target_std;
    f.loss_scale = f.training->objective == OBJECTIVE_MAE ? unit : unit * unit;
    int rc = run(&f, out, e);
    out->seconds = seconds_spent(&f);
    fit__close(&f);
    if (rc) buf_dispose(&out->history);
    return rc;
}
