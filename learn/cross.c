/* Trains and measures fold by fold. */
#include "learn/cross.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "learn/cross_state.h"
#include "learn/report.h"

/* ---- what the folds say, passed on with which one says it ---- */

static void on_progress(void *ctx, const struct train_progress *p)
{
    const struct crossing *c = ctx;
    const struct train_callbacks *outer = c->nest.outer;
    struct train_progress mine = *p;
    char part[64];
    if (!outer->progress) return;
    if (c->running) {
        snprintf(part, sizeof part, "{\"number\":%lld,\"of\":%lld}", (long long)c->running,
                 (long long)c->spec->folds);
        mine.part = "fold";
        mine.part_json = part;
        double epoch = (double)(p->epoch - 1) + (p->steps > 0 ? (double)p->step / (double)p->steps : 0);
        double done = (double)(c->running - 1) + (p->epochs > 0 && epoch > 0 ? epoch / (double)p->epochs : 0);
        double elapsed = (double)(clock_mono_ns() - c->began_ns) / 1e9, here = done - (double)c->done_before;
        mine.eta_seconds = here > 0 ? elapsed * ((double)c->spec->folds - done) / here : -1;
    }
    outer->progress(outer->ctx, &mine);
}

static void on_message(void *ctx, const char *level, const char *text)
{
    const struct crossing *c = ctx;
    const struct train_callbacks *outer = c->nest.outer;
    if (outer->message && (c->running <= 1 || strcmp(level, "warn") == 0))
        outer->message(outer->ctx, level, text);
}

static bool on_cancelled(void *ctx)
{
    struct crossing *c = ctx;
    return nest_cancelled(&c->nest);
}

static bool on_save_due(void *ctx)
{
    struct crossing *c = ctx;
    return nest_save_due(&c->nest);
}

static int on_save_to(void *ctx)
{
    struct crossing *c = ctx;
    return nest_save_to(&c->nest);
}

static void on_saved(void *ctx, const struct train_mark *mark)
{
    struct crossing *c = ctx;
    nest_saved(&c->nest, mark);
}

/* ---- setting up ---- */

static struct split_request split_of(const struct crossing *c)
{
    return (struct split_request){.rows = c->data.train.rows,
                                  .n_rows = c->data.train.n_rows,
                                  .classes = c->data.train.classes,
                                  .n_classes = c->resolved->n_classes,
                                  .stratify = c->spec->stratified,
                                  .seed = c->spec->seed};
}

static int open_crossing(struct crossing *c, struct err *e)
{
    const struct train_request *q = c->request;
    int rc;
    c->inner = (struct train_callbacks){.ctx = c,
                                        .progress = on_progress,
                                        .message = on_message,
                                        .cancelled = on_cancelled,
                                        .save_due = on_save_due,
                                        .save_to = on_save_to,
                                        .saved = on_saved};
    c->began_ns = clock_mono_ns();
    watch_init(&c->watch, &c->inner, q->seconds, q->used_seconds);
    if ((rc = review_parse(&c->spec, q->spec, "spec", e)) || (rc = review_base(&c->base, c->spec, e)) ||
        (rc = training_schemas(&c->data, q, e)) ||
        (rc = review_resolve(&c->resolved, c->spec, c->data.train.schema, e)))
        return rc;
    uint64_t need = estimate_bytes(&c->resolved->estimate, q->threads);
    if (q->memory_bytes && need > q->memory_bytes)
        return err_set(e, ERR_TOO_LARGE, "dataset",
                       "the run needs about %llu MiB of memory; %llu MiB are allowed",
                       (unsigned long long)(need >> 20), (unsigned long long)(q->memory_bytes >> 20));
    if ((rc = training_read(&c->data, c->resolved, q, &c->watch, e))) return rc;
    struct split_request s = split_of(c);
    if (s.n_rows < 2 * (size_t)c->spec->folds)
        return err_set(e, ERR_INVALID, "spec.folds", "%zu rows with a target are too few for %lld folds",
                       s.n_rows, (long long)c->spec->folds);
    if (c->resolved->task == TASK_CLASSIFICATION && (rc = metrics_init(&c->pooled, true, s.n_classes, e)))
        return rc;
    return split_folds(&c->fold_of, &s, (int)c->spec->folds, e);
}

static void close_crossing(struct crossing *c)
{
    review_free(c->spec);
    cJSON_Delete(c->base);
    resolved_free(c->resolved);
    training_data_dispose(&c->data);
    mem_free(c->fold_of);
    buf_dispose(&c->paused);
    metrics_dispose(&c->pooled);
    preprocess_free(c->preprocess);
}

/* ---- a fold ---- */

static int lonely(const struct crossing *c, int32_t class, struct err *e)
{
    const struct resolved *r = c->resolved;
    char label[64];
    if (r->integer_labels)
        snprintf(label, sizeof label, "%lld", (long long)r->class_integers[class]);
    else
        snprintf(label, sizeof label, "\"%.60s\"", r->class_texts[class]);
    return err_set(e, ERR_INVALID, "spec.folds",
                   "the class %s appears only in the rows that a fold holds back; set stratified to true, or "
                   "give it more rows",
                   label);
}

/* The rows to train with: all outside the fold, or those that its own validation part leaves. */
static int split_rest(struct training *t, const struct crossing *c, const struct split *fold, struct err *e)
{
    struct split_request q = split_of(c);
    int32_t alone;
    q.rows = fold->train;
    q.n_rows = fold->n_train;
    q.validation = t->resolved->training.validation_split;
    q.stratify = t->resolved->training.stratify;
    q.seed = t->resolved->training.seed;
    int rc = split_make(&t->split, &q, &alone, e);
    return rc && alone >= 0 ? lonely(c, alone, e) : rc;
}

static void take_scores(struct crossing *c, struct training *t)
{
    struct fold *f = &c->folds[c->running - 1];
    const struct metrics *m = &t->on_test;
    f->rows = m->rows;
    f->trained_rows = (int64_t)t->split.n_train;
    f->epochs = t->closed_form ? 1 : t->fit.epochs_run;
    f->seconds = t->train_seconds;
    for (int s = SCORE_AUTO + 1; s < SCORE_COUNT; s++) f->score[s] = metrics_score(m, (enum score_kind)s);
    for (size_t i = 0; m->classification && i < m->n_classes * m->n_classes; i++)
        c->pooled.confusion[i] += m->confusion[i];
    preprocess_free(c->preprocess);
    c->preprocess = t->artifact.preprocess;
    t->artifact.preprocess = NULL;
}

/* The fold plays the test dataset: it is measured, and nothing else sees it. The schemas are the data's own
 * but for how many rows there are. */
static int run_fold(struct crossing *c, struct split *fold, struct err *e)
{
    struct schema most = *c->data.train.schema, held = most;
    struct training_data part = c->data;
    part.train.schema = &most;
    part.test = c->data.train;
    part.test.schema = &held;
    part.test.rows = fold->validation;
    part.test.n_rows = fold->n_validation;
    most.rows -= (int64_t)fold->n_validation;
    held.rows = (int64_t)fold->n_validation;
    struct train_request request = *c->request;
    request.resume = c->paused.len ? c->paused.data : NULL;
    request.resume_bytes = c->paused.len;
    struct training t = {.request = &request, .spec_json = c->base, .data = &part, .watch = &c->watch};
    int rc = training_resolve(&t, e);
    if (!rc) rc = split_rest(&t, c, fold, e);
    if (!rc) rc = training_prepare(&t, e);
    if (!rc) rc = training_fit(&t, e);
    if (!rc) rc = training_evaluate(&t, e);
    if (!rc) take_scores(c, &t);
    if (!rc) buf_dispose(&c->paused);
    training_dispose(&t);
    return rc;
}

static void tell_fold(struct crossing *c)
{
    const struct train_callbacks *outer = c->nest.outer;
    const struct fold *f = &c->folds[c->running - 1];
    struct train_progress p = {.phase = "fold", .epoch = f->epochs, .epochs = f->epochs, .eta_seconds = -1};
    enum score_kind usual = score_usual(c->resolved->task);
    char text[160];
    on_progress(c, &p);
    if (!outer->message) return;
    snprintf(text, sizeof text, "fold %lld of %lld: %s %.6g on %lld rows", (long long)c->running,
             (long long)c->spec->folds, score_name(usual), f->score[usual], (long long)f->rows);
    outer->message(outer->ctx, "info", text);
}

static int run_folds(struct crossing *c, struct err *e)
{
    struct split_request q = split_of(c);
    int rc = 0;
    while (c->done < c->spec->folds && !rc) {
        struct split fold;
        int32_t alone;
        rc = split_fold(&fold, &q, c->fold_of, (int)c->done, &alone, e);
        if (rc) return alone >= 0 ? lonely(c, alone, e) : rc;
        c->running = c->done + 1;
        rc = run_fold(c, &fold, e);
        split_dispose(&fold);
        if (rc) break;
        tell_fold(c);
        if (++c->done == c->spec->folds) break;
        if (nest_save_due(&c->nest)) nest_save(&c->nest, 1, 0);
        rc = watch_check(&c->watch, e);
    }
    return rc && rc != ERR_CANCELLED && rc != ERR_TIMEOUT ? err_prefix(e, "fold %lld", (long long)c->running)
                                                          : rc;
}

/* ---- the result ---- */

static double mean_of(const struct crossing *c, int score)
{
    double sum = 0;
    for (int64_t i = 0; i < c->spec->folds; i++) sum += c->folds[i].score[score];
    return sum / (double)c->spec->folds;
}

static double deviation_of(const struct crossing *c, int score)
{
    double mean = mean_of(c, score), sum = 0;
    for (int64_t i = 0; i < c->spec->folds; i++) {
        double d = c->folds[i].score[score] - mean;
        sum += d * d;
    }
    return sqrt(sum / (double)c->spec->folds);
}

static void figures_to_json(const struct crossing *c, double (*figure)(const struct crossing *c, int score),
                            struct json_writer *w)
{
    for (int s = SCORE_AUTO + 1; s < SCORE_COUNT; s++) {
        double value = figure(c, s);
        if (isfinite(value)) jw_knum(w, score_name((enum score_kind)s), value);
    }
}

static void fold_to_json(const struct fold *f, int64_t number, struct json_writer *w)
{
    jw_obj(w);
    jw_kint(w, "fold", number);
    jw_kint(w, "rows", f->rows);
    jw_kint(w, "train_rows", f->trained_rows);
    for (int s = SCORE_AUTO + 1; s < SCORE_COUNT; s++)
        if (isfinite(f->score[s])) jw_knum(w, score_name((enum score_kind)s), f->score[s]);
    jw_kint(w, "epochs", f->epochs);
    jw_knum(w, "train_seconds", f->seconds);
    jw_obj_end(w);
}

static int describe(const struct crossing *c, struct buf *out, struct err *e)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    jw_kstr(&w, "evaluated_on", "folds");
    jw_kint(&w, "rows", (int64_t)c->data.train.n_rows);
    figures_to_json(c, mean_of, &w);
    jw_name(&w, "std");
    jw_obj(&w);
    figures_to_json(c, deviation_of, &w);
    jw_obj_end(&w);
    jw_kbool(&w, "stratified", c->spec->stratified && c->resolved->task == TASK_CLASSIFICATION);
    jw_name(&w, "folds");
    jw_arr(&w);
    for (int64_t i = 0; i < c->spec->folds; i++) fold_to_json(&c->folds[i], i + 1, &w);
    jw_arr_end(&w);
    if (c->pooled.classification) report_confusion(&c->pooled, c->preprocess, &w);
    jw_kint(&w, "parameters", c->resolved->estimate.parameters);
    jw_obj_end(&w);
    return out->failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the results") : 0;
}

int cross_run(struct train_result *out, const struct train_request *request,
              const struct train_callbacks *callbacks, struct err *e)
{
    struct crossing c = {.request = request};
    c.nest = (struct nest){
        .outer = callbacks, .staging_fd = request->artifact_fd, .write = cross__write, .owner = &c};
    *out = (struct train_result){0};
    int rc = open_crossing(&c, e);
    if (!rc) rc = cross__resume(&c, e);
    c.ready = !rc;
    if (!rc) rc = run_folds(&c, e);
    /* It gives way where no training had anything to lay down. */
    if (rc == ERR_CANCELLED && c.ready && !c.nest.laid_down) nest_save(&c.nest, 1, 0);
    rc = nest_outcome(&c.nest, rc, e);
    if (!rc) rc = describe(&c, &out->metrics, e);
    close_crossing(&c);
    if (rc) train_result_dispose(out);
    return rc;
}
