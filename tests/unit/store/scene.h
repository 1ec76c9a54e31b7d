/* What most tests need around their subject: two tenants on plans of their own, a connection per role, a blob
 * store, and the steps of a job's life in one call each. The calls fail the test when a step fails. */
#ifndef TESTS_UNIT_STORE_SCENE_H
#define TESTS_UNIT_STORE_SCENE_H

#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/arena.h"
#include "pg_fixture.h"
#include "store/blob.h"
#include "store/dataset.h"
#include "store/job.h"

struct scene {
    struct tenant a, b; /* b is the stranger */
    struct db *gateway, *worker, *scheduler, *admin;
    struct blob_store *blobs;
    struct arena arena;
    char dataset[ID_MAX]; /* of a */
    char worker_id[ID_MAX];
};

extern struct scene scene;

int scene_up(void **state);   /* cmocka group set-up */
int scene_down(void **state); /* and tear-down */

/* Set-up and tear-down of a test that leaves nothing behind: a transaction of the tenant a on the gateway's
 * connection. */
int scene_begin(void **state);
int scene_rollback(void **state);

/* A tenant with a plan of its own, named after a counter. */
void scene_tenant(struct tenant *out);
/* Changes the tenant's plan: set the fields of *p (from tenant.plan), then call. */
void scene_plan(const struct plan *p);

/* Steps. Those with a tenant begin and commit on their own. */
void scene_blob(struct db *db, const char *tenant_id, const void *data, size_t len,
                struct blob *out); /* stored, no row */
void scene_dataset(const char *tenant_id, const char *name, char id[ID_MAX]);
int scene_try_submit(struct db *db, const char *tenant_id, const char *dataset, const char *model,
                     struct job *out, struct err *e);
void scene_submit(const char *tenant_id, const char *dataset, const char *model, struct job *out);
int64_t scene_claim(const char *tenant_id, const char *job_id); /* its fence */
int scene_try_finish(struct db *db, const char *tenant_id, const char *job_id, int64_t fence,
                     enum job_state state, struct job_ended *out, struct err *e);
void scene_finish(const char *tenant_id, const char *job_id, int64_t fence, enum job_state state,
                  struct job_ended *out);
/* submit, claim, finish as succeeded. */
void scene_train(const char *tenant_id, const char *dataset, const char *model, struct job_ended *out);
void scene_find(const char *tenant_id, const char *job_id, struct job *out);
void scene_expire_lease(const char *job_id); /* as if its time had passed */

/* One number from one statement, as the superuser. */
int64_t scene_number(const char *sql);
/* No invariant is broken; audit_sealed is left out (no sealer runs here). */
void scene_check_invariants(void);

#define assert_ok(rc, e)                                                                                     \
    do {                                                                                                     \
        int ok_rc = (rc);                                                                                    \
        if (ok_rc) fail_msg("%d: %s [%s]", ok_rc, (e).message, (e).field);                                   \
    } while (0)

#define assert_err(code, rc) assert_int_equal((rc), (code))

#endif
