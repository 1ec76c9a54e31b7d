/* Tenants whose versions are shadowed at the same time: what one of them has in flight leaves room for the
 * others, in each bound that they share. A real server of one loop, a real Redis, and workers that keep every
 * copy without answering. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "gateway/predict/shadow.h"
#include "tests/unit/gateway/road_scene.h"

/* A wide row has 1 MiB. */
enum { TENANTS = 3, KEEPERS = 6, CALLS = 10, WIDE = 1 << 18, WIDE_ROWS = 3, PATIENT_MS = 60000 };

static char wide_json[256];

static struct predict_caller callers[TENANTS];
static char own_id[ID_MAX], shadow_id[ID_MAX];
static struct peer primary, keepers[KEEPERS];
static size_t keepers_len;

static struct route_answer version_of(const struct model_ref *ref, int64_t number, const char *version_id)
{
    struct route_answer a = road_answer(ref, number, version_id);
    if (strcmp(ref->model, "wide") != 0) return a;
    a.signature_json = wide_json;
    a.signature_len = strlen(wide_json);
    return a;
}

static void resolve(void *arg, struct predict *p, struct route_lookup *lookup, const char *tenant_id,
                    const struct model_ref *ref)
{
    (void)arg, (void)tenant_id;
    struct route_answer shadow = version_of(ref, 2, shadow_id), a = version_of(ref, 1, own_id);
    a.shadow = &shadow;
    a.shadow_share = 1;
    a.etag = 5;
    strcpy(a.alias, "live");
    predict_route_done(p, lookup, 0, &a, NULL);
}

/* /<tenant's number>/<model> */
static void on_request(struct exchange *x, void *ctx)
{
    const struct request *r = exchange_request(x);
    struct model_ref ref = {.model = r->segments[1]};
    struct predict_options o = {.protocol = PREDICT_TFS};
    predict_run(ctx, x, &callers[r->segments[0][0] - '0'], &ref, &o);
}

/* So many workers hold the shadow, and never answer. */
static void open_road(size_t n)
{
    holder_start(&primary, ANSWER, own_id);
    for (keepers_len = 0; keepers_len < n; keepers_len++)
        holder_start(&keepers[keepers_len], SWALLOW, shadow_id);
    road_open(&(struct predict_config){.timeout_ms = PATIENT_MS, .resolve = resolve}, on_request);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(wide_json, sizeof wide_json,
             "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,%d]}],"
             "\"outputs\":[{\"name\":\"sum\",\"datatype\":\"FP32\",\"shape\":[-1]}]}",
             WIDE);
    road_begin();
    memset(callers, 0, sizeof callers);
    for (int i = 0; i < TENANTS; i++) {
        id_new(callers[i].tenant_id, "ten");
        id_new(callers[i].key_id, "key");
    }
    id_new(own_id, "ver");
    id_new(shadow_id, "ver");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    road_close();
    peer_stop(&primary);
    for (size_t i = 0; i < keepers_len; i++) peer_stop(&keepers[i]);
    return 0;
}

static void call(int times, int tenant, const char *model, const struct buf *body)
{
    struct client c;
    struct buf head = {0};
    client_open(&c, road_port);
    buf_printf(&head, "POST /%d/%s HTTP/1.1\r\nHost: t\r\nContent-Length: %zu\r\n\r\n", tenant, model,
               body->len);
    for (int i = 0; i < times; i++) {
        struct reply r;
        client_send(&c, head.data, head.len);
        client_send(&c, body->data, body->len);
        client_reply(&c, &r, false);
        if (r.status != 200) fail_msg("%d %s", r.status, r.body.data);
        reply_dispose(&r);
    }
    client_close(&c);
    buf_dispose(&head);
}

static int kept(void)
{
    int n = 0;
    for (size_t i = 0; i < keepers_len; i++) n += keepers[i].popped;
    return n;
}

static bool all_are_linked(void *arg)
{
    (void)arg;
    size_t linked = 0;
    for (size_t i = 0; i < keepers_len; i++) linked += keepers[i].links_len > 0;
    return linked == keepers_len;
}

struct expected {
    int tenant, copies;
};

/* A copy is on its way when its call is answered. */
static bool has_come(void *arg)
{
    struct expected *x = arg;
    struct buf body = {0};
    buf_str(&body, "{\"instances\":[[1,2]]}");
    call(CALLS, x->tenant, "sums", &body);
    buf_dispose(&body);
    return kept() >= x->copies;
}

/* However often the tenant calls, that is how many copies there are then. */
static void fill(int tenant, int copies)
{
    struct expected x = {tenant, copies};
    wait_until(has_come, &x, "the tenant never got its share");
    for (int i = 0; i < 5; i++) has_come(&x);
    assert_int_equal(kept(), copies);
}

/* ---- tests */

static void one_tenants_copies_leave_a_busy_worker_room_for_anothers(void **state)
{
    (void)state;
    open_road(1);
    fill(0, SHADOW_BUSY / 2);
    fill(1, SHADOW_BUSY / 2 + SHADOW_BUSY / 4);
    fill(2, SHADOW_BUSY / 2 + SHADOW_BUSY / 4 + SHADOW_BUSY / 8);
    fill(0, SHADOW_BUSY / 2 + SHADOW_BUSY / 4 + SHADOW_BUSY / 8); /* it has its share already */
}

static void one_tenants_copies_leave_places_for_anothers(void **state)
{
    (void)state;
    struct expected warm = {0, 0};
    open_road(KEEPERS);
    has_come(&warm); /* makes the loop dial */
    wait_until(all_are_linked, NULL, "a keeper was never dialled");
    fill(0, SHADOWS_MAX / 2);
    fill(1, SHADOWS_MAX / 2 + SHADOWS_MAX / 4);
}

static bool has_grown(void *arg)
{
    return kept() >= ((struct expected *)arg)->copies;
}

/* Where few large copies take all the bytes that one tenant may have, another's still find some. */
static void one_tenants_bytes_leave_bytes_for_anothers(void **state)
{
    (void)state;
    struct expected warm = {2, 0};
    struct buf body = {0};
    enum { MOST = SHADOW_BYTES_MAX / (WIDE_ROWS << 20) / 2 };
    open_road(2);
    has_come(&warm);
    wait_until(all_are_linked, NULL, "a keeper was never dialled");
    buf_str(&body, "{\"instances\":[");
    for (int r = 0; r < WIDE_ROWS; r++)
        for (int i = 0; i < WIDE; i++)
            buf_str(&body, i == 0 ? (r ? ",[0" : "[0") : i == WIDE - 1 ? ",0]" : ",0");
    buf_str(&body, "]}");
    int before = kept();
    call(2 * MOST, 0, "wide", &body);
    wait_until(has_grown, &(struct expected){.copies = before + MOST}, "the tenant never got its share");
    call(MOST, 0, "wide", &body);
    assert_int_equal(kept(), before + MOST);
    before = kept();
    call(MOST, 1, "wide", &body);
    wait_until(has_grown, &(struct expected){.copies = before + 2}, "another's copies found no room");
    buf_dispose(&body);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_tenants_copies_leave_a_busy_worker_room_for_anothers),
        TEST(one_tenants_copies_leave_places_for_anothers),
        TEST(one_tenants_bytes_leave_bytes_for_anothers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
