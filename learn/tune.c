/* Runs the trials of a search and keeps the best. */
#include "learn/tune.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "learn/tune_state.h"

static const double WRAP_UP = 0.02; /* share of the time that is kept for the end */

/* ---- what the trials' watch asks ---- */

static bool on_cancelled(void *ctx)
{
    struct search *s = ctx;
    return nest_cancelled(&s->nest);
}

static bool on_save_due(void *ctx)
{
    struct search *s = ctx;
    return nest_save_due(&s->nest);
}

static int on_save_to(void *ctx)
{
    struct search *s = ctx;
    return nest_save_to(&s->nest);
}

static void on_saved(void *ctx, const struct train_mark *mark)
{
    struct search *s = ctx;
    nest_saved(&s->nest, mark);
}

/* ---- setting up ---- */

static void plan(struct search *s)
{
    s->rungs = tune_rungs(s->spec, (int64_t)s->all_epochs, s->rung);
    for (int i = 0; i < s->rungs; i++)
        s->planned += (double)s->rung[i].trials *
                      (double)(s->rung[i].epochs - (i ? s->rung[i - 1].epochs : 0)) / s->all_epochs;
}

static int open_search(struct search *s, struct err *e)
{
    const struct train_request *q = s->request;
    struct resolved *first = NULL;
    struct estimate need;
    int rc;
    s->inner = (struct train_callbacks){.ctx = s,
                                        .progress = tune__on_progress,
                                        .message = tune__on_message,
                                        .cancelled = on_cancelled,
                                        .save_due = on_save_due,
                                        .save_to = on_save_to,
                                        .saved = on_saved};
    s->began_ns = clock_mono_ns();
    watch_init(&s->searching, &s->inner, q->seconds * (1 - WRAP_UP), q->used_seconds);
    watch_init(&s->ending, &s->inner, q->seconds, q->used_seconds);
    s->searching.seconds = q->seconds; /* what a message speaks of */
    if ((rc = tune_parse(&s->spec, q->spec, "spec", e)) || (rc = training_schemas(&s->data, q, e)) ||
        (rc = tune_check(&need, &s->scene.score, s->spec, s->data.train.schema, s->data.test.schema, e)))
        return rc;
    uint64_t bytes = estimate_bytes(&need, q->threads);
    if (q->memory_bytes && bytes > q->memory_bytes)
        return err_set(e, ERR_TOO_LARGE, "dataset",
                       "the search needs about %llu MiB of memory; %llu MiB are allowed",
                       (unsigned long long)(bytes >> 20), (unsigned long long)(q->memory_bytes >> 20));
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
    s->scene.nest = &s->nest;
    s->scene.watch = &s->searching;
    if (!rc) plan(s);
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
    buf_dispose(&s->kept);
}

/* ---- trials ---- */

/* Trained in full comes before trained in part, which only counts when time runs out. */
static bool beats(const struct search *s, const struct trial *a, const struct trial *b)
{
    bool a_done = a->state == TRIAL_FINISHED, b_done = b->state == TRIAL_FINISHED;
    return a_done != b_done ? a_done : trial_compare(a, b, s->scene.score) < 0;
}

/* Only the best network stays in memory; what is paused has its checkpoint. */
static int keep_best(struct search *s, struct trial *t, struct err *e)
{
    if (s->best == t && !t->training) s->best = NULL; /* it failed when it went on */
    if (!t->training) return 0;
    if (s->best && s->best != t) {
        bool loses = beats(s, s->best, t);
        trial_forget(loses ? t : s->best);
        if (loses) return 0;
    }
    s->best = t;
    return trial_keep(t, &s->scene, &s->kept, e);
}

static int run_trial(struct search *s, const struct tune_rung *rung, struct err *e)
{
    struct trial *t = s->running = s->order[s->at];
    bool last = s->rung_at + 1 == s->rungs;
    int rc = trial_run(t, &s->scene, last ? 0 : rung->epochs, e);
    if (rc) return rc;
    s->done += (double)(rung->epochs - tune__from_epoch(s)) / s->all_epochs;
    rc = keep_best(s, t, e);
    tune__tell_trial(s);
    s->running = NULL;
    s->ended++;
    return rc;
}

/* From order[at] on. */
static int run_rung(struct search *s, struct err *e)
{
    while (s->at < s->n_order) {
        int rc = watch_check(&s->searching, e);
        /* One that stopped early on an earlier rung is done. */
        if (!rc && s->order[s->at]->state != TRIAL_FINISHED) rc = run_trial(s, &s->rung[s->rung_at], e);
        if (rc) return rc;
        s->at++;
        if (nest_save_due(&s->nest)) tune__save(s);
    }
    return 0;
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

static int run_rungs(struct search *s, struct err *e)
{
    while (s->n_order > 0) {
        int rc = run_rung(s, e);
        if (rc) return rc;
        if (s->rung_at + 1 == s->rungs) return 0;
        s->rung_at++;
        s->at = 0;
        cut(s, s->rung[s->rung_at].trials);
    }
    return 0;
}

static int run_trials(struct search *s, struct err *e)
{
    int rc = run_rungs(s, e);
    if (rc == ERR_TIMEOUT && s->best) {
        s->running = NULL;
        watch_message(&s->ending, "warn", "the time is nearly up: the best trial so far is taken");
        s->out_of_time = true;
        rc = 0;
    }
    if (rc) return rc;
    for (int64_t i = 0; i < s->spec->trials; i++)
        if (s->trials[i].state == TRIAL_WAITING) s->trials[i].state = TRIAL_STOPPED;
    if (s->best) return 0;
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
    struct search s = {.request = request};
    s.nest = (struct nest){
        .outer = callbacks, .staging_fd = request->artifact_fd, .write = tune__write, .owner = &s};
    *out = (struct train_result){0};
    int rc = open_search(&s, e);
    if (!rc) rc = tune__resume(&s, e);
    s.ready = !rc;
    if (!rc) rc = run_trials(&s, e);
    if (!rc) rc = finish(&s, out, e);
    /* It gives way where no training had anything to lay down. */
    if (rc == ERR_CANCELLED && s.ready && !s.nest.laid_down) tune__save(&s);
    rc = nest_outcome(&s.nest, rc, e);
    close_search(&s);
    if (rc) train_result_dispose(out);
    return rc;
}
