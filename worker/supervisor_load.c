/* Reads the job's row, checks that it is ours, and finds the blobs that it needs, in one transaction. */
#include "worker/supervisor_state.h"

#include <string.h>
#include "learn/assess.h"
#include "store/predict_job.h"
#include "store/version.h"

struct load {
    struct order *out;
    struct slot *slot;
    const struct run *run;
};

bool order_predicts(const struct order *o)
{
    return strcmp(o->job.type, "predict") == 0;
}

static int find_parts(struct db *db, struct order *o, const struct dataset *d, bool test, struct err *e)
{
    for (int i = 0; i < d->n_parts; i++) {
        if (o->n_parts == TRAIN_MAX_INPUTS) {
            return err_set(e, ERR_INTERNAL, "dataset", "the job's datasets have more than %d parts",
                           TRAIN_MAX_INPUTS);
        }
        struct part *p = &o->parts[o->n_parts++];
        p->test = test;
        p->dataset_part = d->parts[i];
        int rc = blob_find(db, d->parts[i].sha256, &p->blob, e);
        if (rc != 0) return rc;
    }
    return 0;
}

/* The version that an evaluate job scores comes through a pipe like the data. */
static int find_model(struct db *db, struct order *o, struct err *e)
{
    if (o->n_parts == TRAIN_MAX_INPUTS)
        return err_set(e, ERR_INTERNAL, "dataset", "the job's dataset has more than %d parts",
                       TRAIN_MAX_INPUTS - 1);
    struct part *p = &o->parts[o->n_parts++];
    *p = (struct part){.dataset_part = {.role = ASSESS_ROLE}};
    return version_blob(db, o->job.version_id, &p->blob, e);
}

static int find_question(struct db *db, struct order *o, struct err *e)
{
    struct predict_job p;
    int rc = predict_job_find(db, o->job.id, &p, e);
    if (rc == 0) o->input = p.input;
    return rc;
}

static int find_data(struct db *db, struct order *o, struct arena *a, struct err *e)
{
    int rc = dataset_find(db, o->job.dataset_id, a, &o->train, e);
    if (rc == 0) rc = find_parts(db, o, &o->train, false, e);
    if (rc == 0 && o->job.test_dataset_id[0]) {
        rc = dataset_find(db, o->job.test_dataset_id, a, &o->test, e);
        if (rc == 0) rc = find_parts(db, o, &o->test, true, e);
    }
    return rc == 0 && o->job.version_id[0] ? find_model(db, o, e) : rc;
}

static int load(struct db *db, void *arg, struct err *e)
{
    struct load *l = arg;
    struct order *o = l->out;
    struct arena *a = &l->slot->arena;
    bool cancel = false;
    memset(o, 0, sizeof *o);
    arena_reset(a);
    /* The renewal is the check of the fence, under the row's lock. */
    int rc = job_renew(db, l->run->job_id, l->run->fence, l->slot->s->config.lease_ms, &cancel, e);
    if (rc == 0) rc = job_find(db, l->run->job_id, a, &o->job, e);
    if (rc == 0) rc = order_predicts(o) ? find_question(db, o, e) : find_data(db, o, a, e);
    if (rc == 0 && o->job.checkpoint_sha256[0])
        rc = blob_find(db, o->job.checkpoint_sha256, &o->checkpoint, e);
    if (rc == 0) rc = blob_key_load(db, l->slot->s->config.blobs, &o->key, e);
    if (rc == 0) o->job.cancel_requested = cancel;
    return rc;
}

int order_load(struct order *out, struct slot *slot, const struct run *run, struct err *e)
{
    struct load l = {.out = out, .slot = slot, .run = run};
    return db_run(slot->db, run->tenant_id, load, &l, e);
}
