/* A worker's usage totals: a hash table of rows, the dirty ones composed into HSET; and the meter's reading
 * of it. */
#include "queue/usage.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

enum { FIELD_MAX = 2 * ID_MAX, VALUE_MAX = 72, FIRST_BUCKETS = 64, INCARNATIONS_MAX = 100000 };
static const char key_prefix[] = "tnr:usage:";

/* dirty: changed since the last append; sent: inside an append that is not confirmed yet. */
struct total {
    struct usage_total row;
    bool dirty, sent;
    struct total *next;
};

struct usage {
    pthread_mutex_t lock;
    char key[USAGE_KEY_MAX];
    struct total **buckets; /* owned */
    size_t buckets_len, totals;
};

void usage_key(char out[USAGE_KEY_MAX], const char *inc)
{
    snprintf(out, USAGE_KEY_MAX, "%s%s", key_prefix, inc);
}

/* ---- totals
 * ---------------------------------------------------------------------------------------------------- */

struct usage *usage_create(const char *inc)
{
    struct usage *u = mem_alloc(1, sizeof *u);
    pthread_mutex_init(&u->lock, NULL);
    usage_key(u->key, inc);
    u->buckets_len = FIRST_BUCKETS;
    u->buckets = mem_alloc(u->buckets_len, sizeof(struct total *));
    return u;
}

void usage_free(struct usage *u)
{
    if (!u) return;
    for (size_t i = 0; i < u->buckets_len; i++)
        for (struct total *t = u->buckets[i], *next; t; t = next) {
            next = t->next;
            mem_free(t);
        }
    mem_free(u->buckets);
    pthread_mutex_destroy(&u->lock);
    mem_free(u);
}

/* FNV-1a over both ids. */
static size_t hash_ids(const char *tenant_id, const char *version_id)
{
    uint64_t h = 14695981039346656037u;
    for (const char *p = tenant_id; *p; p++) h = (h ^ (uint8_t)*p) * 1099511628211u;
    for (const char *p = version_id; *p; p++) h = (h ^ (uint8_t)*p) * 1099511628211u;
    return (size_t)(h ^ (h >> 32));
}

static void grow(struct usage *u)
{
    size_t n = u->buckets_len * 2;
    struct total **bigger = mem_try_alloc(n, sizeof(struct total *));
    if (!bigger) return; /* longer chains, the same answers */
    for (size_t i = 0; i < u->buckets_len; i++)
        for (struct total *t = u->buckets[i], *next; t; t = next) {
            next = t->next;
            struct total **home = &bigger[hash_ids(t->row.tenant_id, t->row.version_id) % n];
            t->next = *home;
            *home = t;
        }
    mem_free(u->buckets);
    u->buckets = bigger;
    u->buckets_len = n;
}

static struct total *find_or_add(struct usage *u, const char *tenant_id, const char *version_id)
{
    struct total **home = &u->buckets[hash_ids(tenant_id, version_id) % u->buckets_len];
    for (struct total *t = *home; t; t = t->next)
        if (strcmp(t->row.version_id, version_id) == 0 && strcmp(t->row.tenant_id, tenant_id) == 0) return t;
    struct total *t = mem_try_alloc(1, sizeof *t);
    if (!t) return NULL;
    snprintf(t->row.tenant_id, ID_MAX, "%s", tenant_id);
    snprintf(t->row.version_id, ID_MAX, "%s", version_id);
    t->next = *home;
    *home = t;
    if (++u->totals > u->buckets_len) grow(u);
    return t;
}

int usage_add(struct usage *u, const char *tenant_id, const char *version_id, int64_t requests, int64_t rows,
              int64_t compute_us, struct err *e)
{
    pthread_mutex_lock(&u->lock);
    struct total *t = find_or_add(u, tenant_id, version_id);
    if (t) {
        t->row.requests += requests;
        t->row.rows += rows;
        t->row.compute_us += compute_us;
        t->dirty = true;
    }
    pthread_mutex_unlock(&u->lock);
    return t ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory to count usage");
}

void usage_touch_all(struct usage *u)
{
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < u->buckets_len; i++)
        for (struct total *t = u->buckets[i]; t; t = t->next) t->dirty = true;
    pthread_mutex_unlock(&u->lock);
}

/* ---- publishing
 * ------------------------------------------------------------------------------------------------ */

struct hset {
    const char **argv;
    char (*fields)[FIELD_MAX];
    char (*values)[VALUE_MAX];
    size_t len;
};

static bool hset_init(struct hset *h, size_t most)
{
    h->argv = mem_try_alloc(2 * most + 2, sizeof *h->argv);
    h->fields = mem_try_alloc(most, sizeof *h->fields);
    h->values = mem_try_alloc(most, sizeof *h->values);
    h->len = 0;
    return h->argv && h->fields && h->values;
}

static void hset_dispose(struct hset *h)
{
    mem_free(h->argv);
    mem_free(h->fields);
    mem_free(h->values);
}

static void hset_put(struct hset *h, const struct usage_total *row)
{
    size_t i = h->len++;
    snprintf(h->fields[i], FIELD_MAX, "%s %s", row->tenant_id, row->version_id);
    snprintf(h->values[i], VALUE_MAX, "%lld %lld %lld", (long long)row->requests, (long long)row->rows,
             (long long)row->compute_us);
    h->argv[2 + 2 * i] = h->fields[i];
    h->argv[3 + 2 * i] = h->values[i];
}

/* With the lock held. */
static size_t count_dirty(const struct usage *u)
{
    size_t n = 0;
    for (size_t i = 0; i < u->buckets_len; i++)
        for (const struct total *t = u->buckets[i]; t; t = t->next) n += t->dirty;
    return n;
}

static void take_dirty(struct usage *u, struct hset *h)
{
    for (size_t i = 0; i < u->buckets_len; i++)
        for (struct total *t = u->buckets[i]; t; t = t->next) {
            if (!t->dirty) continue;
            hset_put(h, &t->row);
            t->dirty = false;
            t->sent = true;
        }
}

int usage_append_dirty(struct usage *u, struct redis *r, size_t *appended, struct err *e)
{
    *appended = 0;
    struct hset h = {0};
    pthread_mutex_lock(&u->lock);
    size_t most = count_dirty(u);
    bool ok = most == 0 || hset_init(&h, most);
    if (ok && most) take_dirty(u, &h);
    pthread_mutex_unlock(&u->lock);
    int rc = 0;
    if (!ok)
        rc = err_set(e, ERR_NOMEM, NULL, "no memory to publish usage");
    else if (h.len) {
        h.argv[0] = "HSET";
        h.argv[1] = u->key;
        rc = redis_append_argv(r, (int)(2 * h.len + 2), h.argv, NULL, e);
        *appended = rc == 0;
    }
    hset_dispose(&h);
    return rc;
}

void usage_confirm(struct usage *u, bool ok)
{
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < u->buckets_len; i++)
        for (struct total *t = u->buckets[i]; t; t = t->next) {
            if (t->sent && !ok) t->dirty = true;
            t->sent = false;
        }
    pthread_mutex_unlock(&u->lock);
}

/* ---- the meter
 * ------------------------------------------------------------------------------------------------- */

/* Adds one SCAN page's incarnations. */
static int add_page(const redisReply *keys, char (**out)[ID_MAX], size_t *n, struct err *e)
{
    char(*bigger)[ID_MAX] = mem_try_realloc(*out, *n + keys->elements + 1, ID_MAX);
    if (!bigger) return err_set(e, ERR_NOMEM, NULL, "no memory for the list of usage hashes");
    *out = bigger;
    for (size_t i = 0; i < keys->elements && *n < INCARNATIONS_MAX; i++) {
        const char *key = redis_reply_str(keys->element[i]);
        const char *inc = key ? key + sizeof key_prefix - 1 : NULL;
        bool known = !inc || !id_valid(inc, "inc");
        for (size_t k = 0; k < *n && !known; k++)
            known = strcmp(bigger[k], inc) == 0; /* SCAN may repeat itself */
        if (!known) snprintf(bigger[(*n)++], ID_MAX, "%s", inc);
    }
    return 0;
}

int usage_incarnations(struct redis *r, char (**out)[ID_MAX], size_t *n, struct err *e)
{
    *out = NULL;
    *n = 0;
    char cursor[32] = "0";
    int rc;
    do {
        redisReply *page;
        rc = redis_call(r, &page, e, "SCAN %s MATCH %s* COUNT 1000", cursor, key_prefix);
        if (rc) break;
        const char *next = page->elements == 2 ? redis_reply_str(page->element[0]) : NULL;
        snprintf(cursor, sizeof cursor, "%s", next ? next : "0");
        if (next) rc = add_page(page->element[1], out, n, e);
        freeReplyObject(page);
    } while (rc == 0 && strcmp(cursor, "0") != 0);
    if (rc) {
        mem_free(*out);
        *out = NULL;
        *n = 0;
    }
    return rc;
}

static int parse_row(struct usage_total *row, const char *field, const char *value, struct err *e)
{
    long long requests, rows, compute_us;
    char rest;
    if (!field || !value || sscanf(field, "%39s %39s %c", row->tenant_id, row->version_id, &rest) != 2 ||
        !id_valid(row->tenant_id, "ten") || !id_valid(row->version_id, "ver") ||
        sscanf(value, "%lld %lld %lld %c", &requests, &rows, &compute_us, &rest) != 3 || requests < 0 ||
        rows < 0 || compute_us < 0)
        return err_set(e, ERR_CORRUPT, NULL, "the usage total \"%s\" = \"%s\" is malformed",
                       field ? field : "", value ? value : "");
    row->requests = requests;
    row->rows = rows;
    row->compute_us = compute_us;
    return 0;
}

int usage_read(struct redis *r, const char *inc, struct usage_total **out, size_t *n, struct err *e)
{
    *out = NULL;
    *n = 0;
    char key[USAGE_KEY_MAX];
    usage_key(key, inc);
    redisReply *reply;
    int rc = redis_call(r, &reply, e, "HGETALL %s", key);
    if (rc) return rc;
    size_t rows = reply->elements / 2;
    struct usage_total *made = mem_try_alloc(rows ? rows : 1, sizeof *made);
    if (!made) rc = err_set(e, ERR_NOMEM, NULL, "no memory for %zu usage totals", rows);
    for (size_t i = 0; i < rows && rc == 0; i++)
        rc = parse_row(&made[i], redis_reply_str(reply->element[2 * i]),
                       redis_reply_str(reply->element[2 * i + 1]), e);
    freeReplyObject(reply);
    if (rc) {
        mem_free(made);
        return rc;
    }
    *out = made;
    *n = rows;
    return 0;
}

int usage_forget(struct redis *r, const char *inc, struct err *e)
{
    char key[USAGE_KEY_MAX];
    usage_key(key, inc);
    return redis_call(r, NULL, e, "DEL %s", key);
}
