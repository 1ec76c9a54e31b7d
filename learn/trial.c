/* Runs one trial, and says how it went. */
#include "learn/trial.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

static const char *const state_names[] = {"waiting", "finished", "stopped", "failed"};

const char *trial_state_name(enum trial_state s)
{
    return state_names[s];
}

void trial_forget(struct trial *t)
{
    if (t->training) training_dispose(t->training);
    mem_free(t->training);
    cJSON_Delete(t->spec);
    t->training = NULL;
    t->spec = NULL;
}

void trial_dispose(struct trial *t)
{
    trial_forget(t);
    buf_dispose(&t->paused);
}

int trial_compare(const struct trial *a, const struct trial *b, enum score_kind score)
{
    if (a->scored != b->scored) return a->scored ? -1 : 1;
    if (a->scored && a->score != b->score) {
        bool a_is_higher = a->score > b->score;
        return a_is_higher == score_higher_is_better(score) ? -1 : 1;
    }
    if (a->scored && a->loss != b->loss) return a->loss < b->loss ? -1 : 1;
    return a->number < b->number ? -1 : 1;
}

double trial_seconds(const struct trial *t)
{
    return t->seconds + (double)(clock_mono_ns() - t->began_ns) / 1e9;
}

static size_t most_bytes(const struct trial *t)
{
    return t->request.memory_bytes ? t->request.memory_bytes : SIZE_MAX / 2;
}

/* From a checkpoint, up to and with the fit; epochs as for trial_run. */
static int fit(struct trial *t, const struct trial_scene *s, struct training *g, const struct buf *from,
               int64_t epochs, struct err *e)
{
    int rc;
    t->request = *s->request;
    t->request.resume = from->len ? from->data : NULL;
    t->request.resume_bytes = from->len;
    g->request = &t->request;
    g->data = s->data;
    g->watch = s->watch;
    if ((rc = training_resolve(g, e)) || (rc = training_prepare(g, e))) return rc;
    g->until_epoch = epochs < g->resolved->training.epochs ? epochs : 0;
    return training_fit(g, e);
}

static int train(struct trial *t, const struct trial_scene *s, struct training *g, int64_t epochs,
                 struct err *e)
{
    int rc = fit(t, s, g, &t->paused, epochs, e);
    if (rc) return rc;
    if (g->fit.paused)
        rc = nest_take(s->nest, &t->paused, most_bytes(t), e);
    else
        buf_dispose(&t->paused);
    return rc ? rc : training_evaluate(g, e);
}

int trial_keep(struct trial *t, const struct trial_scene *s, struct buf *out, struct err *e)
{
    if (t->training->closed_form) {
        buf_dispose(out);
        return 0;
    }
    int rc = training_save(t->training, e);
    return rc ? rc : nest_take(s->nest, out, most_bytes(t), e);
}

int trial_restore(struct trial *t, const struct trial_scene *s, const struct buf *kept, struct err *e)
{
    struct training *g = mem_alloc(1, sizeof *g);
    cJSON *spec = NULL;
    int rc = tune_trial_spec(&spec, s->tune, t->number, e);
    g->spec_json = spec;
    if (!rc) rc = fit(t, s, g, kept, t->state == TRIAL_FINISHED ? 0 : t->epochs, e);
    if (!rc) rc = training_evaluate(g, e);
    t->request.resume = NULL;
    trial_forget(t);
    t->training = g;
    t->spec = spec;
    if (rc) trial_forget(t);
    return rc;
}

static int take_score(struct trial *t, const struct trial_scene *s, struct err *e)
{
    const struct training *g = t->training;
    t->epochs = g->closed_form ? 1 : g->fit.epochs_run;
    t->state = g->fit.paused ? TRIAL_WAITING : TRIAL_FINISHED;
    t->score = metrics_score(&g->on_validation, s->score);
    t->loss = metrics_loss(&g->on_validation);
    t->scored = isfinite(t->score);
    if (t->scored) return 0;
    return err_set(e, ERR_INVALID, "spec.metric", "the validation rows give no %s", score_name(s->score));
}

static void fail(struct trial *t, const struct err *why)
{
    trial_dispose(t);
    t->state = TRIAL_FAILED;
    t->scored = false;
    t->why = *why;
}

static bool is_own_fault(int rc)
{
    return rc == ERR_INVALID || rc == ERR_UNSUPPORTED || rc == ERR_TOO_LARGE;
}

/* What it had before stays until there is something better: time may run out. */
int trial_run(struct trial *t, const struct trial_scene *s, int64_t epochs, struct err *e)
{
    struct training *g = mem_alloc(1, sizeof *g);
    cJSON *spec = NULL;
    t->began_ns = clock_mono_ns();
    int rc = tune_trial_spec(&spec, s->tune, t->number, e);
    g->spec_json = spec;
    if (!rc) rc = train(t, s, g, epochs, e);
    t->seconds = trial_seconds(t);
    if (!rc) {
        trial_forget(t);
        t->training = g;
        t->spec = spec;
        rc = take_score(t, s, e);
    } else {
        training_dispose(g);
        mem_free(g);
        cJSON_Delete(spec);
    }
    if (!is_own_fault(rc)) return rc;
    fail(t, e);
    err_clear(e);
    return 0;
}

void trial_to_json(const struct trial *t, const struct tune_spec *tune, struct json_writer *w)
{
    jw_obj(w);
    jw_kint(w, "trial", t->number);
    jw_name(w, "parameters");
    tune_trial_values(tune, t->number, w);
    jw_kstr(w, "state", trial_state_name(t->state));
    if (t->scored) {
        jw_knum(w, "score", t->score);
        jw_knum(w, "val_loss", t->loss);
    }
    jw_kint(w, "epochs", t->epochs);
    jw_knum(w, "seconds", round(t->seconds * 1e3) / 1e3);
    if (t->state == TRIAL_FAILED) jw_kstr(w, "error", t->why.message);
    jw_obj_end(w);
}
