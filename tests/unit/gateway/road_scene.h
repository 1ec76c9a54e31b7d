/* A gateway's predict road for tests: a real server of one loop, a real Redis, and one tenant with the models
 * "sums" and "late". Workers are peers (predict_peer.h). */
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
extern atomic_int road_all_changes; /* how often everything cached was to be dropped */
extern const char tfs[], oip[];     /* bodies of two rows, whose sums are 3 and 70 */

/* Paths: /tfs/<model> and /infer/<model> answer, /later/<model> puts the request off and says 202. */
int road_up(void **state);
int road_down(void **state);

void hold(const struct peer *p, const char *version);
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
