/* Here statements are prepared once per connection, run, judged by their SQLSTATE, and their rows read. */
#include "store/db.h"
#include "store/db_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"

struct db_rows {
    PGresult *pg;
};

/* ---- arguments ---- */

void db_arg_str(struct db_args *a, const char *s)
{
    assert(a->n < DB_ARGS_MAX);
    a->value[a->n++] = s;
}

void db_arg_opt(struct db_args *a, const char *s)
{
    db_arg_str(a, s && s[0] ? s : NULL);
}

void db_arg_int(struct db_args *a, int64_t v)
{
    assert(a->n < DB_ARGS_MAX);
    snprintf(a->text[a->n], sizeof a->text[0], "%lld", (long long)v);
    a->value[a->n] = a->text[a->n];
    a->n++;
}

void db_arg_bool(struct db_args *a, bool v)
{
    db_arg_str(a, v ? "t" : "f");
}

void db_arg_null(struct db_args *a)
{
    db_arg_str(a, NULL);
}

/* ---- prepared statements, by the address of their text ---- */

void db__forget_statements(struct db *db)
{
    mem_free(db->statements);
    db->statements = NULL;
    db->n_statements = db->cap_statements = 0;
}

static struct db_statement *slot_of(struct db_statement *table, size_t cap, const char *sql)
{
    size_t i = ((uintptr_t)sql >> 3) * 0x9E3779B97F4A7C15u & (cap - 1);
    while (table[i].sql && table[i].sql != sql) i = (i + 1) & (cap - 1);
    return &table[i];
}

static void grow(struct db *db)
{
    size_t cap = db->cap_statements ? db->cap_statements * 2 : 64;
    struct db_statement *table = mem_alloc(cap, sizeof *table);
    for (size_t i = 0; i < db->cap_statements; i++)
        if (db->statements[i].sql) *slot_of(table, cap, db->statements[i].sql) = db->statements[i];
    mem_free(db->statements);
    db->statements = table;
    db->cap_statements = cap;
}

static int prepared_name(struct db *db, const char *sql, char name[16], struct err *e)
{
    if (db->n_statements * 2 >= db->cap_statements) grow(db);
    struct db_statement *s = slot_of(db->statements, db->cap_statements, sql);
    unsigned number = s->sql ? s->name : db->next_name;
    snprintf(name, 16, "s%u", number);
    if (s->sql) return 0;
    db->next_name++;
    PGresult *r = PQprepare(db->conn, name, sql, 0, NULL);
    int rc = PQresultStatus(r) == PGRES_COMMAND_OK ? 0 : db__fail(db, r, sql, e);
    PQclear(r);
    if (rc) return rc;
    s->sql = sql;
    s->name = number;
    db->n_statements++;
    return 0;
}

/* ---- judging failures ---- */

struct verdict {
    const char *state; /* SQLSTATE or its beginning */
    int code;
    bool retryable;
    const char *says;
};

/* The first row that fits. */
static const struct verdict verdicts[] = {
    {"23505", ERR_CONFLICT, false, "it exists already"},
    {"23503", ERR_CONFLICT, false, "it refers to something that is not there, or is still referred to"},
    {"23514", ERR_INVALID, false, "a value is outside of what the database allows"},
    {"22", ERR_INVALID, false, "a value cannot be stored as it is (encoding, range or JSON syntax)"},
    {"TN", ERR_CONFLICT, false, "the database's rules forbid this change"},
    {"40001", ERR_UNAVAILABLE, true, "the transaction met another one; try again"},
    {"40P01", ERR_UNAVAILABLE, true, "the transaction met another one; try again"},
    {"0A000", ERR_UNAVAILABLE, true,
     "the schema has just changed; try again"}, /* a cached plan's result type */
    {"57014", ERR_TIMEOUT, false, "the database took too long"},
    {"55P03", ERR_TIMEOUT, false, "the database took too long to give a lock"},
    {"53", ERR_OVERLOAD, false, "the database is out of a resource"},
    {"57P", ERR_UNAVAILABLE, false, "the database is shutting down or starting"},
    {"25P03", ERR_UNAVAILABLE, false, "the transaction was idle for too long"},
    {"08", ERR_UNAVAILABLE, false, "the connection to the database broke"},
};

int db__fail(struct db *db, const PGresult *r, const char *what, struct err *e)
{
    const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    const char *primary = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    db->retryable = false;
    if (!state || PQstatus(db->conn) != CONNECTION_OK)
        return err_set(e, ERR_UNAVAILABLE, NULL, "the connection to the database broke");
    const char *rule = PQresultErrorField(r, PG_DIAG_CONSTRAINT_NAME);
    for (size_t i = 0; i < sizeof verdicts / sizeof verdicts[0]; i++) {
        const struct verdict *v = &verdicts[i];
        if (strncmp(state, v->state, strlen(v->state)) != 0) continue;
        db->retryable = v->retryable;
        if (strcmp(v->state, "0A000") == 0) db__forget_statements(db);
        log_debug("sql_refused", "state=%s rule=%s message=%s", state, rule ? rule : "", primary);
        if (strncmp(state, "TN", 2) == 0) return err_set(e, v->code, NULL, "%s", primary);
        return err_set(e, v->code, NULL, "%s%s%s%s", v->says, rule ? " (" : "", rule ? rule : "",
                       rule ? ")" : "");
    }
    log_error("sql_failed", "state=%s message=%s sql=%.80s", state, primary ? primary : "", what);
    return err_set(e, ERR_INTERNAL, NULL, "the database refused a statement (SQLSTATE %s)", state);
}

/* ---- running ---- */

static int judge(struct db *db, PGresult *r, const char *sql, struct db_rows **out, struct err *e)
{
    ExecStatusType s = PQresultStatus(r);
    if (s != PGRES_COMMAND_OK && s != PGRES_TUPLES_OK) {
        int rc = db__fail(db, r, sql, e);
        PQclear(r);
        return rc;
    }
    if (!out) {
        PQclear(r);
        return 0;
    }
    *out = mem_alloc(1, sizeof **out);
    (*out)->pg = r;
    return 0;
}

static int usable(struct db *db, struct err *e)
{
    assert(db->in_tx);
    if (!db->conn || PQstatus(db->conn) != CONNECTION_OK)
        return err_set(e, ERR_UNAVAILABLE, NULL, "the connection to the database broke");
    return 0;
}

int db_exec(struct db *db, const char *sql, const struct db_args *a, struct db_rows **out, struct err *e)
{
    if (out) *out = NULL;
    char name[16];
    int rc = usable(db, e);
    if (!rc) rc = prepared_name(db, sql, name, e);
    if (rc) return rc;
    PGresult *r = PQexecPrepared(db->conn, name, a ? a->n : 0, a ? a->value : NULL, NULL, NULL, 0);
    return judge(db, r, sql, out, e);
}

int db_query_text(struct db *db, const char *sql, struct db_rows **out, struct err *e)
{
    if (out) *out = NULL;
    int rc = usable(db, e);
    if (rc) return rc;
    return judge(db, PQexec(db->conn, sql), sql, out, e);
}

int db_exec_text(struct db *db, const char *sql, struct err *e)
{
    return db_query_text(db, sql, NULL, e);
}

/* ---- rows ---- */

void db_rows_free(struct db_rows *r)
{
    if (!r) return;
    PQclear(r->pg);
    mem_free(r);
}

int db_rows_count(const struct db_rows *r)
{
    return PQntuples(r->pg);
}

int64_t db_rows_affected(const struct db_rows *r)
{
    const char *text = PQcmdTuples(r->pg);
    int64_t n = 0;
    if (text[0]) num_parse_i64(text, 0, INT64_MAX, &n);
    return n;
}

bool db_is_null(const struct db_rows *r, int row, int col)
{
    return PQgetisnull(r->pg, row, col);
}

const char *db_text(const struct db_rows *r, int row, int col)
{
    return PQgetvalue(r->pg, row, col);
}

int64_t db_int(const struct db_rows *r, int row, int col)
{
    if (db_is_null(r, row, col)) return 0;
    int64_t v = 0;
    bool ok = num_parse_i64(db_text(r, row, col), INT64_MIN, INT64_MAX, &v);
    assert(ok && "a column read as an integer must be one");
    (void)ok;
    return v;
}

bool db_bool(const struct db_rows *r, int row, int col)
{
    return db_text(r, row, col)[0] == 't';
}

void db_copy(char *out, size_t cap, const struct db_rows *r, int row, int col)
{
    size_t len = (size_t)PQgetlength(r->pg, row, col);
    assert(len < cap && "the schema's checks bound this column");
    if (len >= cap) len = cap - 1;
    memcpy(out, db_text(r, row, col), len);
    out[len] = '\0';
}

int db_arena_text(const char **out, struct arena *a, const struct db_rows *r, int row, int col, struct err *e)
{
    *out = NULL;
    if (db_is_null(r, row, col)) return 0;
    size_t len = (size_t)PQgetlength(r->pg, row, col);
    char *copy = arena_try_alloc(a, len + 1, 1);
    if (!copy) return err_set(e, ERR_NOMEM, NULL, "the result is larger than this request may hold");
    memcpy(copy, db_text(r, row, col), len);
    *out = copy;
    return 0;
}
