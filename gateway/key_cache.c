/* A set-associative table of verified keys behind striped locks, and a small table of refused ones. */
#include "gateway/key_cache.h"

#include <pthread.h>
#include <string.h>
#include "base/hash.h"
#include "base/mem.h"

enum { STRIPES = 16, SETS = 64, WAYS = 8, REFUSED = 1024 };

struct entry {
    struct principal *who; /* owned reference; NULL: free */
    uint8_t mac[SHA256_LEN];
    int64_t until_ms;
};

struct refused {
    uint8_t mac[SHA256_LEN];
    int64_t until_ms; /* 0: free */
};

struct stripe {
    pthread_mutex_t lock;
    struct entry sets[SETS][WAYS];
};

struct key_cache {
    int64_t (*now_ms)(void);
    struct crypto_hmac *hmac; /* owned; under a secret of this process */
    atomic_uint_fast64_t epoch;
    struct stripe stripes[STRIPES];
    pthread_mutex_t refused_lock;
    struct refused refused[REFUSED];
};

struct key_cache *key_cache_create(int64_t (*now_ms)(void))
{
    struct key_cache *c = mem_alloc(1, sizeof(*c));
    c->now_ms = now_ms;
    uint8_t secret[SHA256_LEN];
    crypto_random(secret, sizeof(secret));
    c->hmac = crypto_hmac_create(secret, sizeof(secret));
    explicit_bzero(secret, sizeof(secret));
    for (int i = 0; i < STRIPES; i++) pthread_mutex_init(&c->stripes[i].lock, NULL);
    pthread_mutex_init(&c->refused_lock, NULL);
    return c;
}

void key_cache_free(struct key_cache *c)
{
    if (c == NULL) return;
    key_cache_drop_all(c);
    for (int i = 0; i < STRIPES; i++) pthread_mutex_destroy(&c->stripes[i].lock);
    pthread_mutex_destroy(&c->refused_lock);
    crypto_hmac_free(c->hmac);
    mem_free(c);
}

void key_cache_mac(const struct key_cache *c, uint8_t mac[SHA256_LEN], const void *secret, size_t len)
{
    crypto_hmac(c->hmac, mac, secret, len);
}

uint64_t key_cache_epoch(const struct key_cache *c)
{
    return atomic_load(&c->epoch);
}

static struct stripe *stripe_of(struct key_cache *c, const char *key_id, struct entry **set)
{
    uint64_t h = hash_fold(hash_id(HASH_START, key_id));
    struct stripe *s = &c->stripes[h % STRIPES];
    *set = s->sets[(h / STRIPES) % SETS];
    return s;
}

static void entry_clear(struct entry *e)
{
    principal_release(e->who);
    *e = (struct entry){0};
}

static bool is_refused(struct key_cache *c, const uint8_t mac[SHA256_LEN], int64_t now)
{
    struct refused *r = &c->refused[(mac[0] | (unsigned)mac[1] << 8) % REFUSED];
    pthread_mutex_lock(&c->refused_lock);
    bool hit = crypto_equal(r->mac, mac, SHA256_LEN) && now < r->until_ms;
    pthread_mutex_unlock(&c->refused_lock);
    return hit;
}

enum key_cache_result key_cache_find(struct key_cache *c, const char *key_id, const uint8_t mac[SHA256_LEN],
                                     struct principal **out)
{
    int64_t now = c->now_ms();
    enum key_cache_result result = KEY_CACHE_MISS;
    struct entry *set;
    struct stripe *s = stripe_of(c, key_id, &set);
    *out = NULL;
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < WAYS; i++) {
        struct entry *e = &set[i];
        if (e->who == NULL || strcmp(e->who->key_id, key_id) != 0) continue;
        if (now >= e->until_ms) {
            entry_clear(e);
        } else if (crypto_equal(e->mac, mac, SHA256_LEN)) {
            *out = principal_hold(e->who);
            result = KEY_CACHE_HIT;
        } else {
            result = KEY_CACHE_REFUSED;
        }
        break;
    }
    pthread_mutex_unlock(&s->lock);
    if (result == KEY_CACHE_MISS && is_refused(c, mac, now)) return KEY_CACHE_REFUSED;
    return result;
}

/* The entry of that key, else a free one, else the one that expires first. */
static struct entry *entry_for(struct entry *set, const char *key_id)
{
    struct entry *best = &set[0];
    for (int i = 0; i < WAYS; i++) {
        if (set[i].who != NULL && strcmp(set[i].who->key_id, key_id) == 0) return &set[i];
        if (best->who != NULL && (set[i].who == NULL || set[i].until_ms < best->until_ms)) best = &set[i];
    }
    return best;
}

void key_cache_add(struct key_cache *c, const uint8_t mac[SHA256_LEN], struct principal *p, uint64_t epoch)
{
    struct entry *set;
    struct stripe *s = stripe_of(c, p->key_id, &set);
    pthread_mutex_lock(&s->lock);
    if (atomic_load(&c->epoch) == epoch) { /* a drop raises the epoch before it takes this lock */
        struct entry *e = entry_for(set, p->key_id);
        entry_clear(e);
        e->who = principal_hold(p);
        memcpy(e->mac, mac, SHA256_LEN);
        e->until_ms = c->now_ms() + KEY_CACHE_LIFE_MS;
    }
    pthread_mutex_unlock(&s->lock);
}

void key_cache_refuse(struct key_cache *c, const uint8_t mac[SHA256_LEN])
{
    struct refused *r = &c->refused[(mac[0] | (unsigned)mac[1] << 8) % REFUSED];
    pthread_mutex_lock(&c->refused_lock);
    memcpy(r->mac, mac, SHA256_LEN);
    r->until_ms = c->now_ms() + KEY_CACHE_REFUSED_MS;
    pthread_mutex_unlock(&c->refused_lock);
}

void key_cache_drop_key(struct key_cache *c, const char *key_id)
{
    struct entry *set;
    struct stripe *s = stripe_of(c, key_id, &set);
    atomic_fetch_add(&c->epoch, 1);
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < WAYS; i++)
        if (set[i].who != NULL && strcmp(set[i].who->key_id, key_id) == 0) entry_clear(&set[i]);
    pthread_mutex_unlock(&s->lock);
}

/* tenant_id NULL: every entry. */
static void drop_where(struct key_cache *c, const char *tenant_id)
{
    atomic_fetch_add(&c->epoch, 1);
    for (int i = 0; i < STRIPES; i++) {
        struct stripe *s = &c->stripes[i];
        pthread_mutex_lock(&s->lock);
        for (int k = 0; k < SETS * WAYS; k++) {
            struct entry *e = &s->sets[k / WAYS][k % WAYS];
            if (e->who != NULL && (tenant_id == NULL || strcmp(e->who->tenant_id, tenant_id) == 0))
                entry_clear(e);
        }
        pthread_mutex_unlock(&s->lock);
    }
}

void key_cache_drop_tenant(struct key_cache *c, const char *tenant_id)
{
    drop_where(c, tenant_id);
}

void key_cache_drop_all(struct key_cache *c)
{
    drop_where(c, NULL);
}
