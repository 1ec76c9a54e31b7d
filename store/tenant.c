/* Here tenants are created with a key of their own, found, listed, suspended and moved between plans. */
#include "store/tenant.h"
#include "store/audit.h"

#include <stdio.h>
#include <string.h>
#include "store/page.h"
#include "store/plan_columns.h"

#define TENANT_COLUMNS "t.id, t.name, t.suspended, us(t.created_at), " PLAN_COLUMNS("p")
#define TENANT_FROM    " FROM tenants t JOIN plans p ON p.name = t.plan "

static int read_tenant(void *item, struct arena *a, const struct db_rows *r, int row, struct err *e)
{
    (void)a, (void)e;
    struct tenant *out = item;
    memset(out, 0, sizeof *out);
    db_copy(out->id, sizeof out->id, r, row, 0);
    db_copy(out->name, sizeof out->name, r, row, 1);
    out->suspended = db_bool(r, row, 2);
    out->created_at_us = db_int(r, row, 3);
    plan__read(&out->plan, r, row, 4);
    return 0;
}

static int find(struct db *db, const char *sql, const char *what, struct tenant *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, what);
    struct db_rows *r;
    int rc = db_exec(db, sql, &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1)
        rc = read_tenant(out, NULL, r, 0, e);
    else
        rc = err_set(e, ERR_NOT_FOUND, "tenant", "there is no tenant '%.64s'", what);
    db_rows_free(r);
    return rc;
}

int tenant_find(struct db *db, const char *tenant_id, struct tenant *out, struct err *e)
{
    return find(db, "SELECT " TENANT_COLUMNS TENANT_FROM "WHERE t.id = $1", tenant_id, out, e);
}

int tenant_find_name(struct db *db, const char *name, struct tenant *out, struct err *e)
{
    return find(db, "SELECT " TENANT_COLUMNS TENANT_FROM "WHERE t.name = $1", name, out, e);
}

/* A new random key, wrapped, as hex. */
static int new_wrapped_key(const struct keyring *k, const char *tenant_id,
                           char hex[2 * KEYRING_WRAPPED_LEN + 1], struct err *e)
{
    uint8_t key[AES_KEY_LEN], wrapped[KEYRING_WRAPPED_LEN];
    crypto_random(key, sizeof key);
    int rc = keyring_wrap(wrapped, k->root, tenant_id, key, e);
    explicit_bzero(key, sizeof key);
    if (!rc) crypto_hex(hex, wrapped, sizeof wrapped);
    return rc;
}

int tenant_create(struct db *db, const struct keyring *k, const char *name, const char *plan,
                  const struct actor *by, struct tenant *out, struct err *e)
{
    if (!id_name_valid(name))
        return err_set(
            e, ERR_INVALID, "name",
            "a tenant's name has 1 to 64 characters of a-z 0-9 . _ - and starts with a letter or digit");
    struct plan p;
    int rc = plan_find(db, plan, &p, e);
    if (rc) return rc;
    char id[ID_MAX], wrapped[2 * KEYRING_WRAPPED_LEN + 1];
    id_new(id, "ten_");
    if ((rc = new_wrapped_key(k, id, wrapped, e))) return rc;
    struct db_args a = {0};
    db_arg_str(&a, id);
    db_arg_str(&a, name);
    db_arg_str(&a, plan);
    db_arg_str(&a, wrapped);
    struct db_rows *r;
    rc = db_exec(db,
                 "INSERT INTO tenants (id, name, plan, wrapped_key) VALUES ($1, $2, $3, decode($4, 'hex')) "
                 "ON CONFLICT (name) DO NOTHING RETURNING id",
                 &a, &r, e);
    if (rc) return rc;
    bool made = db_rows_count(r) == 1;
    db_rows_free(r);
    if (!made) return err_set(e, ERR_CONFLICT, "name", "a tenant named '%s' exists already", name);
    rc = audit_append(db, id, "tenant.created", by, id, NULL, e);
    return rc ? rc : tenant_find(db, id, out, e);
}

/* One UPDATE of one tenant, and its audit row. */
static int change(struct db *db, const char *sql, struct db_args *a, const char *tenant_id, const char *type,
                  const struct actor *by, struct err *e)
{
    struct db_rows *r;
    int rc = db_exec(db, sql, a, &r, e);
    if (rc) return rc;
    bool done = db_rows_affected(r) == 1;
    db_rows_free(r);
    if (!done) return err_set(e, ERR_NOT_FOUND, "tenant", "there is no tenant '%.64s'", tenant_id);
    return audit_append(db, tenant_id, type, by, tenant_id, NULL, e);
}

int tenant_set_plan(struct db *db, const char *tenant_id, const char *plan, const struct actor *by,
                    struct err *e)
{
    struct plan p;
    int rc = plan_find(db, plan, &p, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_str(&a, plan);
    return change(db, "UPDATE tenants SET plan = $2 WHERE id = $1", &a, tenant_id, "tenant.plan_changed", by,
                  e);
}

int tenant_suspend(struct db *db, const char *tenant_id, bool suspended, const struct actor *by,
                   struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_bool(&a, suspended);
    return change(db, "UPDATE tenants SET suspended = $2 WHERE id = $1", &a, tenant_id,
                  suspended ? "tenant.suspended" : "tenant.resumed", by, e);
}

int tenant_list(struct db *db, const struct page *p, struct arena *ar, struct tenant_list *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    struct page_cut c;
    struct db_args a = {0};
    int rc = page__open(&c, &a, p, "ten_", NULL, e);
    if (rc) return rc;
    struct db_rows *r;
    rc = c.reversed
             ? db_exec(db, "SELECT " TENANT_COLUMNS TENANT_FROM "WHERE $1::text IS NULL" PAGE_OLDEST("t.id"),
                       &a, &r, e)
             : db_exec(db, "SELECT " TENANT_COLUMNS TENANT_FROM "WHERE $1::text IS NULL" PAGE_NEWEST("t.id"),
                       &a, &r, e);
    if (rc) return rc;
    struct page_items got;
    rc = page__read(&got, &c, r, ar, sizeof *out->items, read_tenant, e);
    *out = (struct tenant_list){got.items, got.n, got.has_more};
    return rc;
}

int tenant_load_key(struct db *db, const struct keyring *k, const char *tenant_id, uint8_t out[AES_KEY_LEN],
                    struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    struct db_rows *r;
    int rc = db_exec(db, "SELECT encode(wrapped_key, 'hex') FROM tenants WHERE id = $1", &a, &r, e);
    if (rc) return rc;
    uint8_t wrapped[KEYRING_WRAPPED_LEN];
    if (db_rows_count(r) != 1)
        rc = err_set(e, ERR_NOT_FOUND, "tenant", "there is no tenant '%.64s'", tenant_id);
    else if (crypto_unhex(wrapped, sizeof wrapped, db_text(r, 0, 0)) != KEYRING_WRAPPED_LEN)
        rc = err_set(e, ERR_CORRUPT, NULL, "the stored key of %s has a wrong length", tenant_id);
    else
        rc = keyring_unwrap(out, k->root, tenant_id, wrapped, e);
    db_rows_free(r);
    return rc;
}
