/* Shared parts of the tests of tune and evaluate jobs. */
#include "tests/unit/learn/jobs_aid.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/learn/keeper.h"

void heard_progress(void *ctx, const struct train_progress *p)
{
    struct heard *h = ctx;
    if (!p->part) return;
    cJSON *part = aid_json(p->part_json);
    int number = (int)cJSON_GetObjectItemCaseSensitive(part, "number")->valuedouble;
    assert_true(number >= 1 && number < 32);
    if (strcmp(p->part, "trial") == 0) h->trial_events++;
    if (strcmp(p->part, "fold") == 0) h->fold_events++;
    if (strcmp(p->phase, "train") == 0 && p->epoch_end) h->epochs_of[number]++;
    snprintf(h->last_part, sizeof h->last_part, "%s", p->part_json);
    cJSON_Delete(part);
}

void heard_message(void *ctx, const char *level, const char *text)
{
    struct heard *h = ctx;
    size_t at = strlen(h->text);
    snprintf(h->text + at, sizeof h->text - at, "%s: %s\n", level, text);
}

static bool on_cancelled(void *ctx)
{
    const struct heard *h = ctx;
    return h->cancel_after && h->trial_events >= h->cancel_after;
}

int jobs_run(struct aid_result *out, const char *type, const char *spec, const char *csv, struct heard *h,
             struct err *e)
{
    struct aid_run r = {.type = type, .spec = spec, .csv = csv};
    if (h)
        r.callbacks = (struct train_callbacks){
            .ctx = h, .progress = heard_progress, .message = heard_message, .cancelled = on_cancelled};
    return aid_train(out, &r, e);
}

void jobs_succeed(struct aid_result *out, const char *type, const char *spec, const char *csv,
                  struct heard *h)
{
    struct err e = {0};
    if (jobs_run(out, type, spec, csv, h, &e)) fail_msg("%s: %s", e.field, e.message);
}

const cJSON *jobs_trial(const struct aid_result *r, int number)
{
    const cJSON *tune = cJSON_GetObjectItemCaseSensitive(r->metrics, "tune");
    const cJSON *t = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(tune, "trials"), number - 1);
    assert_non_null(t);
    return t;
}

double jobs_number(const cJSON *o, const char *name)
{
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsNumber(n) ? n->valuedouble : (double)NAN;
}

const char *jobs_text(const cJSON *o, const char *name)
{
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsString(n) ? n->valuestring : "";
}

void jobs_digest(const struct buf *b, char hex[SHA256_HEX_LEN])
{
    uint8_t sum[SHA256_LEN];
    crypto_sha256(sum, b->data, b->len);
    crypto_hex(hex, sum, sizeof sum);
}

void jobs_near(double a, double b, double within)
{
    if (!(fabs(a - b) <= within)) fail_msg("%.17g is not %.17g", a, b);
}

/* All but how long it took. */
static void drop_times(cJSON *node)
{
    cJSON_DeleteItemFromObjectCaseSensitive(node, "seconds");
    cJSON_DeleteItemFromObjectCaseSensitive(node, "train_seconds");
    for (cJSON *c = node->child; c; c = c->next) drop_times(c);
}

void jobs_same(const struct aid_result *a, const struct aid_result *b, const char *what,
               const struct train_mark *mark)
{
    keeper_same(a, b, what, mark);
    cJSON *one = cJSON_Duplicate(a->metrics, true), *two = cJSON_Duplicate(b->metrics, true);
    drop_times(one);
    drop_times(two);
    char *x = cJSON_PrintUnformatted(one), *y = cJSON_PrintUnformatted(two);
    if (strcmp(x, y) != 0)
        fail_msg("%s: resumed at %s, epoch %lld, step %lld, it ends with\n%s\nnot\n%s", what, mark->part,
                 (long long)mark->epoch, (long long)mark->step, y, x);
    cJSON_free(x);
    cJSON_free(y);
    cJSON_Delete(one);
    cJSON_Delete(two);
}
