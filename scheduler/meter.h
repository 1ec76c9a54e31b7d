/* The meter: carries what gateways have counted in Redis to the bill in Postgres.
 *
 *   tnr:usage:<inc> (totals that only grow) ──▶ meter ──usage_bill: the difference to what was billed──▶
 * ledger, usage_hours
 *
 * It can be killed at any point and read anything twice: Postgres knows what was billed. The memory of what
 * was billed last is only there to leave alone what did not change. One thread. */
#ifndef SCHEDULER_METER_H
#define SCHEDULER_METER_H

#include "base/err.h"

struct db;
struct redis;
struct meter;

struct meter *meter_create(void);
void meter_free(struct meter *m); /* NULL is fine */

/* A chore's work; arg is the struct meter. Bills all living and dead incarnations; a dead one's totals are
 * deleted once they are billed. */
int meter_work(void *arg, struct db *db, struct redis *redis, struct err *e);

#endif
