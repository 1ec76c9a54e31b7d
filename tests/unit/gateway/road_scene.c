/* The tests' gateway: its server, its road, its tenant, and looks at them from outside. */
#include "tests/unit/gateway/road_scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "gateway/http/server.h"
#include "queue/placement.h"
#include "tests/unit/queue/redis_fixture.h"

static const char signature_json[] =
    "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,2]}],"
    "\"outputs\":[{\"name\":\"sum\",\"datatype\":\"FP32\",\"shape\":[-1]}]}";

/* ---- the gateway
 * ------------------------------------------------------------------------------------------------ */

static struct server *server;
static struct predict *road;
static struct loop *road_loop;
struct predict_caller road_caller;
char road_inc[ID_MAX], sums_id[ID_MAX], late_id[ID_MAX];
int road_port;
atomic_int road_lookups, road_lookup_ms, road_all_changes;

struct route_answer road_answer(const struct model_ref *ref, int64_t version, const char *version_id)
{
    struct route_answer a = {.version = version,
                             .bytes = 100,
                             .signature_json = signature_json,
                             .signature_len = sizeof signature_json - 1};
    snprintf(a.model, sizeof a.model, "%s", ref->model);
    memcpy(a.version_id, version_id, ID_MAX);
    return a;
}

struct lookup {
    struct predict *p;
    struct route_lookup *of;
    char model[16];
};

static void answer_lookup(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct lookup *l = arg;
    struct err e = {0};
    struct model_ref ref = {.model = l->model};
    bool is_late = strcmp(l->model, "late") == 0;
    struct route_answer a = road_answer(&ref, 3, is_late ? late_id : sums_id);
    if (!is_late && strcmp(l->model, "sums") != 0)
        predict_route_done(l->p, l->of, err_set(&e, ERR_NOT_FOUND, NULL, "whatever"), NULL, &e);
    else
        predict_route_done(l->p, l->of, 0, &a, NULL);
    mem_free(l);
}

static void resolve(void *arg, struct predict *p, struct route_lookup *lookup, const char *tenant_id,
                    const struct model_ref *ref)
{
    (void)arg;
    struct lookup *l = mem_alloc(1, sizeof *l);
    *l = (struct lookup){.p = p, .of = lookup};
    snprintf(l->model, sizeof l->model, "%s", ref->model);
    assert_string_equal(tenant_id, road_caller.tenant_id);
    road_lookups++;
    if (road_lookup_ms == 0)
        answer_lookup(-1, 0, l);
    else
        event_base_once(loop_base(road_loop), -1, EV_TIMEOUT, answer_lookup, l,
                        &(struct timeval){.tv_usec = road_lookup_ms * 1000});
}

static void on_changed(void *arg, const struct changed *c)
{
    (void)arg;
    if (c->kind == CHANGED_ALL) road_all_changes++;
}

static int loop_init(void **ctx, struct loop *loop, int index, void *arg, struct err *e)
{
    (void)index; /* there is one */
    int rc = predict_create(&road, loop, arg, e);
    road_loop = loop;
    *ctx = road;
    return rc;
}

static void loop_done(void *ctx)
{
    predict_free(ctx);
}

/* For a job, which would bill it at its end. */
static void put_off(struct exchange *x, struct predict_deferred *d)
{
    buf_dispose(&d->record);
    buf_dispose(&d->note);
    exchange_reply(x, 202, "application/json", "{}", 2);
}

static void on_request(struct exchange *x, void *ctx)
{
    const struct request *r = exchange_request(x);
    struct model_ref ref = {.model = r->segments[1]};
    struct predict_options o = {.protocol = PREDICT_TFS};
    if (strcmp(r->segments[0], "infer") == 0) o.protocol = PREDICT_OIP;
    if (strcmp(r->segments[0], "later") == 0) o.defer = put_off;
    predict_run(ctx, x, &road_caller, &ref, &o);
}

static void read_ready(void *arg)
{
    atomic_int *out = arg;
    *out = 1 + predict_ready(road);
}

static bool is_ready(void *arg)
{
    (void)arg;
    atomic_int answer_of_loop = 0;
    loop_post(road_loop, read_ready, &answer_of_loop);
    while (!answer_of_loop) continue; /* the loop always runs what is posted */
    return answer_of_loop == 2;
}

void road_begin(void)
{
    redis_fixture_start();
    redis_fixture_flush();
    memset(&road_caller, 0, sizeof road_caller);
    id_new(road_caller.tenant_id, "ten");
    id_new(road_caller.key_id, "key");
    id_new(sums_id, "ver");
    id_new(late_id, "ver");
    id_new(road_inc, "inc_");
    road_lookups = road_lookup_ms = 0;
}

void road_open(const struct predict_config *asked, void (*answer)(struct exchange *x, void *loop_ctx))
{
    struct predict_config p = *asked;
    struct server_config c = {.listeners = {{.address = "127.0.0.1:0"}}, .listeners_len = 1, .loops = 1};
    struct err e = {0};
    p.inc = road_inc;
    p.redis = redis_fixture_start();
    c.limits.connections_per_peer = 1000;
    c.on_request = answer ? answer : on_request;
    c.loop_init = loop_init;
    c.loop_free = loop_done;
    c.arg = &p;
    if (server_create(&server, &c, &e) || server_start(server, &e)) fail_msg("%s", e.message);
    road_port = server_port(server, 0);
    wait_until(is_ready, NULL, "the road never became ready");
}

void road_close(void)
{
    if (!server) return;
    server_drain(server, 2000);
    server_free(server);
    server = NULL;
}

int road_up(void **state)
{
    (void)state;
    road_begin();
    road_open(&(struct predict_config){.resolve = resolve, .on_changed = on_changed}, NULL);
    return 0;
}

int road_down(void **state)
{
    (void)state;
    road_close();
    return 0;
}

void hold(const struct peer *p, const char *version)
{
    struct redis *r = redis_fixture_connect();
    assert_int_equal(placement_announce(r, version, p->inc, NULL), 0);
    redis_free(r);
}

void holder_start(struct peer *p, enum manner manner, const char *version)
{
    peer_start(p, manner, false);
    hold(p, version);
}

void send_post(struct client *c, const char *path, const char *body)
{
    char text[1024];
    snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: t\r\nContent-Length: %zu\r\n\r\n%s", path,
             strlen(body), body);
    client_text(c, text);
}

void post(const char *path, const char *body, struct reply *out)
{
    struct client c;
    client_open(&c, road_port);
    send_post(&c, path, body);
    client_reply(&c, out, false);
    client_close(&c);
}

void expect(const char *path, const char *body, int status, const char *text)
{
    struct reply r;
    post(path, body, &r);
    if (r.status != status || !strstr(r.body.data, text)) fail_msg("%s: %d %s", path, r.status, r.body.data);
    reply_dispose(&r);
}

static struct predict_stats stats_now;
static atomic_bool stats_read;

static void read_stats(void *arg)
{
    (void)arg;
    predict_stats(road, &stats_now);
    stats_read = true;
}

const struct predict_stats *road_stats(void)
{
    stats_read = false;
    loop_post(road_loop, read_stats, NULL);
    while (!stats_read) continue;
    return &stats_now;
}

bool has_popped(void *arg)
{
    return ((struct peer *)arg)->popped > 0;
}

const char tfs[] = "{\"instances\":[[1,2],[30,40]]}";
const char oip[] = "{\"id\":\"a\",\"inputs\":[{\"name\":\"input\",\"shape\":[2,2],\"datatype\":"
                   "\"FP32\",\"data\":[1,2,30,40]}]}";

bool nothing_is_pending(void *none)
{
    (void)none;
    return road_stats()->pending == 0;
}

/* ---- usage
 * ------------------------------------------------------------------------------------------------------ */

struct usage_total usage_in_redis(const char *inc, const char *version)
{
    struct redis *r = redis_fixture_connect();
    struct usage_total *rows, found = {0};
    size_t n;
    struct err e;
    if (usage_read(r, inc, &rows, &n, &e)) fail_msg("%s", e.message);
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].version_id, version) == 0) found = rows[i];
    mem_free(rows);
    redis_free(r);
    return found;
}

struct wanted_usage {
    const char *inc, *version;
    int64_t requests;
};

static bool says_so(void *arg)
{
    const struct wanted_usage *w = arg;
    return usage_in_redis(w->inc, w->version).requests == w->requests;
}

void wait_usage(const char *inc, const char *version, int64_t requests)
{
    struct wanted_usage w = {inc, version, requests};
    wait_until(says_so, &w, "the totals never came to what was answered");
}
