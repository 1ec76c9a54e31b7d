/* Here a page's cursor is checked, and found rows are put into the list's order. */
#include "store/page.h"

#include "base/ids.h"

int page__cut(struct page_cut *c, const struct page *p, const char *prefix, struct err *e)
{
    if (p->limit < 1 || p->limit > PAGE_LIMIT_MAX)
        return err_set(e, ERR_INVALID, "limit", "limit must be 1 to %d, not %d", PAGE_LIMIT_MAX, p->limit);
    if (p->after && p->before)
        return err_set(e, ERR_INVALID, "before", "after and before exclude each other; give one of them");
    const char *cursor = p->after ? p->after : p->before;
    if (cursor && !id_valid(cursor, prefix))
        return err_set(e, ERR_INVALID, p->after ? "after" : "before", "expected an id of this list (%s…)",
                       prefix);
    *c = (struct page_cut){.reversed = p->before != NULL, .cursor = cursor, .limit = p->limit};
    return 0;
}

int page__open(struct page_cut *c, struct db_args *a, const struct page *p, const char *prefix,
               const char *tenant_id, struct err *e)
{
    int rc = page__cut(c, p, prefix, e);
    if (rc) return rc;
    db_arg_str(a, tenant_id);
    db_arg_str(a, c->cursor);
    db_arg_int(a, c->limit + 1);
    return 0;
}

int page__read(struct page_items *out, const struct page_cut *c, struct db_rows *r, struct arena *a,
               size_t size, page_read_fn read, struct err *e)
{
    bool has_more = db_rows_count(r) > c->limit;
    int n = has_more ? c->limit : db_rows_count(r);
    void *items;
    int rc = page__items(&items, a, n, size, e);
    for (int i = 0; i < n && !rc; i++)
        rc = read((char *)items + (size_t)i * size, a, r, c->reversed ? n - 1 - i : i, e);
    *out = (struct page_items){items, n, has_more};
    if (rc) *out = (struct page_items){0};
    db_rows_free(r);
    return rc;
}

int page__items(void **out, struct arena *a, int n, size_t size, struct err *e)
{
    *out = arena_try_alloc(a, n > 0 ? (size_t)n : 1, size);
    if (!*out)
        return err_set(e, ERR_NOMEM, NULL,
                       "the list is larger than this request may hold; ask for a smaller limit");
    return 0;
}
