/* Idempotency keys: the same key and request give the same answer, once computed, for 24 hours and more.
 *
 * Short work: idem_take, the work, idem_finish in one transaction: nothing stays behind when it is rolled
 * back. Long work (an upload): idem_take in a transaction of its own with hold_s; idem_finish in the one that
 * creates; idem_release when it failed. A holder that vanished is overtaken when hold_s is over. */
#ifndef STORE_IDEM_H
#define STORE_IDEM_H

#include <stdint.h>
#include "base/crypto.h"
#include "base/ids.h"
#include "store/db.h"

enum idem_outcome { IDEM_FRESH, IDEM_REPLAY };

struct idem {
    enum idem_outcome outcome;
    char token[ID_MAX]; /* fresh: proves who took it */
    int status;         /* replay: HTTP status */
    const char *body;   /* replay: in the arena */
};

/* key: 1–255 bytes of the client's; request: SHA-256 over method, path and body. ERR_CONFLICT: in flight
 * (409). ERR_INVALID with field "Idempotency-Key": taken for another request (the caller answers 422). */
int idem_take(struct db *db, const char *key, const uint8_t request[SHA256_LEN], int64_t hold_s,
              struct arena *a, struct idem *out, struct err *e);
/* Keeps the answer. ERR_STALE when somebody overtook us: roll back. */
int idem_finish(struct db *db, const char *key, const struct idem *taken, int status, const char *body,
                struct err *e);
int idem_release(struct db *db, const char *key, const struct idem *taken, struct err *e);
/* System. Removes answers older than keep_s; *n counts. */
int idem_expire(struct db *db, int64_t keep_s, int64_t *n, struct err *e);

#endif
