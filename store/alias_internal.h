/* What alias.c and alias_watch.c share. Inside store/ only. */
#ifndef STORE_ALIAS_INTERNAL_H
#define STORE_ALIAS_INTERNAL_H

#include "store/alias_watch.h"

/* Columns of aliases x, in the order of alias__read_limits. */
#define ALIAS_LIMIT_COLUMNS                                                                                  \
    "x.watch_window_s, x.watch_min_requests, x.watch_error_ppm, x.watch_latency_us, "                        \
    "x.watch_disagreement_ppm"

/* From column col on. */
void alias__read_limits(struct alias_limits *out, const struct db_rows *r, int row, int col);
/* Five arguments: what put_alias stores, in the order of ALIAS_LIMIT_COLUMNS. */
void alias__arg_limits(struct db_args *a, const struct alias_limits *limits);

/* Which trial of which row ends. Texts as in struct alias_ended; borrowed. */
struct alias__end {
    const char *tenant_id, *model_id, *name, *arm, *reason, *message;
    int64_t etag; /* that the row must have */
};
/* The one UPDATE that ends a trial. *done: whether there was a row under that etag. */
int alias__end(struct db *db, const struct alias__end *end, bool *done, struct err *e);

#endif
