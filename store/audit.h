/* The audit trail: one hash chain per tenant.
 *
 *   audit_append (unsealed, in the transaction it tells of) ─▶ audit_seal (within a second: number, previous
 * hash, hash)
 *
 * hash = SHA-256(previous hash ‖ each field with its length). Rows are insert-only: grants and a trigger
 * refuse everything but the seal of an unsealed row. */
#ifndef STORE_AUDIT_H
#define STORE_AUDIT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/crypto.h"
#include "base/ids.h"
#include "store/db.h"

struct audit_entry {
    char id[ID_MAX]; /* "aud_…" */
    int64_t seq;     /* 1, 2, … ; 0 while unsealed */
    int64_t created_at_us;
    char type[48]; /* "job.created" */
    char actor_type[16];
    char actor_id[64];
    char object_id[64];
    const char *data;          /* JSON, in the arena */
    char hash[SHA256_HEX_LEN]; /* "" while unsealed */
};

/* data: a JSON object's text, or NULL for {}. tenant_id NULL: the transaction's tenant. */
int audit_append(struct db *db, const char *tenant_id, const char *type, const struct actor *by,
                 const char *object_id, const char *data, struct err *e);

struct audit_list {
    struct audit_entry *items; /* in the arena */
    int n;
    bool has_more;
};
/* Newest first, unsealed ones foremost. type: one to keep, or NULL. */
int audit_list(struct db *db, const struct page *p, const char *type, struct arena *a, struct audit_list *out,
               struct err *e);

/* System, outside a transaction (one per tenant and batch). Seals what is unsealed; *sealed counts. Two
 * sealers at once are safe. */
int audit_seal(struct db *db, int64_t *sealed, struct err *e);

struct audit_verdict {
    bool verified;
    int64_t rows; /* sealed ones checked */
    int64_t unsealed;
    char first_bad[ID_MAX]; /* "" when verified; else the id of the first row that does not fit (or "head") */
    int64_t first_bad_seq;
    char reason[96];
};
/* Recomputes the chain of the transaction's tenant. A broken chain is an answer, not an error. */
int audit_verify(struct db *db, struct audit_verdict *out, struct err *e);

#endif
