/* initdb, start and wait for the private Postgres: no TCP, scram passwords for everybody, data inside the
 * home. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/launch/account.h"
#include "admin/launch/process.h"
#include "admin/launch/servers.h"
#include "base/clock.h"
#include "base/fs.h"

enum { START_PATIENCE_MS = 30000 };

/* Debian keeps the programs off the PATH, by version. */
static int find_program(const char *name, char out[PATH_MAX], struct err *e)
{
    char pattern[128];
    snprintf(pattern, sizeof pattern, "/usr/lib/postgresql/15/bin/%s", name);
    if (access(pattern, X_OK) == 0) {
        strcpy(out, pattern);
        return 0;
    }
    snprintf(pattern, sizeof pattern, "/usr/lib/postgresql/*/bin/%s", name);
    glob_t found;
    int rc = glob(pattern, 0, NULL, &found);
    if (rc == 0) snprintf(out, PATH_MAX, "%s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
    if (rc == 0) return 0;
    return err_set(e, ERR_NOT_FOUND, NULL, "Postgres is not installed (no %s); run `make setup`", pattern);
}

/* The superuser's password crosses to initdb in a file that its user can read, and only for that moment. */
static int run_initdb(const struct home *h, const char *user, const char *data, struct err *e)
{
    char initdb[PATH_MAX], pwfile[PATH_MAX], secret[HOME_SECRET_HEX_LEN], pwarg[PATH_MAX + 16];
    int rc = find_program("initdb", initdb, e);
    if (rc || (rc = home_secret(h, "postgres-tenor_root", secret, e))) return rc;
    if ((rc = fs_mkdir_p(data, 0700, e))) return rc;
    home_path(h, "run/initdb-password", pwfile);
    if ((rc = fs_write_atomic(pwfile, secret, strlen(secret), 0600, e)) ||
        (rc = account_own(user, pwfile, e)) || (rc = account_own(user, data, e)))
        goto out;
    snprintf(pwarg, sizeof pwarg, "--pwfile=%s", pwfile);
    const char *argv[] = {initdb,
                          "-D",
                          data,
                          "-U",
                          "tenor_root",
                          "--auth=scram-sha-256",
                          pwarg,
                          "--encoding=UTF8",
                          "--locale=C.UTF-8",
                          NULL};
    rc = process_run(h, &(struct process_spec){.name = "initdb", .argv = argv, .cwd = data, .user = user}, e);
    if (rc) fs_remove_tree(data, NULL);
out:
    unlink(pwfile);
    return rc;
}

/* PQping needs no password: it tells a server that is starting from one that is not there. */
static int wait_ready(const struct home *h, pid_t pid, struct err *e)
{
    char info[CONNINFO_MAX];
    snprintf(info, sizeof info, "host='%s/pg' dbname=postgres connect_timeout=2", h->sockets);
    int64_t deadline = clock_mono_ms() + START_PATIENCE_MS;
    while (PQping(info) != PQPING_OK) {
        char tail[300];
        if (process_age_ms(pid) < 0) {
            process_log_tail(h, "postgres", tail, sizeof tail);
            return err_set(e, ERR_UNAVAILABLE, NULL, "Postgres ended while it was starting: %s", tail);
        }
        if (clock_mono_ms() > deadline)
            return err_set(e, ERR_TIMEOUT, NULL,
                           "Postgres did not answer within %d s; see %s/log/postgres.log",
                           START_PATIENCE_MS / 1000, h->root);
        poll(NULL, 0, 25);
    }
    return 0;
}

int postgres_start(const struct home *h, struct err *e)
{
    if (process_find(h, "postgres") > 0) return 0;
    const char *user = account_for_servers();
    char program[PATH_MAX], data[PATH_MAX], version[PATH_MAX];
    int rc = find_program("postgres", program, e);
    if (rc) return rc;
    home_path(h, "pg", data);
    home_path(h, "pg/PG_VERSION", version);
    if (access(version, F_OK) != 0 && (rc = run_initdb(h, user, data, e))) return rc;
    char folder[PATH_MAX], sockets[PATH_MAX + 40];
    home_socket(h, "pg", folder);
    if ((rc = fs_mkdir_p(folder, 0700, e)) || (rc = account_own(user, folder, e))) return rc;
    snprintf(sockets, sizeof sockets, "unix_socket_directories=%s", folder);
    const char *argv[] = {program,
                          "-D",
                          data,
                          "-c",
                          sockets,
                          "-c",
                          "listen_addresses=",
                          "-c",
                          "max_connections=100",
                          "-c",
                          "unix_socket_permissions=0700",
                          "-c",
                          "log_line_prefix=%m [%p] %u ",
                          NULL};
    pid_t pid;
    rc = process_spawn(h, &(struct process_spec){.name = "postgres", .argv = argv, .cwd = data, .user = user},
                       &pid, e);
    return rc ? rc : wait_ready(h, pid, e);
}

int postgres_conninfo(const struct home *h, const char *user, char out[CONNINFO_MAX], struct err *e)
{
    char name[64], secret[HOME_SECRET_HEX_LEN];
    snprintf(name, sizeof name, "postgres-%s", user);
    int rc = home_secret(h, name, secret, e);
    if (rc) return rc;
    const char *dbname = strcmp(user, "tenor_root") == 0 ? "postgres" : "tenor";
    snprintf(out, CONNINFO_MAX, "host='%s/pg' dbname=%s user=%s password=%s", h->sockets, dbname, user,
             secret);
    return 0;
}

/* CREATE DATABASE cannot run inside a transaction, so store/db.h, which always has one, is not the way. */
int postgres_create_database(const struct home *h, struct err *e)
{
    char info[CONNINFO_MAX];
    int rc = postgres_conninfo(h, "tenor_root", info, e);
    if (rc) return rc;
    PGconn *c = PQconnectdb(info);
    PGresult *found = PQexec(c, "SELECT 1 FROM pg_database WHERE datname = 'tenor'");
    bool there = PQresultStatus(found) == PGRES_TUPLES_OK && PQntuples(found) == 1;
    PGresult *made = there ? NULL : PQexec(c, "CREATE DATABASE tenor");
    if (!there && PQresultStatus(made) != PGRES_COMMAND_OK)
        rc = err_set(e, ERR_UNAVAILABLE, NULL, "create the database: %s", PQerrorMessage(c));
    PQclear(made);
    PQclear(found);
    PQfinish(c);
    return rc;
}
