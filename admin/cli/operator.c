/* tenor migrate and tenor doctor, and what the operator's other commands share: the way into Postgres, the
 * platform's secrets, and word to the gateways. */
#include "admin/cli/operator.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/cli/command.h"
#include "admin/launch/config.h"
#include "admin/launch/platform.h"
#include "base/mem.h"
#include "store/invariant.h"
#include "store/migrate.h"

struct operator_secrets operator_secrets;

static const char *opt_migrations, *opt_gateway_password, *opt_worker_password, *opt_scheduler_password,
    *opt_admin_password;

struct actor operator_actor(void)
{
    static char name[48];
    const struct passwd *pw = getpwuid(geteuid());
    snprintf(name, sizeof name, "%.47s", pw ? pw->pw_name : "unknown");
    return (struct actor){.type = "operator", .id = name};
}

/* --postgres-url, or the local platform's Postgres as `login`. */
int operator_open(const char *login, struct db **db, struct err *e)
{
    static char info[CONNINFO_MAX];
    struct home h;
    int rc = 0;
    if (command_shared.postgres_url) {
        snprintf(info, sizeof info, "%s", command_shared.postgres_url);
    } else if ((rc = home_find(&h, command_shared.home, e)) == 0) {
        struct platform_addresses ignored;
        if ((rc = platform_addresses(&h, &ignored, e))) return rc;
        rc = strcmp(login, "tenor_root") == 0 ? config_owner_conninfo(&h, info, e)
                                              : postgres_conninfo(&h, login, info, e);
    }
    if (rc) return rc;
    rc = db_open(
        db, &(struct db_options){.conninfo = info, .program = "tenor", .statement_timeout_ms = 60000}, e);
    return rc ? err_prefix(e, "Postgres") : 0;
}

int operator_keyring(struct keyring *k, struct err *e)
{
    struct home h;
    char root[PATH_MAX], pepper[PATH_MAX];
    int rc = home_find(&h, command_shared.home, e);
    if (rc) return rc;
    home_path(&h, "etc/root.key", root);
    home_path(&h, "etc/pepper", pepper);
    return keyring_load(k, operator_secrets.root_key ? operator_secrets.root_key : root,
                        operator_secrets.pepper ? operator_secrets.pepper : pepper, e);
}

/* A gateway forgets a revoked key within seconds by itself; this makes it at once. Not reaching Redis is no
 * failure. */
void operator_announce(const struct changed *c)
{
    char url[CONNINFO_MAX] = "", secret[HOME_SECRET_HEX_LEN] = "";
    struct home h;
    if (command_shared.redis_url) {
        snprintf(url, sizeof url, "%s", command_shared.redis_url);
    } else if (home_find(&h, command_shared.home, NULL) == 0 &&
               home_secret(&h, "redis-password", secret, NULL) == 0) {
        redis_url(&h, url);
    }
    struct redis_address at;
    const char *password = command_shared.redis_password ? command_shared.redis_password : secret;
    if (redis_address_parse(&at, url, password, NULL)) return;
    struct redis *r = redis_create(&at, 1000);
    struct err e = {0};
    if (changed_publish(r, c, &e))
        fprintf(stderr, "note: gateways learn of this within seconds, not at once (%s)\n", e.message);
    redis_free(r);
}

static int run_migrate(const struct command_args *args, struct err *e)
{
    (void)args;
    struct db *db = NULL;
    char dir[PATH_MAX];
    int rc = opt_migrations ? (realpath(opt_migrations, dir)
                                   ? 0
                                   : err_errno(e, ERR_NOT_FOUND, "migrations %s", opt_migrations))
                            : config_migrations(dir, e);
    if (rc || (rc = operator_open("tenor_root", &db, e))) return rc;
    struct migrate_report r;
    if ((rc = migrate_run(db, dir, &r, e)) == 0)
        printf("%d applied, %d in all, newest %s\n", r.applied, r.total, r.newest);
    const char *const logins[][2] = {{"tenor_gateway", opt_gateway_password},
                                     {"tenor_worker", opt_worker_password},
                                     {"tenor_scheduler", opt_scheduler_password},
                                     {"tenor_admin", opt_admin_password}};
    for (size_t i = 0; rc == 0 && i < 4; i++)
        if (logins[i][1]) rc = migrate_login(db, logins[i][0], logins[i][1], e);
    db_free(db);
    return rc;
}

static int run_doctor(const struct command_args *args, struct err *e)
{
    (void)args;
    struct db *db = NULL;
    int rc = operator_open("tenor_admin", &db, e), broken = 0, n = invariant_count();
    if (rc) return rc;
    struct invariant_result *results = mem_alloc((size_t)n, sizeof *results);
    if ((rc = db_begin_system(db, e)) == 0 && (rc = invariant_check(db, results, &broken, e)) == 0) {
        for (int i = 0; i < n; i++) {
            bool ok = results[i].violations == 0;
            printf("%-6s  %-28s %s%s%s\n", ok ? "ok" : "BROKEN", results[i].invariant->name,
                   results[i].invariant->says, ok ? "" : "; first: ", ok ? "" : results[i].example);
        }
    }
    db_rollback(db);
    mem_free(results);
    db_free(db);
    if (rc == 0 && broken) rc = err_set(e, ERR_CORRUPT, NULL, "%d of %d invariants are broken", broken, n);
    return rc;
}

static const struct option_row migrate_rows[] = {
    {.name = "migrations", .type = OPTION_STR, .out = &opt_migrations, .help = "folder of the SQL files"},
    {.name = "gateway-password",
     .type = OPTION_STR,
     .out = &opt_gateway_password,
     .secret = true,
     .help = "make or change the login tenor_gateway"},
    {.name = "worker-password",
     .type = OPTION_STR,
     .out = &opt_worker_password,
     .secret = true,
     .help = "make or change the login tenor_worker"},
    {.name = "scheduler-password",
     .type = OPTION_STR,
     .out = &opt_scheduler_password,
     .secret = true,
     .help = "make or change the login tenor_scheduler"},
    {.name = "admin-password",
     .type = OPTION_STR,
     .out = &opt_admin_password,
     .secret = true,
     .help = "make or change the login tenor_admin"},
};
const struct command operator_commands[] = {
    {"migrate", "", 0, 0, COMMAND_DATABASE, migrate_rows, sizeof migrate_rows / sizeof *migrate_rows,
     "bring the database's schema up to date", run_migrate},
    {"doctor", "", 0, 0, COMMAND_DATABASE, NULL, 0, "check the standing invariants", run_doctor},
    {0},
};
