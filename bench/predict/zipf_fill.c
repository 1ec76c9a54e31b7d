/* Registers copies of a model version as the first versions of models of their own, each with a blob of its
 * own: thousands in seconds, where training each would take an hour.
 *
 *   zipf_fill POSTGRES_URL BLOB_DIR ROOT_KEY_FILE TENANT_ID VERSION_ID COUNT
 *
 * The copies are named <model>-0 … and differ in the last weight's lowest bits, so that no two share a blob.
 * They go through the store as a training job's result does, with the worker's own configuration; what is
 * left out is the job. Prints a line "<model> <version id>" for each. A benchmark's tool, installed nowhere.
 */
#include <stdio.h>
#include <stdlib.h>
#include "base/crypto.h"
#include "base/mem.h"
#include "store/blob.h"
#include "store/keyring.h"
#include "store/version.h"
#include "worker/fetch.h"

enum { PER_TRANSACTION = 100, FLOAT_BYTES = 4 };

struct fill {
    const char *tenant_id, *version_id; /* borrowed */
    struct keyring keyring;
    struct blob_store *blobs; /* owned, as all below */
    struct fetch *fetch;
    struct db *db;
    struct buf artifact;
    struct blob_key key;
    struct version like;
    struct arena arena;
    /* of the transaction at hand */
    long first;
    int n;
    struct blob blob[PER_TRANSACTION];
    char ids[PER_TRANSACTION][ID_MAX];
};

static int look_up(struct db *db, void *arg, struct err *e)
{
    struct fill *f = arg;
    int rc = version_find_id(db, f->version_id, &f->arena, &f->like, e);
    return rc == 0 ? blob_key_load(db, f->blobs, &f->key, e) : rc;
}

static int open_all(struct fill *f, char **argv, struct err *e)
{
    struct db_options o = {.conninfo = argv[1], .program = "zipf_fill"};
    f->tenant_id = argv[4];
    f->version_id = argv[5];
    arena_init(&f->arena, SIZE_MAX);
    int rc = keyring_load(&f->keyring, argv[3], NULL, e);
    if (rc == 0) rc = blob_store_open(&f->blobs, argv[2], &f->keyring, e);
    if (rc == 0) rc = fetch_create(&f->fetch, argv[1], f->blobs, e);
    if (rc == 0) rc = fetch_version(f->fetch, f->tenant_id, f->version_id, &f->artifact, e);
    if (rc == 0) rc = db_open(&f->db, &o, e);
    return rc == 0 ? db_run(f->db, f->tenant_id, look_up, f, e) : rc;
}

static void close_all(struct fill *f)
{
    blob_key_wipe(&f->key);
    buf_dispose(&f->artifact);
    db_free(f->db);
    fetch_free(f->fetch);
    blob_store_free(f->blobs);
    keyring_wipe(&f->keyring);
    arena_dispose(&f->arena);
}

static int write_blob(struct fill *f, long number, struct blob *out, struct err *e)
{
    struct blob_writer *w = NULL;
    char *weight = f->artifact.data + f->artifact.len - FLOAT_BYTES;
    weight[0] = (char)(number & 0xff);
    weight[1] = (char)(number >> 8 & 0xff);
    int rc = blob_writer_create(&w, f->blobs, &f->key, INT64_MAX, e);
    if (rc == 0) rc = blob_writer_append(w, f->artifact.data, f->artifact.len, e);
    if (rc == 0) rc = blob_writer_finish(w, out, e);
    blob_writer_free(w);
    return rc;
}

static int insert_one(struct db *db, const struct fill *f, int i, struct err *e)
{
    char model_id[ID_MAX], name[2 * STORE_NAME_MAX];
    struct blob b = f->blob[i];
    int rc = blob_put(db, &b, e);
    if (rc) return rc;
    id_new(model_id, "mdl");
    snprintf(name, sizeof name, "%s-%ld", f->like.model, f->first + i);
    struct db_args a = {0};
    db_arg_str(&a, f->tenant_id);
    db_arg_str(&a, model_id);
    db_arg_str(&a, name);
    rc = db_exec(db, "INSERT INTO models (tenant_id, id, name, latest_version) VALUES ($1, $2, $3, 1)", &a,
                 NULL, e);
    if (rc) return rc;
    a = (struct db_args){0};
    db_arg_str(&a, f->tenant_id);
    db_arg_str(&a, f->ids[i]);
    db_arg_str(&a, model_id);
    db_arg_str(&a, b.sha256);
    db_arg_int(&a, b.bytes);
    db_arg_int(&a, f->like.memory_bytes);
    db_arg_str(&a, f->like.metrics);
    db_arg_str(&a, f->like.signature);
    return db_exec(
        db,
        "INSERT INTO model_versions (tenant_id, id, model_id, number, sha256, bytes, memory_bytes, "
        "metrics, signature) VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8)",
        &a, NULL, e);
}

static int insert_all(struct db *db, void *arg, struct err *e)
{
    const struct fill *f = arg;
    int rc = 0;
    for (int i = 0; i < f->n && rc == 0; i++) rc = insert_one(db, f, i, e);
    return rc;
}

static int fill(struct fill *f, long count, struct err *e)
{
    int rc = 0;
    for (; f->first < count && rc == 0; f->first += f->n) {
        f->n = count - f->first < PER_TRANSACTION ? (int)(count - f->first) : PER_TRANSACTION;
        for (int i = 0; i < f->n && rc == 0; i++) {
            id_new(f->ids[i], "ver");
            rc = write_blob(f, f->first + i, &f->blob[i], e);
        }
        if (rc == 0) rc = db_run(f->db, f->tenant_id, insert_all, f, e);
        for (int i = 0; i < f->n && rc == 0; i++)
            printf("%s-%ld %s\n", f->like.model, f->first + i, f->ids[i]);
    }
    return rc;
}

int main(int argc, char **argv)
{
    static struct fill f;
    struct err e = {0};
    long count = argc == 7 ? strtol(argv[6], NULL, 10) : 0;
    if (count < 1 || count > 65536) {
        fprintf(stderr, "usage: zipf_fill POSTGRES_URL BLOB_DIR ROOT_KEY_FILE TENANT_ID VERSION_ID COUNT\n");
        return 2;
    }
    crypto_init();
    int rc = open_all(&f, argv, &e);
    if (rc == 0) rc = fill(&f, count, &e);
    close_all(&f);
    if (rc != 0) fprintf(stderr, "zipf_fill: %s\n", e.message);
    return rc != 0;
}
