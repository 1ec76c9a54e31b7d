/* How lists are cut into pages. Shared inside store/.
 *
 * Each list has two texts, one per direction, so that the index gives the order and the place to start. They
 * ask for one row more than the page holds: its presence is has_more. Rows found backwards are turned round.
 */
#ifndef STORE_PAGE_H
#define STORE_PAGE_H

#include <stdbool.h>
#include "store/db.h"

struct page_cut {
    bool reversed;      /* the rows came against the list's order */
    const char *cursor; /* NULL: from the list's start */
    int limit;
};

enum { PAGE_LIMIT_MAX = 1000 };

/* Checks p; prefix is what its ids must look like. */
int page__cut(struct page_cut *c, const struct page *p, const char *prefix, struct err *e);
/* And gives an empty a the first three arguments of the texts below. tenant_id: borrowed until the statement
 * has run; NULL in a list that has none, whose text says so of $1. */
int page__open(struct page_cut *c, struct db_args *a, const struct page *p, const char *prefix,
               const char *tenant_id, struct err *e);

/* Makes an item, whose memory is zero, of a row. */
typedef int (*page_read_fn)(void *item, struct arena *a, const struct db_rows *r, int row, struct err *e);

/* What was found, in the list's order; in the arena, and nothing on failure. */
struct page_items {
    void *items;
    int n;
    bool has_more;
};
int page__read(struct page_items *out, const struct page_cut *c, struct db_rows *r /* freed */,
               struct arena *a, size_t size, page_read_fn read, struct err *e);

/* A zeroed array for n items in the arena (never NULL on success, even for none). */
int page__items(void **out, struct arena *a, int n, size_t size, struct err *e);

/* The texts' ends for lists ordered by id: $1 is the tenant, $2 the cursor, $3 the number of rows. "~" sorts
 * behind every id. NEWEST is the list's direction, OLDEST the way back. */
#define PAGE_NEWEST(id) " AND " id " < coalesce($2, '~') ORDER BY " id " DESC LIMIT $3"
#define PAGE_OLDEST(id) " AND " id " > coalesce($2, '') ORDER BY " id " ASC LIMIT $3"

#endif
