/* Runs one trial, and says how it went. */
#include "learn/trial.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
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

/* The checkpoint of a pause stands in the artifact's file, which is empty until the search is over. */
static int take_pause(struct trial *t, int fd, struct err *e)
{
    buf_clear(&t->paused);
    if (lseek(fd, 0, SEEK_SET) != 0) return err_errno(e, ERR_IO, "read a paused trial");
    int rc = fs_read_fd(&t->paused, fd, t->request.memory_bytes ? t->request.memory_bytes : SIZE_MAX / 2, e);
    if (!rc && (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0))
        rc = err_errno(e, ERR_IO, "put a paused trial aside");
    return rc;
}

static int train(struct trial *t, const struct trial_scene *s, struct training *g, int64_t epochs,
                 struct err *e)
{
    int rc;
    t->request = *s->request;
    t->request.resume = t->paused.len ? t->paused.data : NULL;
    t->request.resume_bytes = t->paused.len;
    g->request = &t->request;
    g->data = s->data;
    g->watch = s->watch;
    if ((rc = training_resolve(g, e)) || (rc = training_prepare(g, e))) return rc;
    g->until_epoch = epochs < g->resolved->training.epochs ? epochs : 0;
    if ((rc = training_fit(g, e))) return rc;
    if (g->fit.paused)
        rc = take_pause(t, t->request.artifact_fd, e);
    else
        buf_dispose(&t->paused);
    return rc ? rc : training_evaluate(g, e);
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
    int64_t began = clock_mono_ns();
    struct training *g = mem_alloc(1, sizeof *g);
    cJSON *spec = NULL;
    int rc = tune_trial_spec(&spec, s->tune, t->number, e);
    g->spec_json = spec;
    if (!rc) rc = train(t, s, g, epochs, e);
    t->seconds += (double)(clock_mono_ns() - began) / 1e9;
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
