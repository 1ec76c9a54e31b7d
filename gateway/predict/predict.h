/* The predict road of a gateway loop: request → tensors → a worker that holds the version → reply. Never
 * Postgres, never blocking.
 *
 *   predict_run ─▶ rate lease ─▶ route cache ──miss──▶ config.resolve (routes/: a pool trip)
 * ─▶ predict_route_done ─▶ collect body ─▶ decode against the signature ─▶ pick the less loaded of two
 * holders ─▶ link to it ─▶ its reply ─▶ encode ─▶ exchange_reply
 *
 * One struct predict per loop; everything runs on that loop's thread. */
#ifndef GATEWAY_PREDICT_PREDICT_H
#define GATEWAY_PREDICT_PREDICT_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/ids.h"
#include "base/loop.h"
#include "gateway/http/exchange.h"
#include "learn/spec/signature.h"
#include "queue/changed.h"
#include "queue/redis.h"

struct predict;

/* Who calls, already authenticated and holding the scope `predict`. Copied where it must outlive the call. */
struct predict_caller {
    char tenant_id[ID_MAX];
    char key_id[ID_MAX];
    const char *const *models; /* the key's model allow-list, borrowed for the call; NULL: every model */
    size_t models_len;
    double rate_per_second; /* the plan's predict_rps; ≤ 0: unlimited */
    double burst;
    int concurrency_max; /* requests of the tenant in flight on this loop; ≤ 0: the default (256) */
    int64_t rows_max;    /* of one request, by the plan; ≤ 0: what a message may hold */
};

/* Which version of a model: as the path says it. */
enum model_ref_kind { MODEL_REF_DEFAULT, MODEL_REF_VERSION, MODEL_REF_ALIAS };
struct model_ref {
    const char *model; /* as in the path; need not be valid */
    enum model_ref_kind kind;
    const char *text; /* version digits or alias; NULL for DEFAULT */
};

/* How the worker may put the route's calls together, by the model's settings. */
struct route_batching {
    uint32_t max_rows;     /* of a batch; 0: no limit of the model */
    uint32_t max_delay_us; /* of waiting for company; 0: none */
};

/* A resolved route. */
struct model_route {
    char tenant_id[ID_MAX];
    char model[65];
    char version_id[ID_MAX];
    int64_t version; /* its number */
    uint64_t bytes;  /* of the artifact */
    struct route_batching batching;
    struct signature *signature; /* owned by the route */
};

/* One look-up under way; opaque to routes/. */
struct route_lookup;

struct predict_config {
    int loop_index, loops; /* of this gateway */
    const char *inc;       /* of the gateway: what its usage totals are kept under; borrowed for the call */
    const struct redis_address *redis; /* borrowed until predict_free */
    size_t body_limit_bytes;           /* 0: 32 MiB */
    int timeout_ms;                    /* deadline of a request that names none; 0: 10,000 */
    int timeout_max_ms;                /* 0: 60,000 */
    size_t pending_max;                /* requests in flight on this loop; 0: 4,096 */

    /* Asks Postgres on a pool thread for (tenant_id, ref); the answer comes through exactly one
     * predict_route_done on this loop, later or at once. The texts are copies owned by the look-up and live
     * until then. */
    void (*resolve)(void *arg, struct predict *p, struct route_lookup *lookup, const char *tenant_id,
                    const struct model_ref *ref);
    /* A cached key, model or tenant is to be dropped (CHANGED_ALL: everything, messages may have been
     * missed). The road's own cache has done so already. May be NULL. */
    void (*on_changed)(void *arg, const struct changed *c);
    void *arg;
};

/* What resolve found. signature_json is as stored with the version; it is parsed here. */
struct route_answer {
    char model[65];
    char version_id[ID_MAX];
    int64_t version;
    uint64_t bytes;
    struct route_batching batching;
    const char *signature_json; /* borrowed for the call */
    size_t signature_len;
    const struct route_answer *canary; /* borrowed; NULL: none. Its own canary is not looked at */
    double canary_share;               /* of the calls: (0, 1) */
    const struct route_answer *shadow; /* borrowed; NULL: none. Called beside, and only compared */
    double shadow_share;               /* of the calls that this version answers: (0, 1] */
    double shadow_tolerance;
    char alias[65]; /* that was followed, and its etag when its calls are to be counted: else 0. Without it,
                     * neither canary nor shadow is looked at */
    int64_t etag;
    int64_t slow_us; /* its limit of latency; ≤ 0: none */
};

int predict_create(struct predict **out, struct loop *loop, const struct predict_config *config,
                   struct err *e);
/* After the loop has stopped, or on it: requests still pending are answered 503. */
void predict_free(struct predict *p);

/* Drops the routes that c is about. */
void predict_forget(struct predict *p, const struct changed *c);
/* For /readyz of this loop: Redis is reachable, or away while workers that are known go on answering. */
bool predict_ready(const struct predict *p);

/* rc 0: a is the answer; ERR_NOT_FOUND is remembered for a moment too (with its own words when its field is
 * version_policy: the version exists and is not served); any other failure is passed on and not remembered.
 */
void predict_route_done(struct predict *p, struct route_lookup *lookup, int rc, const struct route_answer *a,
                        const struct err *e);

/* For metadata routes: the cached or freshly resolved route of a model, with the caller's allow-list applied
 * (outside of it: as not found). fn is called once, at once or later; r is borrowed for the call. */
typedef void (*model_route_fn)(void *arg, int rc, const struct model_route *r, const struct err *e);
void predict_find_route(struct predict *p, const struct predict_caller *c, const struct model_ref *ref,
                        model_route_fn fn, void *arg);

/* Whether some worker holds the version now, as far as this loop knows (…/ready). */
bool predict_is_placed(struct predict *p, const char *version_id);

/* A request that is to be answered later: admitted, decoded and checked. */
struct predict_deferred {
    struct buf record; /* the encoded PREDICT; the receiver's, as is note */
    struct buf note;   /* JSON: how its answer is to be written (gateway/predict/async.h) */
    char model[65], version_id[ID_MAX];
    int64_t rows;
};
/* Takes x over and finishes it. */
typedef void (*predict_defer_fn)(struct exchange *x, struct predict_deferred *d);

enum predict_protocol {
    PREDICT_OIP,          /* POST /v2/…/infer */
    PREDICT_TFS,          /* POST /v1/…:predict */
    PREDICT_TFS_CLASSIFY, /* POST /v1/…:classify */
    PREDICT_TFS_REGRESS,  /* POST /v1/…:regress */
};

struct predict_options {
    enum predict_protocol protocol;
    int64_t wait_ms;        /* the client waits no longer; 0: the deadline alone counts */
    predict_defer_fn defer; /* gets the request instead of a worker; NULL: it is answered now */
};

/* Takes x over and finishes it, with its protocol's answer or error. ref's texts live as long as x. */
void predict_run(struct predict *p, struct exchange *x, const struct predict_caller *c,
                 const struct model_ref *ref, const struct predict_options *o);

/* The errors of these protocols, {"error":"…"}, with status and Retry-After by e: for their other routes.
 * Finishes x. */
void predict_fail(struct exchange *x, const struct err *e);

/* limited, overloaded and timed_out are part of failed. Of what was answered: its rows, its share of the
 * computing, its waiting in the worker, and the rows of the batches that it ran in, added up. */
struct predict_stats {
    int64_t requests, answered, failed, limited, overloaded, timed_out, cancelled, resent, placed_waits;
    int64_t rows, compute_us, queue_us, batch_rows;
    int64_t pending;
};
void predict_stats_add(struct predict_stats *sum, const struct predict_stats *one);
void predict_stats(const struct predict *p, struct predict_stats *out); /* the loop's thread */

#endif
