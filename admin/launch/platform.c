/* Brings a local platform up and down: servers, database, configuration files, daemons, in that order. */
#include "admin/launch/platform.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "admin/launch/address.h"
#include "admin/launch/config.h"
#include "admin/launch/process.h"
#include "admin/launch/ready.h"
#include "admin/launch/servers.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/db.h"
#include "store/migrate.h"

enum { STOP_PATIENCE_MS = 40000 }; /* a gateway drains for 20 s, a worker its jobs and then its predictions */

static const char *const names[] = {"postgres", "redis", "gateway", "scheduler", "worker"};
enum { NAMES = sizeof names / sizeof *names };

const char *platform_process(int index)
{
    return index >= 0 && index < NAMES ? names[index] : NULL;
}

bool platform_runs(const struct home *h)
{
    for (int i = 0; i < NAMES; i++)
        if (process_find(h, names[i]) <= 0) return false;
    return true;
}

static void say(const struct platform_options *o, const char *what)
{
    if (o->on_step) o->on_step(what);
}

static int migrate(const struct home *h, struct err *e)
{
    static const char *const logins[] = {"tenor_gateway", "tenor_worker", "tenor_scheduler", "tenor_admin"};
    char info[CONNINFO_MAX], dir[PATH_MAX];
    struct db *db = NULL;
    int rc = postgres_create_database(h, e);
    if (rc || (rc = config_migrations(dir, e)) || (rc = config_owner_conninfo(h, info, e))) return rc;
    if ((rc = db_open(
             &db, &(struct db_options){.conninfo = info, .program = "tenor", .statement_timeout_ms = 600000},
             e)))
        return rc;
    struct migrate_report report;
    rc = migrate_run(db, dir, &report, e);
    for (size_t i = 0; rc == 0 && i < sizeof logins / sizeof *logins; i++) {
        char name[64], secret[HOME_SECRET_HEX_LEN];
        snprintf(name, sizeof name, "postgres-%s", logins[i]);
        if ((rc = home_secret(h, name, secret, e)) == 0) rc = migrate_login(db, logins[i], secret, e);
    }
    db_free(db);
    return rc;
}

/* The gateway's addresses are checked while nobody of ours listens on them: a running gateway keeps its own.
 */
static int choose_addresses(const struct home *h, const struct platform_options *o,
                            struct platform_addresses *out, struct config_gateway *g, struct err *e)
{
    char reach[ADDRESS_TEXT_MAX];
    int rc = address_claim(o->listen, "listen", g->listen, e);
    if (rc) return rc;
    address_reachable(g->listen, reach);
    snprintf(out->url, sizeof out->url, "http://%s", reach);
    out->tls_url[0] = g->tls_listen[0] = '\0';
    if (o->tls_listen && *o->tls_listen) {
        if ((rc = address_claim(o->tls_listen, "tls-listen", g->tls_listen, e))) return rc;
        address_reachable(g->tls_listen, reach);
        snprintf(out->tls_url, sizeof out->tls_url, "https://%s", reach);
    }
    char path[PATH_MAX], text[sizeof *out + 4];
    home_path(h, "etc/url", path);
    int n = snprintf(text, sizeof text, "%s\n%s\n", out->url, out->tls_url);
    return fs_write_atomic(path, text, (size_t)n, 0600, e);
}

int platform_addresses(const struct home *h, struct platform_addresses *out, struct err *e)
{
    char path[PATH_MAX];
    struct buf text = {0};
    home_path(h, "etc/url", path);
    memset(out, 0, sizeof *out);
    int rc = access(path, R_OK) == 0 ? fs_read_all(&text, path, 1024, e)
                                     : err_set(e, ERR_NOT_FOUND, "home",
                                               "no platform was ever started in %s; run `tenor up`", h->root);
    if (rc == 0) sscanf(text.data, "%299s %299s", out->url, out->tls_url);
    buf_dispose(&text);
    return rc;
}

static int start_daemon(const struct home *h, const char *name, struct err *e)
{
    if (process_find(h, name) > 0) return 0;
    char program[PATH_MAX], config[PATH_MAX], leaf[64];
    int rc = config_program(name, program, e);
    if (rc) return rc;
    snprintf(leaf, sizeof leaf, "etc/%s.conf", name);
    home_path(h, leaf, config);
    const char *argv[] = {program, "--config", config, NULL};
    pid_t pid;
    return process_spawn(h, &(struct process_spec){.name = name, .argv = argv}, &pid, e);
}

static int start_daemons(const struct home *h, const struct platform_options *o,
                         struct platform_addresses *out, struct err *e)
{
    struct config_gateway g = {.tls_cert = o->tls_cert, .tls_key = o->tls_key};
    int rc;
    if (process_find(h, "gateway") > 0)
        rc = platform_addresses(h, out, e);
    else if ((rc = choose_addresses(h, o, out, &g, e)) == 0)
        rc = config_write_gateway(h, &g, e);
    if (rc) return rc;
    struct config_worker w = {
        .job_slots = o->job_slots, .predict_threads = o->predict_threads, .lease_ms = o->lease_ms};
    if ((rc = config_write_scheduler(h, o->lease_ms, e)) || (rc = config_write_worker(h, &w, e))) return rc;
    for (int i = 2; i < NAMES; i++)
        if ((rc = start_daemon(h, names[i], e))) return rc;
    return ready_wait(h, e);
}

int platform_up(struct home *h, const struct platform_options *o, struct platform_addresses *out,
                struct err *e)
{
    int rc = home_create(h, e);
    if (rc || (rc = home_lock(h, e))) return rc;
    say(o, "starting Postgres");
    if ((rc = postgres_start(h, e))) goto out;
    say(o, "applying migrations");
    if ((rc = migrate(h, e))) goto out;
    say(o, "starting Redis");
    if ((rc = redis_start(h, e))) goto out;
    say(o, "starting gateway, scheduler and worker");
    rc = start_daemons(h, o, out, e);
out:
    home_unlock(h);
    return rc;
}

static int signal_of(const char *name)
{
    return strcmp(name, "postgres") == 0 ? SIGINT : SIGTERM; /* SIGINT is Postgres' fast shutdown */
}

int platform_stop_one(struct home *h, const char *name, struct err *e)
{
    for (int i = 0; i < NAMES; i++) {
        if (strcmp(names[i], name) != 0) continue;
        process_stop(h, name, signal_of(name), STOP_PATIENCE_MS);
        return 0;
    }
    return err_set(e, ERR_NOT_FOUND, "process",
                   "there is no process '%s'; there are postgres, redis, gateway, scheduler and worker",
                   name);
}

int platform_down(struct home *h, int *killed, struct err *e)
{
    static const char *const order[] = {"gateway", "worker", "scheduler", "redis", "postgres"};
    *killed = 0;
    char run[PATH_MAX];
    home_path(h, "run", run);
    if (access(run, F_OK) != 0) return 0;
    int rc = home_lock(h, e);
    if (rc) return rc;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        if (process_stop(h, order[i], signal_of(order[i]), STOP_PATIENCE_MS)) {
            log_warn("killed", "process=%s reason=\"did not stop in %d s\"", order[i],
                     STOP_PATIENCE_MS / 1000);
            ++*killed;
        }
    }
    home_release_sockets(h);
    home_unlock(h);
    return 0;
}
