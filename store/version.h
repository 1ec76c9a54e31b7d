/* Model versions: immutable, numbered from 1 inside their model, one .safetensors blob each. Born in
 * job_finish. None of the verbs here finds a deleted one. */
#ifndef STORE_VERSION_H
#define STORE_VERSION_H

#include <stdbool.h>
#include <stdint.h>
#include "base/crypto.h"
#include "base/ids.h"
#include "store/blob.h"
#include "store/db.h"
#include "store/model.h"

struct version {
    char id[ID_MAX]; /* "ver_…" */
    char model[STORE_NAME_MAX];
    int64_t number;
    int64_t bytes; /* of the artifact */
    char sha256[SHA256_HEX_LEN];
    int64_t memory_bytes; /* what a worker needs to serve it */
    char job_id[ID_MAX];  /* that trained it; "" when imported */
    int64_t created_at_us;
    bool served;                    /* the model's version policy, or an alias, lets it answer calls */
    struct model_batching batching; /* the model's, as it is now */
    const char *metrics;            /* JSON, in the arena */
    const char *signature;          /* JSON, in the arena */
};

/* The version that a request means: number > 0, served or not, else the alias (not NULL), else the default:
 * alias "live", or the newest that is served. ERR_NOT_FOUND for the model, the version or the alias (field
 * says which: "model", "version", "alias"). */
int version_find(struct db *db, const char *model, int64_t number, const char *alias, struct arena *a,
                 struct version *out, struct err *e);
/* 0 when v answers calls; else ERR_NOT_FOUND with field "version_policy" and a message for the caller. */
int version_require_served(const struct version *v, struct err *e);
int version_find_id(struct db *db, const char *version_id, struct arena *a, struct version *out,
                    struct err *e);
int version_blob(struct db *db, const char *version_id, struct blob *out,
                 struct err *e); /* what a loader needs */

/* System: the scheduler's view of a version that it is asked to place. */
int version_size(struct db *db, const char *tenant_id, const char *version_id, int64_t *bytes,
                 int64_t *memory_bytes, struct err *e);

struct version_list {
    struct version *items; /* in the arena */
    int n;
    bool has_more;
};
/* Newest first; page ids are ver_…. ERR_NOT_FOUND when there is no such model. */
int version_list(struct db *db, const char *model, const struct page *p, struct arena *a,
                 struct version_list *out, struct err *e);

/* The version's weights go, its number and its story (usage, jobs, the audit trail) stay; nobody finds it any
 * more. id gets the version's. ERR_NOT_FOUND: field "model" or "version". ERR_CONFLICT, saying what: an alias
 * points at it (or did before its last move), a job that has not ended reads it, or the version policy names
 * it. */
int version_delete(struct db *db, const char *model, int64_t number, const struct actor *by, char id[ID_MAX],
                   struct err *e);

#endif
