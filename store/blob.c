/* Here a blob store is opened, tenants' keys are loaded, and blobs' rows are written, found and collected. */
#include "store/blob.h"
#include "store/blob_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/tenant.h"

enum { COLLECT_ROWS = 500 };

int blob_store_open(struct blob_store **out, const char *dir, const struct keyring *keyring, struct err *e)
{
    *out = NULL;
    if (strlen(dir) > BLOB_DIR_MAX)
        return err_set(e, ERR_INVALID, "blob-dir", "the folder's name is longer than %d bytes", BLOB_DIR_MAX);
    int rc = fs_mkdir_p(dir, 0700, e);
    if (rc) return rc;
    struct blob_store *s = mem_alloc(1, sizeof *s);
    snprintf(s->dir, sizeof s->dir, "%s", dir);
    s->keyring = keyring;
    *out = s;
    return 0;
}

void blob_store_free(struct blob_store *s)
{
    mem_free(s);
}

int blob_key_load(struct db *db, struct blob_store *s, struct blob_key *out, struct err *e)
{
    snprintf(out->tenant_id, sizeof out->tenant_id, "%s", db_tenant(db));
    return tenant_load_key(db, s->keyring, out->tenant_id, out->key, e);
}

void blob_key_wipe(struct blob_key *k)
{
    explicit_bzero(k, sizeof *k);
}

/* ---- rows ---- */

#define BLOB_COLUMNS "sha256, bytes, file, encode(wrapped_key, 'hex')"

int blob__read(struct blob *out, const struct db_rows *r, int row, int first_col, struct err *e)
{
    memset(out, 0, sizeof *out);
    db_copy(out->sha256, sizeof out->sha256, r, row, first_col);
    out->bytes = db_int(r, row, first_col + 1);
    db_copy(out->file, sizeof out->file, r, row, first_col + 2);
    int n = crypto_unhex(out->wrapped_key, sizeof out->wrapped_key, db_text(r, row, first_col + 3));
    if (n != KEYRING_WRAPPED_LEN)
        return err_set(e, ERR_CORRUPT, NULL, "blob %s: its stored key has a wrong length", out->sha256);
    return 0;
}

/* The row that wins is the one that was there first; touching it keeps the collector away until something
 * refers to it. */
int blob_put(struct db *db, struct blob *b, struct err *e)
{
    char key[2 * KEYRING_WRAPPED_LEN + 1];
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, b->sha256);
    db_arg_int(&a, b->bytes);
    db_arg_str(&a, b->file);
    db_arg_str(&a, crypto_hex(key, b->wrapped_key, sizeof b->wrapped_key));
    struct db_rows *r;
    int rc =
        db_exec(db,
                "INSERT INTO blobs (tenant_id, sha256, bytes, file, wrapped_key) VALUES ($1, $2, $3, $4, "
                "decode($5, 'hex')) ON CONFLICT (tenant_id, sha256) DO UPDATE SET touched_at = now() "
                "RETURNING " BLOB_COLUMNS,
                &a, &r, e);
    if (rc) return rc;
    rc = blob__read(b, r, 0, 0, e);
    db_rows_free(r);
    return rc;
}

int blob_find(struct db *db, const char *sha256, struct blob *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, sha256);
    struct db_rows *r;
    int rc =
        db_exec(db, "SELECT " BLOB_COLUMNS " FROM blobs WHERE tenant_id = $1 AND sha256 = $2", &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1)
        rc = blob__read(out, r, 0, 0, e);
    else
        rc = err_set(e, ERR_NOT_FOUND, "blob", "there is no such blob");
    db_rows_free(r);
    return rc;
}

void blob_discard(const struct blob_store *s, const char *tenant_id, const struct blob *b)
{
    char path[BLOB_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s/%s", s->dir, tenant_id, b->file);
    if (unlink(path) != 0)
        log_warn("blob_not_removed", "tenant=%s file=%s errno=%d", tenant_id, b->file, errno);
}

/* ---- collecting: rows first, then files that no row names ---- */

struct sweep {
    int64_t grace_s;
    int rows;
    struct old {
        char tenant_id[ID_MAX], file[BLOB_FILE_MAX];
    } old[COLLECT_ROWS]; /* what the deleted rows named */
};

/* A put that comes meanwhile waits for the row's lock and then inserts anew, or touches first and is skipped
 * here (the condition is checked again on the newest row); one that commits a reference makes the foreign key
 * refuse the delete. */
static int delete_rows(struct db *db, void *arg, struct err *e)
{
    struct sweep *s = arg;
    struct db_args a = {0};
    db_arg_int(&a, s->grace_s);
    db_arg_int(&a, COLLECT_ROWS);
    struct db_rows *r;
    int rc =
        db_exec(db,
                "DELETE FROM blobs b USING (SELECT tenant_id, sha256 FROM blobs c "
                "WHERE c.touched_at < now() - $1::bigint * interval '1 second' "
                "AND NOT EXISTS (SELECT FROM dataset_parts p WHERE p.tenant_id = c.tenant_id AND "
                "p.sha256 = c.sha256) "
                "AND NOT EXISTS (SELECT FROM model_versions v WHERE v.tenant_id = c.tenant_id AND "
                "v.sha256 = c.sha256) "
                "AND NOT EXISTS (SELECT FROM jobs j WHERE j.tenant_id = c.tenant_id AND "
                "j.checkpoint_sha256 = c.sha256) "
                "AND NOT EXISTS (SELECT FROM predict_jobs p WHERE p.tenant_id = c.tenant_id AND "
                "p.input_sha256 = c.sha256) "
                "AND NOT EXISTS (SELECT FROM predict_jobs p WHERE p.tenant_id = c.tenant_id AND "
                "p.output_sha256 = c.sha256) "
                "LIMIT $2) old WHERE b.tenant_id = old.tenant_id AND b.sha256 = old.sha256 "
                "AND b.touched_at < now() - $1::bigint * interval '1 second' RETURNING b.tenant_id, b.file",
                &a, &r, e);
    if (rc) return rc;
    s->rows = db_rows_count(r);
    for (int i = 0; i < s->rows; i++) {
        db_copy(s->old[i].tenant_id, sizeof s->old[i].tenant_id, r, i, 0);
        db_copy(s->old[i].file, sizeof s->old[i].file, r, i, 1);
    }
    db_rows_free(r);
    return 0;
}

/* A file's name is its row's alone, so that nobody can come to need it once that is gone. One that stays
 * behind is found by its age. */
static void remove_files(const struct blob_store *s, const struct sweep *sweep, int64_t *removed)
{
    for (int i = 0; i < sweep->rows; i++) {
        char path[BLOB_PATH_MAX];
        snprintf(path, sizeof path, "%s/%s/%s", s->dir, sweep->old[i].tenant_id, sweep->old[i].file);
        if (unlink(path) == 0) ++*removed;
    }
}

static int sweep_rows(struct db *db, const struct blob_store *s, int64_t grace_s, int64_t *removed,
                      struct err *e)
{
    struct sweep *sweep = mem_try_alloc(1, sizeof *sweep);
    if (!sweep) return err_set(e, ERR_NOMEM, NULL, "no memory to collect files");
    sweep->grace_s = grace_s;
    int rc;
    do {
        rc = db_run(db, NULL, delete_rows, sweep, e);
        if (!rc) remove_files(s, sweep, removed);
    } while (!rc && sweep->rows == COLLECT_ROWS);
    mem_free(sweep);
    return rc;
}

struct wanted {
    const char *tenant_id;
    const char *file; /* below the tenant's folder */
    bool there;
};

static int has_row(struct db *db, void *arg, struct err *e)
{
    struct wanted *w = arg;
    struct db_args a = {0};
    db_arg_str(&a, w->tenant_id);
    db_arg_str(&a, w->file);
    struct db_rows *r;
    /* The name begins with the content's hash behind the folder "ab/". */
    int rc = db_exec(
        db, "SELECT FROM blobs WHERE tenant_id = $1 AND sha256 = substr($2, 4, 64) AND file = $2", &a, &r, e);
    if (rc) return rc;
    w->there = db_rows_count(r) == 1;
    db_rows_free(r);
    return 0;
}

/* Files of one folder that are old enough and that no row names. Temporary names carry no hash and so match
 * no row. */
static int sweep_folder(struct db *db, struct blob_store *s, const char *tenant_id, const char *folder,
                        int64_t grace_s, int64_t *removed, struct err *e)
{
    char path[BLOB_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s/%s", s->dir, tenant_id, folder);
    DIR *d = opendir(path);
    if (!d) return errno == ENOENT ? 0 : err_errno(e, ERR_IO, "open %s", path);
    int64_t now_s = clock_wall_us() / 1000000; /* file times are wall times */
    int rc = 0;
    const struct dirent *f;
    while (!rc && (f = readdir(d))) {
        char file[BLOB_FILE_MAX];
        struct stat st;
        if (f->d_name[0] == '.' && strncmp(f->d_name, BLOB_TMP_PREFIX, strlen(BLOB_TMP_PREFIX)) != 0)
            continue;
        if (fstatat(dirfd(d), f->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) continue;
        if (st.st_mtime > now_s - grace_s) continue;
        if ((size_t)snprintf(file, sizeof file, "%s/%s", folder, f->d_name) >= sizeof file) continue;
        struct wanted w = {.tenant_id = tenant_id, .file = file};
        rc = db_run(db, NULL, has_row, &w, e);
        if (rc || w.there) continue;
        if (unlinkat(dirfd(d), f->d_name, 0) == 0)
            ++*removed;
        else
            log_warn("blob_not_removed", "tenant=%s file=%s errno=%d", tenant_id, file, errno);
    }
    closedir(d);
    return rc;
}

static bool is_hex_folder(const char *name)
{
    return strlen(name) == 2 && strspn(name, "0123456789abcdef") == 2;
}

static int sweep_tenant(struct db *db, struct blob_store *s, const char *tenant_id, int64_t grace_s,
                        int64_t *removed, struct err *e)
{
    char path[BLOB_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", s->dir, tenant_id);
    DIR *d = opendir(path);
    if (!d) return errno == ENOENT ? 0 : err_errno(e, ERR_IO, "open %s", path);
    int rc = 0;
    const struct dirent *f;
    while (!rc && (f = readdir(d)))
        if (is_hex_folder(f->d_name)) rc = sweep_folder(db, s, tenant_id, f->d_name, grace_s, removed, e);
    closedir(d);
    return rc;
}

int blob_collect(struct db *db, struct blob_store *s, int64_t grace_s, int64_t *removed, struct err *e)
{
    *removed = 0;
    int rc = sweep_rows(db, s, grace_s, removed, e);
    if (rc) return rc;
    DIR *d = opendir(s->dir);
    if (!d) return err_errno(e, ERR_IO, "open %s", s->dir);
    const struct dirent *f;
    while (!rc && (f = readdir(d)))
        if (id_valid(f->d_name, "ten_")) rc = sweep_tenant(db, s, f->d_name, grace_s, removed, e);
    closedir(d);
    return rc;
}
