/* Here models are found and listed, each with its aliases. */
#include "store/model.h"

#include <string.h>
#include "store/alias.h"
#include "store/page.h"

#define MODEL_COLUMNS "m.id, m.name, m.latest_version, us(m.created_at)"

static void read_model(struct model *out, const struct db_rows *r, int row)
{
    memset(out, 0, sizeof *out);
    db_copy(out->id, sizeof out->id, r, row, 0);
    db_copy(out->name, sizeof out->name, r, row, 1);
    out->latest_version = db_int(r, row, 2);
    out->created_at_us = db_int(r, row, 3);
}

int model_find(struct db *db, const char *name, struct arena *ar, struct model *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, name);
    struct db_rows *r;
    int rc = db_exec(db, "SELECT " MODEL_COLUMNS " FROM models m WHERE m.tenant_id = $1 AND m.name = $2", &a,
                     &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1)
        read_model(out, r, 0);
    else
        rc = err_set(e, ERR_NOT_FOUND, "model", "there is no such model");
    db_rows_free(r);
    return rc ? rc : alias_list(db, out->name, ar, &out->aliases, &out->n_aliases, e);
}

int model_list(struct db *db, const struct page *p, struct arena *ar, struct model_list *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    struct page_cut c;
    int rc = page__cut(&c, p, "mdl_", e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, c.cursor);
    db_arg_int(&a, c.limit + 1);
    struct db_rows *r;
#define MODEL_LIST "SELECT " MODEL_COLUMNS " FROM models m WHERE m.tenant_id = $1"
    rc = c.reversed ? db_exec(db, MODEL_LIST PAGE_OLDEST("m.id"), &a, &r, e)
                    : db_exec(db, MODEL_LIST PAGE_NEWEST("m.id"), &a, &r, e);
    if (rc) return rc;
    int n = page__keep(&c, db_rows_count(r), &out->has_more);
    void *items;
    rc = page__items(&items, ar, n, sizeof *out->items, e);
    out->items = items;
    for (; !rc && out->n < n; out->n++) {
        struct model *m = &out->items[out->n];
        read_model(m, r, page__row(&c, n, out->n));
        rc = alias_list(db, m->name, ar, &m->aliases, &m->n_aliases, e);
    }
    db_rows_free(r);
    return rc;
}
