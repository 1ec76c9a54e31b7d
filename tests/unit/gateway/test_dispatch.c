/* A whole gateway whose Postgres and Redis are away: what it refuses before asking them, and how it says that
 * it cannot. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/crypto.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "gateway/gateway.h"
#include "store/key_format.h"
#include "tests/unit/gateway/http_client.h"

static struct gateway *gateway;
static struct gateway_options options;
static char dir[] = "/tmp/tenor-dispatch-XXXXXX";
static char paths[5][64];
static char good_key[KEY_TEXT_MAX]; /* well-formed, unknown to everybody */

static const char *path_in_dir(int i, const char *name)
{
    snprintf(paths[i], sizeof(paths[i]), "%s/%s", dir, name);
    return paths[i];
}

static void write_text(const char *path, const char *text)
{
    struct err e = {0};
    if (fs_write_atomic(path, text, strlen(text), 0600, &e) != 0) fail_msg("%s", e.message);
}

static int setup(void **state)
{
    (void)state;
    struct err e = {0};
    char key_id[ID_MAX], hex[65], pepper[80];
    uint8_t secret[KEY_SECRET_LEN] = {7};
    assert_non_null(mkdtemp(dir));
    memset(hex, '5', 64);
    hex[64] = '\0';
    snprintf(pepper, sizeof(pepper), "1:%s\n", hex);
    write_text(path_in_dir(0, "root"), hex);
    write_text(path_in_dir(1, "pepper"), pepper);
    options = (struct gateway_options){.listen = "127.0.0.1:0",
                                       .tls_listen = "",
                                       .ops_listen = "127.0.0.1:0",
                                       .postgres_url = "host=/nonexistent user=nobody dbname=none",
                                       .redis_url = "unix:/nonexistent/redis.sock",
                                       .redis_password = "",
                                       .blob_dir = path_in_dir(2, "blobs"),
                                       .root_key_file = paths[0],
                                       .pepper_file = paths[1],
                                       .loops = 2,
                                       .pool_threads = 2,
                                       .bulk_threads = 1,
                                       .pool_queue = 8,
                                       .predict_timeout_ms = 1000,
                                       .predict_body_bytes = 1 << 20};
    if (gateway_create(&gateway, &options, &e) != 0 || gateway_start(gateway, &e) != 0)
        fail_msg("%s", e.message);
    id_new(key_id, "key_");
    key_format(good_key, key_id, secret);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    gateway_drain(gateway, 1000);
    gateway_free(gateway);
    return fs_remove_tree(dir, NULL);
}

enum { PUBLIC, OPS };

/* One request on a connection of its own. head: further header lines, each with its CRLF. */
static void ask(struct reply *r, int listener, const char *method, const char *target, const char *head,
                const char *body)
{
    struct client c;
    struct buf text = {0};
    client_open(&c, server_port(gateway->server, (size_t)listener));
    buf_printf(&text, "%s %s HTTP/1.1\r\nHost: t\r\n%s", method, target, head);
    if (body != NULL) buf_printf(&text, "Content-Length: %zu\r\n", strlen(body));
    buf_printf(&text, "\r\n%s", body != NULL ? body : "");
    client_send(&c, text.data, text.len);
    client_reply(&c, r, strcmp(method, "HEAD") == 0);
    client_close(&c);
    buf_dispose(&text);
}

static const char *text_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

/* The envelope of a refusal: its status, type, code and param; a request id; only these four members. */
static void expect_error(const char *method, const char *target, const char *head, const char *body,
                         int status, const char *type, const char *code, const char *param)
{
    struct reply r;
    struct err e = {0};
    cJSON *tree = NULL;
    ask(&r, PUBLIC, method, target, head, body);
    if (json_parse(&tree, r.body.data, r.body.len, 1000, &e) != 0) fail_msg("%s: %s", r.body.data, e.message);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
    if (r.status != status) fail_msg("%s %s: %d %s", method, target, r.status, r.body.data);
    assert_int_equal(cJSON_GetArraySize(error), 4);
    assert_true(strlen(text_of(error, "message")) > 10);
    assert_string_equal(text_of(error, "type"), type);
    assert_string_equal(text_of(error, "code"), code);
    assert_string_equal(text_of(error, "param"), param);
    assert_non_null(reply_header(&r, "x-request-id"));
    cJSON_Delete(tree);
    reply_dispose(&r);
}

static void what_is_not_there_is_404_in_the_envelope(void **state)
{
    (void)state;
    expect_error("GET", "/", "", NULL, 404, "not_found_error", "not_found", "");
    expect_error("GET", "/v1/job", "", NULL, 404, "not_found_error", "not_found", "");
    expect_error("GET", "/metrics", "", NULL, 404, "not_found_error", "not_found", "");
}

static void another_method_is_405_and_says_which(void **state)
{
    (void)state;
    struct reply r;
    expect_error("PUT", "/v1/jobs", "", NULL, 405, "invalid_request_error", "method_not_allowed", "");
    ask(&r, PUBLIC, "PUT", "/v1/jobs", "", NULL);
    assert_string_equal(reply_header(&r, "allow"), "GET, HEAD, POST");
    reply_dispose(&r);
}

static void unknown_query_and_unwanted_bodies_are_refused_by_name(void **state)
{
    (void)state;
    expect_error("GET", "/v1/jobs?lim=1", "", NULL, 400, "invalid_request_error", "invalid", "lim");
    expect_error("GET", "/v1/jobs?limit=1&limit=2", "", NULL, 400, "invalid_request_error", "invalid",
                 "limit");
    expect_error("DELETE", "/v1/keys/k", "", "{}", 400, "invalid_request_error", "invalid", "body");
}

static void a_key_is_asked_for_and_junk_is_refused_without_a_look_up(void **state)
{
    (void)state;
    static const char *const heads[] = {"", "Authorization: Basic abc\r\n", "Authorization: Bearer\r\n",
                                        "Authorization: Bearer tnr_live_x\r\n"};
    struct reply r;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        expect_error("GET", "/v1/jobs", heads[i], NULL, 401, "authentication_error", "unauthorized", "");
    ask(&r, PUBLIC, "GET", "/v1/jobs", "", NULL);
    assert_string_equal(reply_header(&r, "www-authenticate"), "Bearer");
    reply_dispose(&r);
}

static void a_changed_character_of_a_key_is_refused_without_a_look_up(void **state)
{
    (void)state;
    char head[160];
    for (size_t i = 9; i < strlen(good_key); i += 11) {
        char key[KEY_TEXT_MAX];
        memcpy(key, good_key, sizeof(key));
        key[i] = key[i] == '1' ? '2' : '1';
        snprintf(head, sizeof(head), "Authorization: Bearer %s\r\n", key);
        expect_error("GET", "/v1/jobs", head, NULL, 401, "authentication_error", "unauthorized", "");
    }
}

static void a_database_that_is_away_is_503_with_retry_after_and_no_addresses(void **state)
{
    (void)state;
    char head[160];
    struct reply r;
    snprintf(head, sizeof(head), "Authorization: Bearer %s\r\n", good_key);
    expect_error("GET", "/v1/jobs", head, NULL, 503, "server_error", "unavailable", "");
    ask(&r, PUBLIC, "GET", "/v1/jobs", head, NULL);
    assert_string_equal(reply_header(&r, "retry-after"), "1");
    assert_null(strstr(r.body.data, "nonexistent"));
    reply_dispose(&r);
}

static void the_inference_protocols_have_their_own_error(void **state)
{
    (void)state;
    static const struct {
        const char *method, *target;
        int status;
    } cases[] = {{"GET", "/v2/nothing", 404},
                 {"DELETE", "/v2/models/m/infer", 405},
                 {"POST", "/v2/models/m/infer", 401},
                 {"POST", "/v1/models/m:predict", 401},
                 {"POST", "/v1/models/m/labels/live:predict?x=1", 400}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct reply r;
        ask(&r, PUBLIC, cases[i].method, cases[i].target, "", NULL);
        if (r.status != cases[i].status || strncmp(r.body.data, "{\"error\":\"", 10) != 0)
            fail_msg("%s %s: %d %s", cases[i].method, cases[i].target, r.status, r.body.data);
        reply_dispose(&r);
    }
}

static void it_lives_but_is_not_ready_and_tells_the_operator_why(void **state)
{
    (void)state;
    struct reply r;
    ask(&r, PUBLIC, "GET", "/v2/health/live", "", NULL);
    assert_int_equal(r.status, 200);
    reply_dispose(&r);
    ask(&r, PUBLIC, "GET", "/v2/health/ready", "", NULL);
    assert_int_equal(r.status, 503);
    assert_null(strstr(r.body.data, "reason"));
    reply_dispose(&r);
    ask(&r, OPS, "GET", "/readyz", "", NULL);
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(r.body.data, "reason"));
    reply_dispose(&r);
}

static bool metrics_count_the_404(void *arg)
{
    struct reply r;
    (void)arg;
    ask(&r, OPS, "GET", "/metrics", "", NULL);
    assert_int_equal(r.status, 200);
    bool counted =
        strstr(r.body.data, "tenor_gateway_requests_total{method=\"\",route=\"none\",code=\"404\"} ") != NULL;
    reply_dispose(&r);
    return counted;
}

static void every_answer_is_counted(void **state)
{
    (void)state;
    struct reply r;
    ask(&r, PUBLIC, "GET", "/nowhere", "", NULL);
    reply_dispose(&r);
    wait_until(metrics_count_the_404, NULL, "the 404 in /metrics");
}

static void head_has_the_length_and_no_body(void **state)
{
    (void)state;
    struct reply r;
    ask(&r, PUBLIC, "HEAD", "/openapi.json", "", NULL);
    assert_int_equal(r.status, 200);
    assert_true(atoi(reply_header(&r, "content-length")) > 1000);
    assert_int_equal(r.body.len, 0);
    reply_dispose(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_there_is_404_in_the_envelope),
        cmocka_unit_test(another_method_is_405_and_says_which),
        cmocka_unit_test(unknown_query_and_unwanted_bodies_are_refused_by_name),
        cmocka_unit_test(a_key_is_asked_for_and_junk_is_refused_without_a_look_up),
        cmocka_unit_test(a_changed_character_of_a_key_is_refused_without_a_look_up),
        cmocka_unit_test(a_database_that_is_away_is_503_with_retry_after_and_no_addresses),
        cmocka_unit_test(the_inference_protocols_have_their_own_error),
        cmocka_unit_test(it_lives_but_is_not_ready_and_tells_the_operator_why),
        cmocka_unit_test(every_answer_is_counted),
        cmocka_unit_test(head_has_the_length_and_no_body),
    };
    signal(SIGPIPE, SIG_IGN);
    crypto_init();
    log_init("test", LOG_ERROR);
    return cmocka_run_group_tests(tests, setup, teardown);
}
