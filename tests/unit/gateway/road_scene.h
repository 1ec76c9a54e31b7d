/* A gateway's predict road for tests: a real server of one loop, a real Redis, and one tenant. Workers are
 * peers (predict_peer.h). road_up gives it the models "sums" and "late"; a test with other models or callers
 * opens a road of its own: road_begin, what it needs in Redis, road_open. */
#ifndef TESTS_UNIT_GATEWAY_ROAD_SCENE_H
#define TESTS_UNIT_GATEWAY_ROAD_SCENE_H

#include <stdatomic.h>
#include "gateway/predict/predict.h"
#include "queue/usage.h"
#include "tests/unit/gateway/http_client.h"
#include "tests/unit/gateway/predict_peer.h"

extern struct predict_caller road_caller;
extern char road_inc[ID_MAX], sums_id[ID_MAX], late_id[ID_MAX]; /* the gateway's, and versions */
extern int road_port;
extern atomic_int road_lookups;     /* routes that were asked of Postgres */
extern atomic_int road_lookup_ms;   /* how long each of them takes, below a second */
extern atomic_int road_all_changes; /* how often everything cached was to be dropped */
extern const char tfs[], oip[];     /* bodies of two rows, whose sums are 3 and 70 */

/* An empty Redis, and new ids for the tenant, the gateway and the versions. */
void road_begin(void);
/* The scene gives inc and redis; what c leaves open is as in production. on_request's loop_ctx is the struct
 * predict; NULL: the tenant's requests, as road_up takes them. The road is ready when this returns. */
void road_open(const struct predict_config *c, void (*on_request)(struct exchange *x, void *loop_ctx));
void road_close(void); /* any number of times */

/* What resolve found: rows of two numbers go in, a sum for each comes out. Its texts are static, and ref's.
 */
struct route_answer road_answer(const struct model_ref *ref, int64_t version, const char *version_id);

/* The tenant's road. Paths: /tfs/<model> and /infer/<model> answer, /later/<model> puts the request off and
 * says 202. */
int road_up(void **state);
int road_down(void **state);

void hold(const struct peer *p, const char *version);
void holder_start(struct peer *p, enum manner manner, const char *version); /* that places nothing */
void send_post(struct client *c, const char *path, const char *body);
void post(const char *path, const char *body, struct reply *out);
void expect(const char *path, const char *body, int status, const char *text);
const struct predict_stats *road_stats(void);
bool has_popped(void *peer);         /* for wait_until */
bool nothing_is_pending(void *none); /* for wait_until */

/* What a gateway's totals in Redis say of a version; zero of one that they do not name. */
struct usage_total usage_in_redis(const char *inc, const char *version);
void wait_usage(const char *inc, const char *version, int64_t requests); /* until it says so */

#endif
