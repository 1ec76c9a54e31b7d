/* A private Postgres 15 for the tests of one program: made under a temporary folder at the first call, with
 * the migrations applied and the login roles made, on a unix socket; stopped and removed at exit. Dies with a
 * message when it cannot. Tests log in as the application does; nothing but migrations and tampering runs as
 * the superuser. */
#ifndef TESTS_UNIT_STORE_PG_FIXTURE_H
#define TESTS_UNIT_STORE_PG_FIXTURE_H

#include "store/db.h"
#include "store/keyring.h"
#include "store/tenant.h"

#define PG_GATEWAY   "tenor_gateway"
#define PG_WORKER    "tenor_worker"
#define PG_SCHEDULER "tenor_scheduler"
#define PG_ADMIN     "tenor_admin"
#define PG_SUPER     "postgres"

void pg_fixture_start(void);             /* any number of times */
const char *pg_fixture_dir(void);        /* the temporary folder; ours to write in */
const char *pg_fixture_migrations(void); /* path of the migrations folder */
void pg_fixture_conninfo(char out[512], const char *role,
                         const char *dbname); /* dbname NULL: the migrated one */
struct db *pg_fixture_open(const char *role);
void pg_fixture_exec(const char *sql); /* as the superuser, in the migrated database */
void pg_fixture_stop_server(void);     /* immediate shutdown, as a crash would be */
void pg_fixture_start_server(void);    /* again, on the same data */

const struct keyring *pg_fixture_keyring(void); /* a root key and two peppers */
extern const struct actor pg_fixture_actor;
/* A new tenant on a plan of its own (a copy of "standard" that the test may change with plan_put). */
void pg_fixture_tenant(struct tenant *out, const char *name);

#endif
