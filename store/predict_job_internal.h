/* What predict_job.c gives to job_finish.c. */
#ifndef STORE_PREDICT_JOB_INTERNAL_H
#define STORE_PREDICT_JOB_INTERNAL_H

#include "base/buf.h"
#include "store/job_internal.h"

struct predict_bill {
    const char *model; /* borrowed: filled by the caller, as price */
    int64_t price;     /* per 1,000 rows, as at submission */
    char version_id[ID_MAX];
    int64_t version, rows, compute_us, amount_micros;
};

/* The answer is kept; its rows become usage, ledger entries and the capture of the hold. */
int predict_job__charge(struct db *db, const char *id, const struct job_answer *answer,
                        struct predict_bill *b, struct err *e);
/* {"version","version_id","metrics":{"rows","compute_us"}} */
void predict_job__result(struct buf *out, const struct predict_bill *b);

#endif
