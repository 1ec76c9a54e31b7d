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

/* Of count rows found: how many to give, and in which row item i stands. */
int page__keep(const struct page_cut *c, int count, bool *has_more);
int page__row(const struct page_cut *c, int n, int i);

/* A zeroed array for n items in the arena (never NULL on success, even for none). */
int page__items(void **out, struct arena *a, int n, size_t size, struct err *e);

/* The texts' ends for lists ordered by id: $1 is the tenant, $2 the cursor, $3 the number of rows. "~" sorts
 * behind every id. NEWEST is the list's direction, OLDEST the way back. */
#define PAGE_NEWEST(id) " AND " id " < coalesce($2, '~') ORDER BY " id " DESC LIMIT $3"
#define PAGE_OLDEST(id) " AND " id " > coalesce($2, '') ORDER BY " id " ASC LIMIT $3"

#endif
