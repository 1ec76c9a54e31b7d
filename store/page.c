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

int page__keep(const struct page_cut *c, int count, bool *has_more)
{
    *has_more = count > c->limit;
    return *has_more ? c->limit : count;
}

int page__row(const struct page_cut *c, int n, int i)
{
    return c->reversed ? n - 1 - i : i;
}

int page__items(void **out, struct arena *a, int n, size_t size, struct err *e)
{
    *out = arena_try_alloc(a, n > 0 ? (size_t)n : 1, size);
    if (!*out)
        return err_set(e, ERR_NOMEM, NULL,
                       "the list is larger than this request may hold; ask for a smaller limit");
    return 0;
}
