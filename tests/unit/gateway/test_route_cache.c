/* The cache of routes: what it asks for, and what it never does. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>
#include "gateway/predict/route_cache.h"

static int asked; /* times that the cache wanted a name resolved */

static void resolve(void *arg, struct predict *p, struct route_lookup *lookup, const char *tenant_id,
                    const struct model_ref *ref)
{
    (void)arg, (void)p, (void)lookup, (void)tenant_id, (void)ref;
    asked++;
}

static void on_found(void *arg, uint64_t token, int rc, struct shared_route *route, const struct err *e)
{
    (void)token, (void)route, (void)e;
    *(int *)arg = rc;
}

static int ask(struct route_cache *c, enum model_ref_kind kind, const char *text)
{
    static int rc;
    rc = 0;
    struct model_ref ref = {.model = "m", .kind = kind, .text = text};
    route_cache_find(c, "ten_a", &ref, on_found, &rc, 0);
    return rc;
}

static void names_that_no_entry_can_hold_are_not_looked_for(void **state)
{
    (void)state;
    struct predict_config config = {.resolve = resolve};
    char zeros[80];
    int late = 0;
    struct route_cache *c = route_cache_create(NULL, &config, NULL);
    memset(zeros, '0', sizeof zeros);
    zeros[64] = '1';
    zeros[65] = '\0';
    assert_int_equal(ask(c, MODEL_REF_VERSION, zeros), ERR_NOT_FOUND);
    assert_int_equal(ask(c, MODEL_REF_ALIAS, zeros), ERR_NOT_FOUND);
    assert_int_equal(ask(c, MODEL_REF_VERSION, "0"), ERR_NOT_FOUND);
    assert_int_equal(ask(c, MODEL_REF_VERSION, "x"), ERR_NOT_FOUND);
    assert_int_equal(asked, 0);
    struct model_ref most = {.model = "m", .kind = MODEL_REF_VERSION, .text = zeros + 1};
    route_cache_find(c, "ten_a", &most, on_found, &late, 0);
    assert_int_equal(asked, 1);
    route_cache_free(c);
    assert_int_equal(late, ERR_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_that_no_entry_can_hold_are_not_looked_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
