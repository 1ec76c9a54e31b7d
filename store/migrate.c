/* Here the numbered SQL files are compared with what the database says it has, and what is missing is
 * applied. */
#include "store/migrate.h"
#include "store/db_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/crypto.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

enum { FILE_BYTES_MAX = 4 * 1024 * 1024, FILES_MAX = 9999, NAME_BYTES_MAX = 95 };

static int is_sql(const struct dirent *d)
{
    size_t len = strlen(d->d_name);
    return len > 4 && strcmp(d->d_name + len - 4, ".sql") == 0;
}

/* "0007_audit.sql" is number 7; anything else is -1. */
static int number_of(const char *name)
{
    if (strlen(name) > NAME_BYTES_MAX) return -1;
    for (int i = 0; i < 4; i++)
        if (!isdigit((unsigned char)name[i])) return -1;
    if (name[4] != '_') return -1;
    size_t stem = strspn(name + 5, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return stem > 0 && strcmp(name + 5 + stem, ".sql") == 0 ? atoi(name) : -1;
}

/* Names in order; the numbers must be 1, 2, 3, … */
static int list_files(const char *dir, struct dirent ***out, int *n, struct err *e)
{
    *n = scandir(dir, out, is_sql, alphasort);
    if (*n < 0) {
        *out = NULL;
        *n = 0;
        return err_errno(e, ERR_IO, "read the migrations folder %s", dir);
    }
    if (*n == 0) return err_set(e, ERR_INVALID, "migrations", "%s holds no migration (0001_name.sql …)", dir);
    for (int i = 0; i < *n; i++)
        if (number_of((*out)[i]->d_name) != i + 1)
            return err_set(e, ERR_INVALID, "migrations", "%s/%s: expected %04d_name.sql (lower case) here",
                           dir, (*out)[i]->d_name, i + 1);
    return 0;
}

static void free_files(struct dirent **files, int n)
{
    for (int i = 0; i < n; i++) free(files[i]);
    free(files);
}

/* Locks out other migrators until the transaction ends, and makes sure that there is a place to remember in.
 */
static int prepare(struct db *db, struct err *e)
{
    int rc = db_exec_text(db,
                          "SET LOCAL lock_timeout = '120s'; SET LOCAL statement_timeout = 0;"
                          "SELECT pg_advisory_xact_lock(5283640210)",
                          e);
    struct db_rows *r = NULL;
    if (!rc) rc = db_query_text(db, "SELECT to_regclass('tenor.schema_migrations') IS NOT NULL", &r, e);
    if (rc) return rc;
    bool there = db_bool(r, 0, 0);
    db_rows_free(r);
    if (there) return 0;
    return db_exec_text(
        db,
        "CREATE SCHEMA IF NOT EXISTS tenor;"
        "CREATE TABLE tenor.schema_migrations (number integer PRIMARY KEY, name text NOT NULL,"
        " sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
        e);
}

/* *applied: that number is in the database, under this name and with these bytes. */
static int compare(struct db *db, int number, const char *name, const char *sha, bool *applied, struct err *e)
{
    struct db_args a = {0};
    db_arg_int(&a, number);
    struct db_rows *r;
    int rc =
        db_exec(db, "SELECT name, sha256 FROM tenor.schema_migrations WHERE number = $1::integer", &a, &r, e);
    if (rc) return rc;
    *applied = db_rows_count(r) == 1;
    if (*applied && (strcmp(db_text(r, 0, 0), name) != 0 || strcmp(db_text(r, 0, 1), sha) != 0))
        rc = err_set(
            e, ERR_CORRUPT, "migrations",
            "%s differs from what was applied as %s; an applied migration must not change: add a new one",
            name, db_text(r, 0, 0));
    db_rows_free(r);
    return rc;
}

static int record(struct db *db, int number, const char *name, const char *sha, struct err *e)
{
    struct db_args a = {0};
    db_arg_int(&a, number);
    db_arg_str(&a, name);
    db_arg_str(&a, sha);
    return db_exec(db,
                   "INSERT INTO tenor.schema_migrations (number, name, sha256) VALUES ($1::integer, $2, $3)",
                   &a, NULL, e);
}

static int apply_in_tx(struct db *db, int number, const char *name, const struct buf *sql, bool *applied,
                       struct err *e)
{
    uint8_t digest[SHA256_LEN];
    char sha[SHA256_HEX_LEN];
    crypto_sha256(digest, sql->data, sql->len);
    crypto_hex(sha, digest, sizeof digest);
    bool before;
    int rc = prepare(db, e);
    if (!rc) rc = compare(db, number, name, sha, &before, e);
    if (rc) return rc;
    *applied = !before;
    if (before) return 0;
    rc = db_exec_text(db, sql->data, e);
    if (rc) return err_prefix(e, "migration %s", name);
    return record(db, number, name, sha, e);
}

static int apply(struct db *db, const char *dir, const char *name, int number, bool *applied, struct err *e)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
        return err_set(e, ERR_INVALID, "migrations", "the folder's name is too long");
    struct buf sql = {0};
    int rc = fs_read_all(&sql, path, FILE_BYTES_MAX, e);
    if (!rc && (sql.len == 0 || memchr(sql.data, '\0', sql.len)))
        rc = err_set(e, ERR_INVALID, "migrations", "%s is empty or not a text", path);
    if (!rc) rc = db_begin_system(db, e);
    if (!rc) {
        rc = apply_in_tx(db, number, name, &sql, applied, e);
        if (rc)
            db_rollback(db);
        else
            rc = db_commit(db, e);
    }
    if (!rc && *applied) log_info("migrated", "file=%s", name);
    buf_dispose(&sql);
    return rc;
}

/* A database that has more than the folder was migrated by a newer Tenor: this one must not work on it. */
static int refuse_newer(struct db *db, int known, struct err *e)
{
    int rc = db_begin_system(db, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_int(&a, known);
    struct db_rows *r = NULL;
    rc = db_exec(db, "SELECT name FROM tenor.schema_migrations WHERE number > $1::integer ORDER BY number",
                 &a, &r, e);
    if (!rc && db_rows_count(r) > 0)
        rc = err_set(e, ERR_CORRUPT, "migrations",
                     "the database has %s, which is not among these files: it belongs to a newer Tenor",
                     db_text(r, 0, 0));
    db_rows_free(r);
    db_rollback(db);
    return rc;
}

int migrate_run(struct db *db, const char *dir, struct migrate_report *out, struct err *e)
{
    *out = (struct migrate_report){0};
    struct dirent **files = NULL;
    int n = 0;
    int rc = list_files(dir, &files, &n, e);
    for (int i = 0; i < n && !rc; i++) {
        bool applied = false;
        rc = apply(db, dir, files[i]->d_name, i + 1, &applied, e);
        if (rc) break;
        out->applied += applied;
        out->total++;
        snprintf(out->newest, sizeof out->newest, "%.95s", files[i]->d_name);
    }
    if (!rc) rc = refuse_newer(db, n, e);
    free_files(files, n);
    return rc;
}

/* ---- login roles ---- */

static const struct login {
    const char *role, *member_of;
} logins[] = {
    {"tenor_gateway", "tenor_app"},
    {"tenor_worker", "tenor_app"},
    {"tenor_scheduler", "tenor_system"},
    {"tenor_admin", "tenor_system"},
};

/* Hashed here: the server and its log never see the password. */
static int login_in_tx(struct db *db, const struct login *l, const char *password, struct err *e)
{
    char *hash = PQencryptPasswordConn(db->conn, password, l->role, "scram-sha-256");
    if (!hash) return err_set(e, ERR_INTERNAL, NULL, "cannot hash the password of %s", l->role);
    char *quoted = PQescapeLiteral(db->conn, hash, strlen(hash));
    PQfreemem(hash);
    if (!quoted) return err_set(e, ERR_NOMEM, NULL, "out of memory");
    char sql[1024];
    int len = snprintf(
        sql, sizeof sql,
        "DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%s') THEN CREATE ROLE %s; "
        "END IF; END $do$; "
        "ALTER ROLE %s LOGIN NOBYPASSRLS NOCREATEDB NOCREATEROLE INHERIT PASSWORD %s; GRANT %s TO %s",
        l->role, l->role, l->role, quoted, l->member_of, l->role);
    PQfreemem(quoted);
    if (len < 0 || (size_t)len >= sizeof sql)
        return err_set(e, ERR_INTERNAL, NULL, "a statement is too long");
    int rc = db_exec_text(db, sql, e);
    explicit_bzero(sql, sizeof sql);
    return rc;
}

int migrate_login(struct db *db, const char *role, const char *password, struct err *e)
{
    const struct login *l = NULL;
    for (size_t i = 0; i < sizeof logins / sizeof logins[0]; i++)
        if (strcmp(logins[i].role, role) == 0) l = &logins[i];
    if (!l) return err_set(e, ERR_INVALID, "role", "%s is not one of Tenor's login roles", role);
    if (strlen(password) < 8)
        return err_set(e, ERR_INVALID, "password", "a password has 8 characters or more");
    int rc = db_begin_system(db, e);
    if (rc) return rc;
    rc = login_in_tx(db, l, password, e);
    if (rc)
        db_rollback(db);
    else
        rc = db_commit(db, e);
    return rc;
}
