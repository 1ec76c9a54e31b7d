/* Lays a search down, and picks it up again without trusting a byte.
 *
 *   state   rung, place in it, ranking, and of each trial its state, score, epochs and seconds
 *   tensors trial/<n>: the training checkpoint that trial n goes on from; best: that of the best one's end
 *
 * What a trial tries is not here: it follows from the seed and its number. Nor are the best trial's figures:
 * they are measured again, by the same weights. */
#include "learn/tune_state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "learn/checkpoint_bundle.h"
#include "tensor/backend.h"
#include "tensor/kernel.h"

#define FORMAT_NAME "tenor.search.1"
static const char BEST[] = "best", TRIAL[] = "trial/";
static const double LARGEST = 1e300;

/* ---- writing ---- */

static void trial_state_to_json(const struct search *s, const struct trial *t, bool running,
                                struct json_writer *w)
{
    jw_obj(w);
    jw_kint(w, "state", (int64_t)t->state);
    jw_kbool(w, "scored", t->scored);
    jw_knum(w, "score", t->scored ? t->score : 0);
    jw_knum(w, "loss", t->loss);
    jw_kint(w, "epochs", t->epochs);
    jw_knum(w, "seconds", running && t == s->running ? trial_seconds(t) : t->seconds);
    jw_kstr(w, "why", t->why.message);
    jw_obj_end(w);
}

static void state_to_json(const struct search *s, bool running, struct buf *out)
{
    const struct backend *b = backend_auto();
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    jw_kint(&w, "rung", s->rung_at);
    jw_kint(&w, "at", s->at);
    jw_kint(&w, "ended", s->ended);
    jw_knum(&w, "done", s->done);
    jw_kint(&w, "best", s->best ? s->best->number : 0);
    jw_name(&w, "order");
    jw_arr(&w);
    for (int64_t i = 0; i < s->n_order; i++) jw_int(&w, s->order[i]->number);
    jw_arr_end(&w);
    jw_name(&w, "trials");
    jw_arr(&w);
    for (int64_t i = 0; i < s->spec->trials; i++) trial_state_to_json(s, &s->trials[i], running, &w);
    jw_arr_end(&w);
    jw_kstr(&w, "backend", b->kernels->name);
    jw_kint(&w, "threads", s->request->threads);
    jw_obj_end(&w);
}

static size_t list_items(const struct search *s, const void *training, size_t len, struct bundle_item *list)
{
    size_t n = 0;
    for (int64_t i = 0; i < s->spec->trials; i++) {
        const struct trial *t = &s->trials[i];
        bool now = len > 0 && t == s->running;
        if (!now && t->paused.len == 0) continue;
        struct bundle_item *item = &list[n++];
        *item = (struct bundle_item){
            .dtype = "U8", .data = now ? training : t->paused.data, .bytes = now ? len : t->paused.len};
        snprintf(item->name, sizeof item->name, "%s%lld", TRIAL, (long long)t->number);
    }
    if (!s->best || s->kept.len == 0) return n;
    list[n] = (struct bundle_item){.dtype = "U8", .data = s->kept.data, .bytes = s->kept.len};
    snprintf(list[n].name, sizeof list[n].name, "%s", BEST);
    return n + 1;
}

/* A training's own checkpoint counts while its trial runs; what the end of the search measures is laid down
 * as `best` already. */
int tune__write(void *search, const void *training, size_t len, int fd, struct train_mark *mark,
                struct err *e)
{
    const struct search *s = search;
    char sum[SHA256_HEX_LEN];
    struct buf state = {0};
    struct bundle_item *list = mem_try_alloc((size_t)s->spec->trials + 1, sizeof *list);
    int64_t at = s->at < s->n_order ? s->at : s->n_order - 1;
    int rc = list ? bundle_digest(sum, FORMAT_NAME, s->request, e)
                  : err_set(e, ERR_NOMEM, NULL, "no memory to write a checkpoint");
    state_to_json(s, len > 0, &state);
    if (!rc && state.failed) rc = err_set(e, ERR_NOMEM, NULL, "no memory to write a checkpoint");
    if (at >= 0)
        snprintf(mark->part, sizeof mark->part, "trial %lld of %lld", (long long)s->order[at]->number,
                 (long long)s->spec->trials);
    if (!rc)
        rc = bundle_write(fd, FORMAT_NAME, sum, state.data, list, list_items(s, training, len, list),
                          &mark->bytes, e);
    buf_dispose(&state);
    mem_free(list);
    return rc;
}

void tune__save(struct search *s)
{
    bool ends = s->at >= s->n_order;
    int64_t had = tune__from_epoch(s);
    nest_save(&s->nest, ends ? s->rung[s->rung_at].epochs : had + 1, 0);
}

/* ---- reading ---- */

/* What is read back, until all of it is known to be sound. */
struct found {
    struct trial *trials;
    struct trial **order;
    int64_t n_order, at, rung_at, ended, best;
    double done;
    struct buf kept;
    bool same_machine;
};

static int corrupt(struct err *e, const char *what)
{
    return err_set(e, ERR_CORRUPT, NULL, "the checkpoint is not sound: %s", what);
}

static int read_trial(struct trial *t, const cJSON *node, struct err *e)
{
    struct json_obj o;
    int64_t state = 0;
    const char *why = "";
    int rc;
    if ((rc = json_obj_open(&o, node, "tenor.state.trials", e)) ||
        (rc = json_take_int(&o, "state", TRIAL_WAITING, TRIAL_FAILED, &state, e)) ||
        (rc = json_take_bool(&o, "scored", &t->scored, e)) ||
        (rc = json_take_num(&o, "score", -LARGEST, LARGEST, &t->score, e)) ||
        (rc = json_opt_num(&o, "loss", -LARGEST, LARGEST, &t->loss, e)) ||
        (rc = json_take_int(&o, "epochs", 0, INT64_C(1) << 53, &t->epochs, e)) ||
        (rc = json_take_num(&o, "seconds", 0, LARGEST, &t->seconds, e)) ||
        (rc = json_take_str(&o, "why", 0, sizeof t->why.message - 1, &why, e)) ||
        (rc = json_obj_close(&o, e)))
        return rc;
    t->state = (enum trial_state)state;
    if (t->state == TRIAL_FAILED) err_set(&t->why, ERR_INVALID, NULL, "%s", why);
    if (t->state == TRIAL_FAILED && t->scored) return corrupt(e, "a trial that failed has a score");
    return 0;
}

static int read_order(const struct search *s, struct found *f, const cJSON *list, struct err *e)
{
    bool seen[TUNE_MAX_TRIALS + 1] = {false};
    for (const cJSON *c = list->child; c; c = c->next) {
        double n = cJSON_IsNumber(c) ? c->valuedouble : 0;
        if (!(n >= 1 && n <= (double)s->spec->trials) || n != floor(n) || seen[(size_t)n])
            return corrupt(e, "its ranking is none of the search's trials");
        seen[(size_t)n] = true;
        f->order[f->n_order++] = &f->trials[(size_t)n - 1];
        /* Those were stopped by the clock: with time left they go on. */
        if (f->trials[(size_t)n - 1].state == TRIAL_STOPPED) f->trials[(size_t)n - 1].state = TRIAL_WAITING;
    }
    return f->at > f->n_order ? corrupt(e, "its place is beyond its trials") : 0;
}

static int read_trials(struct found *f, const cJSON *list, struct err *e)
{
    int64_t n = 0;
    for (const cJSON *c = list->child; c; c = c->next, n++) {
        int rc = read_trial(&f->trials[n], c, e);
        if (rc) return rc;
        f->trials[n].number = n + 1;
    }
    if (f->best == 0 || f->trials[f->best - 1].scored) return 0;
    return corrupt(e, "its best trial has no score");
}

static int read_state(const struct search *s, struct found *f, const cJSON *node, struct err *e)
{
    struct json_obj o;
    size_t n = (size_t)s->spec->trials;
    const cJSON *order = NULL, *trials = NULL;
    const char *backend = NULL;
    int64_t threads = 0;
    int rc;
    if ((rc = json_obj_open(&o, node, "tenor.state", e)) ||
        (rc = json_take_int(&o, "rung", 0, s->rungs - 1, &f->rung_at, e)) ||
        (rc = json_take_int(&o, "at", 0, s->spec->trials, &f->at, e)) ||
        (rc = json_take_int(&o, "ended", 0, INT64_C(1) << 40, &f->ended, e)) ||
        (rc = json_take_num(&o, "done", 0, LARGEST, &f->done, e)) ||
        (rc = json_take_int(&o, "best", 0, s->spec->trials, &f->best, e)) ||
        (rc = json_take_array(&o, "order", 0, n, &order, e)) ||
        (rc = json_take_array(&o, "trials", n, n, &trials, e)) ||
        (rc = json_take_str(&o, "backend", 0, 64, &backend, e)) ||
        (rc = json_take_int(&o, "threads", 0, 1 << 20, &threads, e)) || (rc = json_obj_close(&o, e)) ||
        (rc = read_trials(f, trials, e)) || (rc = read_order(s, f, order, e)))
        return rc;
    f->same_machine = strcmp(backend, backend_auto()->kernels->name) == 0 && threads == s->request->threads;
    return 0;
}

/* The buffer that an item goes into, or NULL. */
static struct buf *place_of(const struct search *s, struct found *f, const char *name)
{
    char *end = NULL;
    if (strcmp(name, BEST) == 0) return &f->kept;
    if (strncmp(name, TRIAL, sizeof TRIAL - 1) != 0) return NULL;
    long n = strtol(name + sizeof TRIAL - 1, &end, 10);
    return *end == '\0' && n >= 1 && n <= s->spec->trials ? &f->trials[n - 1].paused : NULL;
}

static int read_items(const struct search *s, struct found *f, const struct bundle *b, struct err *e)
{
    for (size_t i = 0; i < bundle_count(b); i++) {
        struct bundle_item item;
        int rc = bundle_item(&item, b, i, e);
        if (rc) return rc;
        struct buf *to = place_of(s, f, item.name);
        if (!to || strcmp(item.dtype, "U8") != 0) return corrupt(e, "it holds what no search has");
        buf_clear(to); /* a number may be written in two ways */
        buf_append(to, item.data, item.bytes);
        if (to->failed) return err_set(e, ERR_NOMEM, NULL, "no memory for the paused trials");
    }
    return 0;
}

static void found_dispose(const struct search *s, struct found *f)
{
    for (int64_t i = 0; f->trials && i < s->spec->trials; i++) buf_dispose(&f->trials[i].paused);
    mem_free(f->trials);
    mem_free(f->order);
    buf_dispose(&f->kept);
}

/* Between what is there, without trials that run, and what is found. */
static void exchange(struct search *s, struct found *f)
{
    struct trial *trials = s->trials;
    struct trial **order = s->order;
    s->trials = f->trials;
    s->order = f->order;
    f->trials = trials;
    f->order = order;
    s->n_order = f->n_order;
    s->at = f->at;
    s->rung_at = (int)f->rung_at;
    s->ended = f->ended;
    s->done = s->done_before = f->done;
    s->best = f->best ? &s->trials[f->best - 1] : NULL;
    s->kept = f->kept;
    f->kept = (struct buf){0};
}

static int find(const struct search *s, struct found *f, struct err *e)
{
    char sum[SHA256_HEX_LEN];
    struct bundle *b = NULL;
    f->trials = mem_try_alloc((size_t)s->spec->trials, sizeof *f->trials);
    f->order = mem_try_alloc((size_t)s->spec->trials, sizeof *f->order);
    int rc = f->trials && f->order ? bundle_digest(sum, FORMAT_NAME, s->request, e)
                                   : err_set(e, ERR_NOMEM, NULL, "no memory for the trials");
    if (!rc) rc = bundle_open(&b, s->request->resume, s->request->resume_bytes, FORMAT_NAME, sum, e);
    if (!rc) rc = read_state(s, f, bundle_state(b), e);
    if (!rc) rc = read_items(s, f, b, e);
    bundle_close(b);
    return rc;
}

/* With the time that is kept for the end: it may be all that is left. */
static int restore_best(struct search *s, struct err *e)
{
    if (!s->best) return 0;
    s->scene.watch = &s->ending;
    s->quiet = true;
    int rc = trial_restore(s->best, &s->scene, &s->kept, e);
    s->scene.watch = &s->searching;
    s->quiet = false;
    return rc == ERR_CANCELLED || rc == ERR_TIMEOUT || rc == 0 ? rc : err_prefix(e, "the best trial so far");
}

int tune__resume(struct search *s, struct err *e)
{
    const struct train_callbacks *outer = s->nest.outer;
    struct found f = {0};
    struct err why = {0};
    if (!s->request->resume) return 0;
    int rc = find(s, &f, &why);
    if (!rc) exchange(s, &f);
    found_dispose(s, &f);
    if (rc == ERR_NOMEM) return err_set(e, rc, NULL, "%s", why.message);
    if (rc) {
        if (outer->refused) outer->refused(outer->ctx, why.message);
        watch_message(&s->ending, "warn", "%s; the search starts from the beginning", why.message);
        return 0;
    }
    if (!f.same_machine)
        watch_message(&s->ending, "info",
                      "resumed on another kind of processor or number of threads than before: the result may "
                      "differ in its last bits from an undisturbed search's");
    return restore_best(s, e);
}
