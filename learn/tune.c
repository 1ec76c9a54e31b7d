/* Runs the trials of a search and keeps the best. */
#include "learn/tune.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "learn/trial.h"

static const double WRAP_UP = 0.02; /* share of the time that is kept for the end */

struct search {
    const struct train_request *request;
    const struct train_callbacks *outer;
    struct train_callbacks inner; /* what the trials' watch calls */
    struct watch searching, ending;
    struct training_data data, seen; /* seen: data without the test dataset, borrowed */
    struct tune_spec *spec;
    struct trial_scene scene;
    struct trial *trials;
    struct trial **order; /* by rank, of those that are still in it */
    int64_t n_order;
    struct trial *running, *best; /* best: of what is kept */
    bool cancelled, out_of_time;
    int64_t began_ns;
    double planned, done;                    /* full trainings */
    double from_epoch, to_epoch, all_epochs; /* of the running trial in this rung */
    struct buf part;
};

/* ---- what the trials say, passed on with which one says it ---- */

static bool on_cancelled(void *ctx)
{
    struct search *s = ctx;
    if (s->outer->cancelled && s->outer->cancelled(s->outer->ctx)) s->cancelled = true;
    return s->cancelled;
}

/* A trial's pause goes to the artifact's file; a job that is cancelled leaves nothing. */
static int on_save_to(void *ctx)
{
    const struct search *s = ctx;
    return s->cancelled ? -1 : s->request->artifact_fd;
}

/* A warning is worth hearing of each trial; the rest is the same each time. */
static void on_message(void *ctx, const char *level, const char *text)
{
    const struct search *s = ctx;
    char line[600];
    if (!s->outer->message) return;
    if (!s->running) {
        s->outer->message(s->outer->ctx, level, text);
    } else if (strcmp(level, "warn") == 0) {
        snprintf(line, sizeof line, "trial %lld: %s", (long long)s->running->number, text);
        s->outer->message(s->outer->ctx, level, line);
    }
}

static void describe_part(struct search *s)
{
    struct json_writer w;
    buf_clear(&s->part);
    jw_init(&w, &s->part);
    jw_obj(&w);
    jw_kint(&w, "number", s->running->number);
    jw_kint(&w, "of", s->spec->trials);
    jw_name(&w, "parameters");
    tune_trial_values(s->spec, s->running->number, &w);
    if (s->running->scored) jw_knum(&w, "score", s->running->score);
    if (s->best) {
        jw_name(&w, "best");
        jw_obj(&w);
        jw_kint(&w, "number", s->best->number);
        jw_knum(&w, "score", s->best->score);
        jw_obj_end(&w);
    }
    jw_obj_end(&w);
}

static double eta_seconds(const struct search *s, const struct train_progress *p)
{
    double epoch = (double)(p->epoch - 1) + (p->steps > 0 ? (double)p->step / (double)p->steps : 0);
    double part = s->all_epochs > 0 ? (epoch - s->from_epoch) / s->all_epochs : 0;
    double done = s->done + (part > 0 ? part : 0);
    double elapsed = (double)(clock_mono_ns() - s->began_ns) / 1e9;
    return done > 0 && s->planned > done ? elapsed * (s->planned - done) / done : -1;
}

static void on_progress(void *ctx, const struct train_progress *p)
{
    struct search *s = ctx;
    struct train_progress mine = *p;
    if (!s->outer->progress) return;
    if (s->running) {
        describe_part(s);
        mine.part = "trial";
        mine.part_json = s->part.failed ? "{}" : s->part.data;
        mine.eta_seconds = eta_seconds(s, p);
    }
    s->outer->progress(s->outer->ctx, &mine);
}

/* ---- setting up ---- */

static int open_search(struct search *s, struct err *e)
{
    const struct train_request *q = s->request;
    struct resolved *first = NULL;
    struct estimate need;
    int rc;
    s->inner = (struct train_callbacks){.ctx = s,
                                        .progress = on_progress,
                                        .message = on_message,
                                        .cancelled = on_cancelled,
                                        .save_to = on_save_to};
    s->began_ns = clock_mono_ns();
    watch_init(&s->searching, &s->inner, q->seconds * (1 - WRAP_UP), q->used_seconds);
    watch_init(&s->ending, &s->inner, q->seconds, q->used_seconds);
    s->searching.seconds = q->seconds; /* what a message speaks of */
    if ((rc = tune_parse(&s->spec, q->spec, "spec", e)) || (rc = training_schemas(&s->data, q, e)) ||
        (rc = tune_check(&need, &s->scene.score, s->spec, s->data.train.schema, s->data.test.schema, e)))
        return rc;
    if (q->memory_bytes && need.memory_bytes > q->memory_bytes)
        return err_set(
            e, ERR_TOO_LARGE, "dataset", "the search needs about %llu MiB of memory; %llu MiB are allowed",
            (unsigned long long)(need.memory_bytes >> 20), (unsigned long long)(q->memory_bytes >> 20));
    s->trials = mem_try_alloc((size_t)s->spec->trials, sizeof *s->trials);
    s->order = mem_try_alloc((size_t)s->spec->trials, sizeof *s->order);
    if (!s->trials || !s->order) return err_set(e, ERR_NOMEM, NULL, "no memory for the trials");
    for (int64_t i = 0; i < s->spec->trials; i++) {
        s->trials[i].number = i + 1;
        s->order[s->n_order++] = &s->trials[i];
    }
    rc = tune_trial_resolve(&first, s->spec, 1, s->data.train.schema, s->data.test.schema, e);
    if (!rc) rc = training_read(&s->data, first, q, &s->ending, e);
    if (!rc) s->all_epochs = (double)first->training.epochs;
    resolved_free(first);
    s->seen = s->data;
    s->seen.test = (struct training_part){0};
    s->scene.request = q;
    s->scene.data = &s->seen;
    s->scene.tune = s->spec;
    s->scene.watch = &s->searching;
    return rc;
}

static void close_search(struct search *s)
{
    for (int64_t i = 0; s->trials && i < s->spec->trials; i++) trial_dispose(&s->trials[i]);
    mem_free(s->trials);
    mem_free(s->order);
    tune_free(s->spec);
    training_data_dispose(&s->data);
    buf_dispose(&s->part);
}

/* ---- trials ---- */

static void tell_trial(struct search *s, const struct trial *t)
{
    bool failed = t->state == TRIAL_FAILED;
    struct buf text = {0}, values = {0};
    struct json_writer w;
    struct train_progress p = {
        .phase = "trial", .epoch = t->epochs, .epochs = t->epochs, .epoch_end = true, .eta_seconds = -1};
    jw_init(&w, &values);
    tune_trial_values(s->spec, t->number, &w);
    buf_printf(&text, "trial %lld of %lld", (long long)t->number, (long long)s->spec->trials);
    if (failed)
        buf_printf(&text, " failed: %s", t->why.message);
    else
        buf_printf(&text, ": val_%s %.6g after %lld epochs %.400s", score_name(s->scene.score), t->score,
                   (long long)t->epochs, values.data ? values.data : "");
    if (s->outer->message && text.data) s->outer->message(s->outer->ctx, failed ? "warn" : "info", text.data);
    buf_clear(&text);
    jw_init(&w, &text);
    jw_obj(&w);
    if (t->training) metrics_scores_to_json(&t->training->on_validation, "val_", &w);
    jw_obj_end(&w);
    p.metrics_json = text.failed ? "{}" : text.data;
    if (!failed) on_progress(s, &p);
    buf_dispose(&text);
    buf_dispose(&values);
}

/* Trained in full comes before trained in part, which only counts when time runs out. */
static bool beats(const struct search *s, const struct trial *a, const struct trial *b)
{
    bool a_done = a->state == TRIAL_FINISHED, b_done = b->state == TRIAL_FINISHED;
    return a_done != b_done ? a_done : trial_compare(a, b, s->scene.score) < 0;
}

/* Only the best network stays in memory; what is paused has its checkpoint. */
static void keep_best(struct search *s, struct trial *t)
{
    if (s->best == t && !t->training) s->best = NULL; /* it failed when it went on */
    if (!t->training || s->best == t) return;
    if (s->best && beats(s, s->best, t)) {
        trial_forget(t);
        return;
    }
    if (s->best) trial_forget(s->best);
    s->best = t;
}

static int run_rung(struct search *s, const struct tune_rung *rung, int64_t from_epoch, bool last,
                    struct err *e)
{
    int rc = 0;
    s->from_epoch = (double)from_epoch;
    for (int64_t i = 0; i < s->n_order && !rc; i++) {
        struct trial *t = s->order[i];
        if (t->state == TRIAL_FINISHED) continue; /* it stopped early on an earlier rung */
        s->running = t;
        rc = trial_run(t, &s->scene, last ? 0 : rung->epochs, e);
        if (!rc) {
            s->done += (double)(rung->epochs - from_epoch) / s->all_epochs;
            keep_best(s, t);
            tell_trial(s, t);
        }
    }
    s->running = NULL;
    return rc;
}

/* The best `keep` go on; the rest has lost. */
static void cut(struct search *s, int64_t keep)
{
    int64_t n = 0;
    for (int64_t i = 1; i < s->n_order; i++) {
        struct trial *t = s->order[i];
        int64_t at = i;
        for (; at > 0 && trial_compare(t, s->order[at - 1], s->scene.score) < 0; at--)
            s->order[at] = s->order[at - 1];
        s->order[at] = t;
    }
    for (int64_t i = 0; i < s->n_order; i++) {
        struct trial *t = s->order[i];
        if (t->state == TRIAL_FAILED) continue;
        if (n < keep) {
            s->order[n++] = t;
            continue;
        }
        if (t->state == TRIAL_WAITING) t->state = TRIAL_STOPPED;
        buf_dispose(&t->paused);
    }
    s->n_order = n;
}

static int run_trials(struct search *s, struct err *e)
{
    struct tune_rung rung[TUNE_MAX_RUNGS];
    int rungs = tune_rungs(s->spec, (int64_t)s->all_epochs, rung), rc = 0;
    for (int i = 0; i < rungs; i++)
        s->planned +=
            (double)rung[i].trials * (double)(rung[i].epochs - (i ? rung[i - 1].epochs : 0)) / s->all_epochs;
    for (int i = 0; i < rungs && !rc && s->n_order > 0; i++) {
        rc = run_rung(s, &rung[i], i ? rung[i - 1].epochs : 0, i + 1 == rungs, e);
        if (!rc) cut(s, i + 1 < rungs ? rung[i + 1].trials : 1);
    }
    if (rc == ERR_TIMEOUT && s->best) {
        watch_message(&s->ending, "warn", "the time is nearly up: the best trial so far is taken");
        s->out_of_time = true;
        rc = 0;
    }
    for (int64_t i = 0; i < s->spec->trials; i++)
        if (s->trials[i].state == TRIAL_WAITING) s->trials[i].state = TRIAL_STOPPED;
    if (rc || s->best) return rc;
    return err_set(e, ERR_INVALID, "spec.parameters", "every trial failed; the first: %s",
                   s->trials[0].why.message);
}

/* ---- the result ---- */

static void search_to_json(const struct search *s, struct json_writer *w)
{
    jw_obj(w);
    jw_kstr(w, "method", tune_method_name(s->spec->method));
    jw_kstr(w, "metric", score_name(s->scene.score));
    jw_kint(w, "best_trial", s->best->number);
    jw_knum(w, "best_score", s->best->score);
    jw_name(w, "best_parameters");
    tune_trial_values(s->spec, s->best->number, w);
    jw_kstr(w, "ended", s->out_of_time ? "time" : "complete");
    jw_name(w, "trials");
    jw_arr(w);
    for (int64_t i = 0; i < s->spec->trials; i++) trial_to_json(&s->trials[i], s->spec, w);
    jw_arr_end(w);
    jw_obj_end(w);
}

/* The search's account goes into the object of the best trial's metrics. */
static int add_search(const struct search *s, struct buf *metrics, struct err *e)
{
    struct json_writer w;
    if (!metrics->failed) metrics->len--; /* its closing brace */
    buf_str(metrics, ",\"tune\":");
    jw_init(&w, metrics);
    search_to_json(s, &w);
    buf_char(metrics, '}');
    return metrics->failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the results") : 0;
}

/* The test dataset is looked at once, for the one that was chosen without it. */
static int finish(struct search *s, struct train_result *out, struct err *e)
{
    struct training *g = s->best->training;
    int rc = 0;
    g->watch = &s->ending;
    g->data = &s->data;
    if (s->data.test.schema) {
        metrics_dispose(&g->on_train);
        metrics_dispose(&g->on_validation);
        rc = training_evaluate(g, e);
    }
    if (!rc) rc = training_write(g, out, e);
    return rc ? rc : add_search(s, &out->metrics, e);
}

int tune_run(struct train_result *out, const struct train_request *request,
             const struct train_callbacks *callbacks, struct err *e)
{
    struct search s = {.request = request, .outer = callbacks};
    *out = (struct train_result){0};
    int rc = open_search(&s, e);
    if (!rc) rc = run_trials(&s, e);
    if (!rc) rc = finish(&s, out, e);
    close_search(&s);
    if (rc) train_result_dispose(out);
    return rc;
}
