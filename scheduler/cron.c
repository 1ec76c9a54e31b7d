/* The housekeeping turns. */
#include "scheduler/cron.h"

#include "base/log.h"
#include "scheduler/scheduler.h"
#include "store/audit.h"
#include "store/blob.h"
#include "store/idem.h"
#include "store/keyring.h"
#include "store/predict_job.h"

/* Clients are promised 24 hours. */
enum { IDEM_KEEP_S = 25 * 3600 };

int cron_seal(void *arg, struct db *db, struct redis *redis, struct err *e)
{
    (void)arg;
    (void)redis;
    int64_t sealed;
    return audit_seal(db, &sealed, e);
}

static int expire(struct db *db, void *arg, struct err *e)
{
    return idem_expire(db, IDEM_KEEP_S, arg, e);
}

static int expire_answers(struct db *db, void *arg, struct err *e)
{
    return predict_job_expire(db, PREDICT_JOB_KEEP_S, arg, e);
}

/* Collecting reads no blob's content: no key is needed. */
static int collect(const struct scheduler_config *config, struct db *db, struct err *e)
{
    struct keyring none = {0};
    struct blob_store *store;
    int rc = blob_store_open(&store, config->blob_dir, &none, e);
    if (rc != 0) return rc;
    int64_t removed = 0;
    rc = blob_collect(db, store, config->blob_grace_s, &removed, e);
    if (removed > 0) log_info("blobs_collected", "files=%lld", (long long)removed);
    blob_store_free(store);
    return rc;
}

int cron_work(void *arg, struct db *db, struct redis *redis, struct err *e)
{
    (void)redis;
    const struct scheduler_config *config = arg;
    int64_t expired = 0, answers = 0;
    int rc = db_run(db, NULL, expire, &expired, e);
    if (expired > 0) log_info("idempotency_expired", "rows=%lld", (long long)expired);
    if (rc == 0) rc = db_run(db, NULL, expire_answers, &answers, e);
    if (answers > 0) log_info("answers_expired", "rows=%lld", (long long)answers);
    if (rc == 0 && config->blob_dir) rc = collect(config, db, e);
    return rc;
}
