/* Housekeeping turns for chores: sealing the audit trail, old idempotency answers, blobs that nothing refers
 * to. */
#ifndef SCHEDULER_CRON_H
#define SCHEDULER_CRON_H

#include "base/err.h"

struct db;
struct redis;

/* Each is a chore's work. arg of cron_seal: not used; of cron_work: the struct scheduler_config. */
int cron_seal(void *arg, struct db *db, struct redis *redis, struct err *e);
int cron_work(void *arg, struct db *db, struct redis *redis, struct err *e);

#endif
