/* Predictions that are answered later: jobs of the type "predict", with an encrypted request and an encrypted
 * answer.
 *
 *   predict_job_submit ─▶ (a job like any other) ─▶ job_finish with job_end.answer ─▶ predict_job_find
 *                                                                    └─ PREDICT_JOB_KEEP_S later ─▶ expired
 *
 * What is in the two blobs is the caller's business. Such a job is priced by rows, as a prediction that is
 * answered at once: what it may cost is held when it is submitted, and what it did cost becomes usage, ledger
 * entries and the hold's capture in the transaction that ends it. */
#ifndef STORE_PREDICT_JOB_H
#define STORE_PREDICT_JOB_H

#include "store/job.h"

enum { PREDICT_JOB_KEEP_S = 24 * 3600 };

struct predict_job_new {
    const char *model;
    const char *version_id; /* of the tenant */
    int64_t rows;
    const struct blob *input; /* finished by a blob_writer; put here */
    const char *spec;         /* JSON text: how the answer is to be written */
};

/* As job_submit, and in the same transaction the request. Besides its errors: ERR_LIMIT "storage" when the
 * plan's storage is used up by datasets and kept requests. */
int predict_job_submit(struct db *db, const struct predict_job_new *in, const struct actor *by,
                       struct arena *a, struct job *out, struct err *e);

struct predict_job {
    int64_t rows;
    struct blob input, output; /* output.sha256 is "" when it was not answered */
};
/* ERR_NOT_FOUND "result": no predict job, or its answer is no longer kept. */
int predict_job_find(struct db *db, const char *job_id, struct predict_job *out, struct err *e);

/* System. Forgets requests and answers of jobs that ended keep_s seconds ago and more, so that their blobs
 * are collected; *n counts. */
int predict_job_expire(struct db *db, int64_t keep_s, int64_t *n, struct err *e);

#endif
