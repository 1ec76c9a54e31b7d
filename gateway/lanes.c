/* Counts of calls in the pools, by tenant: a small open hash that holds only tenants that have some. */
#include "gateway/lanes.h"

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "base/hash.h"
#include "base/ids.h"
#include "base/mem.h"

enum { BUCKETS = 256 };

struct holder {
    char tenant_id[ID_MAX];
    int count[LANE_COUNT];
    struct holder *next; /* owned */
};

struct lanes {
    pthread_mutex_t lock;
    int limits[LANE_COUNT];
    struct holder *buckets[BUCKETS]; /* owned */
};

struct lanes *lanes_create(const int limits[LANE_COUNT])
{
    struct lanes *a = mem_alloc(1, sizeof(*a));
    pthread_mutex_init(&a->lock, NULL);
    memcpy(a->limits, limits, sizeof(a->limits));
    return a;
}

void lanes_free(struct lanes *a)
{
    if (a == NULL) return;
    for (int i = 0; i < BUCKETS; i++) {
        while (a->buckets[i] != NULL) {
            struct holder *next = a->buckets[i]->next;
            mem_free(a->buckets[i]);
            a->buckets[i] = next;
        }
    }
    pthread_mutex_destroy(&a->lock);
    mem_free(a);
}

/* Where the tenant's holder is linked, or would be. */
static struct holder **holder_at(struct lanes *a, const char *tenant_id)
{
    struct holder **at = &a->buckets[hash_fold(hash_text(HASH_START, tenant_id)) % BUCKETS];
    while (*at != NULL && strcmp((*at)->tenant_id, tenant_id) != 0) at = &(*at)->next;
    return at;
}

static const char *const names[LANE_COUNT] = {"requests", "uploads", "alias moves"};

int lanes_enter(struct lanes *a, enum lane lane, const char *tenant_id, int own_limit, struct err *e)
{
    int limit = a->limits[lane];
    if (own_limit > 0 && own_limit < limit) limit = own_limit;
    int rc = 0;
    pthread_mutex_lock(&a->lock);
    struct holder **at = holder_at(a, tenant_id);
    if (*at == NULL) {
        *at = mem_alloc(1, sizeof(**at));
        snprintf((*at)->tenant_id, sizeof((*at)->tenant_id), "%s", tenant_id);
    }
    if ((*at)->count[lane] >= limit)
        rc = ERR_LIMIT;
    else
        (*at)->count[lane]++;
    pthread_mutex_unlock(&a->lock);
    if (rc == 0) return 0;
    err_set(e, rc, NULL, "%d %s of yours are under way, the most allowed at a time; wait until one has ended",
            limit, names[lane]);
    if (e != NULL) e->retry_after_ms = 1000;
    return rc;
}

void lanes_leave(struct lanes *a, enum lane lane, const char *tenant_id)
{
    pthread_mutex_lock(&a->lock);
    struct holder **at = holder_at(a, tenant_id);
    assert(*at != NULL && (*at)->count[lane] > 0);
    (*at)->count[lane]--;
    int left = 0;
    for (int i = 0; i < LANE_COUNT; i++) left += (*at)->count[i];
    if (left == 0) {
        struct holder *gone = *at;
        *at = gone->next;
        mem_free(gone);
    }
    pthread_mutex_unlock(&a->lock);
}
