/* What the trials of a search say, passed on with which one says it. */
#include "learn/tune_state.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

/* A warning is worth hearing of each trial; the rest is the same each time. */
void tune__on_message(void *ctx, const char *level, const char *text)
{
    const struct search *s = ctx;
    const struct train_callbacks *outer = s->nest.outer;
    char line[600];
    if (!outer->message) return;
    if (!s->running) {
        outer->message(outer->ctx, level, text);
    } else if (strcmp(level, "warn") == 0) {
        snprintf(line, sizeof line, "trial %lld: %s", (long long)s->running->number, text);
        outer->message(outer->ctx, level, line);
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
    jw_kint(&w, "ended", s->ended);
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

/* At the speed of this attempt. */
static double eta_seconds(const struct search *s, const struct train_progress *p)
{
    double epoch = (double)(p->epoch - 1) + (p->steps > 0 ? (double)p->step / (double)p->steps : 0);
    double part = s->all_epochs > 0 ? (epoch - (double)tune__from_epoch(s)) / s->all_epochs : 0;
    double done = s->done + (part > 0 ? part : 0), here = done - s->done_before;
    double elapsed = (double)(clock_mono_ns() - s->began_ns) / 1e9;
    return here > 0 && s->planned > done ? elapsed * (s->planned - done) / here : -1;
}

void tune__on_progress(void *ctx, const struct train_progress *p)
{
    struct search *s = ctx;
    const struct train_callbacks *outer = s->nest.outer;
    struct train_progress mine = *p;
    if (!outer->progress || s->quiet) return;
    if (s->running) {
        describe_part(s);
        mine.part = "trial";
        mine.part_json = s->part.failed ? "{}" : s->part.data;
        mine.eta_seconds = eta_seconds(s, p);
    }
    outer->progress(outer->ctx, &mine);
}

void tune__tell_trial(struct search *s)
{
    const struct train_callbacks *outer = s->nest.outer;
    const struct trial *t = s->running;
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
    if (outer->message && text.data) outer->message(outer->ctx, failed ? "warn" : "info", text.data);
    buf_clear(&text);
    jw_init(&w, &text);
    jw_obj(&w);
    if (t->training) metrics_scores_to_json(&t->training->on_validation, "val_", &w);
    jw_obj_end(&w);
    p.metrics_json = text.failed ? "{}" : text.data;
    if (!failed) tune__on_progress(s, &p);
    buf_dispose(&text);
    buf_dispose(&values);
}
