/* Here blobs are written to and read from disk, chunk by chunk, each encrypted and authenticated.
 *
 * header: "TNRBLOB1" | chunk      | chunk      | … | last chunk
 *                      64 KiB+tag   64 KiB+tag       0 … 64 KiB + tag
 *
 * The last chunk is always there, be it empty, and says so in its associated data: a file cut between chunks
 * ends in one that does not. A nonce is used once because each blob has a key of its own. */
#include "store/blob.h"
#include "store/blob_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/mem.h"

enum { HEADER_LEN = 8, STORED_CHUNK = BLOB_CHUNK_BYTES + GCM_TAG_LEN };
static const char header[HEADER_LEN + 1] = "TNRBLOB1";

/* Where in the file a chunk stands is part of its seal. */
struct place {
    uint8_t nonce[GCM_NONCE_LEN];
    uint8_t aad[9]; /* index, little-endian, then 1 for the last chunk */
};

static struct place place_of(uint64_t index, bool last)
{
    struct place p = {0};
    for (int i = 0; i < 8; i++) p.nonce[i] = p.aad[i] = (uint8_t)(index >> (8 * i));
    p.aad[8] = last;
    return p;
}

/* ---- writing ---- */

struct blob_writer {
    struct blob_store *store;   /* borrowed */
    struct blob_key tenant_key; /* wiped at the end */
    uint8_t data_key[AES_KEY_LEN];
    struct crypto_sha256 *sha; /* owned; of the plain bytes */
    int64_t bytes, max_bytes;
    uint64_t chunks; /* written */
    size_t filled;   /* plain bytes waiting in chunk */
    int fd;
    bool failed;                 /* a write went wrong: only free is left */
    char path[BLOB_PATH_MAX];    /* of the temporary file; "" once it has its final name */
    uint8_t chunk[STORED_CHUNK]; /* room for the tag behind a full one */
};

static int open_temporary(struct blob_writer *w, struct err *e)
{
    uint8_t random[8];
    char hex[2 * sizeof random + 1], folder[BLOB_PATH_MAX];
    crypto_random(random, sizeof random);
    crypto_hex(hex, random, sizeof random);
    /* Among the final names' folders, so that the collector finds what a crash left behind. */
    snprintf(folder, sizeof folder, "%s/%s/%.2s", w->store->dir, w->tenant_key.tenant_id, hex);
    int rc = fs_mkdir_p(folder, 0700, e);
    if (rc) return rc;
    snprintf(w->path, sizeof w->path, "%s/%s/%.2s/" BLOB_TMP_PREFIX "%s", w->store->dir,
             w->tenant_key.tenant_id, hex, hex);
    w->fd = open(w->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (w->fd < 0) {
        rc = err_errno(e, ERR_IO, "create %s", w->path);
        w->path[0] = '\0';
        return rc;
    }
    return fs_write_all(w->fd, header, HEADER_LEN, e);
}

int blob_writer_create(struct blob_writer **out, struct blob_store *s, const struct blob_key *k,
                       int64_t max_bytes, struct err *e)
{
    *out = NULL;
    struct blob_writer *w = mem_try_alloc(1, sizeof *w);
    if (!w) return err_set(e, ERR_NOMEM, NULL, "no memory to store a file");
    w->store = s;
    w->tenant_key = *k;
    w->max_bytes = max_bytes;
    w->fd = -1;
    crypto_random(w->data_key, sizeof w->data_key);
    w->sha = crypto_sha256_create();
    int rc = open_temporary(w, e);
    if (rc)
        blob_writer_free(w);
    else
        *out = w;
    return rc;
}

static int flush_chunk(struct blob_writer *w, bool last, struct err *e)
{
    struct place p = place_of(w->chunks, last);
    int rc = crypto_seal(w->data_key, p.nonce, p.aad, sizeof p.aad, w->chunk, w->filled, w->chunk,
                         w->chunk + w->filled, e);
    if (!rc) rc = fs_write_all(w->fd, w->chunk, w->filled + GCM_TAG_LEN, e);
    w->failed = rc != 0;
    w->chunks++;
    w->filled = 0;
    return rc;
}

int blob_writer_append(struct blob_writer *w, const void *data, size_t len, struct err *e)
{
    assert(!w->failed && "free is all that is left after a failure");
    if (len > (uint64_t)(w->max_bytes - w->bytes)) {
        w->failed = true;
        return err_set(e, ERR_TOO_LARGE, "file", "more than the %lld bytes that are allowed here",
                       (long long)w->max_bytes);
    }
    crypto_sha256_update(w->sha, data, len);
    w->bytes += (int64_t)len;
    const char *from = data;
    while (len > 0) {
        /* A full chunk is sealed when the next byte comes: until then it may be the last. */
        int rc = w->filled == BLOB_CHUNK_BYTES ? flush_chunk(w, false, e) : 0;
        if (rc) return rc;
        size_t n = BLOB_CHUNK_BYTES - w->filled;
        if (n > len) n = len;
        memcpy(w->chunk + w->filled, from, n);
        w->filled += n;
        from += n;
        len -= n;
    }
    return 0;
}

int64_t blob_writer_bytes(const struct blob_writer *w)
{
    return w->bytes;
}

/* The final name: the content's hash, and something of our own, because another writer may be finishing the
 * same content under another key. Which of the two files counts is decided by the row. */
static int give_name(struct blob_writer *w, struct blob *out, struct err *e)
{
    uint8_t digest[SHA256_LEN], random[8];
    char hex[2 * sizeof random + 1], folder[BLOB_PATH_MAX], path[BLOB_PATH_MAX];
    crypto_sha256_final(w->sha, digest);
    crypto_hex(out->sha256, digest, sizeof digest);
    crypto_random(random, sizeof random);
    crypto_hex(hex, random, sizeof random);
    snprintf(out->file, sizeof out->file, "%.2s/%s-%s", out->sha256, out->sha256, hex);
    snprintf(folder, sizeof folder, "%s/%s/%.2s", w->store->dir, w->tenant_key.tenant_id, out->sha256);
    snprintf(path, sizeof path, "%s/%s/%s", w->store->dir, w->tenant_key.tenant_id, out->file);
    int rc = fs_mkdir_p(folder, 0700, e);
    if (rc) return rc;
    if (rename(w->path, path) != 0) return err_errno(e, ERR_IO, "rename %s to %s", w->path, path);
    w->path[0] = '\0';
    return fs_sync_dir(folder, e);
}

int blob_writer_finish(struct blob_writer *w, struct blob *out, struct err *e)
{
    assert(!w->failed && "free is all that is left after a failure");
    memset(out, 0, sizeof *out);
    out->bytes = w->bytes;
    int rc = flush_chunk(w, true, e);
    if (rc) return rc;
    w->failed = true; /* nothing may follow, whatever comes */
    if (fsync(w->fd) != 0) return err_errno(e, ERR_IO, "fsync %s", w->path);
    rc = keyring_wrap(out->wrapped_key, w->tenant_key.key, w->tenant_key.tenant_id, w->data_key, e);
    return rc ? rc : give_name(w, out, e);
}

void blob_writer_free(struct blob_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    if (w->path[0]) unlink(w->path);
    crypto_sha256_free(w->sha);
    explicit_bzero(w, sizeof *w);
    mem_free(w);
}

/* ---- reading ---- */

struct blob_reader {
    int fd;
    char sha256[SHA256_HEX_LEN];
    uint8_t data_key[AES_KEY_LEN];
    uint64_t index, chunks; /* the next one to read; how many there are */
    int64_t bytes;          /* plain, in all */
    size_t have, taken;     /* plain bytes in chunk, and how many of them were handed out */
    uint8_t chunk[STORED_CHUNK];
};

/* At least one chunk; a full last chunk is not followed by an empty one. */
static uint64_t chunks_of(int64_t bytes)
{
    return bytes == 0 ? 1 : ((uint64_t)bytes + BLOB_CHUNK_BYTES - 1) / BLOB_CHUNK_BYTES;
}

static int corrupt(const struct blob_reader *r, struct err *e, const char *what)
{
    return err_set(e, ERR_CORRUPT, NULL, "blob %.12s…: %s", r->sha256, what);
}

static int read_exactly(int fd, void *out, size_t len, bool *short_read, struct err *e)
{
    size_t done = 0;
    *short_read = false;
    while (done < len) {
        ssize_t n = read(fd, (char *)out + done, len - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_errno(e, ERR_IO, "read a blob");
        if (n == 0) {
            *short_read = true;
            return 0;
        }
        done += (size_t)n;
    }
    return 0;
}

static int open_file(struct blob_reader *r, const char *path, struct err *e)
{
    r->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (r->fd < 0 && errno == ENOENT) return corrupt(r, e, "its file is missing");
    if (r->fd < 0) return err_errno(e, ERR_IO, "open %s", path);
    struct stat st;
    if (fstat(r->fd, &st) != 0) return err_errno(e, ERR_IO, "stat %s", path);
    if ((uint64_t)st.st_size != HEADER_LEN + (uint64_t)r->bytes + r->chunks * GCM_TAG_LEN)
        return corrupt(r, e, "its file has a wrong length");
    char start[HEADER_LEN];
    bool cut;
    int rc = read_exactly(r->fd, start, sizeof start, &cut, e);
    if (!rc && (cut || memcmp(start, header, HEADER_LEN) != 0)) rc = corrupt(r, e, "its file is not a blob");
    return rc;
}

int blob_reader_open(struct blob_reader **out, struct blob_store *s, const struct blob_key *k,
                     const struct blob *b, struct err *e)
{
    *out = NULL;
    char path[BLOB_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s/%s", s->dir, k->tenant_id, b->file);
    struct blob_reader *r = mem_try_alloc(1, sizeof *r);
    if (!r) return err_set(e, ERR_NOMEM, NULL, "no memory to read a file");
    r->fd = -1;
    r->bytes = b->bytes;
    r->chunks = chunks_of(b->bytes);
    snprintf(r->sha256, sizeof r->sha256, "%s", b->sha256);
    int rc = keyring_unwrap(r->data_key, k->key, k->tenant_id, b->wrapped_key, e);
    if (!rc) rc = open_file(r, path, e);
    if (rc)
        blob_reader_free(r);
    else
        *out = r;
    return rc;
}

static int next_chunk(struct blob_reader *r, struct err *e)
{
    bool last = r->index + 1 == r->chunks, cut;
    size_t plain = last ? (size_t)(r->bytes - (int64_t)(r->index * BLOB_CHUNK_BYTES)) : BLOB_CHUNK_BYTES;
    r->have = r->taken = 0;
    int rc = read_exactly(r->fd, r->chunk, plain + GCM_TAG_LEN, &cut, e);
    if (rc) return rc;
    if (cut) return corrupt(r, e, "its file was cut while it was read");
    struct place p = place_of(r->index, last);
    rc = crypto_open(r->data_key, p.nonce, p.aad, sizeof p.aad, r->chunk, plain, r->chunk, r->chunk + plain,
                     e);
    if (rc)
        return err_set(e, ERR_CORRUPT, NULL, "blob %.12s…: chunk %llu fails its check", r->sha256,
                       (unsigned long long)r->index);
    r->have = plain;
    r->index++;
    return 0;
}

int blob_reader_read(struct blob_reader *r, void *out, size_t cap, size_t *got, struct err *e)
{
    *got = 0;
    while (r->taken == r->have) {
        if (r->index == r->chunks) return 0;
        int rc = next_chunk(r, e);
        if (rc) return rc;
    }
    size_t n = r->have - r->taken;
    if (n > cap) n = cap;
    memcpy(out, r->chunk + r->taken, n);
    r->taken += n;
    *got = n;
    return 0;
}

void blob_reader_free(struct blob_reader *r)
{
    if (!r) return;
    if (r->fd >= 0) close(r->fd);
    explicit_bzero(r, sizeof *r);
    mem_free(r);
}
