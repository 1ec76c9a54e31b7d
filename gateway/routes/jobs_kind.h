/* What the types of jobs differ in at submission: how their spec reads, and what it comes to for the data.
 * One request's; one thread. */
#ifndef GATEWAY_ROUTES_JOBS_KIND_H
#define GATEWAY_ROUTES_JOBS_KIND_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/buf.h"
#include "base/ids.h"
#include "learn/data/schema.h"
#include "learn/spec/review.h"
#include "learn/spec/spec.h"
#include "learn/spec/tune.h"
#include "store/db.h"

enum job_type { JOB_TRAIN, JOB_TUNE, JOB_EVALUATE };

struct job_kind {
    enum job_type type;
    struct spec *train; /* one of the three, owned: what was read */
    struct tune_spec *tune;
    struct review_spec *review;
    struct buf json; /* as the job keeps it; owned, as all that follow settled by job_kind_settle */
    struct estimate estimate;
    char version_id[ID_MAX]; /* that is scored; "" for none */
};

const char *job_type_name(enum job_type t);

/* spec: NULL when the request has none, which only the scoring of a version allows. ERR_INVALID: type or
 * spec. */
int job_kind_parse(struct job_kind *k, const char *type, const cJSON *spec, struct err *e);

/* Settles the spec for the data; may be called again. test: NULL for none. Inside the tenant's transaction.
 * ERR_NOT_FOUND with the field "model" or "spec.version" or "spec.alias". */
int job_kind_settle(struct job_kind *k, struct db *db, const char *model, const struct schema *train,
                    const struct schema *test, struct arena *a, struct err *e);
void job_kind_dispose(struct job_kind *k);

#endif
