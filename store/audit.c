/* Here audit rows are appended unsealed, listed, sealed into their tenant's hash chain, and the chain is
 * verified. */
#include "store/audit.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "store/page.h"

enum { SEAL_TENANTS = 256, SEAL_ROWS = 1000, VERIFY_ROWS = 1000 };

int audit_append(struct db *db, const char *tenant_id, const char *type, const struct actor *by,
                 const char *object_id, const char *data, struct err *e)
{
    char id[ID_MAX];
    id_new(id, "aud_");
    struct db_args a = {0};
    db_arg_str(&a, tenant_id ? tenant_id : db_tenant(db));
    db_arg_str(&a, id);
    db_arg_str(&a, type);
    db_arg_str(&a, by->type);
    db_arg_str(&a, by->id ? by->id : "");
    db_arg_str(&a, object_id ? object_id : "");
    db_arg_str(&a, data ? data : "{}");
    return db_exec(
        db,
        "INSERT INTO audit_log (tenant_id, id, type, actor_type, actor_id, object_id, data) VALUES "
        "($1, $2, $3, $4, $5, $6, $7)",
        &a, NULL, e);
}

/* ---- reading ---- */

#define AUDIT_COLUMNS                                                                                        \
    "id, seq, us(created_at), type, actor_type, actor_id, object_id, data, encode(hash, 'hex'), "            \
    "encode(prev_hash, 'hex')"

enum { A_ID, A_SEQ, A_CREATED, A_TYPE, A_ACTOR_TYPE, A_ACTOR_ID, A_OBJECT, A_DATA, A_HASH, A_PREV };

static int read_entry(void *item, struct arena *a, const struct db_rows *r, int row, struct err *e)
{
    struct audit_entry *out = item;
    db_copy(out->id, sizeof out->id, r, row, A_ID);
    out->seq = db_int(r, row, A_SEQ);
    out->created_at_us = db_int(r, row, A_CREATED);
    db_copy(out->type, sizeof out->type, r, row, A_TYPE);
    db_copy(out->actor_type, sizeof out->actor_type, r, row, A_ACTOR_TYPE);
    db_copy(out->actor_id, sizeof out->actor_id, r, row, A_ACTOR_ID);
    db_copy(out->object_id, sizeof out->object_id, r, row, A_OBJECT);
    db_copy(out->hash, sizeof out->hash, r, row, A_HASH);
    return db_arena_text(&out->data, a, r, row, A_DATA, e);
}

int audit_list(struct db *db, const struct page *p, const char *type, struct arena *ar,
               struct audit_list *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    struct page_cut c;
    struct db_args a = {0};
    int rc = page__open(&c, &a, p, "aud_", db_tenant(db), e);
    if (rc) return rc;
    db_arg_str(&a, type);
    struct db_rows *r;
#define AUDIT_LIST                                                                                           \
    "SELECT " AUDIT_COLUMNS " FROM audit_log WHERE tenant_id = $1 AND ($4::text IS NULL OR type = $4)"
    rc = c.reversed ? db_exec(db, AUDIT_LIST PAGE_OLDEST("id"), &a, &r, e)
                    : db_exec(db, AUDIT_LIST PAGE_NEWEST("id"), &a, &r, e);
    if (rc) return rc;
    struct page_items got;
    rc = page__read(&got, &c, r, ar, sizeof *out->items, read_entry, e);
    *out = (struct audit_list){got.items, got.n, got.has_more};
    return rc;
}

/* ---- the hash ---- */

struct link {
    int64_t seq;
    uint8_t hash[SHA256_LEN];
};

static void hash_field(struct crypto_sha256 *s, const char *text)
{
    size_t len = strlen(text);
    uint8_t le[8];
    for (int i = 0; i < 8; i++) le[i] = (uint8_t)((uint64_t)len >> (8 * i));
    crypto_sha256_update(s, le, sizeof le);
    crypto_sha256_update(s, text, len);
}

/* The link that follows `prev`: over the tenant, the number and every column, each with its length, so that
 * no byte can move from one field into the next. */
static void next_link(struct link *l, const char *tenant_id, const struct db_rows *r, int row)
{
    char seq[24];
    l->seq++;
    snprintf(seq, sizeof seq, "%lld", (long long)l->seq);
    struct crypto_sha256 *s = crypto_sha256_create();
    crypto_sha256_update(s, l->hash, sizeof l->hash);
    hash_field(s, tenant_id);
    hash_field(s, seq);
    hash_field(s, db_text(r, row, A_ID));
    for (int col = A_CREATED; col <= A_DATA; col++) hash_field(s, db_text(r, row, col));
    crypto_sha256_final(s, l->hash);
    crypto_sha256_free(s);
}

/* ---- sealing ---- */

/* Locks the tenant's head (making it at need): whoever holds it is the only sealer of this chain. */
static int lock_head(struct db *db, const char *tenant_id, struct link *head, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    int rc = db_exec(
        db,
        "INSERT INTO audit_heads (tenant_id, seq, hash) VALUES ($1, 0, decode(repeat('00', 32), 'hex')) "
        "ON CONFLICT DO NOTHING",
        &a, NULL, e);
    struct db_rows *r = NULL;
    if (!rc)
        rc = db_exec(db, "SELECT seq, encode(hash, 'hex') FROM audit_heads WHERE tenant_id = $1 FOR UPDATE",
                     &a, &r, e);
    if (rc) return rc;
    head->seq = db_int(r, 0, 0);
    crypto_unhex(head->hash, sizeof head->hash, db_text(r, 0, 1));
    db_rows_free(r);
    return 0;
}

static int seal_row(struct db *db, const char *tenant_id, const char *id, const struct link *prev,
                    const struct link *now, struct err *e)
{
    char prev_hex[SHA256_HEX_LEN], hex[SHA256_HEX_LEN];
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_str(&a, id);
    db_arg_int(&a, now->seq);
    db_arg_str(&a, crypto_hex(prev_hex, prev->hash, SHA256_LEN));
    db_arg_str(&a, crypto_hex(hex, now->hash, SHA256_LEN));
    return db_exec(db,
                   "UPDATE audit_log SET seq = $3, prev_hash = decode($4, 'hex'), hash = decode($5, 'hex') "
                   "WHERE tenant_id = $1 AND id = $2",
                   &a, NULL, e);
}

static int move_head(struct db *db, const char *tenant_id, const struct link *head, struct err *e)
{
    char hex[SHA256_HEX_LEN];
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_int(&a, head->seq);
    db_arg_str(&a, crypto_hex(hex, head->hash, SHA256_LEN));
    return db_exec(db, "UPDATE audit_heads SET seq = $2, hash = decode($3, 'hex') WHERE tenant_id = $1", &a,
                   NULL, e);
}

struct seal_job {
    const char *tenant_id;
    int64_t sealed;
};

static int seal_tenant(struct db *db, void *arg, struct err *e)
{
    struct seal_job *j = arg;
    struct link head;
    j->sealed = 0;
    int rc = lock_head(db, j->tenant_id, &head, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, j->tenant_id);
    db_arg_int(&a, SEAL_ROWS);
    struct db_rows *r;
    rc = db_exec(db,
                 "SELECT " AUDIT_COLUMNS
                 " FROM audit_log WHERE tenant_id = $1 AND seq IS NULL ORDER BY id LIMIT $2",
                 &a, &r, e);
    for (int i = 0; !rc && i < db_rows_count(r); i++) {
        struct link prev = head;
        next_link(&head, j->tenant_id, r, i);
        rc = seal_row(db, j->tenant_id, db_text(r, i, A_ID), &prev, &head, e);
        j->sealed += !rc;
    }
    db_rows_free(r);
    return rc ? rc : move_head(db, j->tenant_id, &head, e);
}

static int list_unsealed(struct db *db, void *arg, struct err *e)
{
    struct db_args a = {0};
    db_arg_int(&a, SEAL_TENANTS);
    struct db_rows **out = arg;
    return db_exec(db, "SELECT DISTINCT tenant_id FROM audit_log WHERE seq IS NULL LIMIT $1", &a, out, e);
}

int audit_seal(struct db *db, int64_t *sealed, struct err *e)
{
    *sealed = 0;
    struct db_rows *r = NULL;
    int rc = db_run(db, NULL, list_unsealed, &r, e);
    for (int i = 0; !rc && i < db_rows_count(r); i++) {
        struct seal_job j = {.tenant_id = db_text(r, i, 0)};
        rc = db_run(db, NULL, seal_tenant, &j, e);
        if (!rc) *sealed += j.sealed;
    }
    db_rows_free(r);
    return rc;
}

/* ---- verifying ---- */

static void found_bad(struct audit_verdict *v, const char *id, int64_t seq, const char *reason)
{
    v->verified = false;
    snprintf(v->first_bad, sizeof v->first_bad, "%s", id);
    v->first_bad_seq = seq;
    snprintf(v->reason, sizeof v->reason, "%s", reason);
}

/* Whether the row follows from the links before it. Advances chain. */
static bool row_fits(struct audit_verdict *v, const char *tenant_id, struct link *chain,
                     const struct db_rows *r, int row)
{
    char before[SHA256_HEX_LEN], after[SHA256_HEX_LEN];
    const char *id = db_text(r, row, A_ID);
    int64_t seq = db_int(r, row, A_SEQ);
    crypto_hex(before, chain->hash, SHA256_LEN);
    next_link(chain, tenant_id, r, row);
    crypto_hex(after, chain->hash, SHA256_LEN);
    if (seq != chain->seq)
        found_bad(v, id, seq, "a row is missing before this one");
    else if (strcmp(before, db_text(r, row, A_PREV)) != 0)
        found_bad(v, id, seq, "it does not follow from the row before it");
    else if (strcmp(after, db_text(r, row, A_HASH)) != 0)
        found_bad(v, id, seq, "its content does not fit its hash");
    else
        v->rows++;
    return v->verified;
}

/* Where the chain ends now, how much is unsealed, and whether a sealed row stands behind the end. One
 * statement: one view. */
static int load_end(struct db *db, struct link *end, int64_t *unsealed, bool *beyond, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    struct db_rows *r;
    int rc =
        db_exec(db,
                "SELECT coalesce(max(h.seq), 0), coalesce(max(encode(h.hash, 'hex')), repeat('00', 32)), "
                "(SELECT count(*) FROM audit_log WHERE tenant_id = $1 AND seq IS NULL), "
                "EXISTS (SELECT FROM audit_log l WHERE l.tenant_id = $1 AND l.seq > coalesce(max(h.seq), 0)) "
                "FROM audit_heads h WHERE h.tenant_id = $1",
                &a, &r, e);
    if (rc) return rc;
    end->seq = db_int(r, 0, 0);
    crypto_unhex(end->hash, sizeof end->hash, db_text(r, 0, 1));
    *unsealed = db_int(r, 0, 2);
    *beyond = db_bool(r, 0, 3);
    db_rows_free(r);
    return 0;
}

/* Follows the chain from its start to number last, or to the first row that does not fit. */
static int follow(struct db *db, struct audit_verdict *v, struct link *chain, int64_t last, struct err *e)
{
    int count = VERIFY_ROWS;
    while (v->verified && count == VERIFY_ROWS) {
        struct db_args a = {0};
        db_arg_str(&a, db_tenant(db));
        db_arg_int(&a, chain->seq);
        db_arg_int(&a, last);
        db_arg_int(&a, VERIFY_ROWS);
        struct db_rows *r;
        int rc =
            db_exec(db,
                    "SELECT " AUDIT_COLUMNS " FROM audit_log WHERE tenant_id = $1 AND seq > $2 AND seq <= $3 "
                    "ORDER BY seq LIMIT $4",
                    &a, &r, e);
        if (rc) return rc;
        count = db_rows_count(r);
        for (int i = 0; i < count && row_fits(v, db_tenant(db), chain, r, i); i++) continue;
        db_rows_free(r);
    }
    return 0;
}

/* The end is read first: rows that a sealer adds meanwhile are none of this verification's business. A chain
 * that is cut short has no gap, but does not reach its end. */
int audit_verify(struct db *db, struct audit_verdict *out, struct err *e)
{
    *out = (struct audit_verdict){.verified = true};
    struct link chain = {0}, end;
    bool beyond;
    int rc = load_end(db, &end, &out->unsealed, &beyond, e);
    if (!rc) rc = follow(db, out, &chain, end.seq, e);
    if (rc || !out->verified) return rc;
    if (beyond || chain.seq != end.seq || memcmp(chain.hash, end.hash, SHA256_LEN) != 0)
        found_bad(out, "head", end.seq, "the chain does not end where its head says");
    return 0;
}
