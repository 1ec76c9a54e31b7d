/* A loop's usage totals: a hash table of rows, a list of those that changed, composed into HSET; and the
 * meter's reading of it. */
#include "queue/usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"

enum {
    FIELD_MAX = 2 * ID_MAX + 16,
    VALUE_MAX = 3 * NUM_TEXT_MAX + 4,
    FIRST_BUCKETS = 64,
    INCARNATIONS_MAX = 100000
};
static const char key_prefix[] = "tnr:usage:";

/* clean ──add──▶ dirty ──take──▶ clean */
struct total {
    struct usage_total row;
    char field[FIELD_MAX]; /* its name in the hash */
    bool dirty;
    struct total *hash_next, *dirty_next;
};

struct usage {
    char key[USAGE_KEY_MAX];
    int shard;
    struct total **buckets; /* owned */
    size_t buckets_len, totals, dirty_len;
    struct total *dirty; /* list */
};

void usage_key(char out[USAGE_KEY_MAX], const char *inc)
{
    snprintf(out, USAGE_KEY_MAX, "%s%s", key_prefix, inc);
}

void usage_counting_key(char out[USAGE_KEY_MAX], const char *inc)
{
    snprintf(out, USAGE_KEY_MAX, "tnr:counting:%s", inc);
}

/* ---- totals
 * ---------------------------------------------------------------------------------------------------- */

struct usage *usage_create(const char *inc, int shard)
{
    struct usage *u = mem_alloc(1, sizeof *u);
    usage_key(u->key, inc);
    u->shard = shard;
    u->buckets_len = FIRST_BUCKETS;
    u->buckets = mem_alloc(u->buckets_len, sizeof(struct total *));
    return u;
}

void usage_free(struct usage *u)
{
    if (!u) return;
    for (size_t i = 0; i < u->buckets_len; i++)
        for (struct total *t = u->buckets[i], *next; t; t = next) {
            next = t->hash_next;
            mem_free(t);
        }
    mem_free(u->buckets);
    mem_free(u);
}

static size_t hash_ids(const char *tenant_id, const char *version_id)
{
    return (size_t)hash_fold(hash_id(hash_id(HASH_START, tenant_id), version_id));
}

static void grow(struct usage *u)
{
    size_t n = u->buckets_len * 2;
    struct total **bigger = mem_try_alloc(n, sizeof(struct total *));
    if (!bigger) return; /* longer chains, the same answers */
    for (size_t i = 0; i < u->buckets_len; i++)
        for (struct total *t = u->buckets[i], *next; t; t = next) {
            next = t->hash_next;
            struct total **home = &bigger[hash_ids(t->row.tenant_id, t->row.version_id) % n];
            t->hash_next = *home;
            *home = t;
        }
    mem_free(u->buckets);
    u->buckets = bigger;
    u->buckets_len = n;
}

static struct total *find_or_add(struct usage *u, const char *tenant_id, const char *version_id)
{
    struct total **home = &u->buckets[hash_ids(tenant_id, version_id) % u->buckets_len];
    for (struct total *t = *home; t; t = t->hash_next)
        if (strcmp(t->row.version_id, version_id) == 0 && strcmp(t->row.tenant_id, tenant_id) == 0) return t;
    struct total *t = mem_try_alloc(1, sizeof *t);
    if (!t) return NULL;
    snprintf(t->row.tenant_id, ID_MAX, "%s", tenant_id);
    snprintf(t->row.version_id, ID_MAX, "%s", version_id);
    snprintf(t->field, FIELD_MAX, "%s %s %d", tenant_id, version_id, u->shard);
    t->hash_next = *home;
    *home = t;
    if (++u->totals > u->buckets_len) grow(u);
    return t;
}

static void mark_dirty(struct usage *u, struct total *t)
{
    if (t->dirty) return;
    t->dirty = true;
    t->dirty_next = u->dirty;
    u->dirty = t;
    u->dirty_len++;
}

int usage_add(struct usage *u, const char *tenant_id, const char *version_id, int64_t requests, int64_t rows,
              int64_t compute_us, struct err *e)
{
    struct total *t = find_or_add(u, tenant_id, version_id);
    if (!t) return err_set(e, ERR_NOMEM, NULL, "no memory to count usage");
    t->row.requests += requests;
    t->row.rows += rows;
    t->row.compute_us += compute_us;
    mark_dirty(u, t);
    return 0;
}

void usage_touch_all(struct usage *u)
{
    for (size_t i = 0; i < u->buckets_len; i++)
        for (struct total *t = u->buckets[i]; t; t = t->hash_next) mark_dirty(u, t);
}

bool usage_dirty(const struct usage *u)
{
    return u->dirty != NULL;
}

/* ---- publishing
 * ------------------------------------------------------------------------------------------------ */

/* The arguments and their texts in one allocation. */
static char *command_init(struct usage_command *c, size_t totals)
{
    size_t args = 2 * totals + 2, bytes = args * sizeof *c->argv;
    c->argc = 0;
    c->argv = mem_try_alloc(1, bytes + totals * VALUE_MAX);
    return c->argv ? (char *)(c->argv + args) : NULL;
}

/* "requests rows compute_us". With each batch of predictions: no format. */
static void write_value(char text[VALUE_MAX], const struct usage_total *row)
{
    const int64_t numbers[] = {row->requests, row->rows, row->compute_us};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (i) *text++ = ' ';
        text += num_format_i64(text, numbers[i]);
    }
    *text = '\0';
}

int usage_take_dirty(struct usage *u, struct usage_command *out, struct err *e)
{
    char *text = command_init(out, u->dirty_len);
    if (!text) return err_set(e, ERR_NOMEM, NULL, "no memory to publish usage");
    out->argv[out->argc++] = "HSET";
    out->argv[out->argc++] = u->key;
    for (struct total *t = u->dirty; t; t = t->dirty_next) {
        write_value(text, &t->row);
        out->argv[out->argc++] = t->field;
        out->argv[out->argc++] = text;
        text += VALUE_MAX;
        t->dirty = false;
    }
    u->dirty = NULL;
    u->dirty_len = 0;
    return 0;
}

void usage_command_dispose(struct usage_command *c)
{
    mem_free(c->argv);
    c->argv = NULL;
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
    int shard;
    char rest;
    if (!field || !value ||
        sscanf(field, "%39s %39s %d %c", row->tenant_id, row->version_id, &shard, &rest) != 3 ||
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

static int by_version(const void *a, const void *b)
{
    const struct usage_total *x = a, *y = b;
    int tenant = strcmp(x->tenant_id, y->tenant_id);
    return tenant ? tenant : strcmp(x->version_id, y->version_id);
}

/* Adds up the rows of one version; *n becomes how many rows are left. */
static int sum_shards(struct usage_total *rows, size_t *n, struct err *e)
{
    size_t out = 0;
    qsort(rows, *n, sizeof *rows, by_version);
    for (size_t i = 0; i < *n; i++) {
        struct usage_total *to = out ? &rows[out - 1] : NULL;
        if (!to || by_version(to, &rows[i]) != 0)
            rows[out++] = rows[i];
        else if (__builtin_add_overflow(to->requests, rows[i].requests, &to->requests) ||
                 __builtin_add_overflow(to->rows, rows[i].rows, &to->rows) ||
                 __builtin_add_overflow(to->compute_us, rows[i].compute_us, &to->compute_us))
            return err_set(e, ERR_CORRUPT, NULL, "the usage totals of %s add up to more than a number holds",
                           to->version_id);
    }
    *n = out;
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
    if (rc == 0) rc = sum_shards(made, &rows, e);
    if (rc) {
        mem_free(made);
        return rc;
    }
    *out = made;
    *n = rows;
    return 0;
}

int usage_counting(struct redis *r, const char *inc, bool *out, struct err *e)
{
    char key[USAGE_KEY_MAX];
    usage_counting_key(key, inc);
    redisReply *reply;
    int rc = redis_call(r, &reply, e, "EXISTS %s", key);
    if (rc) return rc;
    *out = redis_reply_int(reply, 0) == 1;
    freeReplyObject(reply);
    return 0;
}

int usage_forget(struct redis *r, const char *inc, struct err *e)
{
    char key[USAGE_KEY_MAX];
    usage_key(key, inc);
    return redis_call(r, NULL, e, "DEL %s", key);
}
