/* A plan: prices, quotas and the scheduling weight, shared by the tenants on it. Platform data: application
 * roles read it, members of tenor_system change it. */
#ifndef STORE_PLAN_H
#define STORE_PLAN_H

#include <stddef.h>
#include <stdint.h>
#include "store/db.h"

struct plan {
    char name[STORE_NAME_MAX]; /* its id: "standard" */
    char currency[4];          /* ISO 4217 */
    int64_t weight;            /* share of the platform, ≥ 1 */

    int64_t train_second_micros;  /* price of one second of training */
    int64_t predict_krows_micros; /* price of 1,000 predicted rows */
    int64_t max_hold_micros;      /* no job holds (or costs) more */
    int64_t month_budget_micros;  /* billed this month + held; 0 for no limit */

    /* quotas; each is the most that there may be at a time */
    int64_t max_queued_jobs; /* queued and waiting for a retry */
    int64_t max_running_jobs;
    int64_t max_job_seconds;
    int64_t max_job_memory_bytes;
    int64_t max_datasets;
    int64_t max_dataset_bytes; /* one dataset, as uploaded */
    int64_t max_storage_bytes; /* all blobs */
    int64_t max_models;
    int64_t max_keys;            /* live ones */
    int64_t requests_per_second; /* rate of all requests; the bucket holds request_burst */
    int64_t request_burst;
    int64_t max_inflight_requests;
    int64_t max_request_rows; /* of one prediction */
};

/* Fills p with the values of the seeded plan "standard" under that name: a start for plan_put. */
void plan_init(struct plan *p, const char *name);

int plan_find(struct db *db, const char *name, struct plan *out, struct err *e); /* ERR_NOT_FOUND */
int plan_list(struct db *db, struct plan *out, int cap, int *n, struct err *e);  /* by name; at most cap */

/* System. Creates or replaces the plan; each tenant on it gets an audit row "plan.changed". ERR_INVALID names
 * the field. */
int plan_put(struct db *db, const struct plan *p, const struct actor *by, struct err *e);

#endif
