/* Compiles the network for training, and takes one step after the other. */
#include "learn/fit_state.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "learn/family.h"
#include "learn/schedule.h"

static const double EXPLODED = 1e15; /* a loss beyond it will not come back */

/* ---- setting up ---- */

/* Where the plan finds each of its inputs. */
static int connect(struct fit *f, struct err *e)
{
    bool found = true;
    for (size_t i = 0; i < f->feed.n_inputs; i++) {
        f->place[i] = plan_input_find(f->plan, f->feed.input[i].name);
        found = found && f->place[i] >= 0;
    }
    if (found && plan_input_count(f->plan) == (int)f->feed.n_inputs) return 0;
    return err_set(e, ERR_INTERNAL, NULL, "the training plan has other inputs than it was built with");
}

static int open_plan(struct fit *f, int64_t batch, struct err *e)
{
    const struct fit_request *q = f->q;
    struct plan_options o = {.mode = PLAN_TRAIN,
                             .max_batch = batch,
                             .keep_outputs = fit__has_accuracy(f),
                             .limit_bytes = q->limit_bytes,
                             .threads = q->threads,
                             .backend = q->backend,
                             .optim = family_optim(&f->training->optimizer)};
    o.optim.clip_norm = f->training->optimizer.global_clipnorm;
    o.optim.clip_each = f->training->optimizer.clipnorm;
    o.optim.clip_value = f->training->optimizer.clipvalue;
    o.optim.l1 = f->training->l1;
    int rc = plan_create(&f->plan, q->graph, &o, e);
    return rc ? rc : connect(f, e);
}

static int open_feed(struct fit *f, struct err *e)
{
    int rc = 0;
    if (f->q->feed)
        f->feed = *f->q->feed;
    else
        rc = fit__rows_feed(&f->feed, f, e);
    if (rc) return rc;
    f->order = mem_try_alloc(f->q->split->n_train, sizeof *f->order);
    return f->order ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for the order of the rows");
}

static int open_metrics(struct fit *f, struct err *e)
{
    const struct preprocess *p = f->q->preprocess;
    if (f->q->feed) return 0;
    size_t targets = p->target_width > 1 ? (size_t)p->target_width : 1;
    int rc = metrics_init(&f->validation, f->q->classes != NULL, f->q->classes ? p->n_classes : targets, e);
    if (rc) return rc;
    metrics_minimise(&f->validation, f->training->objective,
                     f->training->huber_delta * (double)p->target_std);
    return 0;
}

static int open_augment(struct fit *f, struct err *e)
{
    if (f->q->feed || !augmentation_wanted(&f->training->augmentation)) return 0;
    f->augment = augment_of(f->q->resolved);
    f->images = mem_try_alloc((size_t)plan_max_batch(f->plan), f->feed.input[0].row_bytes);
    return f->images ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for the augmentation");
}

int fit__open(struct fit *f, struct err *e)
{
    const struct early_stopping_spec *stop = &f->training->early_stopping;
    int64_t batch = f->training->batch_size;
    int rc;
    if (batch > (int64_t)f->q->split->n_train) batch = (int64_t)f->q->split->n_train;
    if ((rc = open_feed(f, e)) || (rc = open_metrics(f, e)) || (rc = open_plan(f, batch, e)) ||
        (rc = open_augment(f, e)))
        return rc;
    return stop->on && stop->restore_best_weights ? params_create(&f->best, f->q->graph, e) : 0;
}

/* Each row has its own place among f->images, for one batch is filled at a time. */
static void augment_part(const struct fit *f, const struct loader_part *p)
{
    size_t place = p->at % (size_t)plan_max_batch(f->plan),
           floats = f->feed.input[0].row_bytes / sizeof(float);
    float *image = p->data[0], *scratch = f->images + place * floats;
    for (size_t i = 0; i < p->n; i++)
        augment_image(&f->augment, p->epoch, p->rows[i], image + i * floats, scratch + i * floats);
}

/* Part of a batch, on whichever thread loads it. */
static int fill(void *ctx, const struct loader_part *p, struct err *e)
{
    const struct fit *f = ctx;
    int rc = f->feed.fill(f->feed.ctx, p->rows, p->n, p->data, e);
    if (rc == 0 && f->images) augment_part(f, p);
    return rc;
}

static int open_loader(struct fit *f, struct err *e)
{
    struct loader_config c = {.fill = fill,
                              .ctx = f,
                              .n_streams = (int)f->feed.n_inputs,
                              .batch = (size_t)plan_max_batch(f->plan),
                              .run = f->run,
                              .threads = f->q->threads};
    for (size_t i = 0; i < f->feed.n_inputs; i++) c.row_bytes[i] = f->feed.input[i].row_bytes;
    return loader_create(&f->loader, &c, e);
}

/* Threads that were paid for and compute nothing are worth a word. */
static void tell_threads(const struct fit *f)
{
    const char *together = plan_whole_batch(f->plan);
    int used = plan_threads(f->plan), granted = f->q->threads;
    if (granted <= used) return;
    if (together)
        watch_message(f->q->watch, "info",
                      "the network computes on one thread of %d: %s needs the whole batch at once; another "
                      "thread loads the data",
                      granted, together);
    else
        watch_message(f->q->watch, "info",
                      "the network computes on %d of %d threads: batches of %lld rows are no work for more",
                      used, granted, (long long)plan_max_batch(f->plan));
}

int fit__open_run(struct fit *f, struct err *e)
{
    tell_threads(f);
    int rc = run_create(&f->run, f->plan, f->params, e);
    return rc ? rc : open_loader(f, e);
}

void fit__close(struct fit *f)
{
    loader_free(f->loader);
    run_free(f->run);
    plan_free(f->plan);
    params_free(f->best);
    metrics_dispose(&f->validation);
    mem_free(f->class_weight);
    mem_free(f->images);
    mem_free(f->order);
}

/* ---- one step ---- */

int fit__diverged(const struct fit *f, int64_t step, double loss, struct err *e)
{
    const struct schedule_spec *o = &f->training->optimizer.schedule;
    return err_set(e, ERR_INVALID, "spec.training.optimizer.learning_rate",
                   "training diverged in epoch %lld, step %lld: the loss became %s; lower the learning rate "
                   "or standardise "
                   "the features%s",
                   (long long)f->at.epoch, (long long)step + 1, isnan(loss) ? "no number (NaN)" : "too large",
                   o->kind || o->warmup_steps ? ", or warm up longer" : "");
}

int fit__step(struct fit *f, struct err *e)
{
    int64_t index = (f->at.epoch - 1) * f->steps + f->at.step;
    struct step s = {.feeds = f->feeds,
                     .seed = f->training->seed,
                     .index = (uint64_t)index,
                     .rate = schedule_rate(&f->training->optimizer, index)};
    float mean = 0;
    int rc;
    if ((rc = watch_check(f->q->watch, e)) || (rc = loader_next(f->loader, &f->batch, e))) return rc;
    const uint32_t *rows = f->batch.rows;
    size_t n = f->batch.n;
    s.rows = (int64_t)n;
    for (size_t i = 0; i < f->feed.n_inputs; i++) f->feeds[f->place[i]] = f->batch.data[i];
    if ((rc = run_step(f->run, &s, &mean, e))) return rc;
    double loss = (double)mean;
    if (!isfinite(loss) || fabs(loss) > EXPLODED) return fit__diverged(f, f->at.step, loss, e);
    f->at.loss_sum += loss * f->loss_scale * (double)n; /* rows count the same, however long they are */
    f->at.rows_done += (double)n;
    f->at.hits += f->feed.hits(f->feed.ctx, f->run, rows, n);
    f->at.step++;
    return 0;
}
