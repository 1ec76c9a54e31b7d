/* Standing invariants: SQL that must return no row. Run by `tenor doctor`, the chaos tests, and production
 * every minute. */
#ifndef STORE_INVARIANT_H
#define STORE_INVARIANT_H

#include "store/db.h"

struct invariant {
    const char *name; /* "ledger_balanced" */
    const char *says; /* one sentence: what holds */
    const char *sql;  /* each row it returns is a violation; first column: what to show */
};

int invariant_count(void);
const struct invariant *invariant_get(int index);

struct invariant_result {
    const struct invariant *invariant;
    int violations;    /* at most 100 are counted */
    char example[128]; /* first column of the first one */
};
/* System. Fills one result per invariant (out has invariant_count() elements); *broken counts those with
 * violations. */
int invariant_check(struct db *db, struct invariant_result *out, int *broken, struct err *e);

#endif
