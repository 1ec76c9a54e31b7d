/* Here a connection is opened, kept alive between transactions, and carried through begin, commit and
 * rollback. */
#include "store/db.h"
#include "store/db_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/crypto.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/mem.h"

enum { RUN_ATTEMPTS = 5 };

static int or_default(int value, int fallback)
{
    return value > 0 ? value : fallback;
}

static void on_notice(void *arg, const PGresult *r)
{
    (void)arg;
    log_debug("postgres_notice", "message=%s", PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY));
}

/* Everything that later statements rely on, in one round trip: where names are looked up, UTC days, time
 * limits. */
static int settle(struct db *db, struct err *e)
{
    char sql[320];
    snprintf(
        sql, sizeof sql,
        "SET search_path = tenor, pg_temp; SET timezone = 'UTC'; SET client_encoding = 'UTF8'; "
        "SET statement_timeout = %d; SET lock_timeout = %d; SET idle_in_transaction_session_timeout = %d",
        db->statement_timeout_ms, db->lock_timeout_ms, db->idle_tx_timeout_ms);
    PGresult *r = PQexec(db->conn, sql);
    bool ok = PQresultStatus(r) == PGRES_COMMAND_OK;
    PQclear(r);
    if (!ok) return err_set(e, ERR_UNAVAILABLE, NULL, "Postgres refused the connection's settings");
    return 0;
}

/* The first line of libpq's complaint: it spans several and ends in a newline. */
static int refused(struct db *db, struct err *e)
{
    const char *text = db->conn ? PQerrorMessage(db->conn) : "there is no connection";
    int len = (int)strcspn(text, "\n");
    return err_set(e, ERR_UNAVAILABLE, NULL, "Postgres cannot be reached: %.*s", len, text);
}

static int connect_now(struct db *db, struct err *e)
{
    char seconds[16], tcp_ms[16];
    snprintf(seconds, sizeof seconds, "%d", (db->connect_timeout_ms + 999) / 1000);
    snprintf(tcp_ms, sizeof tcp_ms, "%d", db->statement_timeout_ms + 5000);
    /* What stands in the conninfo comes last and wins. */
    const char *names[] = {"connect_timeout",           "tcp_user_timeout", "keepalives_idle",
                           "fallback_application_name", "dbname",           NULL};
    const char *values[] = {seconds, tcp_ms, "10", db->program ? db->program : "tenor", db->conninfo, NULL};
    PQfinish(db->conn);
    db__forget_statements(db);
    db->generation++;
    db->conn = PQconnectdbParams(names, values, 1);
    int rc = 0;
    if (!db->conn || PQstatus(db->conn) != CONNECTION_OK)
        rc = refused(db, e);
    else {
        PQsetNoticeReceiver(db->conn, on_notice, NULL);
        rc = settle(db, e);
    }
    if (rc) db__drop(db); /* one that was not settled would look for names elsewhere */
    return rc;
}

int db_open_lazy(struct db **out, const struct db_options *o, struct err *e)
{
    *out = NULL;
    if (!o->conninfo || !o->conninfo[0])
        return err_set(e, ERR_INVALID, "postgres-url", "no Postgres address was given");
    struct db *db = mem_alloc(1, sizeof *db);
    db->conninfo = mem_strdup(o->conninfo);
    db->program = mem_strdup(o->program);
    db->connect_timeout_ms = or_default(o->connect_timeout_ms, 5000);
    db->statement_timeout_ms = or_default(o->statement_timeout_ms, 15000);
    db->lock_timeout_ms = or_default(o->lock_timeout_ms, 5000);
    db->idle_tx_timeout_ms = or_default(o->idle_tx_timeout_ms, 30000);
    *out = db;
    return 0;
}

int db_open(struct db **out, const struct db_options *o, struct err *e)
{
    int rc = db_open_lazy(out, o, e);
    if (!rc && (rc = connect_now(*out, e))) {
        db_free(*out);
        *out = NULL;
    }
    return rc;
}

void db_free(struct db *db)
{
    if (!db) return;
    PQfinish(db->conn); /* the server rolls back what is open */
    db__forget_statements(db);
    mem_free(db->conninfo);
    mem_free(db->program);
    mem_free(db);
}

/* A simple-protocol text that gives no rows we want; false when it failed for any reason. */
static bool simple(struct db *db, const char *sql)
{
    PGresult *r = PQexec(db->conn, sql);
    ExecStatusType s = PQresultStatus(r);
    PQclear(r);
    return s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK;
}

static int begin(struct db *db, const char *tenant_id, struct err *e)
{
    assert(!db->in_tx);
    char sql[128];
    /* The tenant is set in system transactions too, to nothing: no earlier setting can shine through. */
    snprintf(sql, sizeof sql, "BEGIN; SELECT set_config('tenor.tenant', '%s', true)", tenant_id);
    db->retryable = false;
    db->commit_unknown = false;
    bool fresh = false;
    if (!db->conn || PQstatus(db->conn) != CONNECTION_OK) {
        int rc = connect_now(db, e);
        if (rc) return rc;
        fresh = true;
    }
    if (!simple(db, sql)) {
        /* BEGIN fails for no other reason than a connection that is gone, whatever PQstatus still believes of
         * it. */
        int rc = fresh ? refused(db, e) : connect_now(db, e);
        if (!rc && !simple(db, sql)) rc = refused(db, e);
        if (rc) {
            db__drop(db);
            return rc;
        }
    }
    db->in_tx = true;
    snprintf(db->tenant, sizeof db->tenant, "%s", tenant_id);
    return 0;
}

int db_begin(struct db *db, const char *tenant_id, struct err *e)
{
    if (!tenant_id || !id_valid(tenant_id, "ten_"))
        return err_set(e, ERR_INVALID, "tenant",
                       "a tenant's id looks like ten_…, 26 characters after the prefix");
    return begin(db, tenant_id, e);
}

int db_begin_system(struct db *db, struct err *e)
{
    return begin(db, "", e);
}

static void leave(struct db *db)
{
    db->in_tx = false;
    db->tenant[0] = '\0';
}

int db_commit(struct db *db, struct err *e)
{
    assert(db->in_tx);
    if (PQtransactionStatus(db->conn) ==
        PQTRANS_INERROR) { /* COMMIT would roll back and still call it a success */
        db_rollback(db);
        return err_set(e, ERR_INTERNAL, NULL, "commit of a transaction in which a statement had failed");
    }
    PGresult *r = PQexec(db->conn, "COMMIT");
    leave(db);
    int rc = 0;
    if (PQresultStatus(r) != PGRES_COMMAND_OK) {
        const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
        /* No verdict from the server, or its good-bye: the commit may have come before or not. */
        db->commit_unknown = !state || strncmp(state, "57P", 3) == 0 || PQstatus(db->conn) != CONNECTION_OK;
        rc = db->commit_unknown
                 ? err_set(e, ERR_UNAVAILABLE, NULL,
                           "the connection to Postgres broke during commit; whether it took place is unknown")
                 : db__fail(db, r, "COMMIT", e);
        if (db->commit_unknown) db__drop(db);
    }
    PQclear(r);
    return rc;
}

void db_rollback(struct db *db)
{
    if (!db->in_tx) return;
    leave(db);
    if (PQstatus(db->conn) == CONNECTION_OK && !simple(db, "ROLLBACK")) db__drop(db);
}

void db__drop(struct db *db)
{
    PQfinish(db->conn);
    db->conn = NULL;
    db__forget_statements(db);
    leave(db);
}

bool db_in_tx(const struct db *db)
{
    return db->in_tx;
}

const char *db_tenant(const struct db *db)
{
    return db->tenant;
}

bool db_retryable(const struct db *db)
{
    return db->retryable;
}

bool db_commit_unknown(const struct db *db)
{
    return db->commit_unknown;
}

uint64_t db_generation(const struct db *db)
{
    return db->generation;
}

/* Between 0 and 2^attempt × 5 ms: losers of the same race must not meet again. */
static void pause_a_little(int attempt)
{
    uint32_t r;
    crypto_random(&r, sizeof r);
    long us = (long)(r % (5000u << attempt));
    struct timespec t = {0, us * 1000};
    nanosleep(&t, NULL);
}

int db_run(struct db *db, const char *tenant_id, db_fn fn, void *arg, struct err *e)
{
    for (int attempt = 0;; attempt++) {
        err_clear(e);
        int rc = tenant_id ? db_begin(db, tenant_id, e) : db_begin_system(db, e);
        if (rc) return rc;
        rc = fn(db, arg, e);
        if (rc)
            db_rollback(db);
        else
            rc = db_commit(db, e);
        if (!rc || !db->retryable || attempt + 1 == RUN_ATTEMPTS) return rc;
        pause_a_little(attempt);
    }
}
