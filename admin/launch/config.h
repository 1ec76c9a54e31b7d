/* Where things are (programs, migrations) and the configuration files that `up` writes for the daemons. */
#ifndef ADMIN_LAUNCH_CONFIG_H
#define ADMIN_LAUNCH_CONFIG_H

#include <limits.h>
#include <stdint.h>
#include "admin/launch/address.h"
#include "admin/launch/home.h"
#include "admin/launch/servers.h"
#include "base/err.h"

/* The folder of SQL files: TENOR_MIGRATIONS, else beside the program as built or as installed. */
int config_migrations(char out[PATH_MAX], struct err *e);

/* tenor-<name>, in the folder of the running program. */
int config_program(const char *name, char out[PATH_MAX], struct err *e);

/* Owner's connection to the database `tenor` of the private Postgres. */
int config_owner_conninfo(const struct home *h, char out[CONNINFO_MAX], struct err *e);

struct config_gateway {
    char listen[ADDRESS_TEXT_MAX];
    char tls_listen[ADDRESS_TEXT_MAX]; /* "" without TLS */
    const char *tls_cert, *tls_key;    /* NULL: self-signed files in etc/, which the gateway makes */
};
struct config_worker {
    int64_t job_slots, predict_threads, lease_ms; /* 0: not written */
};

/* etc/<daemon>.conf, 0600: they hold passwords. */
int config_write_gateway(const struct home *h, const struct config_gateway *g, struct err *e);
int config_write_scheduler(const struct home *h, int64_t lease_ms, struct err *e);
int config_write_worker(const struct home *h, const struct config_worker *w, struct err *e);

#endif
