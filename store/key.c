/* Here API keys are made, found, listed and revoked, and a request's key is turned into who is asking. */
#include "store/key.h"
#include "store/audit.h"

#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/json.h"
#include "store/page.h"

enum { KEY_MODELS_MAX = 64, LIVE_PER_NAME = 2 };

static const char *const scope_names[SCOPE_COUNT] = {
    "datasets:read", "datasets:write", "jobs:read",    "jobs:write", "models:read",
    "models:write",  "predict",        "billing:read", "audit:read", "keys:write",
};

const char *key_scope_name(int index)
{
    return scope_names[index];
}

unsigned key_scope_of(const char *name)
{
    for (int i = 0; i < SCOPE_COUNT; i++)
        if (strcmp(scope_names[i], name) == 0) return 1u << i;
    return 0;
}

/* ---- the model allow-list: names are plain, so an array's text needs no quoting ---- */

/* "{a,b}", or NULL for all models. b owns the text. */
static int models_text(struct buf *b, const struct key_new *in, const char **out, struct err *e)
{
    *out = NULL;
    if (!in->models) return 0;
    if (in->n_models < 1 || in->n_models > KEY_MODELS_MAX)
        return err_set(e, ERR_INVALID, "models", "give 1 to %d models, or none of them to allow all",
                       KEY_MODELS_MAX);
    buf_char(b, '{');
    for (int i = 0; i < in->n_models; i++) {
        if (!id_name_valid(in->models[i]))
            return err_set(e, ERR_INVALID, "models", "models[%d] is not a model's name", i);
        if (i) buf_char(b, ',');
        buf_printf(b, "\"%s\"", in->models[i]);
    }
    buf_char(b, '}');
    if (b->failed) return err_set(e, ERR_NOMEM, NULL, "out of memory");
    *out = b->data;
    return 0;
}

static int read_models(struct api_key *out, struct arena *a, const struct db_rows *r, int row, int col,
                       struct err *e)
{
    if (db_is_null(r, row, col)) return 0;
    const char *text;
    int rc = db_arena_text(&text, a, r, row, col, e);
    const char **names = rc ? NULL : arena_try_alloc(a, KEY_MODELS_MAX, sizeof *names);
    char *rest = names ? arena_strdup(a, text) : NULL;
    if (!rest) return rc ? rc : err_set(e, ERR_NOMEM, NULL, "out of memory");
    char *name;
    while ((name = strsep(&rest, "{},\"")) && out->n_models < KEY_MODELS_MAX)
        if (name[0]) names[out->n_models++] = name;
    out->models = names;
    return 0;
}

/* ---- rows ---- */

#define KEY_COLUMNS "id, name, scopes, models, us(created_at), us(expires_at), us(revoked_at)"

/* Columns first … first+6 in the order of KEY_COLUMNS. */
static int read_key(struct api_key *out, struct arena *a, const struct db_rows *r, int row, int first,
                    struct err *e)
{
    memset(out, 0, sizeof *out);
    db_copy(out->id, sizeof out->id, r, row, first);
    db_copy(out->name, sizeof out->name, r, row, first + 1);
    out->scopes = (unsigned)db_int(r, row, first + 2);
    out->created_at_us = db_int(r, row, first + 4);
    out->expires_at_us = db_int(r, row, first + 5);
    out->revoked_at_us = db_int(r, row, first + 6);
    return read_models(out, a, r, row, first + 3, e);
}

static int read_listed(void *key, struct arena *a, const struct db_rows *r, int row, struct err *e)
{
    return read_key(key, a, r, row, 0, e);
}

int key_find(struct db *db, const char *key_id, struct arena *ar, struct api_key *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, key_id);
    struct db_rows *r;
    int rc = db_exec(db, "SELECT " KEY_COLUMNS " FROM api_keys WHERE tenant_id = $1 AND id = $2", &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1)
        rc = read_key(out, ar, r, 0, 0, e);
    else
        rc = err_set(e, ERR_NOT_FOUND, "key", "there is no such API key");
    db_rows_free(r);
    return rc;
}

int key_list(struct db *db, const struct page *p, struct arena *ar, struct key_list *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    struct page_cut c;
    struct db_args a = {0};
    int rc = page__open(&c, &a, p, "key_", db_tenant(db), e);
    if (rc) return rc;
    struct db_rows *r;
    rc = c.reversed
             ? db_exec(db, "SELECT " KEY_COLUMNS " FROM api_keys WHERE tenant_id = $1" PAGE_OLDEST("id"), &a,
                       &r, e)
             : db_exec(db, "SELECT " KEY_COLUMNS " FROM api_keys WHERE tenant_id = $1" PAGE_NEWEST("id"), &a,
                       &r, e);
    if (rc) return rc;
    struct page_items got;
    rc = page__read(&got, &c, r, ar, sizeof *out->items, read_listed, e);
    *out = (struct key_list){got.items, got.n, got.has_more};
    return rc;
}

/* ---- making one ---- */

static int check_new(const struct key_new *in, struct err *e)
{
    if (!in->name || !id_name_valid(in->name))
        return err_set(
            e, ERR_INVALID, "name",
            "a key's name has 1 to 64 characters of a-z 0-9 . _ - and starts with a letter or digit");
    if (in->scopes == 0 || in->scopes & ~(unsigned)SCOPE_ALL)
        return err_set(e, ERR_INVALID, "scopes", "a key needs at least one scope, and only known ones");
    return 0;
}

/* Under a lock per tenant: two creations at once must not both find room. */
static int check_room(struct db *db, const struct key_new *in, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    int rc = db_exec(db, "SELECT pg_advisory_xact_lock(hashtextextended('key ' || $1, 0))", &a, NULL, e);
    if (rc) return rc;
    db_arg_str(&a, in->name);
    db_arg_int(&a, in->expires_at_us);
    struct db_rows *r;
    rc = db_exec(db,
                 "SELECT count(*) FILTER (WHERE k.name = $2), count(*), "
                 "(SELECT p.max_keys FROM tenants t JOIN plans p ON p.name = t.plan WHERE t.id = $1), "
                 "$3::bigint <> 0 AND $3::bigint <= us(now()) "
                 "FROM api_keys k WHERE k.tenant_id = $1 AND k.revoked_at IS NULL "
                 "AND (k.expires_at IS NULL OR k.expires_at > now())",
                 &a, &r, e);
    if (rc) return rc;
    if (db_bool(r, 0, 3))
        rc = err_set(e, ERR_INVALID, "expires_at", "a key must expire in the future");
    else if (db_int(r, 0, 0) >= LIVE_PER_NAME)
        rc = err_set(e, ERR_CONFLICT, "name",
                     "two live keys are named '%s' already; revoke one of them first", in->name);
    else if (db_int(r, 0, 1) >= db_int(r, 0, 2))
        rc = err_set(e, ERR_LIMIT, "keys", "the plan allows %lld live keys", (long long)db_int(r, 0, 2));
    db_rows_free(r);
    return rc;
}

static void hash_secret(char hex[SHA256_HEX_LEN], const uint8_t *pepper, const uint8_t secret[KEY_SECRET_LEN])
{
    uint8_t hash[SHA256_LEN];
    crypto_hmac_sha256(hash, pepper, SHA256_LEN, secret, KEY_SECRET_LEN);
    crypto_hex(hex, hash, sizeof hash);
}

static int insert_key(struct db *db, const struct key_new *in, const char *id, const char *models, int pepper,
                      const char *hash, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    db_arg_str(&a, in->name);
    db_arg_int(&a, in->scopes);
    db_arg_str(&a, models);
    db_arg_int(&a, pepper);
    db_arg_str(&a, hash);
    db_arg_int(&a, in->expires_at_us);
    return db_exec(
        db,
        "INSERT INTO api_keys (tenant_id, id, name, scopes, models, pepper, hash, expires_at) VALUES "
        "($1, $2, $3, $4, $5::text[], $6, decode($7, 'hex'), "
        "to_timestamp(nullif($8::bigint, 0) / 1000000.0))",
        &a, NULL, e);
}

static int audit_key(struct db *db, const char *type, const struct actor *by, const char *id,
                     const char *name, unsigned scopes, struct err *e)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    jw_obj(&w);
    jw_kstr(&w, "name", name);
    jw_name(&w, "scopes");
    jw_arr(&w);
    for (int i = 0; i < SCOPE_COUNT; i++)
        if (scopes >> i & 1) jw_str(&w, scope_names[i]);
    jw_arr_end(&w);
    jw_obj_end(&w);
    int rc = b.failed ? err_set(e, ERR_NOMEM, NULL, "out of memory")
                      : audit_append(db, NULL, type, by, id, b.data, e);
    buf_dispose(&b);
    return rc;
}

int key_create(struct db *db, const struct keyring *k, const struct key_new *in, const struct actor *by,
               struct arena *a, struct api_key *out, char secret[KEY_TEXT_MAX], struct err *e)
{
    const char *models;
    struct buf models_buf = {0};
    int pepper = keyring_newest(k);
    if (!pepper) return err_set(e, ERR_INTERNAL, "pepper-file", "no pepper is loaded: keys cannot be made");
    int rc = check_new(in, e);
    if (!rc) rc = models_text(&models_buf, in, &models, e);
    if (!rc) rc = check_room(db, in, e);
    if (!rc) {
        char id[ID_MAX], hash[SHA256_HEX_LEN];
        uint8_t bytes[KEY_SECRET_LEN];
        id_new(id, "key_");
        crypto_random(bytes, sizeof bytes);
        hash_secret(hash, keyring_pepper(k, pepper), bytes);
        key_format(secret, id, bytes);
        explicit_bzero(bytes, sizeof bytes);
        rc = insert_key(db, in, id, models, pepper, hash, e);
        if (!rc) rc = audit_key(db, "key.created", by, id, in->name, in->scopes, e);
        if (!rc) rc = key_find(db, id, a, out, e);
    }
    buf_dispose(&models_buf);
    return rc;
}

int key_revoke(struct db *db, const char *key_id, const struct actor *by, bool *was_live, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, key_id);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "UPDATE api_keys SET revoked_at = now() WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL "
        "RETURNING name, scopes",
        &a, &r, e);
    if (rc) return rc;
    bool live = db_rows_count(r) == 1;
    if (was_live) *was_live = live;
    if (live) rc = audit_key(db, "key.revoked", by, key_id, db_text(r, 0, 0), (unsigned)db_int(r, 0, 1), e);
    db_rows_free(r);
    if (live || rc) return rc;
    rc = db_exec(db, "SELECT FROM api_keys WHERE tenant_id = $1 AND id = $2", &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0) rc = err_set(e, ERR_NOT_FOUND, "key", "there is no such API key");
    db_rows_free(r);
    return rc;
}

/* ---- who is asking ---- */

/* Order of key_lookup's columns. */
enum {
    L_TENANT,
    L_KEY,
    L_EXPIRED = 8,
    L_PEPPER,
    L_HASH,
    L_TENANT_NAME,
    L_SUSPENDED,
    L_TENANT_CREATED,
    L_PLAN
};

/* Whether the secret fits row 0. A miss costs the same as a hit: something is hashed and compared in any
 * case. */
static bool secret_fits(const struct keyring *k, const struct db_rows *r,
                        const uint8_t secret[KEY_SECRET_LEN])
{
    static const uint8_t nobody[SHA256_LEN];
    bool found = db_rows_count(r) == 1;
    const uint8_t *pepper = found ? keyring_pepper(k, (int)db_int(r, 0, L_PEPPER)) : NULL;
    char hex[SHA256_HEX_LEN], stored[SHA256_HEX_LEN] = "";
    hash_secret(hex, pepper ? pepper : nobody, secret);
    if (found) db_copy(stored, sizeof stored, r, 0, L_HASH);
    bool equal = crypto_equal(hex, stored, sizeof hex);
    return found && pepper && equal;
}

static int read_auth(struct db *db, const struct db_rows *r, struct arena *a, struct key_auth *out,
                     struct err *e)
{
    memset(out, 0, sizeof *out);
    struct tenant *t = &out->tenant;
    db_copy(t->id, sizeof t->id, r, 0, L_TENANT);
    db_copy(t->name, sizeof t->name, r, 0, L_TENANT_NAME);
    t->suspended = db_bool(r, 0, L_SUSPENDED);
    t->created_at_us = db_int(r, 0, L_TENANT_CREATED);
    int rc = read_key(&out->key, a, r, 0, L_KEY, e);
    return rc ? rc : plan_find(db, db_text(r, 0, L_PLAN), &t->plan, e);
}

int key_authenticate(struct db *db, const struct keyring *k, const char *text, size_t len, struct arena *ar,
                     struct key_auth *out, struct err *e)
{
    char id[ID_MAX];
    uint8_t secret[KEY_SECRET_LEN];
    int rc = key_parse(id, secret, text, len, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, id);
    struct db_rows *r;
    rc = db_exec(db, "SELECT * FROM key_lookup($1)", &a, &r, e);
    if (rc) return rc;
    bool fits = secret_fits(k, r, secret);
    explicit_bzero(secret, sizeof secret);
    if (!fits || db_bool(r, 0, L_EXPIRED) || !db_is_null(r, 0, L_KEY + 6))
        rc = err_set(e, ERR_UNAUTHORIZED, NULL, "the API key is unknown, revoked or expired");
    else if (db_bool(r, 0, L_SUSPENDED))
        rc = err_set(e, ERR_FORBIDDEN, NULL, "this tenant is suspended; ask the operator");
    else
        rc = read_auth(db, r, ar, out, e);
    db_rows_free(r);
    return rc;
}
