/* One transaction for the blob's row and the tenant's key, then a stream from the file. */
#include "worker/fetch.h"

#include "base/mem.h"
#include "store/db.h"
#include "store/version.h"

struct fetch {
    struct db *db;
    struct blob_store *blobs;
};

struct look_up {
    struct fetch *f;
    const char *version_id;
    struct blob blob;
    struct blob_key key;
};

int fetch_create(struct fetch **out, const char *postgres_url, struct blob_store *blobs, struct err *e)
{
    struct fetch *f = mem_alloc(1, sizeof *f);
    f->blobs = blobs;
    struct db_options o = {.conninfo = postgres_url, .program = "tenor-worker models"};
    int rc = db_open_lazy(&f->db, &o, e);
    if (rc != 0) {
        mem_free(f);
        f = NULL;
    }
    *out = f;
    return rc;
}

void fetch_free(struct fetch *f)
{
    if (!f) return;
    db_free(f->db);
    mem_free(f);
}

static int look_up(struct db *db, void *arg, struct err *e)
{
    struct look_up *l = arg;
    int rc = version_blob(db, l->version_id, &l->blob, e);
    return rc == 0 ? blob_key_load(db, l->f->blobs, &l->key, e) : rc;
}

/* The whole of it at once: growing by doubling would need twice the memory. */
int fetch_blob(struct blob_store *s, const struct blob_key *key, const struct blob *blob, struct buf *out,
               struct err *e)
{
    struct blob_reader *r = NULL;
    size_t bytes = (size_t)blob->bytes, done = 0, got = 1;
    char *room = buf_reserve(out, bytes);
    if (!room) return err_set(e, ERR_TOO_LARGE, NULL, "no room for a blob of %zu bytes", bytes);
    int rc = blob_reader_open(&r, s, key, blob, e);
    for (; rc == 0 && done < bytes && got > 0; done += got)
        rc = blob_reader_read(r, room + done, bytes - done, &got, e);
    if (rc == 0 && done < bytes)
        rc = err_set(e, ERR_CORRUPT, NULL, "the blob ends after %zu of %zu bytes", done, bytes);
    blob_reader_free(r);
    if (rc) return rc;
    out->len += bytes;
    room[bytes] = '\0';
    return 0;
}

int fetch_version(void *arg, const char *tenant_id, const char *version_id, struct buf *out, struct err *e)
{
    struct look_up l = {.f = arg, .version_id = version_id};
    int rc = db_run(l.f->db, tenant_id, look_up, &l, e);
    if (rc == 0) rc = fetch_blob(l.f->blobs, &l.key, &l.blob, out, e);
    blob_key_wipe(&l.key);
    return rc;
}
