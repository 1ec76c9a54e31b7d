/* Leadership by a session advisory lock: one scheduler at a time, gone with its connection. A dead leader may
 * believe in itself for one round trip more; that is harmless because every claim is a conditional UPDATE.
 * One thread, the db's. */
#ifndef STORE_LEAD_H
#define STORE_LEAD_H

#include <stdbool.h>
#include <stdint.h>
#include "store/db.h"

struct lead {
    bool held;
    uint64_t generation; /* of the connection that holds it */
};

/* Tries to take it, or makes sure that it is still ours (same connection, answered just now). Outside a
 * transaction. *leads tells. An unreachable server is ERR_UNAVAILABLE and *leads false. */
int lead_check(struct db *db, struct lead *l, bool *leads, struct err *e);
void lead_drop(struct db *db, struct lead *l);

#endif
