/* One connection to Postgres, its transactions and its prepared statements.
 *
 *   db_open ─▶ idle ──db_begin(tenant) | db_begin_system──▶ in a transaction ──db_commit | db_rollback──▶
 * idle ▲                                                 │ connection lost └──── the next db_begin reconnects
 * (once) ◀───────┘
 *
 * One thread at a time per struct db. Blocking: never on an event loop.
 *
 * How every verb of store/ is to be called: inside a transaction that the caller began. A verb that takes no
 * tenant_id works on the tenant of db_begin; one that takes a tenant_id works across tenants, in
 * db_begin_system (as a member of tenor_system). After any error the caller rolls back. db_run does all of
 * that, and retries what may be retried. */
#ifndef STORE_DB_H
#define STORE_DB_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/arena.h"
#include "base/err.h"

struct db;

struct db_options {
    const char *conninfo; /* borrowed during db_open: a libpq conninfo string or URI; its user is the role */
    const char *program;  /* application_name, or NULL */
    int connect_timeout_ms;   /* each: 0 for the default (5 s) */
    int statement_timeout_ms; /* (15 s) */
    int lock_timeout_ms;      /* (5 s) */
    int idle_tx_timeout_ms;   /* (30 s) a transaction in which nothing happens is ended by the server */
};

/* Connects. ERR_UNAVAILABLE when the server cannot be reached or refuses the login. */
int db_open(struct db **out, const struct db_options *o, struct err *e);
/* As db_open, but a server that is down is no error: the first db_begin will connect. */
int db_open_lazy(struct db **out, const struct db_options *o, struct err *e);
void db_free(struct db *db); /* NULL is fine; an open transaction is rolled back */

/* Starts a transaction that sees tenant_id's rows only (a valid "ten_…" id, else ERR_INVALID). A connection
 * found dead is replaced once; ERR_UNAVAILABLE when that fails too. */
int db_begin(struct db *db, const char *tenant_id, struct err *e);
/* Starts a transaction without a tenant: members of tenor_system see what their policies allow, others no
 * tenant row. */
int db_begin_system(struct db *db, struct err *e);
/* ERR_UNAVAILABLE when the connection broke: then nobody can know whether it committed (see
 * db_commit_unknown), and the caller's work must be safe to repeat. Always leaves the transaction. */
int db_commit(struct db *db, struct err *e);
void db_rollback(struct db *db); /* nothing happens outside a transaction */

bool db_in_tx(const struct db *db);
const char *
db_tenant(const struct db *db); /* of the open transaction; "" in a system one. Borrowed until it ends */
bool db_retryable(const struct db *db);      /* the last failure was a serialization failure or a deadlock */
bool db_commit_unknown(const struct db *db); /* the last db_commit lost its answer */
uint64_t db_generation(
    const struct db *db); /* grows with every (re)connection: session locks of older ones are gone */

/* Runs fn(db, arg, e) between begin and commit (tenant_id NULL: system). A serialization failure or deadlock
 * runs it again, at most 5 times with jittered back-off, so fn must start from scratch each time. fn's own
 * error rolls back. */
typedef int (*db_fn)(struct db *db, void *arg, struct err *e);
int db_run(struct db *db, const char *tenant_id, db_fn fn, void *arg, struct err *e);

/* ---- statements ---- */

enum { DB_ARGS_MAX = 32 };

/* Arguments of one statement, in order ($1 …). Strings are borrowed until it has run. */
struct db_args {
    const char *value[DB_ARGS_MAX];
    char text[DB_ARGS_MAX][24]; /* numbers as text */
    int n;
};

void db_arg_str(struct db_args *a, const char *s); /* NULL is SQL's null */
void db_arg_opt(struct db_args *a, const char *s); /* NULL and "" are SQL's null */
void db_arg_int(struct db_args *a, int64_t v);
void db_arg_bool(struct db_args *a, bool v);
void db_arg_null(struct db_args *a);

struct db_rows; /* what a statement gave back */

/* Runs sql, a string literal (its address names the prepared statement), with a's arguments (NULL for none).
 * *out may be NULL when the rows are not wanted; else it is the caller's (db_rows_free) on success and NULL
 * on failure. Mapping: unique violation → ERR_CONFLICT, foreign key → ERR_CONFLICT, check → ERR_INVALID, the
 * schema's own refusals (SQLSTATE TN…) → ERR_CONFLICT, timeouts → ERR_TIMEOUT, serialization, deadlock, lost
 * connection → ERR_UNAVAILABLE, server full → ERR_OVERLOAD, everything else → ERR_INTERNAL. */
int db_exec(struct db *db, const char *sql, const struct db_args *a, struct db_rows **out, struct err *e);
/* As db_exec for a text that is made at run time and may hold several statements without arguments. Never for
 * input. */
int db_exec_text(struct db *db, const char *sql, struct err *e);
/* As db_exec for one statement made at run time, not prepared. */
int db_query_text(struct db *db, const char *sql, struct db_rows **out, struct err *e);

void db_rows_free(struct db_rows *r); /* NULL is fine */
int db_rows_count(const struct db_rows *r);
int64_t db_rows_affected(const struct db_rows *r);
bool db_is_null(const struct db_rows *r, int row, int col);
const char *db_text(const struct db_rows *r, int row, int col); /* borrowed; "" for null */
int64_t db_int(const struct db_rows *r, int row, int col);      /* 0 for null */
bool db_bool(const struct db_rows *r, int row, int col);        /* false for null */
/* Copies into a fixed field (truncation is an assert: the schema's checks bound every such column). */
void db_copy(char *out, size_t cap, const struct db_rows *r, int row, int col);
/* Copies into the arena; null gives NULL. ERR_NOMEM when the arena is full. */
int db_arena_text(const char **out, struct arena *a, const struct db_rows *r, int row, int col,
                  struct err *e);

/* ---- what several nouns share ---- */

enum { STORE_NAME_MAX = 65 }; /* a name that a tenant chose, with its NUL */

/* Who did it, for the audit trail. type: "key", "operator", "worker", "scheduler". Borrowed strings. */
struct actor {
    const char *type;
    const char *id;
};

/* A page of a list. after and before are ids of this list's kind (NULL for none, never both); limit 1–1000.
 * Newest first unless the noun says otherwise. A cursor says where to go on, whether or not its row is still
 * there; a text that is no such id is ERR_INVALID with field "after" or "before". */
struct page {
    const char *after;
    const char *before;
    int limit;
};

#endif
