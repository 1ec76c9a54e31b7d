/* Authenticates requests by API key: cache, parse, one shared trip to Postgres per unknown key. */
#include "gateway/auth.h"

#include <string.h>
#include <strings.h>
#include "base/clock.h"
#include "base/mem.h"
#include "gateway/trip.h"

struct waiter {
    struct exchange *x;
    auth_fn fn;
    void *arg;
    struct waiter *next; /* in the exchange's arena */
};

struct auth_lookup {
    struct trip trip; /* first: this is freed as a trip */
    char text[KEY_TEXT_MAX];
    size_t text_len;
    uint8_t mac[SHA256_LEN]; /* of the text's secret and CRC */
    uint64_t epoch;
    struct waiter *first, **last; /* of the loop */
    struct auth_lookup *next;     /* in gateway_loop.lookups */
    int rc;                       /* the pool's answer */
    struct principal *who;        /* owned */
    struct err err;
};

const char *auth_bearer(const char *header)
{
    if (strncasecmp(header, "Bearer ", 7) != 0) return NULL;
    const char *text = header + 7;
    while (*text == ' ') text++;
    return *text != '\0' ? text : NULL;
}

/* ---- on the pool ---- */

static int authenticate(struct auth_lookup *k, struct pool_state *state)
{
    struct key_auth found;
    struct arena arena;
    if (state->db == NULL) return err_set(&k->err, ERR_UNAVAILABLE, NULL, "the database cannot be reached");
    arena_init(&arena, 1 << 20);
    int rc = db_begin_system(state->db, &k->err);
    if (rc == 0)
        rc = key_authenticate(state->db, &k->trip.home->g->keyring, k->text, k->text_len, &arena, &found,
                              &k->err);
    if (rc == 0)
        rc = db_commit(state->db, &k->err);
    else
        db_rollback(state->db);
    if (rc == 0) k->who = principal_create(&found);
    arena_dispose(&arena);
    return rc;
}

static void lookup_work(struct trip *t, struct pool_state *state)
{
    struct auth_lookup *k = (struct auth_lookup *)t;
    k->rc = authenticate(k, state);
    explicit_bzero(k->text, sizeof(k->text));
}

/* ---- on the loop ---- */

static void lookup_unlink(struct gateway_loop *l, struct auth_lookup *k)
{
    struct auth_lookup **at = &l->lookups;
    while (*at != k) at = &(*at)->next;
    *at = k->next;
}

static void lookup_done(struct trip *t)
{
    struct auth_lookup *k = (struct auth_lookup *)t;
    struct key_cache *keys = t->home->g->keys;
    lookup_unlink(t->home, k);
    if (k->rc == 0)
        key_cache_add(keys, k->mac, k->who, k->epoch);
    else if (k->rc == ERR_UNAUTHORIZED)
        key_cache_refuse(keys, k->mac);
    for (struct waiter *w = k->first, *next; w != NULL; w = next) {
        next = w->next; /* w dies with its exchange */
        w->fn(w->x, k->rc, k->who, k->rc != 0 ? &k->err : NULL, w->arg);
    }
}

static void lookup_dispose(struct trip *t)
{
    struct auth_lookup *k = (struct auth_lookup *)t;
    principal_release(k->who);
}

static struct auth_lookup *lookup_find(struct gateway_loop *l, const uint8_t mac[SHA256_LEN], uint64_t epoch)
{
    for (struct auth_lookup *k = l->lookups; k != NULL; k = k->next)
        if (k->epoch == epoch && crypto_equal(k->mac, mac, SHA256_LEN)) return k;
    return NULL;
}

static int lookup_start(struct gateway_loop *l, const char *text, const uint8_t mac[SHA256_LEN],
                        struct auth_lookup **out, struct err *e)
{
    struct auth_lookup *k = mem_alloc(1, sizeof(*k));
    k->trip = (struct trip){.work = lookup_work, .done = lookup_done, .dispose = lookup_dispose};
    k->text_len = strlen(text); /* key_parse has bounded it */
    memcpy(k->text, text, k->text_len);
    memcpy(k->mac, mac, SHA256_LEN);
    k->epoch = key_cache_epoch(l->g->keys);
    k->last = &k->first;
    int rc = trip_start(l, &k->trip, e);
    if (rc != 0) {
        mem_free(k);
        return rc;
    }
    k->next = l->lookups;
    l->lookups = k;
    *out = k;
    return 0;
}

static int wait_for(struct gateway_loop *l, const char *text, const uint8_t mac[SHA256_LEN],
                    const struct waiter *in, struct err *e)
{
    struct auth_lookup *k = lookup_find(l, mac, key_cache_epoch(l->g->keys));
    if (k == NULL) {
        int rc = lookup_start(l, text, mac, &k, e);
        if (rc != 0) return rc;
    }
    struct waiter *w = arena_alloc(exchange_arena(in->x), 1, sizeof(*w));
    *w = *in;
    *k->last = w;
    k->last = &w->next;
    return 0;
}

static int bearer_of(const struct request *r, const char **text, struct err *e)
{
    const char *header = request_header(r, "authorization");
    if (header == NULL)
        return err_set(e, ERR_UNAUTHORIZED, NULL,
                       "this needs an API key: send the header Authorization: Bearer tnr_live_…");
    *text = auth_bearer(header);
    if (*text == NULL)
        return err_set(e, ERR_UNAUTHORIZED, NULL, "the Authorization header must read: Bearer tnr_live_…");
    return 0;
}

/* A key that is remembered is known by its text. Any other is read first, so that what cannot be a key is
 * neither looked up nor remembered. mac is set when 0 comes back. */
static int find_key(struct gateway_loop *l, const char *text, uint8_t mac[SHA256_LEN],
                    enum key_cache_result *found, struct principal **who, struct err *e)
{
    struct key_parts parts;
    char key_id[ID_MAX];
    uint8_t secret[KEY_SECRET_LEN];
    size_t len = strlen(text);
    *found = KEY_CACHE_MISS;
    if (key_split(&parts, text, len)) {
        key_cache_mac(l->g->keys, mac, parts.secret, KEY_SECRET_TEXT_LEN);
        *found = key_cache_find(l->g->keys, parts.id, mac, who);
    }
    if (*found != KEY_CACHE_HIT) {
        int rc = key_parse(key_id, secret, text, len, e);
        explicit_bzero(secret, sizeof(secret));
        if (rc != 0) return rc;
    }
    metrics_key_lookup(l->g->metrics, *found != KEY_CACHE_MISS);
    return 0;
}

static int refused(struct err *e)
{
    return err_set(e, ERR_UNAUTHORIZED, NULL, "the API key is unknown, revoked or expired");
}

void auth_request(struct gateway_loop *l, struct exchange *x, auth_fn fn, void *arg)
{
    struct err e = {0};
    uint8_t mac[SHA256_LEN];
    const char *text = NULL;
    struct principal *who = NULL;
    enum key_cache_result found;
    int rc = bearer_of(exchange_request(x), &text, &e);
    if (rc == 0) rc = find_key(l, text, mac, &found, &who, &e);
    if (rc == 0) {
        if (found == KEY_CACHE_MISS) {
            rc = wait_for(l, text, mac, &(struct waiter){.x = x, .fn = fn, .arg = arg}, &e);
            if (rc == 0) return;
        } else if (found == KEY_CACHE_REFUSED) {
            rc = refused(&e);
        } else if (who->expires_at_us != 0 && clock_wall_us() >= who->expires_at_us) {
            rc = refused(&e);
        }
    }
    fn(x, rc, rc == 0 ? who : NULL, rc != 0 ? &e : NULL, arg);
    principal_release(who);
}
