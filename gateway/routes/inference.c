/* The inference protocols' routes: predictions go to the predict road, metadata to Postgres. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <string.h>
#include "base/num.h"
#include "gateway/dispatch.h"
#include "gateway/predict/predict.h"
#include "gateway/routes/prefer.h"
#include "learn/spec/signature.h"
#include "store/version.h"

enum { VERSIONS_SHOWN = 100, SIGNATURE_TOKENS_MAX = 200000 };

/* ---- the road ---- */

static struct predict_caller caller_of(const struct principal *who)
{
    struct predict_caller c = {.models = who->models,
                               .models_len = (size_t)who->n_models,
                               .rate_per_second = who->rate_per_second,
                               .burst = who->burst,
                               .concurrency_max = who->inflight_max,
                               .rows_max = who->request_rows_max};
    memcpy(c.tenant_id, who->tenant_id, sizeof(c.tenant_id));
    memcpy(c.key_id, who->key_id, sizeof(c.key_id));
    return c;
}

static struct model_ref ref_of(const struct route_match *m, enum model_ref_kind kind)
{
    if (m->params_len < 2) return (struct model_ref){.model = m->params[0], .kind = MODEL_REF_DEFAULT};
    return (struct model_ref){.model = m->params[0], .kind = kind, .text = m->params[1]};
}

static struct predict *road_of(struct exchange *x)
{
    const struct gateway_loop *l = exchange_loop_ctx(x);
    return l->predict;
}

/* What the client would like: a job, or an answer soon or none. */
static struct predict_options options_of(struct exchange *x, enum predict_protocol protocol)
{
    struct predict_options o = {.protocol = protocol};
    const struct request *r = exchange_request(x);
    struct prefer want = {0};
    char applied[32];
    if (request_header(r, "prefer") == NULL) return o;
    for (size_t i = 0; i < r->headers_len; i++)
        if (strcmp(r->headers[i].name, "prefer") == 0) prefer_add(&want, r->headers[i].value);
    if (want.respond_async) {
        dispatch_hold(x);
        o.defer = predict_jobs_defer;
    } else if (want.wait_s > 0) {
        o.wait_ms = want.wait_s * 1000;
        snprintf(applied, sizeof(applied), "wait=%lld", (long long)want.wait_s);
        exchange_header(x, "Preference-Applied", applied);
    }
    return o;
}

static void run(struct exchange *x, const struct route_match *m, const struct principal *who,
                enum model_ref_kind kind, enum predict_protocol protocol)
{
    struct predict_caller caller = caller_of(who);
    struct model_ref ref = ref_of(m, kind);
    struct predict_options o = options_of(x, protocol);
    if (who->rate_policy[0] != '\0') exchange_header(x, "RateLimit-Policy", who->rate_policy);
    predict_run(road_of(x), x, &caller, &ref, &o);
}

void infer_run(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    run(x, m, who, MODEL_REF_VERSION, PREDICT_OIP);
}

void tfs_run(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    run(x, m, who, MODEL_REF_VERSION, PREDICT_TFS);
}

void tfs_run_label(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    run(x, m, who, MODEL_REF_ALIAS, PREDICT_TFS);
}

void tfs_classify(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    run(x, m, who, MODEL_REF_VERSION, PREDICT_TFS_CLASSIFY);
}

void tfs_classify_label(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    run(x, m, who, MODEL_REF_ALIAS, PREDICT_TFS_CLASSIFY);
}

void tfs_regress(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    run(x, m, who, MODEL_REF_VERSION, PREDICT_TFS_REGRESS);
}

void tfs_regress_label(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    run(x, m, who, MODEL_REF_ALIAS, PREDICT_TFS_REGRESS);
}

/* ---- readiness of a model: it exists, so a call is answered, at once if a worker holds it, else once one
 * has loaded it */

static void on_route(void *arg, int rc, const struct model_route *r, const struct err *e)
{
    struct exchange *x = arg;
    struct buf body = {0};
    struct json_writer w;
    if (rc != 0) {
        dispatch_fail(x, DIALECT_PLAIN, e);
        return;
    }
    bool ready = predict_ready(road_of(x));
    jw_init(&w, &body);
    jw_obj(&w);
    jw_kstr(&w, "name", r->model);
    jw_kbool(&w, "ready", ready);
    jw_kbool(&w, "loaded", predict_is_placed(road_of(x), r->version_id));
    jw_obj_end(&w);
    dispatch_reply(x, ready ? 200 : 503, "application/json", &body);
    buf_dispose(&body);
}

void infer_ready(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    struct predict_caller caller = caller_of(who);
    struct model_ref ref = ref_of(m, MODEL_REF_VERSION);
    predict_find_route(road_of(x), &caller, &ref, on_route, x);
}

/* ---- metadata ---- */

void infer_server(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    struct buf body = {0};
    (void)m;
    (void)who;
    buf_str(&body, "{\"name\":\"tenor\",\"version\":\"1\",\"extensions\":[\"binary_tensor_data\"]}");
    dispatch_reply(x, 200, "application/json", &body);
    buf_dispose(&body);
}

static int find(struct api_call *c, struct version *v, struct version_list *all, struct err *e)
{
    int64_t number = 0;
    if (!id_name_valid(api_param(c, 0)) || !principal_may_call(c->who, api_param(c, 0)))
        return err_set(e, ERR_NOT_FOUND, "model", "no such model");
    if (api_param(c, 1) != NULL && !num_parse_i64(api_param(c, 1), 1, INT64_MAX, &number))
        return err_set(e, ERR_NOT_FOUND, "version", "no such version");
    struct page page = {.limit = VERSIONS_SHOWN};
    int rc = api_begin(c, e);
    if (rc == 0) rc = version_find(c->db, api_param(c, 0), number, NULL, c->arena, v, e);
    if (rc == 0 && number > 0) rc = version_require_served(v, e);
    if (rc == 0) rc = version_list(c->db, api_param(c, 0), &page, c->arena, all, e);
    return api_end(c, rc, e);
}

static int signature_members(struct json_writer *w, const char *signature, struct err *e)
{
    cJSON *tree = NULL;
    struct signature *s = NULL;
    int rc = json_parse(&tree, signature, strlen(signature), SIGNATURE_TOKENS_MAX, e);
    if (rc == 0) rc = signature_from_json(&s, tree, "signature", e);
    cJSON_Delete(tree);
    if (rc != 0) return err_set(e, ERR_CORRUPT, NULL, "a version's signature cannot be read: %s", e->message);
    jw_name(w, "inputs");
    signature_tensors_to_json(s->inputs, s->n_inputs, w);
    jw_name(w, "outputs");
    signature_tensors_to_json(s->outputs, s->n_outputs, w);
    signature_free(s);
    return 0;
}

int infer_metadata(struct api_call *c, struct err *e)
{
    struct version v;
    struct version_list all;
    char noun[16], number[24];
    int rc = find(c, &v, &all, e);
    snprintf(noun, sizeof(noun), "%.15s", e->field[0] != '\0' ? e->field : "model");
    if (rc != 0) return strcmp(e->field, "version_policy") == 0 ? rc : api_not_found(rc, noun, e);
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    jw_kstr(w, "name", v.model);
    jw_name(w, "versions");
    jw_arr(w);
    for (int i = all.n - 1; i >= 0; i--) {
        if (!all.items[i].served) continue;
        snprintf(number, sizeof(number), "%lld", (long long)all.items[i].number);
        jw_str(w, number);
    }
    jw_arr_end(w);
    jw_kstr(w, "platform", "tenor");
    rc = signature_members(w, v.signature, e);
    if (rc == 0) jw_obj_end(w);
    return rc;
}
