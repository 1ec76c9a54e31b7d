/* API keys: shown once, stored as id + HMAC-SHA256 under a versioned pepper. */
#ifndef STORE_KEY_H
#define STORE_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/ids.h"
#include "store/db.h"
#include "store/key_format.h"
#include "store/keyring.h"
#include "store/tenant.h"

enum key_scope {
    SCOPE_DATASETS_READ = 1 << 0,
    SCOPE_DATASETS_WRITE = 1 << 1,
    SCOPE_JOBS_READ = 1 << 2,
    SCOPE_JOBS_WRITE = 1 << 3,
    SCOPE_MODELS_READ = 1 << 4,
    SCOPE_MODELS_WRITE = 1 << 5,
    SCOPE_PREDICT = 1 << 6,
    SCOPE_BILLING_READ = 1 << 7,
    SCOPE_AUDIT_READ = 1 << 8,
    SCOPE_KEYS_WRITE = 1 << 9,
    SCOPE_COUNT = 10,
    SCOPE_ALL = (1 << SCOPE_COUNT) - 1,
};

const char *key_scope_name(int index);   /* "datasets:read" of bit index 0 … SCOPE_COUNT - 1 */
unsigned key_scope_of(const char *name); /* its bit, or 0 */

struct api_key {
    char id[ID_MAX];           /* "key_…" */
    char name[STORE_NAME_MAX]; /* the principal; at most two live keys bear the same name */
    unsigned scopes;           /* bits of enum key_scope */
    const char *const *models; /* in the arena: names that it may predict with; NULL for all */
    int n_models;
    int64_t created_at_us;
    int64_t expires_at_us; /* 0: never */
    int64_t revoked_at_us; /* 0: live */
};

struct key_new {
    const char *name;          /* id_name_valid */
    unsigned scopes;           /* at least one */
    const char *const *models; /* NULL for all */
    int n_models;              /* ≤ 64 */
    int64_t expires_at_us;     /* wall time in the future, or 0 */
};

/* Writes the secret's text, which exists nowhere else. ERR_CONFLICT: two live keys of that name; ERR_LIMIT:
 * the plan's max_keys. */
int key_create(struct db *db, const struct keyring *k, const struct key_new *in, const struct actor *by,
               struct arena *a, struct api_key *out, char secret[KEY_TEXT_MAX], struct err *e);
/* ERR_NOT_FOUND; revoking twice is fine. *was_live tells whether it changed anything (may be NULL). */
int key_revoke(struct db *db, const char *key_id, const struct actor *by, bool *was_live, struct err *e);
int key_find(struct db *db, const char *key_id, struct arena *a, struct api_key *out, struct err *e);

struct key_list {
    struct api_key *items; /* in the arena */
    int n;
    bool has_more;
};
int key_list(struct db *db, const struct page *p, struct arena *a, struct key_list *out, struct err *e);

/* What a request may do: the key, its tenant, the tenant's plan. */
struct key_auth {
    struct api_key key;
    struct tenant tenant;
};

/* Who is this? In a db_begin_system transaction of any application role: asks the SECURITY DEFINER function.
 * text is what followed "Bearer ", len bytes. ERR_UNAUTHORIZED for junk (no look-up), unknown, wrong, revoked
 * or expired keys, all alike to the caller; ERR_FORBIDDEN for a suspended tenant. */
int key_authenticate(struct db *db, const struct keyring *k, const char *text, size_t len, struct arena *a,
                     struct key_auth *out, struct err *e);

#endif
