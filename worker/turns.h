/* Whose turn it is: tenants one after another, and of each tenant its versions one after another, so that
 * nobody gets more by calling more models at once.
 *
 *   join ─▶ stands nowhere ──push──▶ waits for its turn ──pop──▶ stands nowhere ─▶ leave
 *
 * One thread. */
#ifndef WORKER_TURNS_H
#define WORKER_TURNS_H

#include <stdbool.h>
#include "base/ids.h"

struct turns;
struct turns_tenant;

/* Part of whatever takes turns; zeroed before it joins. */
struct turn {
    struct turn *next;
    struct turns_tenant *tenant;
};

struct turns *turns_create(void);
void turns_free(struct turns *t); /* all have left */

bool turns_join(struct turns *t, struct turn *turn, const char tenant_id[ID_MAX]); /* false: no memory */
void turns_leave(struct turns *t, struct turn *turn);                              /* it must not wait */

void turns_push(struct turns *t, struct turn *turn);
struct turn *turns_pop(struct turns *t); /* NULL: nobody waits */
bool turns_empty(const struct turns *t);

/* The one that waits behind `turn` in no certain order; the first for NULL; NULL after the last. */
struct turn *turns_next(const struct turns *t, const struct turn *turn);

#endif
