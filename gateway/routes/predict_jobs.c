/* Predictions that are answered later: a decoded request becomes a job, and its stored answer what the client
 * would have been answered at once. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <string.h>
#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/dispatch.h"
#include "gateway/predict/async.h"
#include "queue/message.h"
#include "store/job.h"
#include "store/predict_job.h"
#include "store/version.h"

enum { BULK_BYTES = 1 << 20, TOKENS_MAX = 200000, REFUSED = 1 };

/* ---- a request becomes a job ---- */

struct submission {
    struct api_call *c;
    const struct predict_deferred *d;
    const char *idempotency_key; /* or NULL */
    uint8_t digest[SHA256_LEN];  /* of what was asked, however it was written */
    struct blob input;
    struct idem idem;
    struct job job;
};

static void deferred_free(void *arg)
{
    struct predict_deferred *d = arg;
    buf_dispose(&d->record);
    buf_dispose(&d->note);
    mem_free(d);
}

/* The note and the tensors, and nothing of the version, the time or the place: the same request sent again is
 * the same though the alias may have moved. */
static int digest_of(struct submission *s, struct err *e)
{
    struct message m;
    struct message_tensor *tensors = mem_try_alloc(MESSAGE_TENSORS_MAX, sizeof(*tensors));
    if (tensors == NULL) return err_set(e, ERR_NOMEM, NULL, "no memory for the request");
    int rc = message_decode(&m, tensors, MESSAGE_TENSORS_MAX, s->d->record.data, s->d->record.len, e);
    struct crypto_sha256 *sha = crypto_sha256_create();
    crypto_sha256_update(sha, s->d->note.data, s->d->note.len);
    for (size_t i = 0; rc == 0 && i < m.tensors_len; i++) {
        const struct message_tensor *t = &m.tensors[i];
        uint8_t head[2] = {(uint8_t)t->dtype, (uint8_t)t->ndim};
        crypto_sha256_update(sha, head, sizeof(head));
        crypto_sha256_update(sha, t->dims, (size_t)t->ndim * sizeof(*t->dims));
        crypto_sha256_update(sha, t->data, t->data_len);
    }
    crypto_sha256_final(sha, s->digest);
    crypto_sha256_free(sha);
    mem_free(tensors);
    return rc;
}

static int store(struct submission *s, struct err *e)
{
    struct api_call *c = s->c;
    struct blob_key key = {0};
    struct blob_writer *w = NULL;
    int rc = api_begin(c, e);
    if (rc == 0) rc = blob_key_load(c->db, c->g->blobs, &key, e);
    rc = api_end(c, rc, e);
    if (rc == 0) rc = blob_writer_create(&w, c->g->blobs, &key, (int64_t)s->d->record.len, e);
    if (rc == 0) rc = blob_writer_append(w, s->d->record.data, s->d->record.len, e);
    if (rc == 0) rc = blob_writer_finish(w, &s->input, e);
    if (w != NULL) blob_writer_free(w);
    blob_key_wipe(&key);
    return rc;
}

static int submit_tx(struct db *db, void *arg, struct err *e)
{
    struct submission *s = arg;
    struct api_call *c = s->c;
    int rc = api_idem_take(c, s->idempotency_key, s->digest, sizeof(s->digest), &s->idem, e);
    if (rc != 0 || s->idem.outcome == IDEM_REPLAY) return rc;
    struct predict_job_new in = {.model = s->d->model,
                                 .version_id = s->d->version_id,
                                 .rows = s->d->rows,
                                 .input = &s->input,
                                 .spec = s->d->note.data};
    if ((rc = predict_job_submit(db, &in, &c->by, c->arena, &s->job, e)) != 0) return rc;
    job__write(api_reply(c, 202), &s->job);
    return api_idem_finish(c, s->idempotency_key, &s->idem, e);
}

/* Of a replayed answer too, whose job is in its body. */
static void tell_where(struct api_call *c)
{
    char path[32 + ID_MAX];
    cJSON *job = NULL;
    struct err ignored = {0};
    const struct buf *body = &c->call->response.body;
    if (json_parse(&job, body->data, body->len, TOKENS_MAX, &ignored) == 0) {
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(job, "id");
        snprintf(path, sizeof(path), "/v1/jobs/%.*s", ID_MAX, cJSON_IsString(id) ? id->valuestring : "");
        call_header(c->call, "Location", path);
    }
    cJSON_Delete(job);
    call_header(c->call, "Preference-Applied", "respond-async");
}

/* Whoever is refused, or asks again, leaves nothing on our disks. Errors of the database are not among these:
 * with them it may have been committed. */
static bool is_refusal(int rc)
{
    return rc == ERR_LIMIT || rc == ERR_INVALID || rc == ERR_CONFLICT || rc == ERR_NOT_FOUND ||
           rc == ERR_FORBIDDEN || rc == ERR_TOO_LARGE;
}

static int create(struct api_call *c, struct err *e)
{
    struct submission s = {.c = c, .d = c->arg};
    int rc = api_idempotency_key(c, &s.idempotency_key, e);
    if (rc == 0) rc = digest_of(&s, e);
    if (rc == 0) rc = store(&s, e);
    if (rc != 0) return rc;
    rc = db_run(c->db, c->who->tenant_id, submit_tx, &s, e);
    if (is_refusal(rc) || (rc == 0 && s.idem.outcome == IDEM_REPLAY))
        blob_discard(c->g->blobs, c->who->tenant_id, &s.input);
    if (rc != 0) return rc;
    if (s.idem.outcome == IDEM_REPLAY)
        api_replay(c, &s.idem);
    else
        job__hint(c, &s.job);
    tell_where(c);
    return 0;
}

void predict_jobs_defer(struct exchange *x, struct predict_deferred *d)
{
    struct predict_deferred *own = mem_alloc(1, sizeof(*own));
    *own = *d;
    dispatch_defer(x, own->record.len > BULK_BYTES, create, own, deferred_free);
}

/* ---- its answer ---- */

struct answer {
    struct job job;
    struct predict_job kept;
    struct version version;
    struct blob_key key; /* to be wiped */
};

/* As the protocols would have said it at once: a failure of the job is none of this request. */
static int refuse(struct api_call *c, const struct err *why)
{
    struct json_writer *w = api_reply(c, http_status_of(why));
    jw_obj(w);
    jw_kstr(w, "error", why->message);
    jw_obj_end(w);
    return REFUSED;
}

/* 0 when there should be an answer; else REFUSED, and the response says why there is none. */
static int explain(struct api_call *c, const struct job *j)
{
    struct err e = {0};
    int code = err_code_of(j->error_code);
    switch (j->state) {
    case JOB_QUEUED:
    case JOB_RUNNING:
    case JOB_RETRY_WAIT:
        call_header(c->call, "Retry-After", "1");
        err_set(&e, ERR_CONFLICT, NULL, "the job has no result yet: it is %s", job_state_name(j->state));
        break;
    case JOB_CANCELLED:
        err_set(&e, ERR_CONFLICT, NULL, "the job was cancelled");
        break;
    case JOB_FAILED:
        err_set(&e, code != 0 ? code : ERR_INTERNAL, j->error_param, "%s", j->error_message);
        break;
    case JOB_DEAD:
        err_set(&e, ERR_INTERNAL, NULL, "the job was tried %d times in vain: %s", JOB_CRASHES_MAX,
                j->error_message);
        break;
    case JOB_SUCCEEDED:
        return 0;
    }
    return refuse(c, &e);
}

static int find(struct api_call *c, struct answer *a, struct err *e)
{
    int rc = api_begin(c, e);
    if (rc == 0) rc = job_find(c->db, api_param(c, 0), c->arena, &a->job, e);
    if (rc == 0) rc = job__check_visible(c, &a->job, e);
    if (rc == 0 && !principal_may_call(c->who, a->job.model))
        rc = err_set(e, ERR_NOT_FOUND, NULL, "not this key's model");
    if (rc == ERR_NOT_FOUND) rc = api_not_found(rc, "job", e);
    if (rc == 0 && strcmp(a->job.type, "predict") != 0)
        rc = err_set(e, ERR_NOT_FOUND, "job", "only predict jobs have a result to fetch; this one is %s: %s",
                     a->job.type, "what it made is in the job itself");
    bool told = rc == 0 && explain(c, &a->job) == REFUSED;
    if (rc == 0 && !told) {
        rc = predict_job_find(c->db, a->job.id, &a->kept, e);
        if (rc == ERR_NOT_FOUND)
            err_set(e, rc, "job", "the result was kept for %d hours and is gone", PREDICT_JOB_KEEP_S / 3600);
    }
    if (rc == 0 && !told) {
        rc = version_find_id(c->db, a->job.version_id, c->arena, &a->version, e);
        if (rc == ERR_NOT_FOUND)
            err_set(e, rc, "job", "the version that answered has been deleted, and its answers with it");
    }
    if (rc == 0 && !told) rc = blob_key_load(c->db, c->g->blobs, &a->key, e);
    rc = api_end(c, rc, e);
    return rc == 0 && told ? REFUSED : rc;
}

static int read_reply(struct api_call *c, const struct answer *a, struct buf *out, struct err *e)
{
    struct blob_reader *r = NULL;
    size_t bytes = (size_t)a->kept.output.bytes, done = 0, got = 1;
    char *room = buf_reserve(out, bytes);
    if (room == NULL) return err_set(e, ERR_NOMEM, NULL, "no memory for the answer");
    int rc = blob_reader_open(&r, c->g->blobs, &a->key, &a->kept.output, e);
    for (; rc == 0 && done < bytes && got > 0; done += got)
        rc = blob_reader_read(r, room + done, bytes - done, &got, e);
    blob_reader_free(r);
    if (rc == 0 && done < bytes) rc = err_set(e, ERR_CORRUPT, NULL, "the answer's blob is cut short");
    if (rc == 0) out->len += bytes;
    return rc;
}

static int write_answer(struct api_call *c, const struct answer *a, const struct buf *reply, struct err *e)
{
    struct model_route route = {.version = a->version.number};
    struct response *r = &c->call->response;
    cJSON *tree = NULL;
    char text[24];
    size_t json_len = 0;
    snprintf(route.model, sizeof(route.model), "%s", a->version.model);
    int rc = json_parse(&tree, a->version.signature, strlen(a->version.signature), TOKENS_MAX, e);
    if (rc == 0) rc = signature_from_json(&route.signature, tree, "signature", e);
    cJSON_Delete(tree);
    if (rc != 0) return err_set(e, ERR_CORRUPT, NULL, "a version's signature cannot be read: %s", e->message);
    (void)api_reply(c, 200);
    rc = async_encode(&r->body, &json_len, a->job.spec, &route, reply->data, reply->len, e);
    signature_free(route.signature);
    if (rc != 0 || json_len == 0) return rc;
    r->content_type = "application/octet-stream";
    snprintf(text, sizeof(text), "%zu", json_len);
    call_header(c->call, "Inference-Header-Content-Length", text);
    return 0;
}

int jobs_result(struct api_call *c, struct err *e)
{
    struct answer a = {0};
    struct buf reply = {0};
    int rc = api_param_id(c, 0, "job_", "job", e);
    if (rc == 0) rc = find(c, &a, e);
    if (rc == 0) rc = read_reply(c, &a, &reply, e);
    if (rc == 0) rc = write_answer(c, &a, &reply, e);
    blob_key_wipe(&a.key);
    buf_dispose(&reply);
    return rc == REFUSED ? 0 : rc;
}
