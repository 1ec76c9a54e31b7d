/* Who the calling key belongs to: the tenant, its plan's prices and quotas, the key's scopes. */
#include "gateway/routes/routes.h"

#include "store/key.h"
#include "store/tenant.h"

static void quotas_write(struct json_writer *w, const struct plan *p)
{
    jw_name(w, "quotas");
    jw_obj(w);
    jw_kint(w, "max_queued_jobs", p->max_queued_jobs);
    jw_kint(w, "max_running_jobs", p->max_running_jobs);
    jw_kint(w, "max_job_seconds", p->max_job_seconds);
    jw_kint(w, "max_job_memory_bytes", p->max_job_memory_bytes);
    jw_kint(w, "max_datasets", p->max_datasets);
    jw_kint(w, "max_dataset_bytes", p->max_dataset_bytes);
    jw_kint(w, "max_storage_bytes", p->max_storage_bytes);
    jw_kint(w, "max_models", p->max_models);
    jw_kint(w, "max_keys", p->max_keys);
    jw_kint(w, "requests_per_second", p->requests_per_second);
    jw_kint(w, "request_burst", p->request_burst);
    jw_kint(w, "max_inflight_requests", p->max_inflight_requests);
    jw_kint(w, "max_request_rows", p->max_request_rows);
    jw_kint_str(w, "month_budget_micros", p->month_budget_micros);
    jw_kint_str(w, "max_hold_micros", p->max_hold_micros);
    jw_obj_end(w);
}

static void prices_write(struct json_writer *w, const struct plan *p)
{
    jw_name(w, "prices");
    jw_obj(w);
    jw_kstr(w, "currency", p->currency);
    jw_kint_str(w, "train_second_micros", p->train_second_micros);
    jw_kint_str(w, "predict_krows_micros", p->predict_krows_micros);
    jw_obj_end(w);
}

static void key_write(struct json_writer *w, const struct principal *who)
{
    jw_name(w, "key");
    jw_obj(w);
    jw_kstr(w, "id", who->key_id);
    jw_name(w, "scopes");
    jw_arr(w);
    for (int i = 0; i < SCOPE_COUNT; i++)
        if (who->scopes & (1u << i)) jw_str(w, key_scope_name(i));
    jw_arr_end(w);
    jw_obj_end(w);
}

int tenant_get(struct api_call *c, struct err *e)
{
    struct tenant t;
    int rc = api_begin(c, e);
    if (rc == 0) rc = tenant_find(c->db, c->who->tenant_id, &t, e);
    if ((rc = api_end(c, rc, e)) != 0) return rc;
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    jw_kstr(w, "id", t.id);
    jw_kstr(w, "object", "tenant");
    jw_kstr(w, "name", t.name);
    jw_kstr(w, "status", t.suspended ? "suspended" : "active");
    jw_kstr(w, "plan", t.plan.name);
    api_write_time(w, "created_at", t.created_at_us);
    key_write(w, c->who);
    quotas_write(w, &t.plan);
    prices_write(w, &t.plan);
    jw_obj_end(w);
    return 0;
}
