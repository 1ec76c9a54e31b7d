/* Here idempotency keys are taken, answered, released and forgotten. */
#include "store/idem.h"

#include <stdio.h>
#include <string.h>

enum { KEY_BYTES_MAX = 255 };

/* The stored row under key (locked), or none. */
static int load(struct db *db, const char *key, struct db_rows **r, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, key);
    return db_exec(db,
                   "SELECT encode(request, 'hex'), status, body, taken_until > now() FROM idempotency_keys "
                   "WHERE tenant_id = $1 AND key = $2 FOR UPDATE",
                   &a, r, e);
}

/* The lock is held to the end of the transaction: a second taker learns at once that the first one is at
 * work, also before the first one's row is visible. */
static int lock_key(struct db *db, const char *key, bool *locked, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, key);
    struct db_rows *r;
    int rc = db_exec(
        db, "SELECT pg_try_advisory_xact_lock(hashtextextended(concat('idem ', $1::text, ' ', $2::text), 0))",
        &a, &r, e);
    if (rc) return rc;
    *locked = db_bool(r, 0, 0);
    db_rows_free(r);
    return 0;
}

static int in_flight(struct err *e)
{
    int rc = err_set(e, ERR_CONFLICT, "Idempotency-Key",
                     "a request with this Idempotency-Key is still being worked on");
    if (e) e->retry_after_ms = 1000;
    return rc;
}

static int put_row(struct db *db, const char *key, const uint8_t request[SHA256_LEN], int64_t hold_s,
                   struct idem *out, struct err *e)
{
    char hex[SHA256_HEX_LEN];
    out->outcome = IDEM_FRESH;
    id_new(out->token, "req_");
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, key);
    db_arg_str(&a, crypto_hex(hex, request, SHA256_LEN));
    db_arg_str(&a, out->token);
    db_arg_int(&a, hold_s);
    return db_exec(
        db,
        "INSERT INTO idempotency_keys (tenant_id, key, request, token, taken_until) VALUES ($1, $2, "
        "decode($3, 'hex'), $4, now() + $5::bigint * interval '1 second') ON CONFLICT (tenant_id, key) DO "
        "UPDATE "
        "SET request = excluded.request, token = excluded.token, taken_until = excluded.taken_until, "
        "created_at = now()",
        &a, NULL, e);
}

/* What an earlier request under this key means for ours. */
static int judge(const struct db_rows *r, const uint8_t request[SHA256_LEN], bool *overtake, struct arena *a,
                 struct idem *out, struct err *e)
{
    char hex[SHA256_HEX_LEN];
    crypto_hex(hex, request, SHA256_LEN);
    bool answered = !db_is_null(r, 0, 1);
    *overtake = !answered && !db_bool(r, 0, 3);
    if (*overtake) return 0;
    if (strcmp(hex, db_text(r, 0, 0)) != 0)
        return err_set(e, ERR_INVALID, "Idempotency-Key",
                       "this Idempotency-Key was used for another request; use a new one for each request");
    if (!answered) return in_flight(e);
    out->outcome = IDEM_REPLAY;
    out->status = (int)db_int(r, 0, 1);
    return db_arena_text(&out->body, a, r, 0, 2, e);
}

int idem_take(struct db *db, const char *key, const uint8_t request[SHA256_LEN], int64_t hold_s,
              struct arena *a, struct idem *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    size_t len = strlen(key);
    if (len < 1 || len > KEY_BYTES_MAX)
        return err_set(e, ERR_INVALID, "Idempotency-Key", "an Idempotency-Key has 1 to %d bytes",
                       KEY_BYTES_MAX);
    bool locked = false, overtake = true;
    int rc = lock_key(db, key, &locked, e);
    if (rc) return rc;
    if (!locked) return in_flight(e);
    struct db_rows *r;
    rc = load(db, key, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1) rc = judge(r, request, &overtake, a, out, e);
    db_rows_free(r);
    if (rc || !overtake) return rc;
    return put_row(db, key, request, hold_s, out, e);
}

static int expect_one(struct db_rows *r, struct err *e)
{
    bool one = db_rows_affected(r) == 1;
    db_rows_free(r);
    return one ? 0
               : err_set(e, ERR_STALE, "Idempotency-Key",
                         "another request has taken this Idempotency-Key over");
}

int idem_finish(struct db *db, const char *key, const struct idem *taken, int status, const char *body,
                struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, key);
    db_arg_str(&a, taken->token);
    db_arg_int(&a, status);
    db_arg_str(&a, body);
    struct db_rows *r;
    int rc =
        db_exec(db,
                "UPDATE idempotency_keys SET status = $4, body = $5 WHERE tenant_id = $1 AND key = $2 AND "
                "token = $3 AND status IS NULL",
                &a, &r, e);
    return rc ? rc : expect_one(r, e);
}

int idem_release(struct db *db, const char *key, const struct idem *taken, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, key);
    db_arg_str(&a, taken->token);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "DELETE FROM idempotency_keys WHERE tenant_id = $1 AND key = $2 AND token = $3 AND status IS NULL",
        &a, &r, e);
    return rc ? rc : expect_one(r, e);
}

int idem_expire(struct db *db, int64_t keep_s, int64_t *n, struct err *e)
{
    struct db_args a = {0};
    db_arg_int(&a, keep_s);
    struct db_rows *r;
    int rc =
        db_exec(db,
                "DELETE FROM idempotency_keys WHERE created_at < now() - $1::bigint * interval '1 second' "
                "AND (status IS NOT NULL OR taken_until < now())",
                &a, &r, e);
    if (rc) return rc;
    *n = db_rows_affected(r);
    db_rows_free(r);
    return 0;
}
