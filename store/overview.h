/* What an operator sees of the whole platform. System transactions. */
#ifndef STORE_OVERVIEW_H
#define STORE_OVERVIEW_H

#include <stdbool.h>
#include <stdint.h>
#include "store/db.h"
#include "store/job.h"

struct overview {
    int64_t tenants;
    int64_t jobs[JOB_DEAD + 1]; /* by state */
    int64_t oldest_queued_ms;   /* age of the oldest queued job, 0 when none */
    int64_t datasets;
    int64_t versions;
    int64_t blob_bytes;
    int64_t unsealed_audit;
    int64_t billed_month_micros; /* this calendar month, UTC, all tenants */
};
int overview_load(struct db *db, struct overview *out, struct err *e);

/* One line per tenant: what it has, runs and owes. */
struct overview_tenant {
    char id[ID_MAX];
    char name[STORE_NAME_MAX];
    char plan[STORE_NAME_MAX];
    bool suspended;
    int64_t queued, running;
    int64_t datasets, models;
    int64_t blob_bytes;
    int64_t billed_month_micros;
};
int overview_tenants(struct db *db, const struct page *p, struct arena *a, struct overview_tenant **out,
                     int *n, bool *has_more, struct err *e);
/* Jobs of all tenants, newest first. */
int overview_jobs(struct db *db, const struct page *p, int state, struct arena *a, struct job_list *out,
                  struct err *e);

#endif
