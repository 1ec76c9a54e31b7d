/* What db.c (connection, transactions) and db_stmt.c (statements, rows) share. Nobody else includes this. */
#ifndef STORE_DB_INTERNAL_H
#define STORE_DB_INTERNAL_H

#include <libpq-fe.h>
#include "base/ids.h"
#include "store/db.h"

struct db_statement {
    const char *sql; /* borrowed literal: its address is the key */
    unsigned name;   /* of the prepared statement, "s<name>" */
};

struct db {
    PGconn *conn;   /* owned; NULL when there is none */
    char *conninfo; /* owned */
    char *program;  /* owned; NULL for none */
    int connect_timeout_ms, statement_timeout_ms, lock_timeout_ms, idle_tx_timeout_ms;
    uint64_t generation;
    bool in_tx, retryable, commit_unknown;
    char tenant[ID_MAX]; /* of the open transaction */

    struct db_statement *statements; /* owned; open addressing, NULL sql is free */
    size_t n_statements, cap_statements;
    unsigned next_name; /* never reused, so that forgetting is safe */
};

void db__forget_statements(struct db *db);
void db__drop(struct db *db); /* gives up the connection; the next begin makes a new one */

/* Turns a failed result into an ERR_*, sets retryable. what is for the log. */
int db__fail(struct db *db, const PGresult *r, const char *what, struct err *e);

#endif
