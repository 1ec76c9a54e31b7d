/* Usage: cumulative counters of gateway incarnations, billed once; and what was used, by hour. */
#ifndef STORE_USAGE_H
#define STORE_USAGE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/ids.h"
#include "store/db.h"

/* Cumulative since the incarnation's start. */
struct usage_counters {
    int64_t requests;
    int64_t rows;
    int64_t compute_us;
};

/* System. Bills what these counters have grown by since the last call for (incarnation, tenant, version):
 * usage_hours, ledger and totals in the caller's transaction, under a row lock. Repeated, older and
 * interleaved totals bill nothing twice. The price is rows × price / 1000; the fraction below one micro-unit
 * is carried per version, so no rounding is lost or invented. ERR_NOT_FOUND: no such version of that tenant
 * (junk in Redis). *amount_micros (may be NULL) is what was billed now. */
int usage_bill(struct db *db, const char *incarnation, const char *tenant_id, const char *version_id,
               const struct usage_counters *total, int64_t *amount_micros, struct err *e);

struct usage_row {
    int64_t bucket_start_s; /* Unix seconds */
    char model[STORE_NAME_MAX];
    int64_t version; /* 0: training of a version's job is told under the version that it made */
    int64_t requests;
    int64_t rows;
    int64_t compute_us;
    int64_t train_seconds;
    int64_t amount_micros;
};
struct usage_report {
    struct usage_row *items; /* in the arena, by bucket, model, version; empty buckets absent */
    int n;
};
/* [start_s, end_s) in Unix seconds, widened to whole buckets; bucket_s 3600 or 86400 (UTC days). At most
 * 10,000 rows: ERR_TOO_LARGE. */
int usage_report(struct db *db, int64_t start_s, int64_t end_s, int64_t bucket_s, struct arena *a,
                 struct usage_report *out, struct err *e);

#endif
