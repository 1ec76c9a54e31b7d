/* What a tenant changes about a model: its settings are patched, and versions are deleted. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/num.h"
#include "gateway/routes/models.h"
#include "store/model.h"
#include "store/version.h"

enum { VERSION_MAX = INT32_MAX };

/* A merge patch (RFC 7396): what is absent stays, null is the default. */
struct patch {
    struct api_call *c;
    int64_t etag; /* what the model must have now; -1 for any */
    bool has_rows, has_delay, has_policy;
    struct model_settings to; /* those that it has */
    struct model model;
};

/* ---- reading ---- */

/* A whole number or null, which is absent_value. *has: it was there. */
static int read_setting(struct json_obj *o, const char *name, int64_t min, int64_t max, int64_t absent_value,
                        bool *has, int64_t *out, struct err *e)
{
    const cJSON *node = json_obj_find(o, name);
    *has = node != NULL;
    if (node == NULL) return 0;
    *out = absent_value;
    return json_opt_int(o, name, min, max, out, e);
}

static int read_batching(struct patch *p, const cJSON *node, struct err *e)
{
    struct model_batching *b = &p->to.batching;
    struct json_obj o;
    if (cJSON_IsNull(node)) {
        p->has_rows = p->has_delay = true;
        *b = (struct model_batching){.max_queue_delay_us = -1};
        return 0;
    }
    int rc = json_obj_open(&o, node, "batching", e);
    if (rc == 0)
        rc = read_setting(&o, "max_batch_rows", 1, MODEL_BATCH_ROWS_MAX, 0, &p->has_rows, &b->max_batch_rows,
                          e);
    if (rc == 0)
        rc = read_setting(&o, "max_queue_delay_us", 0, MODEL_QUEUE_DELAY_MAX_US, -1, &p->has_delay,
                          &b->max_queue_delay_us, e);
    return rc == 0 ? json_obj_close(&o, e) : rc;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int read_specific(struct version_policy *policy, const cJSON *node, struct err *e)
{
    struct json_obj o;
    const cJSON *array = NULL;
    char path[JSON_PATH_MAX];
    policy->kind = VERSIONS_SPECIFIC;
    int rc = json_obj_open(&o, node, "version_policy.specific", e);
    if (rc == 0) rc = json_take_array(&o, "versions", 1, MODEL_POLICY_VERSIONS_MAX, &array, e);
    if (rc == 0) rc = json_obj_close(&o, e);
    if (rc != 0) return rc;
    for (const cJSON *item = array->child; item != NULL; item = item->next) {
        double v = cJSON_IsNumber(item) ? item->valuedouble : 0;
        json_path_index(path, "version_policy.specific.versions", (size_t)policy->n_versions);
        if (v < 1 || v > VERSION_MAX || v != (double)(int64_t)v)
            return err_set(e, ERR_INVALID, path, "a version's number was expected");
        policy->versions[policy->n_versions++] = (int64_t)v;
    }
    qsort(policy->versions, (size_t)policy->n_versions, sizeof(int64_t), by_number);
    for (int i = 1; i < policy->n_versions; i++)
        if (policy->versions[i] == policy->versions[i - 1])
            return err_set(e, ERR_INVALID, "version_policy.specific.versions", "version %lld is named twice",
                           (long long)policy->versions[i]);
    return 0;
}

/* {"all":{}}, {"latest":{"num_versions":2}} or {"specific":{"versions":[1,3]}}, as TensorFlow Serving names
 * them. */
static int read_policy(struct version_policy *policy, const cJSON *node, struct err *e)
{
    struct json_obj o, inner;
    const cJSON *all = NULL, *latest = NULL, *specific = NULL;
    int rc = json_obj_open(&o, node, "version_policy", e);
    if (rc == 0) rc = json_opt_object(&o, "all", &all, e);
    if (rc == 0) rc = json_opt_object(&o, "latest", &latest, e);
    if (rc == 0) rc = json_opt_object(&o, "specific", &specific, e);
    if (rc == 0) rc = json_obj_close(&o, e);
    if (rc != 0) return rc;
    if ((all != NULL) + (latest != NULL) + (specific != NULL) != 1)
        return err_set(e, ERR_INVALID, "version_policy",
                       "exactly one of all, latest and specific was expected");
    if (specific != NULL) return read_specific(policy, specific, e);
    if (all != NULL) {
        rc = json_obj_open(&inner, all, "version_policy.all", e);
    } else {
        policy->kind = VERSIONS_LATEST;
        rc = json_obj_open(&inner, latest, "version_policy.latest", e);
        if (rc == 0) rc = json_take_int(&inner, "num_versions", 1, VERSION_MAX, &policy->num_versions, e);
    }
    return rc == 0 ? json_obj_close(&inner, e) : rc;
}

static int read_patch(struct patch *p, struct err *e)
{
    struct json_obj o;
    int rc = api_body(p->c, &o, e);
    if (rc != 0) return rc;
    const cJSON *batching = json_obj_find(&o, "batching"), *policy = json_obj_find(&o, "version_policy");
    rc = json_obj_close(&o, e);
    if (rc == 0 && batching != NULL) rc = read_batching(p, batching, e);
    p->has_policy = policy != NULL;
    if (rc == 0 && policy != NULL && !cJSON_IsNull(policy)) rc = read_policy(&p->to.policy, policy, e);
    return rc;
}

/* ---- changing ---- */

static int patch_tx(struct db *db, void *arg, struct err *e)
{
    struct patch *p = arg;
    struct api_call *c = p->c;
    int rc = model_lock(db, api_param(c, 0), c->arena, &p->model, e);
    if (rc != 0) return rc;
    struct model_settings to = p->model.settings;
    if (p->has_rows) to.batching.max_batch_rows = p->to.batching.max_batch_rows;
    if (p->has_delay) to.batching.max_queue_delay_us = p->to.batching.max_queue_delay_us;
    if (p->has_policy) to.policy = p->to.policy;
    return model_set(db, api_param(c, 0), &to, p->etag, &c->by, c->arena, &p->model, e);
}

/* Every gateway forgets what it knows about the model. */
static void tell_changed(struct api_call *c)
{
    struct changed what = {.kind = CHANGED_MODEL};
    snprintf(what.tenant_id, sizeof(what.tenant_id), "%s", c->who->tenant_id);
    snprintf(what.model, sizeof(what.model), "%s", api_param(c, 0));
    api_changed(c, &what);
}

int models_patch(struct api_call *c, struct err *e)
{
    struct patch p = {.c = c};
    int rc = models__check_name(c, e);
    if (rc == 0) rc = models__if_match(c, &p.etag, e);
    if (rc == 0) rc = read_patch(&p, e);
    if (rc == 0) rc = db_run(c->db, c->who->tenant_id, patch_tx, &p, e);
    if (rc != 0) return models__not_found(rc, e);
    tell_changed(c);
    models__tell_etag(c, p.model.etag);
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    models__members(w, &p.model);
    jw_obj_end(w);
    return 0;
}

/* ---- deleting a version ---- */

struct deletion {
    struct api_call *c;
    int64_t number;
    char id[ID_MAX];
};

static int delete_tx(struct db *db, void *arg, struct err *e)
{
    struct deletion *d = arg;
    return version_delete(db, api_param(d->c, 0), d->number, &d->c->by, d->id, e);
}

int versions_delete(struct api_call *c, struct err *e)
{
    struct deletion d = {.c = c};
    int rc = models__check_name(c, e);
    if (rc != 0) return rc;
    if (!num_parse_i64(api_param(c, 1), 1, INT64_MAX, &d.number))
        return err_set(e, ERR_NOT_FOUND, "version", "there is no such version");
    rc = db_run(c->db, c->who->tenant_id, delete_tx, &d, e);
    if (rc != 0) return models__not_found(rc, e);
    tell_changed(c);
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    jw_kstr(w, "id", d.id);
    jw_kstr(w, "object", "model.version");
    jw_kbool(w, "deleted", true);
    jw_obj_end(w);
    return 0;
}
