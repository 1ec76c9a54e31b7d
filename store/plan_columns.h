/* The columns of a plan, in the order of plan__read, for the statements that join it. Shared inside store/.
 */
#ifndef STORE_PLAN_COLUMNS_H
#define STORE_PLAN_COLUMNS_H

#include "store/plan.h"

enum { PLAN_COLUMNS_N = 20 };

/* p is the table's alias, a literal. */
#define PLAN_COLUMNS(p)                                                                                      \
    p ".name, " p ".currency, " p ".weight, " p ".train_second_micros, " p ".predict_krows_micros, " p       \
      ".max_hold_micros, " p ".month_budget_micros, " p ".max_queued_jobs, " p ".max_running_jobs, " p       \
      ".max_job_seconds, " p ".max_job_memory_bytes, " p ".max_datasets, " p ".max_dataset_bytes, " p        \
      ".max_storage_bytes, " p ".max_models, " p ".max_keys, " p ".requests_per_second, " p                  \
      ".request_burst, " p ".max_inflight_requests, " p ".max_request_rows"

#define PLAN_NAMES                                                                                           \
    "name, currency, weight, train_second_micros, predict_krows_micros, max_hold_micros, "                   \
    "month_budget_micros, "                                                                                  \
    "max_queued_jobs, max_running_jobs, max_job_seconds, max_job_memory_bytes, max_datasets, "               \
    "max_dataset_bytes, "                                                                                    \
    "max_storage_bytes, max_models, max_keys, requests_per_second, request_burst, max_inflight_requests, "   \
    "max_request_rows"

void plan__read(struct plan *out, const struct db_rows *r, int row, int first_col);

#endif
