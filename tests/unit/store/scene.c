/* Here the tests' scene is set, and the steps of a job's life are taken with the roles that take them in
 * production. */
#include "scene.h"

#include <stdio.h>
#include <string.h>
#include "store/invariant.h"

struct scene scene;

void scene_tenant(struct tenant *out)
{
    static int count;
    char name[32];
    snprintf(name, sizeof name, "tenant-%d", ++count);
    pg_fixture_tenant(out, name);
}

int scene_up(void **state)
{
    (void)state;
    pg_fixture_start();
    memset(&scene, 0, sizeof scene);
    arena_init(&scene.arena, SIZE_MAX);
    scene.gateway = pg_fixture_open(PG_GATEWAY);
    scene.worker = pg_fixture_open(PG_WORKER);
    scene.scheduler = pg_fixture_open(PG_SCHEDULER);
    scene.admin = pg_fixture_open(PG_ADMIN);
    scene_tenant(&scene.a);
    scene_tenant(&scene.b);
    char dir[128];
    struct err e;
    snprintf(dir, sizeof dir, "%s/blobs", pg_fixture_dir());
    assert_ok(blob_store_open(&scene.blobs, dir, pg_fixture_keyring(), &e), e);
    id_new(scene.worker_id, "inc_");
    scene_dataset(scene.a.id, "first", scene.dataset);
    return 0;
}

int scene_down(void **state)
{
    (void)state;
    db_free(scene.gateway);
    db_free(scene.worker);
    db_free(scene.scheduler);
    db_free(scene.admin);
    blob_store_free(scene.blobs);
    arena_dispose(&scene.arena);
    return 0;
}

int scene_begin(void **state)
{
    struct err e;
    (void)state;
    return db_begin(scene.gateway, scene.a.id, &e);
}

int scene_rollback(void **state)
{
    (void)state;
    db_rollback(scene.gateway);
    return 0;
}

void scene_plan(const struct plan *p)
{
    struct err e;
    assert_ok(db_begin_system(scene.admin, &e), e);
    assert_ok(plan_put(scene.admin, p, &pg_fixture_actor, &e), e);
    assert_ok(db_commit(scene.admin, &e), e);
}

void scene_blob(struct db *db, const char *tenant_id, const void *data, size_t len, struct blob *out)
{
    struct err e;
    struct blob_key key;
    struct blob_writer *w;
    assert_ok(db_begin(db, tenant_id, &e), e);
    assert_ok(blob_key_load(db, scene.blobs, &key, &e), e);
    assert_ok(db_commit(db, &e), e);
    assert_ok(blob_writer_create(&w, scene.blobs, &key, INT64_MAX, &e), e);
    assert_ok(blob_writer_append(w, data, len, &e), e);
    assert_ok(blob_writer_finish(w, out, &e), e);
    blob_writer_free(w);
    blob_key_wipe(&key);
}

void scene_dataset(const char *tenant_id, const char *name, char id[ID_MAX])
{
    struct err e;
    struct blob b;
    struct dataset out;
    scene_blob(scene.gateway, tenant_id, name, strlen(name), &b);
    assert_ok(db_begin(scene.gateway, tenant_id, &e), e);
    assert_ok(blob_put(scene.gateway, &b, &e), e);
    struct dataset_new in = {
        .name = name, .format = "csv", .rows = 1, .schema = "{\"columns\":[]}", .n_parts = 1};
    snprintf(in.parts[0].role, sizeof in.parts[0].role, "table");
    memcpy(in.parts[0].sha256, b.sha256, sizeof b.sha256);
    in.parts[0].bytes = b.bytes;
    assert_ok(dataset_create(scene.gateway, &in, &pg_fixture_actor, &scene.arena, &out, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    memcpy(id, out.id, ID_MAX);
}

int scene_try_submit(struct db *db, const char *tenant_id, const char *dataset, const char *model,
                     struct job *out, struct err *e)
{
    struct job_new in = {.type = "train",
                         .model = model,
                         .dataset_id = dataset,
                         .max_seconds = 100,
                         .memory_bytes = 1 << 20,
                         .threads = 1,
                         .spec = "{\"family\":\"mlp\"}"};
    struct arena a;
    arena_init(&a, SIZE_MAX);
    int rc = db_begin(db, tenant_id, e);
    if (!rc) rc = job_submit(db, &in, &pg_fixture_actor, &a, out, e);
    if (!rc)
        rc = db_commit(db, e);
    else
        db_rollback(db);
    out->spec = NULL; /* the arena goes */
    arena_dispose(&a);
    return rc;
}

void scene_submit(const char *tenant_id, const char *dataset, const char *model, struct job *out)
{
    struct err e;
    assert_ok(scene_try_submit(scene.gateway, tenant_id, dataset, model, out, &e), e);
}

int64_t scene_claim(const char *tenant_id, const char *job_id)
{
    struct err e;
    int64_t fence;
    int attempt;
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_ok(job_claim(scene.scheduler, tenant_id, job_id, scene.worker_id, 60000, &fence, &attempt, &e), e);
    assert_ok(db_commit(scene.scheduler, &e), e);
    return fence;
}

int scene_try_finish(struct db *db, const char *tenant_id, const char *job_id, int64_t fence,
                     enum job_state state, struct job_ended *out, struct err *e)
{
    struct blob artifact;
    struct actor by = {"worker", scene.worker_id};
    if (state == JOB_SUCCEEDED) scene_blob(db, tenant_id, job_id, strlen(job_id), &artifact);
    struct job_end end = {.state = state,
                          .artifact = &artifact,
                          .metrics = "{\"accuracy\":0.5}",
                          .signature = "{\"inputs\":[],\"outputs\":[]}",
                          .memory_bytes = 4096,
                          .error_code = "invalid",
                          .error_message = "a column is missing",
                          .error_param = "spec.target"};
    int rc = db_begin(db, tenant_id, e);
    if (!rc) rc = job_finish(db, job_id, fence, &end, &by, out, e);
    if (!rc)
        rc = db_commit(db, e);
    else
        db_rollback(db);
    return rc;
}

void scene_finish(const char *tenant_id, const char *job_id, int64_t fence, enum job_state state,
                  struct job_ended *out)
{
    struct err e;
    struct job_ended ignored;
    assert_ok(scene_try_finish(scene.worker, tenant_id, job_id, fence, state, out ? out : &ignored, &e), e);
}

void scene_train(const char *tenant_id, const char *dataset, const char *model, struct job_ended *out)
{
    struct job j;
    scene_submit(tenant_id, dataset, model, &j);
    scene_finish(tenant_id, j.id, scene_claim(tenant_id, j.id), JOB_SUCCEEDED, out);
}

void scene_find(const char *tenant_id, const char *job_id, struct job *out)
{
    struct err e;
    assert_ok(db_begin(scene.gateway, tenant_id, &e), e);
    assert_ok(job_find(scene.gateway, job_id, &scene.arena, out, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
}

void scene_expire_lease(const char *job_id)
{
    char sql[256];
    snprintf(sql, sizeof sql, "UPDATE jobs SET lease_until = now() - interval '1 second' WHERE id = '%s'",
             job_id);
    pg_fixture_exec(sql);
}

int64_t scene_number(const char *sql)
{
    struct err e;
    struct db_rows *r;
    struct db *db = pg_fixture_open(PG_SUPER);
    assert_ok(db_begin_system(db, &e), e);
    assert_ok(db_query_text(db, sql, &r, &e), e);
    assert_int_equal(db_rows_count(r), 1);
    int64_t v = db_int(r, 0, 0);
    db_rows_free(r);
    db_free(db);
    return v;
}

void scene_check_invariants(void)
{
    struct err e;
    struct invariant_result results[64];
    int broken;
    assert_true(invariant_count() <= 64);
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_ok(invariant_check(scene.scheduler, results, &broken, &e), e);
    db_rollback(scene.scheduler);
    for (int i = 0; i < invariant_count(); i++)
        if (results[i].violations && strcmp(results[i].invariant->name, "audit_sealed") != 0)
            fail_msg("%s: %s", results[i].invariant->name, results[i].example);
}
