/* Lays a cross-validation down, and picks it up again without trusting a byte.
 *
 *   state   what each finished fold came to
 *   tensors confusion: of the finished folds together; fold: the training checkpoint of the one that runs
 *
 * Which rows a fold holds back follows from the seed. */
#include "learn/cross_state.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "learn/checkpoint_bundle.h"
#include "tensor/backend.h"
#include "tensor/kernel.h"

#define FORMAT_NAME "tenor.folds.1"
static const char CONFUSION[] = "confusion", FOLD[] = "fold";
static const double LARGEST = 1e300;
enum { ITEMS_MAX = 2 };

static size_t confusion_bytes(const struct crossing *c)
{
    return c->pooled.classification ? c->pooled.n_classes * c->pooled.n_classes * sizeof(int64_t) : 0;
}

/* ---- writing ---- */

static void fold_to_json(const struct fold *f, struct json_writer *w)
{
    jw_obj(w);
    jw_kint(w, "rows", f->rows);
    jw_kint(w, "train_rows", f->trained_rows);
    jw_kint(w, "epochs", f->epochs);
    jw_knum(w, "seconds", f->seconds);
    jw_name(w, "scores");
    jw_arr(w);
    for (int s = SCORE_AUTO + 1; s < SCORE_COUNT; s++) jw_num(w, f->score[s]);
    jw_arr_end(w);
    jw_obj_end(w);
}

static void state_to_json(const struct crossing *c, struct buf *out)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    jw_name(&w, "folds");
    jw_arr(&w);
    for (int64_t i = 0; i < c->done; i++) fold_to_json(&c->folds[i], &w);
    jw_arr_end(&w);
    jw_kstr(&w, "backend", backend_auto()->kernels->name);
    jw_kint(&w, "threads", c->request->threads);
    jw_obj_end(&w);
}

int cross__write(void *crossing, const void *training, size_t len, int fd, struct train_mark *mark,
                 struct err *e)
{
    const struct crossing *c = crossing;
    char sum[SHA256_HEX_LEN];
    struct bundle_item items[ITEMS_MAX] = {
        {.dtype = "I64", .data = c->pooled.confusion, .bytes = confusion_bytes(c)},
        {.dtype = "U8", .data = len ? training : c->paused.data, .bytes = len ? len : c->paused.len}};
    struct buf state = {0};
    memcpy(items[0].name, CONFUSION, sizeof CONFUSION);
    memcpy(items[1].name, FOLD, sizeof FOLD);
    int rc = bundle_digest(sum, FORMAT_NAME, c->request, e);
    state_to_json(c, &state);
    if (!rc && state.failed) rc = err_set(e, ERR_NOMEM, NULL, "no memory to write a checkpoint");
    snprintf(mark->part, sizeof mark->part, "fold %lld of %lld", (long long)c->done + 1,
             (long long)c->spec->folds);
    if (!rc) rc = bundle_write(fd, FORMAT_NAME, sum, state.data, items, ITEMS_MAX, &mark->bytes, e);
    buf_dispose(&state);
    return rc;
}

/* ---- reading ---- */

/* What is read back, until all of it is known to be sound. */
struct found {
    struct fold folds[REVIEW_MAX_FOLDS];
    int64_t done;
    const void *confusion; /* in the file */
    struct buf paused;
    bool same_machine;
};

static int corrupt(struct err *e, const char *what)
{
    return err_set(e, ERR_CORRUPT, NULL, "the checkpoint is not sound: %s", what);
}

static int read_fold(struct fold *f, const cJSON *node, struct err *e)
{
    const int64_t most = INT64_C(1) << 53;
    const size_t n = SCORE_COUNT - (SCORE_AUTO + 1);
    struct json_obj o;
    const cJSON *scores = NULL;
    int rc, s = SCORE_AUTO + 1;
    if ((rc = json_obj_open(&o, node, "tenor.state.folds", e)) ||
        (rc = json_take_int(&o, "rows", 1, most, &f->rows, e)) ||
        (rc = json_take_int(&o, "train_rows", 1, most, &f->trained_rows, e)) ||
        (rc = json_take_int(&o, "epochs", 0, most, &f->epochs, e)) ||
        (rc = json_take_num(&o, "seconds", 0, LARGEST, &f->seconds, e)) ||
        (rc = json_take_array(&o, "scores", n, n, &scores, e)) || (rc = json_obj_close(&o, e)))
        return rc;
    for (const cJSON *x = scores->child; x; x = x->next, s++) {
        if (!cJSON_IsNumber(x) && !cJSON_IsNull(x)) return corrupt(e, "a score is no number");
        f->score[s] = cJSON_IsNumber(x) ? x->valuedouble : (double)NAN;
    }
    return 0;
}

/* The last fold is never done in a checkpoint: what is left then needs no second attempt. */
static int read_state(const struct crossing *c, struct found *f, const cJSON *node, struct err *e)
{
    struct json_obj o;
    const cJSON *folds = NULL;
    const char *backend = NULL;
    int64_t threads = 0;
    int rc;
    if ((rc = json_obj_open(&o, node, "tenor.state", e)) ||
        (rc = json_take_array(&o, "folds", 0, (size_t)c->spec->folds - 1, &folds, e)) ||
        (rc = json_take_str(&o, "backend", 0, 64, &backend, e)) ||
        (rc = json_take_int(&o, "threads", 0, 1 << 20, &threads, e)) || (rc = json_obj_close(&o, e)))
        return rc;
    for (const cJSON *x = folds->child; x; x = x->next)
        if ((rc = read_fold(&f->folds[f->done++], x, e))) return rc;
    f->same_machine = strcmp(backend, backend_auto()->kernels->name) == 0 && threads == c->request->threads;
    return 0;
}

static int read_confusion(const struct crossing *c, struct found *f, const struct bundle_item *item,
                          struct err *e)
{
    if (strcmp(item->dtype, "I64") != 0 || item->bytes != confusion_bytes(c))
        return corrupt(e, "its confusion matrix has another size than the job's");
    for (size_t i = 0; i < item->bytes / sizeof(int64_t); i++) {
        int64_t count;
        memcpy(&count, (const char *)item->data + i * sizeof count, sizeof count);
        if (count < 0 || count > INT64_C(1) << 53) return corrupt(e, "its counts are none");
    }
    f->confusion = item->data;
    return 0;
}

static int read_items(const struct crossing *c, struct found *f, const struct bundle *b, struct err *e)
{
    struct bundle_item item;
    int rc = bundle_count(b) == ITEMS_MAX ? 0 : corrupt(e, "it holds what no cross-validation has");
    for (size_t i = 0; i < ITEMS_MAX && !rc; i++) {
        if ((rc = bundle_item(&item, b, i, e))) break;
        if (strcmp(item.name, CONFUSION) == 0) {
            rc = read_confusion(c, f, &item, e);
        } else if (strcmp(item.name, FOLD) == 0) {
            buf_append(&f->paused, item.data, item.bytes);
            if (f->paused.failed) rc = err_set(e, ERR_NOMEM, NULL, "no memory for the fold's checkpoint");
        } else {
            rc = corrupt(e, "it holds what no cross-validation has");
        }
    }
    return rc || f->confusion || !confusion_bytes(c) ? rc : corrupt(e, "its confusion matrix is missing");
}

static int take(struct crossing *c, struct found *f, struct err *e)
{
    char sum[SHA256_HEX_LEN];
    struct bundle *b = NULL;
    int rc = bundle_digest(sum, FORMAT_NAME, c->request, e);
    if (!rc) rc = bundle_open(&b, c->request->resume, c->request->resume_bytes, FORMAT_NAME, sum, e);
    if (!rc) rc = read_state(c, f, bundle_state(b), e);
    if (!rc) rc = read_items(c, f, b, e);
    if (!rc) {
        memcpy(c->folds, f->folds, sizeof c->folds);
        if (confusion_bytes(c)) memcpy(c->pooled.confusion, f->confusion, confusion_bytes(c));
        c->done = c->done_before = f->done;
        c->paused = f->paused;
    } else {
        buf_dispose(&f->paused);
    }
    bundle_close(b);
    return rc;
}

int cross__resume(struct crossing *c, struct err *e)
{
    const struct train_callbacks *outer = c->nest.outer;
    struct found f = {0};
    struct err why = {0};
    if (!c->request->resume) return 0;
    int rc = take(c, &f, &why);
    if (rc == ERR_NOMEM) return err_set(e, rc, NULL, "%s", why.message);
    if (rc) {
        if (outer->refused) outer->refused(outer->ctx, why.message);
        watch_message(&c->watch, "warn", "%s; the first fold is begun again", why.message);
        return 0;
    }
    if (!f.same_machine)
        watch_message(&c->watch, "info",
                      "resumed on another kind of processor or number of threads than before: the result may "
                      "differ in its last bits from an undisturbed run's");
    return 0;
}
