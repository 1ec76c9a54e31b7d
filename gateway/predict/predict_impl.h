/* What the parts of the predict road share: predict.c (the client's half), request_body.c (from its body to a
 * record), road.c (over the wire and back). */
#ifndef GATEWAY_PREDICT_PREDICT_IMPL_H
#define GATEWAY_PREDICT_PREDICT_IMPL_H

#include "gateway/predict/admission.h"
#include "gateway/predict/arms.h"
#include "gateway/predict/biller.h"
#include "gateway/predict/holders.h"
#include "gateway/predict/infer.h"
#include "gateway/predict/predict.h"
#include "gateway/predict/route_cache.h"
#include "queue/record.h"
#include "queue/redis_async.h"

struct event;

enum { PREDICT_BUCKETS = 1024, PREDICT_ATTEMPTS_MAX = 6, PREDICT_TURN_MAX = 256 };

/*  ADMISSION ─▶ ROUTE ─▶ BODY ─▶ PLACING ◀─▶ SENT ─▶ ANSWERED ─▶ counted, answered and freed. From any state:
 * the client leaves, the deadline passes (not in ANSWERED), or it fails. */
enum request_state {
    REQUEST_ADMISSION,
    REQUEST_ROUTE,
    REQUEST_BODY,
    REQUEST_PLACING,
    REQUEST_SENT,
    REQUEST_ANSWERED
};

struct predict_request {
    uint64_t id;
    struct predict_request *hash_next, *prev, *next; /* all requests, oldest first */
    struct predict *owner;
    struct exchange *x; /* ours until it is finished */
    const struct infer_protocol *protocol;
    enum request_state state;
    bool admitted;
    char tenant_id[ID_MAX];
    struct model_ref ref;       /* its texts are the exchange's */
    struct shared_route *route; /* a reference; NULL before it is known */
    struct infer infer;         /* from BODY's end on */
    struct record record;       /* owned: the encoded PREDICT, kept for sending it again */
    int64_t rows_max;           /* ≤ 0: no limit of the plan */
    int64_t wait_ms;            /* the client's own bound; 0: none */
    predict_defer_fn defer;     /* NULL: answered now */
    struct event *deadline;     /* owned */
    int64_t waited_us;          /* for its admission and its route: from BODY on */
    int64_t deadline_us;        /* as its record says; from BODY's end on */
    struct port *port;          /* SENT: who has it */
    int attempts;
    bool answered;   /* SENT: its answer has come */
    struct buf body; /* owned; ANSWERED: its reply, of which json_len bytes are JSON; 0: all */
    size_t json_len;
    int64_t compute_us, queue_us, batch_rows; /* ANSWERED: as its reply told */
    int64_t took_us;                          /* for admission_leave */
    struct arms *arms;           /* where its alias's calls are counted, a reference; NULL: they are not */
    enum rollout_arm arm;        /* which of its versions got the call */
    int64_t sent_us;             /* SENT: since when */
    struct shared_route *shadow; /* that is due for a copy, a reference; NULL: none */
    bool shadowed;               /* a copy is under way */
};

struct predict {
    struct predict_config config;
    struct loop *loop;
    struct redis_async *commands, *events; /* owned, as all below */
    struct route_cache *routes;
    struct admission *admission;
    struct holders *holders;
    struct biller *biller;
    struct arms_book *book;
    struct shadows *shadows;
    struct predict_request *buckets[PREDICT_BUCKETS];
    struct predict_request *first, *last;
    uint64_t next_id;
    uint64_t answered[PREDICT_TURN_MAX]; /* ids of requests in ANSWERED, and of some that have ended since */
    size_t answered_len;
    struct event *settle; /* counts and answers them at the end of this turn of the loop */
    bool freeing;
    struct event *retry;            /* what could not be sent is tried again */
    struct message_tensor *scratch; /* MESSAGE_TENSORS_MAX */
    struct bytes **owners;          /* MESSAGE_TENSORS_MAX: of what scratch points to */
    struct predict_stats stats;
};

/* ---- predict.c */
struct predict_request *predict__find(struct predict *p, uint64_t id);
void predict__fail(struct predict_request *r, const struct err *e); /* answers and frees r */
void predict__end(struct predict_request *r);                       /* frees r, whose exchange is finished */
void predict__tell_rate(struct predict_request *r); /* puts what is left of the rate into the reply's head */

void predict__set_deadline(struct predict_request *r, int64_t ms); /* from now on */

/* ---- request_body.c */
/* Decodes the body by r's protocol and makes r's record of it; its deadline is set. */
int predict__take_body(struct predict_request *r, const char *body, size_t len, struct err *e);

/* ---- async.c */
void predict__defer(struct predict_request *r); /* r holds its record: to r->defer, and frees r */

/* ---- road.c */
int predict__road_open(struct predict *p, struct err *e);
void predict__road_close(struct predict *p);
void predict__place(struct predict_request *r); /* r holds its record: to a worker, now or later */
void predict__recall(
    struct predict_request *r); /* takes r off the road: no worker has it, no holder is wanted for it */

#endif
