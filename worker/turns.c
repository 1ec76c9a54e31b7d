/* A ring of tenants that have something waiting, each with a list of it, over a hash of all tenants. */
#include "worker/turns.h"

#include <stdint.h>
#include <string.h>
#include "base/hash.h"
#include "base/mem.h"

enum { BUCKETS = 256 };

/* Lives as long as something of it has joined. */
struct turns_tenant {
    char tenant_id[ID_MAX];
    struct turns_tenant *hash_next, *ring_next;
    struct turn *first, *last; /* waiting; none: it is not in the ring */
    size_t joined;
};

struct turns {
    struct turns_tenant *buckets[BUCKETS];
    struct turns_tenant *first, *last; /* the ring: whose turn is next */
};

struct turns *turns_create(void)
{
    return mem_alloc(1, sizeof(struct turns));
}

void turns_free(struct turns *t)
{
    mem_free(t);
}

static struct turns_tenant **slot_of(struct turns *t, const char *tenant_id)
{
    struct turns_tenant **slot = &t->buckets[hash_fold(hash_text(HASH_START, tenant_id)) % BUCKETS];
    while (*slot && strcmp((*slot)->tenant_id, tenant_id) != 0) slot = &(*slot)->hash_next;
    return slot;
}

bool turns_join(struct turns *t, struct turn *turn, const char tenant_id[ID_MAX])
{
    struct turns_tenant **slot = slot_of(t, tenant_id);
    if (!*slot) {
        struct turns_tenant *made = mem_try_alloc(1, sizeof *made);
        if (!made) return false;
        memcpy(made->tenant_id, tenant_id, ID_MAX);
        *slot = made;
    }
    turn->tenant = *slot;
    turn->tenant->joined++;
    return true;
}

void turns_leave(struct turns *t, struct turn *turn)
{
    struct turns_tenant *tenant = turn->tenant;
    turn->tenant = NULL;
    if (--tenant->joined > 0) return;
    *slot_of(t, tenant->tenant_id) = tenant->hash_next;
    mem_free(tenant);
}

static void ring_push(struct turns *t, struct turns_tenant *tenant)
{
    tenant->ring_next = NULL;
    *(t->last ? &t->last->ring_next : &t->first) = tenant;
    t->last = tenant;
}

void turns_push(struct turns *t, struct turn *turn)
{
    struct turns_tenant *tenant = turn->tenant;
    if (!tenant->first) ring_push(t, tenant);
    turn->next = NULL;
    *(tenant->first ? &tenant->last->next : &tenant->first) = turn;
    tenant->last = turn;
}

struct turn *turns_pop(struct turns *t)
{
    struct turns_tenant *tenant = t->first;
    if (!tenant) return NULL;
    t->first = tenant->ring_next;
    if (!t->first) t->last = NULL;
    struct turn *turn = tenant->first;
    tenant->first = turn->next;
    if (tenant->first) ring_push(t, tenant);
    return turn;
}

bool turns_empty(const struct turns *t)
{
    return !t->first;
}

struct turn *turns_next(const struct turns *t, const struct turn *turn)
{
    const struct turns_tenant *tenant = turn ? turn->tenant : NULL;
    if (turn && turn->next) return turn->next;
    tenant = tenant ? tenant->ring_next : t->first;
    return tenant ? tenant->first : NULL;
}
