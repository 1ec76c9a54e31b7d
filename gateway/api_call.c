/* What handlers share: transactions, bodies, pages, list envelopes, idempotency, errors that tell strangers
 * nothing. */
#include "gateway/api_call.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/num.h"
#include "gateway/forget.h"

enum {
    BODY_TOKENS_MAX = 20000,
    PAGE_DEFAULT = 20,
    PAGE_MAX = 100,
    IDEMPOTENCY_KEY_MAX = 255,
    IDEM_HOLD_S = 60
};

const char *api_param(const struct api_call *c, int i)
{
    return c->params[i];
}

int api_begin(struct api_call *c, struct err *e)
{
    return db_begin(c->db, c->who->tenant_id, e);
}

/* ---- what the client sent ---- */

int api_body(struct api_call *c, struct json_obj *o, struct err *e)
{
    if (!request_is_type(c->request, "application/json"))
        return err_set(e, ERR_UNSUPPORTED, "content-type",
                       "this takes JSON: send the header Content-Type: application/json");
    if (c->call->body_len == 0)
        return err_set(e, ERR_INVALID, NULL, "the body is empty; a JSON object was expected");
    int rc = json_parse(&c->body_tree, c->call->body, c->call->body_len, BODY_TOKENS_MAX, e);
    if (rc == 0) rc = json_obj_open(o, c->body_tree, "", e);
    return rc;
}

int api_query_int(struct api_call *c, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e)
{
    const char *text = request_query(c->request, name);
    if (text == NULL || num_parse_i64(text, min, max, out)) return 0;
    return err_set(e, ERR_INVALID, name, "%s must be a whole number from %lld to %lld", name, (long long)min,
                   (long long)max);
}

int api_page(struct api_call *c, const char *prefix, struct page *out, struct err *e)
{
    int64_t limit = PAGE_DEFAULT;
    *out = (struct page){.after = request_query(c->request, "after"),
                         .before = request_query(c->request, "before")};
    int rc = api_query_int(c, "limit", 1, PAGE_MAX, &limit, e);
    if (rc != 0) return rc;
    out->limit = (int)limit;
    if (out->after != NULL && out->before != NULL)
        return err_set(e, ERR_INVALID, "before", "after and before exclude each other; send one of them");
    const char *id = out->after != NULL ? out->after : out->before;
    if (id == NULL || id_valid(id, prefix)) return 0;
    return err_set(e, ERR_INVALID, out->after != NULL ? "after" : "before",
                   "this is no id of the list: expected %s…", prefix);
}

int api_param_id(const struct api_call *c, int i, const char *prefix, const char *noun, struct err *e)
{
    if (id_valid(api_param(c, i), prefix)) return 0;
    return api_not_found(err_set(e, ERR_NOT_FOUND, NULL, "malformed id"), noun, e);
}

int api_idempotency_key(struct api_call *c, const char **out, struct err *e)
{
    const char *key = request_header(c->request, "idempotency-key");
    *out = NULL;
    if (key == NULL) return 0;
    size_t len = strlen(key);
    bool printable = len > 0 && len <= IDEMPOTENCY_KEY_MAX;
    for (size_t i = 0; printable && i < len; i++) printable = key[i] >= 0x20 && key[i] < 0x7f;
    if (!printable)
        return err_set(e, ERR_INVALID, "Idempotency-Key",
                       "the header must hold 1 to %d printable ASCII characters", IDEMPOTENCY_KEY_MAX);
    *out = key;
    return 0;
}

/* What tells requests apart: method, target, body. */
static void request_hash(const struct api_call *c, uint8_t out[SHA256_LEN], const void *body, size_t len)
{
    struct crypto_sha256 *s = crypto_sha256_create();
    const char *method = http_method_name(c->request->method);
    crypto_sha256_update(s, method, strlen(method) + 1);
    crypto_sha256_update(s, c->request->target, strlen(c->request->target) + 1);
    crypto_sha256_update(s, body, len);
    crypto_sha256_final(s, out);
    crypto_sha256_free(s);
}

int api_idem_take(struct api_call *c, const char *key, const void *body, size_t len, struct idem *taken,
                  struct err *e)
{
    uint8_t hash[SHA256_LEN];
    *taken = (struct idem){.outcome = IDEM_FRESH};
    if (key == NULL) return 0;
    request_hash(c, hash, body, len);
    int rc = idem_take(c->db, key, hash, IDEM_HOLD_S, c->arena, taken, e);
    if (rc == ERR_INVALID) c->fail_status = 422;
    return rc;
}

int api_idem_finish(struct api_call *c, const char *key, const struct idem *taken, struct err *e)
{
    struct buf *body = &c->call->response.body;
    if (key == NULL) return 0;
    if (body->failed) return err_set(e, ERR_NOMEM, NULL, "no memory for the answer");
    return idem_finish(c->db, key, taken, c->call->response.status, body->data, e);
}

/* ---- what it gets ---- */

struct json_writer *api_reply(struct api_call *c, int status)
{
    c->call->response.status = status;
    c->call->response.content_type = "application/json";
    buf_clear(&c->call->response.body);
    jw_init(&c->json, &c->call->response.body);
    return &c->json;
}

struct json_writer *api_list_begin(struct api_call *c)
{
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    jw_kstr(w, "object", "list");
    jw_name(w, "data");
    jw_arr(w);
    return w;
}

void api_list_end(struct api_call *c, const char *first_id, const char *last_id, bool has_more)
{
    jw_arr_end(&c->json);
    jw_kstr(&c->json, "first_id", first_id);
    jw_kstr(&c->json, "last_id", last_id);
    jw_kbool(&c->json, "has_more", has_more);
    jw_obj_end(&c->json);
}

void api_replay(struct api_call *c, const struct idem *stored)
{
    api_reply(c, stored->status);
    buf_str(&c->call->response.body, stored->body);
    call_header(c->call, "Idempotency-Replayed", "true");
}

int api_not_found(int rc, const char *noun, struct err *e)
{
    if (rc != ERR_NOT_FOUND) return rc;
    return err_set(e, rc, noun, "there is no such %s", noun);
}

void api_write_raw(struct json_writer *w, const char *name, const char *text)
{
    jw_name(w, name);
    if (text == NULL || text[0] == '\0')
        jw_null(w);
    else
        jw_raw(w, text, strlen(text));
}

void api_write_time(struct json_writer *w, const char *name, int64_t us)
{
    jw_name(w, name);
    if (us == 0)
        jw_null(w);
    else
        jw_int(w, us / 1000000);
}

void api_write_opt(struct json_writer *w, const char *name, const char *text)
{
    jw_kstr(w, name, text != NULL && text[0] != '\0' ? text : NULL);
}

void api_changed(struct api_call *c, const struct changed *what)
{
    struct err e = {0};
    gateway_forget(c->g, what);
    if (changed_publish(c->redis, what, &e) != 0) log_warn("change_not_published", "reason=%s", e.message);
}

void api_public_err(struct err *e, const char *request_id)
{
    if (e->code != ERR_UNAVAILABLE && e->code != ERR_TIMEOUT) return;
    if (strcmp(e->field, "body") == 0) return; /* the client's own slowness */
    log_warn("backend_failed", "request=%s code=%s message=%s", request_id, err_name(e->code), e->message);
    err_set(e, ERR_UNAVAILABLE, NULL,
            "the platform cannot reach its database right now; nothing was changed that was "
            "not confirmed, so try again shortly");
    e->retry_after_ms = 1000;
}
