/* What has been seen of the versions behind an alias since it was last changed. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include "gateway/routes/aliases.h"
#include "gateway/routes/models.h"
#include "queue/rollout.h"

static void latency_write(struct json_writer *w, const char *name, const struct rollout_arm_counts *a,
                          double q)
{
    int64_t us = rollout_quantile_us(a, q);
    jw_name(w, name);
    if (us > 0)
        jw_num(w, (double)us / 1000);
    else
        jw_null(w);
}

static void arm_write(struct json_writer *w, enum rollout_arm arm, int64_t version,
                      const struct rollout_counts *c)
{
    const struct rollout_arm_counts *a = &c->arm[arm];
    if (version == 0) return;
    jw_obj(w);
    jw_kstr(w, "arm", rollout_arm_name(arm));
    jw_kint(w, "version", version);
    jw_kint(w, "requests", a->requests);
    jw_kint(w, "errors", a->errors);
    latency_write(w, "latency_p50_ms", a, 0.5);
    latency_write(w, "latency_p99_ms", a, 0.99);
    if (arm == ROLLOUT_SHADOW) {
        jw_kint(w, "skipped", c->skipped);
        jw_kint(w, "compared", c->compared);
        jw_kint(w, "disagreements", c->disagreements);
        jw_knum(w, "largest_difference", c->largest_difference);
    }
    jw_obj_end(w);
}

static void rollout_write(struct json_writer *w, const struct alias *a, const struct rollout_counts *c)
{
    jw_obj(w);
    jw_kstr(w, "object", "model.rollout");
    jw_kstr(w, "model", a->model);
    jw_kstr(w, "alias", a->name);
    jw_kint_str(w, "etag", a->etag);
    api_write_time(w, "since", a->updated_at_us);
    jw_kbool(w, "counted", a->canary > 0 || a->shadow > 0 || a->limits.window_s > 0);
    jw_name(w, "arms");
    jw_arr(w);
    arm_write(w, ROLLOUT_PRIMARY, a->version, c);
    arm_write(w, ROLLOUT_CANARY, a->canary, c);
    arm_write(w, ROLLOUT_SHADOW, a->shadow, c);
    jw_arr_end(w);
    aliases__write_ended(w, &a->ended);
    jw_obj_end(w);
}

static int add_writer(void *arg, const char *writer, const struct rollout_counts *counts, struct err *e)
{
    (void)writer, (void)e;
    rollout_add(arg, counts);
    return 0;
}

static int add_counts(struct api_call *c, const struct alias *a, struct rollout_counts *sum, struct err *e)
{
    struct rollout_id id = {.etag = a->etag};
    snprintf(id.tenant_id, sizeof(id.tenant_id), "%s", c->who->tenant_id);
    snprintf(id.model, sizeof(id.model), "%s", a->model);
    snprintf(id.alias, sizeof(id.alias), "%s", a->name);
    return rollout_read(c->redis, &id, add_writer, sum, e);
}

int aliases_rollout(struct api_call *c, struct err *e)
{
    struct alias a;
    struct rollout_counts sum = {0};
    int rc = models__check_name(c, e);
    if (rc == 0) rc = api_begin(c, e);
    if (rc != 0) return rc;
    rc = alias_find(c->db, api_param(c, 0), api_param(c, 1), &a, e);
    if ((rc = api_end(c, rc, e)) != 0) return models__not_found(rc, e);
    rc = add_counts(c, &a, &sum, e);
    if (rc == 0) rollout_write(api_reply(c, 200), &a, &sum);
    return rc;
}
