/* zlib's inflate, fed in pieces. How much may come out is the receiver's to bound; it sees every byte. */
#include "learn/data/gunzip.h"

#include <string.h>
#include <zlib.h>

#include "base/mem.h"

enum { CHUNK = 64 * 1024, GZIP_ONLY = 16 + MAX_WBITS };

struct gunzip {
    z_stream z;
    gunzip_fn fn;
    void *ctx;
    uint64_t in, out;
    bool inside; /* of a member */
    bool done;   /* at least one member is complete */
    unsigned char chunk[CHUNK];
};

int gunzip_create(struct gunzip **out, gunzip_fn fn, void *ctx, struct err *e)
{
    struct gunzip *g = mem_try_alloc(1, sizeof *g);
    *out = NULL;
    if (!g || inflateInit2(&g->z, GZIP_ONLY) != Z_OK) {
        mem_free(g);
        return err_set(e, ERR_NOMEM, NULL, "no memory to unpack gzip");
    }
    g->fn = fn;
    g->ctx = ctx;
    *out = g;
    return 0;
}

static int corrupt(const char *why, struct err *e)
{
    return err_set(e, ERR_INVALID, NULL, "the gzip stream is damaged (%s)", why);
}

/* Unpacks what z holds until it is used up or the member ends; *z is zlib's last answer. What came out before
 * a damage is handed on before the damage is reported, so that the first thing wrong is the same whatever the
 * pieces. */
static int inflate_piece(struct gunzip *g, int *z, struct err *e)
{
    do {
        g->z.next_out = g->chunk;
        g->z.avail_out = CHUNK;
        *z = inflate(&g->z, Z_NO_FLUSH);
        size_t made = CHUNK - g->z.avail_out;
        g->out += made;
        int rc = made ? g->fn(g->ctx, g->chunk, made, e) : 0;
        if (rc) return rc;
        if (*z != Z_OK && *z != Z_STREAM_END && *z != Z_BUF_ERROR)
            return corrupt(g->z.msg ? g->z.msg : "not gzip", e);
    } while (*z == Z_OK && (g->z.avail_in || g->z.avail_out == 0));
    return 0;
}

int gunzip_push(struct gunzip *g, const unsigned char *data, size_t len, struct err *e)
{
    while (len) {
        size_t piece = len > CHUNK ? CHUNK : len;
        int z;
        g->z.next_in = (Bytef *)(uintptr_t)data;
        g->z.avail_in = (uInt)piece;
        if (!g->inside && inflateReset(&g->z) != Z_OK) return corrupt("cannot start a member", e);
        g->inside = true;
        int rc = inflate_piece(g, &z, e);
        if (rc) return rc;
        size_t used = piece - g->z.avail_in;
        data += used;
        len -= used;
        g->in += used;
        if (z == Z_STREAM_END) {
            g->inside = false;
            g->done = true;
        } else if (used == 0) {
            return corrupt("no progress", e);
        }
    }
    return 0;
}

int gunzip_finish(struct gunzip *g, struct err *e)
{
    if (g->inside || !g->done)
        return err_set(e, ERR_INVALID, NULL, "the gzip stream is cut short: %llu bytes came, %llu unpacked",
                       (unsigned long long)g->in, (unsigned long long)g->out);
    return 0;
}

void gunzip_free(struct gunzip *g)
{
    if (!g) return;
    inflateEnd(&g->z);
    mem_free(g);
}
