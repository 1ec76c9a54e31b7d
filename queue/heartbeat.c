/* Heartbeats as JSON under tnr:hb:<inc>, and the list of known workers. */
#include "queue/heartbeat.h"

#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "queue/inbox.h"
#include "queue/redis_clock.h"

enum { WORKERS_MAX = 4096, TOKENS_MAX = 1024 };

void heartbeat_key(char out[HEARTBEAT_KEY_MAX], const char *inc)
{
    snprintf(out, HEARTBEAT_KEY_MAX, "tnr:hb:%s", inc);
}

/* ---- text
 * ----------------------------------------------------------------------------------------------------- */

static void encode_models(struct json_writer *w, const struct heartbeat *h)
{
    jw_name(w, "models");
    jw_arr(w);
    for (size_t i = 0; i < h->models_len; i++) {
        const struct heartbeat_model *m = &h->models[i];
        jw_obj(w);
        jw_kstr(w, "version", m->version_id);
        jw_kstr(w, "tenant", m->tenant_id);
        jw_kint(w, "busy", m->busy_milli);
        jw_kint(w, "waiting", m->waiting_milli);
        jw_kint(w, "bytes", m->bytes);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

static void encode(struct buf *out, const struct heartbeat *h)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    jw_kstr(&w, "inc", h->inc);
    jw_kint(&w, "slots", h->slots);
    jw_kint(&w, "slots_free", h->slots_free);
    jw_kint(&w, "job_memory_bytes", h->job_memory_bytes);
    jw_kint(&w, "job_memory_free", h->job_memory_free);
    jw_kint(&w, "model_bytes_max", h->model_bytes_max);
    jw_kint(&w, "model_bytes_free", h->model_bytes_free);
    jw_kint(&w, "model_bytes_idle", h->model_bytes_idle);
    jw_kint(&w, "predict_waiting", h->predict_waiting);
    jw_kint(&w, "predict_busy", h->predict_busy_milli);
    jw_kbool(&w, "draining", h->draining);
    jw_name(&w, "ports");
    jw_arr(&w);
    for (size_t i = 0; i < h->ports_len; i++) jw_str(&w, h->ports[i]);
    jw_arr_end(&w);
    jw_name(&w, "jobs");
    jw_arr(&w);
    for (size_t i = 0; i < h->jobs_len; i++) {
        jw_obj(&w);
        jw_kstr(&w, "job", h->jobs[i].job_id);
        jw_kint(&w, "fence", h->jobs[i].fence);
        jw_obj_end(&w);
    }
    jw_arr_end(&w);
    encode_models(&w, h);
    jw_obj_end(&w);
}

static int take_id(struct json_obj *o, const char *name, char out[ID_MAX], const char *prefix, struct err *e)
{
    const char *text;
    int rc = json_take_str(o, name, 1, ID_MAX - 1, &text, e);
    if (rc) return rc;
    if (!id_valid(text, prefix))
        return err_set(e, ERR_INVALID, name, "\"%s\" is not an id of kind %s", text, prefix);
    memcpy(out, text, strlen(text) + 1);
    return 0;
}

static int decode_jobs(struct heartbeat *out, const cJSON *jobs, struct err *e)
{
    int rc;
    for (const cJSON *node = jobs->child; node; node = node->next) {
        struct heartbeat_job *job = &out->jobs[out->jobs_len++];
        struct json_obj o;
        if ((rc = json_obj_open(&o, node, "jobs", e)) || (rc = take_id(&o, "job", job->job_id, "job", e)) ||
            (rc = json_take_int(&o, "fence", 0, INT64_MAX, &job->fence, e)))
            return rc;
    }
    return 0;
}

static int decode_model(struct heartbeat_model *out, const cJSON *node, struct err *e)
{
    struct json_obj o;
    int64_t busy, waiting;
    int rc;
    if ((rc = json_obj_open(&o, node, "models", e)) ||
        (rc = take_id(&o, "version", out->version_id, "ver", e)) ||
        (rc = take_id(&o, "tenant", out->tenant_id, "ten", e)) ||
        (rc = json_take_int(&o, "busy", 0, 1000, &busy, e)) ||
        (rc = json_take_int(&o, "waiting", 0, INT32_MAX, &waiting, e)) ||
        (rc = json_take_int(&o, "bytes", 0, INT64_MAX, &out->bytes, e)))
        return rc;
    out->busy_milli = (int)busy;
    out->waiting_milli = (int)waiting;
    return 0;
}

static int decode_models(struct heartbeat *out, const cJSON *models, struct err *e)
{
    int rc = 0;
    for (const cJSON *node = models->child; node && rc == 0; node = node->next)
        rc = decode_model(&out->models[out->models_len++], node, e);
    return rc;
}

static int decode_ports(struct heartbeat *out, const cJSON *ports, struct err *e)
{
    for (const cJSON *node = ports->child; node; node = node->next) {
        if (!cJSON_IsString(node) || strlen(node->valuestring) >= LINK_ADDRESS_MAX)
            return err_set(e, ERR_INVALID, "ports", "expected addresses");
        snprintf(out->ports[out->ports_len++], LINK_ADDRESS_MAX, "%s", node->valuestring);
    }
    return 0;
}

/* Unknown names are let through: a newer worker may tell more. */
static int decode_node(struct heartbeat *out, const cJSON *root, struct err *e)
{
    struct json_obj o;
    const cJSON *jobs, *ports, *models = NULL;
    int64_t slots, slots_free, waiting, busy = 0;
    int rc;
    if ((rc = json_obj_open(&o, root, "", e)) || (rc = take_id(&o, "inc", out->inc, "inc", e)) ||
        (rc = json_take_int(&o, "slots", 0, 100000, &slots, e)) ||
        (rc = json_take_int(&o, "slots_free", 0, slots, &slots_free, e)) ||
        (rc = json_opt_int(&o, "job_memory_bytes", 0, INT64_MAX, &out->job_memory_bytes, e)) ||
        (rc = json_opt_int(&o, "job_memory_free", 0, INT64_MAX, &out->job_memory_free, e)) ||
        (rc = json_take_int(&o, "model_bytes_max", 0, INT64_MAX, &out->model_bytes_max, e)) ||
        (rc = json_take_int(&o, "model_bytes_free", 0, INT64_MAX, &out->model_bytes_free, e)) ||
        (rc = json_opt_int(&o, "model_bytes_idle", 0, INT64_MAX, &out->model_bytes_idle, e)) ||
        (rc = json_take_int(&o, "predict_waiting", 0, INT32_MAX, &waiting, e)) ||
        (rc = json_opt_int(&o, "predict_busy", 0, 1000, &busy, e)) ||
        (rc = json_opt_array(&o, "models", 0, HEARTBEAT_MODELS_MAX, &models, e)) ||
        (models && (rc = decode_models(out, models, e))) ||
        (rc = json_take_bool(&o, "draining", &out->draining, e)) ||
        (rc = json_take_array(&o, "ports", 0, HEARTBEAT_PORTS_MAX, &ports, e)) ||
        (rc = decode_ports(out, ports, e)) ||
        (rc = json_take_array(&o, "jobs", 0, HEARTBEAT_JOBS_MAX, &jobs, e)))
        return rc;
    out->slots = (int)slots;
    out->slots_free = (int)slots_free;
    out->predict_waiting = (int)waiting;
    out->predict_busy_milli = (int)busy;
    return decode_jobs(out, jobs, e);
}

int heartbeat_decode(struct heartbeat *out, const char *json, size_t len, struct err *e)
{
    memset(out, 0, sizeof *out);
    cJSON *root;
    int rc = json_parse(&root, json, len, TOKENS_MAX, e);
    if (rc) return rc;
    rc = decode_node(out, root, e);
    cJSON_Delete(root);
    return rc;
}

/* ---- publishing
 * ----------------------------------------------------------------------------------------------- */

static int publish(struct redis *r, const char *inc, const struct buf *json, bool *was_gone, struct err *e)
{
    char key[HEARTBEAT_KEY_MAX];
    heartbeat_key(key, inc);
    redisReply *reply;
    int rc = redis_clock_measure(r, e);
    if (rc) return rc;
    rc = redis_append(r, e, "SET %s %b PX %d GET", key, json->data, json->len, HEARTBEAT_LIFE_MS);
    if (rc == 0)
        rc = redis_append(r, e, "ZADD " HEARTBEAT_WORKERS " %lld %s", (long long)(redis_clock_us() / 1000),
                          inc);
    if (rc == 0) rc = redis_take(r, &reply, e);
    if (rc) return rc;
    rc = redis__reply_error(reply, e);
    if (was_gone) *was_gone = reply->type == REDIS_REPLY_NIL;
    freeReplyObject(reply);
    int rc2 = redis_take_all(r, 1, rc ? NULL : e);
    return rc ? rc : rc2;
}

int heartbeat_publish(struct redis *r, const struct heartbeat *h, bool *was_gone, struct err *e)
{
    struct buf json = {0};
    encode(&json, h);
    int rc = json.failed ? err_set(e, ERR_NOMEM, NULL, "no memory for a heartbeat")
                         : publish(r, h->inc, &json, was_gone, e);
    buf_dispose(&json);
    return rc;
}

int heartbeat_remove(struct redis *r, const char *inc, struct err *e)
{
    char key[HEARTBEAT_KEY_MAX], inbox[INBOX_KEY_MAX];
    heartbeat_key(key, inc);
    inbox_worker_key(inbox, inc);
    int rc = redis_append(r, e, "DEL %s %s", key, inbox);
    if (rc == 0) rc = redis_append(r, e, "ZREM " HEARTBEAT_WORKERS " %s", inc);
    return rc ? rc : redis_take_all(r, 2, e);
}

/* ---- reading
 * -------------------------------------------------------------------------------------------------- */

/* Drops workers that nobody has heard of for long. By Redis's clock as it is now: a wall clock that is ahead
 * would drop the living along with their inboxes. */
static int forget_old(struct redis *r, struct err *e)
{
    redisReply *old;
    int rc = redis_clock_measure(r, e);
    if (rc) return rc;
    rc = redis_call(r, &old, e, "ZRANGE " HEARTBEAT_WORKERS " -inf (%lld BYSCORE LIMIT 0 100",
                    (long long)(redis_clock_us() / 1000 - HEARTBEAT_FORGET_MS));
    if (rc) return rc;
    for (size_t i = 0; i < old->elements && rc == 0; i++)
        if (redis_reply_str(old->element[i])) rc = heartbeat_remove(r, old->element[i]->str, e);
    freeReplyObject(old);
    return rc;
}

/* The heartbeats of all of these incarnations, in order, nil for the dead: a reply of the caller's. */
static int read_all(struct redis *r, const redisReply *incs, redisReply **out, struct err *e)
{
    const char **argv = mem_try_alloc(incs->elements + 1, sizeof *argv);
    char(*keys)[HEARTBEAT_KEY_MAX] = mem_try_alloc(incs->elements, sizeof *keys);
    int rc = argv && keys ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for the list of workers");
    if (rc == 0) {
        argv[0] = "MGET";
        for (size_t i = 0; i < incs->elements; i++) {
            const char *inc = redis_reply_str(incs->element[i]);
            heartbeat_key(keys[i], inc ? inc : "");
            argv[i + 1] = keys[i];
        }
        rc = redis_call_argv(r, out, (int)incs->elements + 1, argv, NULL, e);
    }
    mem_free(argv);
    mem_free(keys);
    return rc;
}

static int collect(const redisReply *texts, struct heartbeat **out, size_t *n, struct err *e)
{
    *out = mem_try_alloc(texts->elements, sizeof **out);
    if (!*out) return err_set(e, ERR_NOMEM, NULL, "no memory for the list of workers");
    for (size_t i = 0; i < texts->elements; i++) {
        const char *json = redis_reply_str(texts->element[i]);
        if (json && heartbeat_decode(&(*out)[*n], json, texts->element[i]->len, NULL) == 0) (*n)++;
    }
    return 0;
}

int heartbeat_list(struct redis *r, struct heartbeat **out, size_t *n, struct err *e)
{
    *out = NULL;
    *n = 0;
    redisReply *incs, *texts;
    int rc = forget_old(r, e);
    if (rc == 0) rc = redis_call(r, &incs, e, "ZRANGE " HEARTBEAT_WORKERS " 0 %d", WORKERS_MAX - 1);
    if (rc) return rc;
    if (incs->elements) {
        rc = read_all(r, incs, &texts, e);
        if (rc == 0) {
            rc = collect(texts, out, n, e);
            freeReplyObject(texts);
        }
    }
    freeReplyObject(incs);
    if (*n == 0) {
        mem_free(*out);
        *out = NULL;
    }
    return rc;
}
