/* A control-plane request as its handler sees it: plain sequential code on a pool thread, with a database
 * connection.
 *
 *   int models_get(struct api_call *c, struct err *e)
 *   {
 *       struct model m;
 *       int rc = api_begin(c, e);
 *       if (rc == 0) rc = model_find(c->db, api_param(c, 0), c->arena, &m, e);
 *       if ((rc = api_end(c, rc, e)) != 0) return api_not_found(rc, "model", e);
 *       model_write(api_reply(c, 200), &m);
 *       return 0;
 *   }
 *
 * Used by the pool thread that runs the handler only. */
#ifndef GATEWAY_API_CALL_H
#define GATEWAY_API_CALL_H

#include <cjson/cJSON.h>
#include "base/json.h"
#include "gateway/gateway.h"
#include "gateway/http/handoff.h"
#include "gateway/principal.h"
#include "gateway/route.h"
#include "store/db.h"
#include "store/idem.h"

struct api_call {
    struct gateway *g;           /* borrowed */
    const struct route *route;   /* borrowed */
    const struct principal *who; /* borrowed */
    struct actor by;             /* the key, for the audit trail */
    const char *const *params;   /* borrowed; see api_param */
    void *arg;                   /* of dispatch_defer; else NULL */
    const struct request *request;
    struct call *call;       /* borrowed: body, reader, response */
    struct arena *arena;     /* the call's */
    struct db *db;           /* this thread's */
    struct redis *redis;     /* this thread's */
    struct json_writer json; /* into call->response.body */
    cJSON *body_tree;        /* owned: made by api_body */
    int fail_status;         /* the status of a failure where its code alone does not tell; else 0 */
};

/* The i-th path parameter, decoded. */
const char *api_param(const struct api_call *c, int i);

/* A transaction of the caller's tenant. api_end commits when rc is 0 and rolls back otherwise; returns rc or
 * the commit's failure. For what only reads, or is safe to fail on a serialization conflict; else db_run. */
int api_begin(struct api_call *c, struct err *e);
static inline int api_end(struct api_call *c, int rc, struct err *e)
{
    if (rc == 0) return db_commit(c->db, e);
    db_rollback(c->db);
    return rc;
}

/* The JSON body's top object, opened. Refuses other content types. The tree lives as long as the call. */
int api_body(struct api_call *c, struct json_obj *o, struct err *e);

/* after, before and limit (1–100, default 20) from the query. Ids must bear the prefix. */
int api_page(struct api_call *c, const char *prefix, struct page *out, struct err *e);

/* An optional whole number from the query; *out is left alone when it is absent. */
int api_query_int(struct api_call *c, const char *name, int64_t min, int64_t max, int64_t *out,
                  struct err *e);

/* Starts the JSON answer; the writer is c's. */
struct json_writer *api_reply(struct api_call *c, int status);

/* The list envelope around items: between the two calls the handler writes n objects. Ids may be NULL when n
 * is 0. */
struct json_writer *api_list_begin(struct api_call *c);
void api_list_end(struct api_call *c, const char *first_id, const char *last_id, bool has_more);

/* For ERR_NOT_FOUND, replaces the message by the one that every missing, malformed or foreign id of that noun
 * gets, so that nobody can tell them apart. Returns rc. */
int api_not_found(int rc, const char *noun, struct err *e);

/* Checks a path parameter's form: an id of another form is as absent as an unknown one. */
int api_param_id(const struct api_call *c, int i, const char *prefix, const char *noun, struct err *e);

/* The Idempotency-Key header, checked, or NULL. */
int api_idempotency_key(struct api_call *c, const char **out, struct err *e);

/* idem_take within the handler's transaction, key as above (NULL: *taken is fresh and stays unused). A key
 * taken for another request fails with 422. */
int api_idem_take(struct api_call *c, const char *key, const void *body, size_t len, struct idem *taken,
                  struct err *e);
/* idem_finish with the answer written so far; nothing without a key. */
int api_idem_finish(struct api_call *c, const char *key, const struct idem *taken, struct err *e);

/* Answers with a stored response. */
void api_replay(struct api_call *c, const struct idem *stored);

/* Tells all gateways, this one included, that something cached is out of date. Failures are logged: caches
 * expire by themselves. */
void api_changed(struct api_call *c, const struct changed *what);

/* A JSON text from the database as a member; null when text is NULL. */
void api_write_raw(struct json_writer *w, const char *name, const char *text);
/* A time as Unix seconds; null when us is 0. */
void api_write_time(struct json_writer *w, const char *name, int64_t us);
/* A text, null when empty. */
void api_write_opt(struct json_writer *w, const char *name, const char *text);

/* Hides what an operator should know and a tenant should not: addresses in messages about servers that are
 * away. Logs them and sets retry_after_ms. */
void api_public_err(struct err *e, const char *request_id);

#endif
