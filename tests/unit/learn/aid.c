/* Shared parts of learn's tests. */
#include "tests/unit/learn/aid.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "learn/assess.h"
#include "learn/dispatch.h"

int aid_scan(struct schema **out, const void *data, size_t len, size_t piece, enum scan_role role,
             struct err *e)
{
    struct scan_options o = {.role = role, .format = -1};
    struct scan *s = NULL;
    int rc = scan_create(&s, &o, e);
    *out = NULL;
    if (piece == 0) piece = len ? len : 1;
    for (size_t at = 0; at < len && !rc; at += piece)
        rc = scan_push(s, (const char *)data + at, len - at < piece ? len - at : piece, e);
    if (!rc) rc = scan_finish(s, out, e);
    scan_free(s);
    return rc;
}

struct schema *aid_csv(const char *text)
{
    struct err e = {0};
    struct schema *s = NULL;
    if (aid_scan(&s, text, strlen(text), 0, SCAN_FILE, &e)) fail_msg("%s: %s", e.field, e.message);
    return s;
}

char *aid_schema_json(const struct schema *s)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    schema_to_json(s, &w);
    return buf_steal(&b);
}

cJSON *aid_json(const char *text)
{
    struct err e = {0};
    cJSON *node = NULL;
    if (json_parse(&node, text, strlen(text), 1000000, &e)) fail_msg("%s in %s", e.message, text);
    return node;
}

int aid_memfd(const void *data, size_t len)
{
    struct err e = {0};
    int fd = memfd_create("aid", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fs_write_all(fd, data, len, &e), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

void aid_idx(struct buf *out, int rank, const uint32_t *dim, const uint8_t *data, size_t len)
{
    buf_append(out, (unsigned char[]){0, 0, 8, (unsigned char)rank}, 4);
    for (int i = 0; i < rank; i++)
        for (int k = 24; k >= 0; k -= 8) buf_char(out, (char)(dim[i] >> k));
    buf_append(out, data, len);
}

/* ---- runs ---- */

static cJSON *schema_node(struct schema *s)
{
    char *text = aid_schema_json(s);
    cJSON *node = aid_json(text);
    mem_free(text);
    schema_free(s);
    return node;
}

static cJSON *array_schema(const struct buf *features, const struct buf *labels)
{
    struct schema *f = NULL, *l = NULL, *both = NULL;
    struct err e = {0};
    if (aid_scan(&f, features->data, features->len, 0, SCAN_FEATURES, &e) ||
        aid_scan(&l, labels->data, labels->len, 0, SCAN_LABELS, &e) || schema_join(&both, f, l, &e))
        fail_msg("%s", e.message);
    schema_free(f);
    schema_free(l);
    return schema_node(both);
}

static void add_input(struct train_request *q, bool test, const char *role, const void *data, size_t len)
{
    q->inputs[q->n_inputs++] =
        (struct train_input){.test = test, .role = role, .fd = aid_memfd(data, len), .bytes = len};
}

static void open_request(struct train_request *q, const struct aid_run *run)
{
    *q = (struct train_request){.seconds = run->seconds,
                                .used_seconds = run->used_seconds,
                                .memory_bytes = run->memory_bytes,
                                .threads = run->threads};
    if (run->resume) {
        q->resume = run->resume->data;
        q->resume_bytes = run->resume->len;
    }
    q->spec = aid_json(run->spec);
    q->artifact_fd = memfd_create("artifact", MFD_CLOEXEC);
    if (run->csv) {
        q->schema = schema_node(aid_csv(run->csv));
        add_input(q, false, "table", run->csv, strlen(run->csv));
    } else {
        q->schema = array_schema(run->features, run->labels);
        add_input(q, false, "features", run->features->data, run->features->len);
        add_input(q, false, "labels", run->labels->data, run->labels->len);
    }
    if (run->test_csv) {
        q->test_schema = schema_node(aid_csv(run->test_csv));
        add_input(q, true, "table", run->test_csv, strlen(run->test_csv));
    }
    if (run->test_features) {
        q->test_schema = array_schema(run->test_features, run->test_labels);
        add_input(q, true, "features", run->test_features->data, run->test_features->len);
        add_input(q, true, "labels", run->test_labels->data, run->test_labels->len);
    }
}

static void add_model(struct train_request *q, const struct aid_run *run)
{
    if (run->model) add_input(q, false, ASSESS_ROLE, run->model->data, run->model->len);
}

static void close_request(struct train_request *q)
{
    cJSON_Delete((cJSON *)(uintptr_t)q->spec);
    cJSON_Delete((cJSON *)(uintptr_t)q->schema);
    cJSON_Delete((cJSON *)(uintptr_t)q->test_schema);
    for (size_t i = 0; i < q->n_inputs; i++) close(q->inputs[i].fd);
    close(q->artifact_fd);
}

int aid_train(struct aid_result *out, const struct aid_run *run, struct err *e)
{
    struct train_request q;
    *out = (struct aid_result){0};
    open_request(&q, run);
    add_model(&q, run);
    mem_fail_at(run->fail_at, false);
    int rc = dispatch_run(&out->result, run->type ? run->type : "train", &q, &run->callbacks, e);
    mem_fail_at(0, false);
    if (!rc) {
        assert_int_equal(lseek(q.artifact_fd, 0, SEEK_SET), 0);
        assert_int_equal(fs_read_fd(&out->artifact, q.artifact_fd, (size_t)1 << 30, e), 0);
        assert_int_equal(out->artifact.len, out->result.artifact_bytes);
        out->metrics = aid_json(out->result.metrics.data);
    }
    close_request(&q);
    return rc;
}

void aid_result_dispose(struct aid_result *r)
{
    train_result_dispose(&r->result);
    buf_dispose(&r->artifact);
    cJSON_Delete(r->metrics);
    *r = (struct aid_result){0};
}

double aid_metric(const struct aid_result *r, const char *path)
{
    const cJSON *at = r->metrics;
    char part[64];
    while (at && *path) {
        size_t n = strcspn(path, ".");
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        at = cJSON_GetObjectItemCaseSensitive(at, part);
        path += n + (path[n] == '.');
    }
    return cJSON_IsNumber(at) ? at->valuedouble : (double)NAN;
}

/* ---- data ---- */

double aid_uniform(struct aid_random *r)
{
    r->state += 0x9E3779B97F4A7C15u; /* splitmix64 */
    uint64_t z = r->state;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (double)((z ^ z >> 31) >> 11) / 9007199254740992.0;
}

double aid_normal(struct aid_random *r)
{
    double u = 1 - aid_uniform(r), v = aid_uniform(r);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

void aid_flowers(struct buf *out, size_t rows, uint64_t seed)
{
    static const struct {
        const char *name;
        double mean[4], std[4];
    } kind[3] = {{"setosa", {5.0, 3.4, 1.5, 0.25}, {0.35, 0.38, 0.17, 0.10}},
                 {"versicolor", {5.9, 2.8, 4.3, 1.3}, {0.5, 0.3, 0.45, 0.2}},
                 {"virginica", {6.6, 3.0, 5.6, 2.0}, {0.6, 0.3, 0.55, 0.25}}};
    struct aid_random r = {seed};
    buf_str(out, "a,b,c,d,species\n");
    for (size_t i = 0; i < rows; i++) {
        for (int k = 0; k < 4; k++)
            buf_printf(out, "%.2f,", kind[i % 3].mean[k] + kind[i % 3].std[k] * aid_normal(&r));
        buf_printf(out, "%s\n", kind[i % 3].name);
    }
}

int aid_settle_tested(struct resolved **out, const char *text, const struct schema *train,
                      const struct schema *test, struct err *e)
{
    cJSON *node = aid_json(text);
    struct spec *s = NULL;
    *out = NULL;
    int rc = spec_parse(&s, node, "spec", e);
    cJSON_Delete(node);
    if (!rc) rc = spec_resolve(out, s, train, test, e);
    spec_free(s);
    return rc;
}

int aid_settle(struct resolved **out, const char *text, const struct schema *train, struct err *e)
{
    return aid_settle_tested(out, text, train, NULL, e);
}
