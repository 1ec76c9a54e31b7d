/* Puts gunzip, recognition and a format's reader in a row, and bounds what comes out of the unpacking. */
#include "learn/data/decode.h"

#include <string.h>

#include "base/mem.h"
#include "learn/data/gunzip.h"

enum { MAGIC_LEN = 6 };

/* A gzip file that grows more than this much, beyond a size that small files may have, is taken for a bomb.
 */
enum { BOMB_RATIO = 400, BOMB_FREE_BYTES = 64 << 20 };

struct decode {
    struct decode_options options;
    struct format_sink sink;
    struct gunzip *gunzip; /* NULL when the file is not packed */
    bool packed_known;
    unsigned char first[2]; /* of the file, until packed_known */
    size_t n_first;
    unsigned char magic[MAGIC_LEN]; /* of the plain bytes, until ops is set */
    size_t n_magic;
    const struct format_ops *ops;
    void *format;
    uint64_t file_bytes, plain_bytes;
};

int decode_create(struct decode **out, const struct decode_options *o, const struct format_sink *sink,
                  struct err *e)
{
    (void)e;
    struct decode *d = mem_alloc(1, sizeof *d);
    d->options = *o;
    d->sink = *sink;
    *out = d;
    return 0;
}

static const struct format_ops *recognise(const struct decode *d)
{
    static const struct format_ops *const all[] = {&format_csv, &format_idx, &format_npy};
    if (d->options.format >= 0) return all[d->options.format];
    if (d->n_magic >= 6 && memcmp(d->magic, "\x93NUMPY", 6) == 0) return &format_npy;
    if (d->n_magic >= 4 && d->magic[0] == 0 && d->magic[1] == 0) return &format_idx;
    return &format_csv;
}

static int open_format(struct decode *d, struct err *e)
{
    const struct format_ops *ops = recognise(d);
    if (ops == &format_csv && d->options.arrays_only)
        return err_set(e, ERR_INVALID, NULL, "expected an IDX or .npy array here, found neither");
    int rc = ops->create(&d->format, &d->sink, &d->options.limits, e);
    if (rc) return rc;
    d->ops = ops;
    return ops->push(d->format, d->magic, d->n_magic, e);
}

static int push_plain(void *ctx, const unsigned char *data, size_t len, struct err *e)
{
    struct decode *d = ctx;
    d->plain_bytes += len;
    if (d->plain_bytes > d->options.limits.max_plain_bytes)
        return err_set(e, ERR_TOO_LARGE, NULL, "the file is larger than the %llu bytes that are allowed",
                       (unsigned long long)d->options.limits.max_plain_bytes);
    if (d->gunzip && d->plain_bytes > BOMB_FREE_BYTES && d->plain_bytes / BOMB_RATIO > d->file_bytes)
        return err_set(e, ERR_TOO_LARGE, NULL, "the gzip stream grows more than %d times; upload it unpacked",
                       BOMB_RATIO);
    while (!d->ops && len) {
        d->magic[d->n_magic++] = *data++;
        len--;
        if (d->n_magic < MAGIC_LEN) continue;
        int rc = open_format(d, e);
        if (rc) return rc;
    }
    return d->ops && len ? d->ops->push(d->format, data, len, e) : 0;
}

static int push_file(struct decode *d, const unsigned char *data, size_t len, struct err *e)
{
    return d->gunzip ? gunzip_push(d->gunzip, data, len, e) : push_plain(d, data, len, e);
}

static int settle_packed(struct decode *d, struct err *e)
{
    d->packed_known = true;
    if (d->n_first == 2 && d->first[0] == 0x1F && d->first[1] == 0x8B) {
        int rc = gunzip_create(&d->gunzip, push_plain, d, e);
        if (rc) return rc;
    }
    return push_file(d, d->first, d->n_first, e);
}

int decode_push(struct decode *d, const void *data, size_t len, struct err *e)
{
    const unsigned char *p = data;
    d->file_bytes += len;
    while (!d->packed_known && len) {
        d->first[d->n_first++] = *p++;
        len--;
        if (d->n_first < 2) continue;
        int rc = settle_packed(d, e);
        if (rc) return rc;
    }
    return len ? push_file(d, p, len, e) : 0;
}

int decode_finish(struct decode *d, int64_t *rows, struct err *e)
{
    int rc;
    if (d->file_bytes == 0) return err_set(e, ERR_INVALID, NULL, "the file is empty");
    if (!d->packed_known && (rc = settle_packed(d, e))) return rc;
    if (d->gunzip && (rc = gunzip_finish(d->gunzip, e))) return rc;
    if (!d->ops && (rc = open_format(d, e))) return rc;
    return d->ops->finish(d->format, rows, e);
}

enum schema_format decode_format(const struct decode *d)
{
    return d->ops->format;
}

void decode_free(struct decode *d)
{
    if (!d) return;
    gunzip_free(d->gunzip);
    if (d->ops) d->ops->free(d->format);
    mem_free(d);
}
