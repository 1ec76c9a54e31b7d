/* The private Postgres 15 and Redis 7 of a local platform, on unix sockets, with passwords of their own. */
#ifndef ADMIN_LAUNCH_SERVERS_H
#define ADMIN_LAUNCH_SERVERS_H

#include "admin/launch/home.h"
#include "base/err.h"

enum { CONNINFO_MAX = 1024 };

/* initdb on first use, start, wait until it answers. A server that runs already is left as it is. */
int postgres_start(const struct home *h, struct err *e);

/* A libpq connection string for a login of the private Postgres; its password comes from etc/postgres-<user>.
 */
int postgres_conninfo(const struct home *h, const char *user, char out[CONNINFO_MAX], struct err *e);

/* Creates the database `tenor` unless it is there. */
int postgres_create_database(const struct home *h, struct err *e);

int redis_start(const struct home *h, struct err *e);

/* "unix:/…/redis.sock" */
void redis_url(const struct home *h, char out[CONNINFO_MAX]);

/* Answers PING with its password; ERR_UNAVAILABLE otherwise. */
int redis_ping(const struct home *h, struct err *e);

#endif
