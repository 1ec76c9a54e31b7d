/* Here the test programs' private Postgres is made, started, filled and removed. */
#include "pg_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/fs.h"
#include "base/log.h"
#include "store/migrate.h"

#define PG_BIN   "/usr/lib/postgresql/15/bin/"
#define PASSWORD "correct horse battery"

enum { START_TIMEOUT_MS = 60000 };

const struct actor pg_fixture_actor = {"operator", "tests"};

static char home[64];
static pid_t owner_pid, server_pid, guardian_pid;
static int guardian_fd;
static uid_t run_uid;
static gid_t run_gid;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "pg_fixture: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(2);
}

/* Postgres refuses root: it runs as "postgres", or "nobody" where there is no such user. */
static void choose_user(void)
{
    run_uid = getuid();
    run_gid = getgid();
    if (run_uid != 0) return;
    const struct passwd *p = getpwnam("postgres");
    if (!p) p = getpwnam("nobody");
    if (!p) die("neither postgres nor nobody exists; who may run the server?");
    run_uid = p->pw_uid;
    run_gid = p->pw_gid;
}

static pid_t spawn(const char *log, char *const argv[])
{
    pid_t pid = fork();
    if (pid < 0) die("fork: %s", strerror(errno));
    if (pid > 0) return pid;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) _exit(126);
    /* The folder above the checkout may be closed to that user; initdb wants to know where it stands. */
    if (chdir(home) != 0) _exit(126);
    if (getuid() == 0 && (setgid(run_gid) != 0 || setuid(run_uid) != 0)) _exit(126);
    prctl(PR_SET_PDEATHSIG, SIGQUIT); /* a test that dies takes its server with it */
    execv(argv[0], argv);
    _exit(127);
}

static void path_of(char out[128], const char *name)
{
    snprintf(out, 128, "%s/%s", home, name);
}

static void write_file(const char *path, const char *text)
{
    struct err e;
    if (fs_write_atomic(path, text, strlen(text), 0600, &e)) die("%s", e.message);
    if (getuid() == 0 && chown(path, run_uid, run_gid) != 0) die("chown %s: %s", path, strerror(errno));
}

static void run_initdb(void)
{
    char data[128], log[128], pw[128], pwopt[160];
    path_of(data, "data");
    path_of(log, "log");
    path_of(pw, "pw");
    write_file(pw, PASSWORD "\n");
    snprintf(pwopt, sizeof pwopt, "--pwfile=%s", pw);
    char *argv[] = {(char[]){PG_BIN "initdb"},
                    (char[]){"-D"},
                    data,
                    (char[]){"--no-sync"},
                    (char[]){"--no-instructions"},
                    (char[]){"--username=postgres"},
                    (char[]){"--auth=scram-sha-256"},
                    (char[]){"--encoding=UTF8"},
                    (char[]){"--locale=C.UTF-8"},
                    pwopt,
                    NULL};
    int status;
    pid_t pid = spawn(log, argv);
    if (waitpid(pid, &status, 0) != pid || status != 0) die("initdb failed; see %s", log);
}

void pg_fixture_conninfo(char out[512], const char *role, const char *dbname)
{
    snprintf(out, 512, "host=%s dbname=%s user=%s password='%s'", home, dbname ? dbname : "tenor", role,
             PASSWORD);
}

void pg_fixture_start_server(void)
{
    char data[128], log[128];
    path_of(data, "data");
    path_of(log, "log");
    char *argv[] = {(char[]){PG_BIN "postgres"},
                    (char[]){"-D"},
                    data,
                    (char[]){"-k"},
                    home,
                    (char[]){"-clisten_addresses="},
                    (char[]){"-cfsync=off"},
                    (char[]){"-cfull_page_writes=off"},
                    (char[]){"-cshared_buffers=32MB"},
                    (char[]){"-cautovacuum=off"},
                    (char[]){"-cmax_connections=60"},
                    NULL};
    server_pid = spawn(log, argv);
    char conninfo[512];
    pg_fixture_conninfo(conninfo, PG_SUPER, "postgres");
    int64_t deadline = clock_mono_ms() + START_TIMEOUT_MS;
    while (PQping(conninfo) != PQPING_OK) {
        int status;
        if (waitpid(server_pid, &status, WNOHANG) == server_pid) die("the server ended at once; see %s", log);
        if (clock_mono_ms() > deadline) die("the server did not start; see %s", log);
        nanosleep(&(struct timespec){0, 20000000}, NULL); /* polls the condition above */
    }
}

void pg_fixture_stop_server(void)
{
    if (server_pid <= 0) return;
    kill(server_pid, SIGQUIT);
    waitpid(server_pid, NULL, 0);
    server_pid = 0;
}

/* Whether a server still runs on our data: it removes its pid file when it ends. */
static bool server_runs(const char *pid_file)
{
    struct buf b = {0};
    bool runs = fs_read_all(&b, pid_file, 4096, NULL) == 0 && b.data && kill((pid_t)atoi(b.data), 0) == 0;
    buf_dispose(&b);
    return runs;
}

/* A process that outlives ours, however ours ends, and takes the folder away once the server is gone. It
 * learns of our end by the end of the pipe. */
static void start_guardian(void)
{
    int fds[2];
    char pid_file[128];
    struct err e;
    if (fs_cloexec_pipe(fds, &e)) die("%s", e.message);
    path_of(pid_file, "data/postmaster.pid");
    guardian_pid = fork();
    if (guardian_pid < 0) die("fork: %s", strerror(errno));
    if (guardian_pid > 0) {
        close(fds[0]);
        guardian_fd = fds[1];
        return;
    }
    char c;
    close(fds[1]);
    setsid(); /* a Ctrl-C is not meant for it */
    while (read(fds[0], &c, 1) < 0 && errno == EINTR) continue;
    int64_t deadline = clock_mono_ms() + START_TIMEOUT_MS;
    while (server_runs(pid_file) && clock_mono_ms() < deadline)
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    fs_remove_tree(home, NULL);
    _exit(0);
}

static void at_end(void)
{
    if (getpid() != owner_pid) return;
    pg_fixture_stop_server();
    close(guardian_fd);
    waitpid(guardian_pid, NULL, 0);
}

/* TENOR_MIGRATIONS, or the folder above this one in the tree that the program was started in. */
const char *pg_fixture_migrations(void)
{
    const char *given = getenv("TENOR_MIGRATIONS");
    return given ? given : "migrations";
}

static struct db *open_or_die(const char *conninfo)
{
    struct db *db;
    struct err e;
    if (db_open(&db, &(struct db_options){.conninfo = conninfo, .program = "tests"}, &e))
        die("%s", e.message);
    return db;
}

static void migrate(void)
{
    char conninfo[512];
    pg_fixture_conninfo(conninfo, PG_SUPER, "postgres");
    PGconn *c = PQconnectdb(conninfo);
    PGresult *r = PQexec(c, "CREATE DATABASE tenor");
    if (PQresultStatus(r) != PGRES_COMMAND_OK) die("create database: %s", PQerrorMessage(c));
    PQclear(r);
    PQfinish(c);
    pg_fixture_conninfo(conninfo, PG_SUPER, NULL);
    struct db *db = open_or_die(conninfo);
    struct migrate_report report;
    struct err e;
    if (migrate_run(db, pg_fixture_migrations(), &report, &e)) die("%s", e.message);
    const char *roles[] = {PG_GATEWAY, PG_WORKER, PG_SCHEDULER, PG_ADMIN};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (migrate_login(db, roles[i], PASSWORD, &e)) die("%s", e.message);
    db_free(db);
}

void pg_fixture_start(void)
{
    if (owner_pid) return;
    crypto_init();
    log_init("test", LOG_ERROR);
    choose_user();
    snprintf(home, sizeof home, "/tmp/tenor-test-XXXXXX"); /* short: it holds a socket */
    if (!mkdtemp(home)) die("mkdtemp: %s", strerror(errno));
    owner_pid = getpid();
    atexit(at_end);
    if (getuid() == 0 && chown(home, run_uid, run_gid) != 0) die("chown: %s", strerror(errno));
    start_guardian();
    run_initdb();
    pg_fixture_start_server();
    migrate();
}

const char *pg_fixture_dir(void)
{
    return home;
}

struct db *pg_fixture_open(const char *role)
{
    char conninfo[512];
    pg_fixture_start();
    pg_fixture_conninfo(conninfo, role, NULL);
    return open_or_die(conninfo);
}

void pg_fixture_exec(const char *sql)
{
    struct err e;
    struct db *db = pg_fixture_open(PG_SUPER);
    if (db_begin_system(db, &e) || db_exec_text(db, sql, &e) || db_commit(db, &e))
        die("%s: %s", sql, e.message);
    db_free(db);
}

const struct keyring *pg_fixture_keyring(void)
{
    static struct keyring k;
    if (k.n_peppers) return &k;
    crypto_random(k.root, sizeof k.root);
    for (int i = 0; i < 2; i++) {
        k.pepper_version[i] = i + 1;
        crypto_random(k.pepper[i], sizeof k.pepper[i]);
    }
    k.n_peppers = 2;
    return &k;
}

void pg_fixture_tenant(struct tenant *out, const char *name)
{
    struct err e;
    struct plan plan;
    plan_init(&plan, name);
    struct db *db = pg_fixture_open(PG_ADMIN);
    if (db_begin_system(db, &e) || plan_put(db, &plan, &pg_fixture_actor, &e) ||
        tenant_create(db, pg_fixture_keyring(), name, name, &pg_fixture_actor, out, &e) || db_commit(db, &e))
        die("tenant %s: %s", name, e.message);
    db_free(db);
}
