/* Migrations: numbered SQL files (0001_name.sql), forward only, each in a transaction of its own, under an
 * advisory lock. The SHA-256 of each applied file is kept; a changed or missing one is refused. Run as a
 * superuser, or as an owner of the database with CREATEROLE. */
#ifndef STORE_MIGRATE_H
#define STORE_MIGRATE_H

#include "store/db.h"

struct migrate_report {
    int applied; /* now */
    int total;   /* in all */
    char newest[96];
};

/* Outside a transaction. ERR_INVALID: a file's name, a gap in the numbers; ERR_CORRUPT: an applied file has
 * changed. */
int migrate_run(struct db *db, const char *dir, struct migrate_report *out, struct err *e);

/* Makes (or alters) a login role with that password and its memberships. role: "tenor_gateway",
 * "tenor_worker", "tenor_scheduler" or "tenor_admin". The server stores a hash; statements are kept out of
 * its log. */
int migrate_login(struct db *db, const char *role, const char *password, struct err *e);

#endif
