/* Here specs are settled, written, settled again, and held against the graph that is made of them. */
#include "tests/unit/learn/settle_aid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "learn/family.h"
#include "tensor/plan.h"

struct resolved *settle(const char *text, const struct schema *s)
{
    struct err e = {0};
    struct resolved *r = NULL;
    if (aid_settle(&r, text, s, &e)) fail_msg("%s: %s %s", text, e.field, e.message);
    return r;
}

int settle_refused(const char *text, const struct schema *s, const char *field, const char *message)
{
    struct err e = {0};
    struct resolved *r = NULL;
    int rc = aid_settle(&r, text, s, &e);
    if (rc == 0) fail_msg("accepted: %s", text);
    if (strcmp(e.field, field) != 0 || (message && strcmp(e.message, message) != 0))
        fail_msg("%s\n  gave %s: %s\n  not  %s: %s", text, e.field, e.message, field, message ? message : "");
    assert_null(r);
    return rc;
}

static char *written(const struct resolved *r, const struct schema *s)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    resolved_to_json(r, s, &w);
    return buf_steal(&b);
}

void settle_again(const struct resolved *r, const struct schema *s)
{
    char *first = written(r, s);
    struct resolved *again = settle(first, s);
    char *second = written(again, s);
    assert_string_equal(first, second);
    assert_int_equal(again->estimate.memory_bytes, r->estimate.memory_bytes);
    mem_free(first);
    mem_free(second);
    resolved_free(again);
}

static size_t plan_total(const struct graph *g, enum plan_mode mode, int64_t rows)
{
    struct plan_options o = {
        .mode = mode, .max_batch = rows, .keep_outputs = true, .optim = optim_defaults(OPTIM_ADAM)};
    struct plan *p = NULL;
    struct err e = {0};
    if (plan_create(&p, g, &o, &e)) fail_msg("%s: %s", e.field, e.message);
    size_t total = plan_bytes(p)->total;
    plan_free(p);
    return total;
}

void settle_graph(const struct resolved *r, const char *text)
{
    struct graph *g = NULL;
    struct err e = {0};
    if (family_graph(&g, r, &e)) fail_msg("%s: %s %s", text, e.field, e.message);
    assert_int_equal(graph_param_scalars(g), r->estimate.parameters);
    double flops = (double)graph_flops(g, 1) / (double)r->estimate.flops_per_row;
    if (!(flops > 0.5 && flops < 2)) fail_msg("%s: FLOPs are off by %g", text, flops);
    size_t need = plan_total(g, PLAN_TRAIN, r->training.batch_size) + plan_total(g, PLAN_INFER, 256);
    if (need > r->estimate.memory_bytes || r->estimate.memory_bytes > 4 * need + ((uint64_t)96 << 20))
        fail_msg("%s: %zu bytes, estimated %llu", text, need, (unsigned long long)r->estimate.memory_bytes);
    need = plan_total(g, PLAN_INFER, 128);
    if (need > r->estimate.model_bytes)
        fail_msg("%s: a loaded version takes %zu bytes, estimated %llu", text, need,
                 (unsigned long long)r->estimate.model_bytes);
    graph_free(g);
}
