/* The router: patterns, methods, parameters, query names; and that the table itself is sound. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/arena.h"
#include "base/fs.h"
#include "base/json.h"
#include "gateway/openapi.h"
#include "gateway/route.h"
#include "gateway/shape.h"

static struct arena arena;
static struct route_index *index_of_all;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, SIZE_MAX);
    index_of_all = route_index_create(route_table, route_table_len);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_dispose(&arena);
    route_index_free(index_of_all);
    return 0;
}

/* A request for decoded segments parted by '/'. */
static struct request request_of(enum http_method method, const char *path)
{
    struct request r = {.method = method};
    char *copy = arena_strdup(&arena, path), *rest = copy + 1;
    while (rest != NULL && strcmp(path, "/") != 0) r.segments[r.segments_len++] = strsep(&rest, "/");
    return r;
}

static enum route_result find(struct route_match *m, char *allow, enum http_method method, const char *path)
{
    struct request r = request_of(method, path);
    return route_find(m, allow, index_of_all, FACE_API, &r, &arena);
}

static void a_parameter_is_the_decoded_segment(void **state)
{
    (void)state;
    struct route_match m;
    char allow[ROUTE_ALLOW_MAX];
    struct request r = request_of(HTTP_GET, "/v1/jobs/x");
    r.segments[2] = "a/b c"; /* came as a%2Fb%20c */
    assert_int_equal(route_find(&m, allow, index_of_all, FACE_API, &r, &arena), ROUTE_FOUND);
    assert_string_equal(m.route->pattern, "/v1/jobs/{job}");
    assert_int_equal(m.params_len, 1);
    assert_string_equal(m.params[0], "a/b c");
}

static void two_parameters_come_in_pattern_order(void **state)
{
    (void)state;
    struct route_match m;
    char allow[ROUTE_ALLOW_MAX];
    assert_int_equal(find(&m, allow, HTTP_PUT, "/v1/models/fashion/aliases/live"), ROUTE_FOUND);
    assert_string_equal(m.params[0], "fashion");
    assert_string_equal(m.params[1], "live");
}

static void text_wins_over_a_parameter(void **state)
{
    (void)state;
    struct route_match m;
    char allow[ROUTE_ALLOW_MAX];
    assert_int_equal(find(&m, allow, HTTP_GET, "/v2/health/ready"), ROUTE_FOUND);
    assert_string_equal(m.route->pattern, "/v2/health/ready");
    assert_int_equal(find(&m, allow, HTTP_GET, "/v1/audit/verify"), ROUTE_FOUND);
    assert_string_equal(m.route->pattern, "/v1/audit/verify");
}

static void text_wins_whatever_the_order_of_rows(void **state)
{
    (void)state;
    static const struct route rows[] = {{.method = HTTP_GET, .pattern = "/a/{x}/c"},
                                        {.method = HTTP_GET, .pattern = "/a/b:go/c"},
                                        {.method = HTTP_GET, .pattern = "/a/{x}:go/c"},
                                        {.method = HTTP_GET, .pattern = "/{y}/b:go/c"}};
    struct route_match m;
    char allow[ROUTE_ALLOW_MAX];
    struct request text = request_of(HTTP_GET, "/a/b:go/c"), suffix = request_of(HTTP_GET, "/a/d:go/c"),
                   plain = request_of(HTTP_GET, "/a/d/c"), first = request_of(HTTP_GET, "/z/b:go/c");
    struct route_index *in = route_index_create(rows, 4);
    assert_int_equal(route_find(&m, allow, in, FACE_API, &text, &arena), ROUTE_FOUND);
    assert_ptr_equal(m.route, &rows[1]);
    assert_int_equal(route_find(&m, allow, in, FACE_API, &suffix, &arena), ROUTE_FOUND);
    assert_ptr_equal(m.route, &rows[2]);
    assert_int_equal(route_find(&m, allow, in, FACE_API, &plain, &arena), ROUTE_FOUND);
    assert_ptr_equal(m.route, &rows[0]);
    assert_int_equal(route_find(&m, allow, in, FACE_API, &first, &arena), ROUTE_FOUND);
    assert_ptr_equal(m.route, &rows[3]);
    route_index_free(in);
}

static void rows_are_found_whatever_their_length_and_face(void **state)
{
    (void)state;
    static const struct route rows[] = {
        {.method = HTTP_GET,
         .pattern = "/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/{g}"}, /* as long as a request may be */
        {.method = HTTP_GET, .pattern = "/", .face = FACE_OPS},
        {.method = HTTP_POST, .pattern = "/1"},
        {.method = HTTP_GET, .pattern = "/1", .face = FACE_OPS},
        {.method = HTTP_GET, .pattern = "/1"}};
    struct route_match m;
    char allow[ROUTE_ALLOW_MAX];
    struct request longest = request_of(HTTP_GET, "/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/x"),
                   root = request_of(HTTP_GET, "/"), one = request_of(HTTP_GET, "/1"),
                   put = request_of(HTTP_PUT, "/1");
    struct route_index *in = route_index_create(rows, 5);
    assert_int_equal(route_find(&m, allow, in, FACE_API, &longest, &arena), ROUTE_FOUND);
    assert_ptr_equal(m.route, &rows[0]);
    assert_int_equal(route_find(&m, allow, in, FACE_OPS, &longest, &arena), ROUTE_NO_PATH);
    assert_int_equal(route_find(&m, allow, in, FACE_OPS, &root, &arena), ROUTE_FOUND);
    assert_ptr_equal(m.route, &rows[1]);
    assert_int_equal(route_find(&m, allow, in, FACE_API, &root, &arena), ROUTE_NO_PATH);
    assert_int_equal(route_find(&m, allow, in, FACE_OPS, &one, &arena), ROUTE_FOUND);
    assert_ptr_equal(m.route, &rows[3]);
    assert_int_equal(route_find(&m, allow, in, FACE_API, &one, &arena), ROUTE_FOUND);
    assert_ptr_equal(m.route, &rows[4]);
    assert_int_equal(route_find(&m, allow, in, FACE_API, &put, &arena), ROUTE_NO_METHOD);
    assert_string_equal(allow, "GET, HEAD, POST");
    route_index_free(in);
}

static void a_suffix_is_cut_off_its_parameter(void **state)
{
    (void)state;
    struct route_match m;
    char allow[ROUTE_ALLOW_MAX];
    assert_int_equal(find(&m, allow, HTTP_POST, "/v1/models/fashion:predict"), ROUTE_FOUND);
    assert_string_equal(m.params[0], "fashion");
    assert_int_equal(find(&m, allow, HTTP_POST, "/v1/models/fashion/versions/12:predict"), ROUTE_FOUND);
    assert_string_equal(m.params[1], "12");
    assert_int_equal(find(&m, allow, HTTP_POST, "/v1/models/fashion/labels/live:predict"), ROUTE_FOUND);
    assert_string_equal(m.params[1], "live");
}

static void a_suffix_alone_is_no_parameter(void **state)
{
    (void)state;
    struct route_match m;
    char allow[ROUTE_ALLOW_MAX];
    assert_int_equal(find(&m, allow, HTTP_POST, "/v1/models/:predict"), ROUTE_NO_METHOD);
    assert_string_equal(allow, "GET, HEAD, PATCH"); /* it is a (bad) model name then */
}

static void another_method_gets_what_the_path_allows(void **state)
{
    (void)state;
    struct route_match m;
    char allow[ROUTE_ALLOW_MAX];
    assert_int_equal(find(&m, allow, HTTP_PATCH, "/v1/datasets/ds_1"), ROUTE_NO_METHOD);
    assert_string_equal(allow, "GET, HEAD, DELETE");
    assert_int_equal(find(&m, allow, HTTP_GET, "/v1/models/fashion:predict"), ROUTE_NO_METHOD);
    assert_string_equal(allow, "POST");
}

static void head_is_served_where_get_is(void **state)
{
    (void)state;
    struct route_match m;
    char allow[ROUTE_ALLOW_MAX];
    assert_int_equal(find(&m, allow, HTTP_HEAD, "/v1/jobs"), ROUTE_FOUND);
    assert_int_equal(m.route->method, HTTP_GET);
    assert_int_equal(find(&m, allow, HTTP_HEAD, "/v1/models/m:predict"), ROUTE_NO_METHOD);
}

static void paths_that_are_longer_shorter_or_empty_are_not_found(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "/",          "/v1",          "/v1/",      "/v1/jobs/", "/v1/jobs/a/events/b",
        "/v1/jobs//", "/V1/jobs",     "/v1/Jobs",  "/v1/job",   "/v1/jobs/a/Events",
        "/livez",     "/v2/models//", "/v1//jobs", "/metrics",  "/v2/health"};
    struct route_match m;
    char allow[ROUTE_ALLOW_MAX];
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        if (find(&m, allow, HTTP_GET, paths[i]) != ROUTE_NO_PATH) fail_msg("%s was found", paths[i]);
}

static void the_operators_paths_are_on_their_own_listener_only(void **state)
{
    (void)state;
    struct route_match m;
    char allow[ROUTE_ALLOW_MAX];
    struct request r = request_of(HTTP_GET, "/metrics"), jobs = request_of(HTTP_GET, "/v1/jobs");
    assert_int_equal(route_find(&m, allow, index_of_all, FACE_OPS, &r, &arena), ROUTE_FOUND);
    assert_int_equal(route_find(&m, allow, index_of_all, FACE_OPS, &jobs, &arena), ROUTE_NO_PATH);
}

static void unknown_and_doubled_query_names_are_named(void **state)
{
    (void)state;
    struct route_match m;
    char allow[ROUTE_ALLOW_MAX];
    bool twice;
    struct request r = request_of(HTTP_GET, "/v1/jobs");
    assert_int_equal(route_find(&m, allow, index_of_all, FACE_API, &r, &arena), ROUTE_FOUND);
    struct http_field good[] = {{"limit", "3"}, {"status", "queued"}}, odd[] = {{"limit", "3"}, {"lim", "1"}},
                      doubled[] = {{"after", "a"}, {"limit", "3"}, {"after", "b"}};
    r.query = good;
    r.query_len = 2;
    assert_null(route_unknown_query(m.route, &r, &twice));
    r.query = odd;
    assert_string_equal(route_unknown_query(m.route, &r, &twice), "lim");
    assert_false(twice);
    r.query = doubled;
    r.query_len = 3;
    assert_string_equal(route_unknown_query(m.route, &r, &twice), "after");
    assert_true(twice);
}

static void every_row_of_the_table_is_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < route_table_len; i++) {
        const struct route *r = &route_table[i];
        bool loop = r->kind == ROUTE_LOOP;
        if ((loop ? r->on_loop == NULL : r->on_pool == NULL) || r->summary == NULL || r->query == NULL ||
            r->success == 0)
            fail_msg("%s is incomplete", r->pattern);
        if (!loop && r->scopes == 0) fail_msg("%s reaches Postgres without a key", r->pattern);
        if (r->request != NULL && (r->body_limit == 0 || shape_find(r->request) == NULL))
            fail_msg("%s: the body %s has no limit or no shape", r->pattern, r->request);
        if (r->response != NULL && !shape_type_known(r->response))
            fail_msg("%s: unknown %s", r->pattern, r->response);
        for (size_t k = 0; k < i; k++)
            if (r->method == route_table[k].method && strcmp(r->pattern, route_table[k].pattern) == 0)
                fail_msg("%s is there twice", r->pattern);
    }
}

static void every_shape_names_types_that_exist(void **state)
{
    (void)state;
    for (size_t i = 0; i < shape_table_len; i++)
        for (const struct shape_field *f = shape_table[i].fields; f->name != NULL; f++)
            if (!shape_type_known(f->type))
                fail_msg("%s.%s: unknown type %s", shape_table[i].name, f->name, f->type);
}

static void openapi_is_json_and_has_every_public_path(void **state)
{
    (void)state;
    struct buf out = {0};
    struct err e = {0};
    cJSON *tree = NULL;
    openapi_write(&out, route_table, route_table_len);
    assert_int_equal(json_parse(&tree, out.data, out.len, SIZE_MAX, &e), 0);
    const cJSON *paths = cJSON_GetObjectItemCaseSensitive(tree, "paths");
    for (size_t i = 0; i < route_table_len; i++) {
        bool listed = cJSON_GetObjectItemCaseSensitive(paths, route_table[i].pattern) != NULL;
        if (listed != (route_table[i].face == FACE_API))
            fail_msg("%s: listed is %d", route_table[i].pattern, listed);
    }
    cJSON_Delete(tree);
    buf_dispose(&out);
}

static void docs_api_md_holds_the_table_as_it_is(void **state)
{
    (void)state;
    struct buf doc = {0}, table = {0};
    struct err e = {0};
    if (fs_read_all(&doc, "docs/api.md", 1 << 20, &e) != 0) fail_msg("%s", e.message);
    openapi_markdown(&table, route_table, route_table_len);
    if (strstr(doc.data, table.data) == NULL)
        fail_msg("docs/api.md is out of date: put the output of tenor-gateway --print-routes there");
    buf_dispose(&doc);
    buf_dispose(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_parameter_is_the_decoded_segment),
        cmocka_unit_test(two_parameters_come_in_pattern_order),
        cmocka_unit_test(text_wins_over_a_parameter),
        cmocka_unit_test(text_wins_whatever_the_order_of_rows),
        cmocka_unit_test(rows_are_found_whatever_their_length_and_face),
        cmocka_unit_test(a_suffix_is_cut_off_its_parameter),
        cmocka_unit_test(a_suffix_alone_is_no_parameter),
        cmocka_unit_test(another_method_gets_what_the_path_allows),
        cmocka_unit_test(head_is_served_where_get_is),
        cmocka_unit_test(paths_that_are_longer_shorter_or_empty_are_not_found),
        cmocka_unit_test(the_operators_paths_are_on_their_own_listener_only),
        cmocka_unit_test(unknown_and_doubled_query_names_are_named),
        cmocka_unit_test(every_row_of_the_table_is_complete),
        cmocka_unit_test(every_shape_names_types_that_exist),
        cmocka_unit_test(openapi_is_json_and_has_every_public_path),
        cmocka_unit_test(docs_api_md_holds_the_table_as_it_is),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
