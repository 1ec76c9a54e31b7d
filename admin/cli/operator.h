/* What the operator's commands share: they work straight on Postgres, as tenor_admin. */
#ifndef ADMIN_CLI_OPERATOR_H
#define ADMIN_CLI_OPERATOR_H

#include "base/err.h"
#include "base/ids.h"
#include "queue/changed.h"
#include "store/key.h"
#include "store/tenant.h"

struct operator_secrets {
    const char *root_key, *pepper; /* files; NULL: the local platform's */
};
extern struct operator_secrets operator_secrets;

/* Rows of an option table that fill operator_secrets. */
#define OPERATOR_SECRET_ROWS                                                                                 \
    {.name = "root-key-file",                                                                                \
     .type = OPTION_STR,                                                                                     \
     .out = &operator_secrets.root_key,                                                                      \
     .help = "the platform's root key (default: the local platform's)"},                                     \
    {                                                                                                        \
        .name = "pepper-file", .type = OPTION_STR, .out = &operator_secrets.pepper,                          \
        .help = "the peppers of API keys (default: the local platform's)"                                    \
    }

struct actor operator_actor(void); /* the shell's user, for the audit trail */

/* --postgres-url, or the local platform's Postgres as `login` ("tenor_admin", "tenor_root"). */
int operator_open(const char *login, struct db **db, struct err *e);
int operator_keyring(struct keyring *k, struct err *e);

/* Tells the gateways to forget what they cached. Not reaching Redis is no failure: they forget by themselves.
 */
void operator_announce(const struct changed *c);

/* By name or id, in a transaction of its own. */
int operator_tenant(struct db *db, const char *name, struct tenant *out, struct err *e);

/* A key with the scopes and the expiry of the command line (all scopes by default). */
int operator_make_key(struct db *db, const struct keyring *k, const struct tenant *t, const char *name,
                      char secret[KEY_TEXT_MAX], struct err *e);

/* A new tenant on the default plan and its first key with all scopes; the key's text exists nowhere else. */
int operator_bootstrap(const char *name, char tenant_id[ID_MAX], char secret[KEY_TEXT_MAX], struct err *e);

#endif
