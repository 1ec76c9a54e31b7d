/* What the training loop says of itself: progress on its way, and the history of its epochs. */
#include "learn/fit_state.h"

#include <math.h>

#include "base/clock.h"
#include "base/json.h"

struct epoch_scores fit__scores(const struct fit *f)
{
    return (struct epoch_scores){.loss = f->at.loss_sum / f->at.rows_done,
                                 .accuracy = f->at.hits / f->at.rows_done,
                                 .val_loss = NAN,
                                 .val_accuracy = NAN,
                                 .val_rmse = NAN};
}

static void scores_to_json(const struct fit *f, const struct epoch_scores *s, bool end, struct json_writer *w)
{
    bool validated = end && !isnan(s->val_loss), squared = f->training->objective == OBJECTIVE_USUAL;
    bool accuracy = fit__has_accuracy(f);
    jw_knum(w, "loss", s->loss);
    if (accuracy) jw_knum(w, "accuracy", s->accuracy);
    if (!accuracy && squared) jw_knum(w, "rmse", sqrt(s->loss));
    if (validated) jw_knum(w, "val_loss", s->val_loss);
    if (validated && accuracy) jw_knum(w, "val_accuracy", s->val_accuracy);
    if (validated && !accuracy) jw_knum(w, "val_rmse", s->val_rmse);
}

/* At the speed of this attempt. */
static double eta_seconds(const struct fit *f)
{
    double done = (double)((f->at.epoch - 1) * f->steps + f->at.step) - f->started_done;
    double all = (double)(f->training->epochs * f->steps) - f->started_done;
    double elapsed = (double)(clock_mono_ns() - f->started_ns) / 1e9;
    return done > 0 ? elapsed * (all - done) / done : -1;
}

void fit__report(struct fit *f, const struct epoch_scores *s, bool end)
{
    struct buf text = {0};
    struct json_writer w;
    jw_init(&w, &text);
    jw_obj(&w);
    scores_to_json(f, s, end, &w);
    jw_obj_end(&w);
    struct train_progress p = {.phase = "train",
                               .epoch = f->at.epoch,
                               .epochs = f->training->epochs,
                               .step = f->at.step,
                               .steps = f->steps,
                               .epoch_end = end,
                               .metrics_json = text.failed ? "{}" : text.data,
                               .eta_seconds = eta_seconds(f)};
    watch_report(f->q->watch, &p);
    buf_dispose(&text);
}

void fit__add_history(const struct fit *f, const struct epoch_scores *s)
{
    struct json_writer w;
    buf_char(f->history, f->at.epoch == 1 ? '[' : ',');
    jw_init(&w, f->history);
    jw_obj(&w);
    jw_kint(&w, "epoch", f->at.epoch);
    scores_to_json(f, s, true, &w);
    jw_obj_end(&w);
}
