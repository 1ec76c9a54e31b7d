/* Lays an assessment's figures down, and picks them up again without trusting a byte.
 *
 *   state   rows measured, sums
 *   tensors confusion, sums (of the truth and of the errors), scores and truths (for the area under the
 *           curve): those that the task has, each whole */
#include "learn/assess_save.h"

#include <string.h>

#include "base/clock.h"
#include "learn/checkpoint_bundle.h"

#define FORMAT_NAME "tenor.assessment.1"
enum { ITEMS = 4 };
static const double LARGEST = 1e300;

/* What there is of m's arrays; confusion and sums are whole, scores and truths as far as kept. */
static void list_items(const struct metrics *m, size_t kept, struct bundle_item out[ITEMS])
{
    size_t classes = m->n_classes;
    out[0] = (struct bundle_item){"confusion", "I64", m->confusion, m->confusion ? classes * classes * 8 : 0};
    out[1] = (struct bundle_item){"sums", "F64", m->mean, m->mean ? 4 * classes * 8 : 0};
    out[2] = (struct bundle_item){"scores", "F32", m->scores, m->scores ? kept * classes * 4 : 0};
    out[3] = (struct bundle_item){"truths", "I32", m->truths, m->truths ? kept * 4 : 0};
}

/* ---- writing ---- */

static void state_to_json(const struct assess_place *p, struct buf *out)
{
    const struct metrics *m = p->m;
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    jw_kint(&w, "at", (int64_t)p->at);
    jw_kint(&w, "kept", (int64_t)m->kept);
    jw_kint(&w, "tokens", m->tokens);
    jw_kint(&w, "hits", m->hits);
    jw_kint(&w, "exact", m->exact);
    jw_knum(&w, "token_loss", m->token_loss);
    jw_knum(&w, "loss_sum", m->loss_sum);
    jw_knum(&w, "huber", m->huber);
    jw_obj_end(&w);
}

int assess_save(const struct assess_place *p, const struct watch *watch, struct err *e)
{
    int64_t began_ns = clock_mono_ns();
    struct train_mark mark = {.epoch = 1, .step = (int64_t)((p->at + p->batch - 1) / p->batch)};
    struct bundle_item items[ITEMS];
    struct buf state = {0};
    char sum[SHA256_HEX_LEN];
    int fd = watch_save_to(watch);
    if (fd < 0) return 0;
    list_items(p->m, p->m->kept, items);
    state_to_json(p, &state);
    int rc = state.failed ? err_set(e, ERR_NOMEM, NULL, "no memory to write a checkpoint")
                          : bundle_digest(sum, FORMAT_NAME, p->request, e);
    if (!rc) rc = bundle_write(fd, FORMAT_NAME, sum, state.data, items, ITEMS, &mark.bytes, e);
    buf_dispose(&state);
    mark.took_ms = (double)(clock_mono_ns() - began_ns) / 1e6;
    if (!rc) watch_saved(watch, &mark);
    return rc;
}

/* ---- reading ---- */

static int corrupt(struct err *e, const char *what)
{
    return err_set(e, ERR_CORRUPT, NULL, "the checkpoint is not sound: %s", what);
}

/* Into m's sums, and the place. */
static int read_state(struct metrics *m, int64_t *at, const struct assess_place *p, const cJSON *node,
                      struct err *e)
{
    const int64_t most = INT64_C(1) << 53;
    struct json_obj o;
    int64_t kept = 0;
    int rc;
    if ((rc = json_obj_open(&o, node, "tenor.state", e)) ||
        (rc = json_take_int(&o, "at", 0, (int64_t)p->n_rows, at, e)) ||
        (rc = json_take_int(&o, "kept", 0, *at < (int64_t)m->room ? *at : (int64_t)m->room, &kept, e)) ||
        (rc = json_take_int(&o, "tokens", 0, most, &m->tokens, e)) ||
        (rc = json_take_int(&o, "hits", 0, m->tokens, &m->hits, e)) ||
        (rc = json_take_int(&o, "exact", 0, *at, &m->exact, e)) ||
        (rc = json_take_num(&o, "token_loss", 0, LARGEST, &m->token_loss, e)) ||
        (rc = json_take_num(&o, "loss_sum", -LARGEST, LARGEST, &m->loss_sum, e)) ||
        (rc = json_take_num(&o, "huber", 0, LARGEST, &m->huber, e)) || (rc = json_obj_close(&o, e)))
        return rc;
    m->kept = (size_t)kept;
    m->rows = *at;
    return *at % (int64_t)p->batch == 0 || *at == (int64_t)p->n_rows ? 0
                                                                     : corrupt(e, "it stands inside a batch");
}

/* The item of that name, of just those bytes. */
static int find_item(struct bundle_item *out, const struct bundle *b, const struct bundle_item *want,
                     struct err *e)
{
    for (size_t i = 0; i < bundle_count(b); i++) {
        int rc = bundle_item(out, b, i, e);
        if (rc) return rc;
        if (strcmp(out->name, want->name) == 0 && strcmp(out->dtype, want->dtype) == 0 &&
            out->bytes == want->bytes)
            return 0;
    }
    return corrupt(e, "a part of it is missing or has another size than the job's");
}

static bool truths_are_classes(const struct metrics *m, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int32_t truth;
        memcpy(&truth, (const char *)bytes + i * sizeof truth, sizeof truth);
        if (truth < 0 || (size_t)truth >= m->n_classes) return false;
    }
    return true;
}

static bool counts_are_counts(const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t count;
        memcpy(&count, (const char *)bytes + i * sizeof count, sizeof count);
        if (count < 0 || count > INT64_C(1) << 53) return false;
    }
    return true;
}

/* Nothing of p changes unless all of it is sound. */
static int take(struct assess_place *p, struct err *e)
{
    struct metrics m = *p->m; /* its arrays are p->m's */
    struct bundle_item want[ITEMS], got[ITEMS];
    char sum[SHA256_HEX_LEN];
    struct bundle *b = NULL;
    int64_t at = 0;
    int rc = bundle_digest(sum, FORMAT_NAME, p->request, e);
    if (!rc) rc = bundle_open(&b, p->request->resume, p->request->resume_bytes, FORMAT_NAME, sum, e);
    if (!rc) rc = read_state(&m, &at, p, bundle_state(b), e);
    if (!rc && bundle_count(b) != ITEMS) rc = corrupt(e, "it holds what no assessment has");
    list_items(&m, m.kept, want);
    for (int i = 0; i < ITEMS && !rc; i++) rc = find_item(&got[i], b, &want[i], e);
    if (!rc && (!counts_are_counts(got[0].data, got[0].bytes / sizeof(int64_t)) ||
                !truths_are_classes(&m, got[3].data, got[3].bytes / sizeof(int32_t))))
        rc = corrupt(e, "its counts are none");
    if (!rc) {
        void *const to[ITEMS] = {m.confusion, m.mean, m.scores, m.truths};
        for (int i = 0; i < ITEMS; i++)
            if (got[i].bytes) memcpy(to[i], got[i].data, got[i].bytes);
        *p->m = m;
        p->at = (size_t)at;
    }
    bundle_close(b);
    return rc;
}

int assess_resume(struct assess_place *p, struct watch *watch, struct err *e)
{
    struct err why = {0};
    int rc = p->request->resume ? take(p, &why) : 0;
    if (rc == ERR_NOMEM) return err_set(e, rc, NULL, "%s", why.message);
    if (rc) {
        watch_refused(watch, why.message);
        watch_message(watch, "warn", "%s; the first row is begun with again", why.message);
    }
    return 0;
}
