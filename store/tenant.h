/* A tenant: whose rows are whose. Created, changed and listed by operators (system transactions); found by
 * itself. */
#ifndef STORE_TENANT_H
#define STORE_TENANT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/ids.h"
#include "store/db.h"
#include "store/keyring.h"
#include "store/plan.h"

struct tenant {
    char id[ID_MAX]; /* "ten_…" */
    char name[STORE_NAME_MAX];
    bool suspended; /* its keys are refused, its queued jobs wait */
    int64_t created_at_us;
    struct plan plan; /* prices and quotas in force */
};

/* System. Names are unique (id_name_valid); ERR_CONFLICT when taken, ERR_NOT_FOUND for an unknown plan. Makes
 * the tenant's key, wrapped under the root key. */
int tenant_create(struct db *db, const struct keyring *k, const char *name, const char *plan,
                  const struct actor *by, struct tenant *out, struct err *e);
int tenant_find(struct db *db, const char *tenant_id, struct tenant *out,
                struct err *e); /* system, or itself */
int tenant_find_name(struct db *db, const char *name, struct tenant *out, struct err *e); /* system */
int tenant_set_plan(struct db *db, const char *tenant_id, const char *plan, const struct actor *by,
                    struct err *e);
int tenant_suspend(struct db *db, const char *tenant_id, bool suspended, const struct actor *by,
                   struct err *e);

struct tenant_list {
    struct tenant *items; /* in the arena */
    int n;
    bool has_more;
};
int tenant_list(struct db *db, const struct page *p, struct arena *a, struct tenant_list *out,
                struct err *e); /* system */

/* The tenant's own key, unwrapped. System, or the tenant itself. ERR_CORRUPT when the root key is not the one
 * that wrapped it. The caller wipes it. */
int tenant_load_key(struct db *db, const struct keyring *k, const char *tenant_id, uint8_t out[AES_KEY_LEN],
                    struct err *e);

#endif
