/* One sendmsg for what lies in several places. */
#include "queue/link_out.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "base/mem.h"

/* KEEP_BYTES: no larger text is kept when all has gone, and no longer list than KEEP_PIECES. COMPACT_BYTES:
 * less is not worth moving. */
enum {
    KEEP_BYTES = 1 << 20,
    KEEP_PIECES = 1024,
    COMPACT_BYTES = 64 * 1024,
    IOV_MOST = 32,
    PIECES_FIRST = 16
};

void link_out_dispose(struct link_out *o)
{
    for (size_t i = o->first; i < o->pieces_len; i++) bytes_drop(o->pieces[i].of);
    buf_dispose(&o->text);
    mem_free(o->pieces);
    *o = (struct link_out){0};
}

/* ---- putting ---- */

/* Text that has gone makes room once it is most of it. */
static void compact(struct link_out *o)
{
    if (o->text_at <= o->text.len / 2 || o->text_at <= COMPACT_BYTES) return;
    buf_consume(&o->text, o->text_at);
    for (size_t i = o->first; i < o->pieces_len; i++) o->pieces[i].at -= o->text_at;
    o->text_at = 0;
}

/* As with the text: the places of pieces that have gone are used again once they are most of the list. */
static bool room_for_pieces(struct link_out *o, size_t n)
{
    if (o->pieces_cap - o->pieces_len >= n) return true;
    if (o->first >= n && o->first > o->pieces_len / 2) {
        o->pieces_len -= o->first;
        memmove(o->pieces, o->pieces + o->first, o->pieces_len * sizeof *o->pieces);
        o->first = 0;
        return true;
    }
    size_t cap = o->pieces_cap ? o->pieces_cap * 2 : PIECES_FIRST;
    struct link_piece *grown = mem_try_realloc(o->pieces, cap, sizeof *grown);
    if (!grown) return false;
    o->pieces = grown;
    o->pieces_cap = cap;
    return true;
}

/* Half of something must not go out. */
static bool undo(struct link_out *o, size_t text_len)
{
    o->text.len = text_len;
    o->text.failed = false;
    return false;
}

bool link_out_append(struct link_out *o, const void *data, size_t len)
{
    compact(o);
    size_t before = o->text.len;
    buf_append(&o->text, data, len);
    if (o->text.failed) return undo(o, before);
    o->waiting += len;
    return true;
}

bool link_out_record(struct link_out *o, const struct record *r)
{
    uint32_t len = (uint32_t)record_len(r);
    compact(o);
    if (r->pieces_len && !room_for_pieces(o, r->pieces_len)) return false;
    size_t before = o->text.len, text_begin = before + sizeof len;
    buf_append(&o->text, &len, sizeof len);
    buf_append(&o->text, r->text.data, r->text.len);
    if (o->text.failed) return undo(o, before);
    for (size_t i = 0; i < r->pieces_len; i++) {
        const struct record_piece *p = &r->pieces[i];
        assert(p->len > 0);
        o->pieces[o->pieces_len++] =
            (struct link_piece){text_begin + p->at, p->data, p->len, bytes_hold(p->of)};
    }
    o->waiting += sizeof len + len;
    return true;
}

/* ---- writing ---- */

static struct iovec run_of(const char *data, size_t len)
{
    union {
        const char *from;
        void *base;
    } u = {.from = data}; /* sendmsg only reads */
    return (struct iovec){u.base, len};
}

/* The next runs of bytes: n of them. */
static size_t gather(const struct link_out *o, struct iovec iov[IOV_MOST])
{
    size_t n = 0, at = o->text_at;
    for (size_t i = o->first; i < o->pieces_len && n + 2 <= IOV_MOST; i++) {
        const struct link_piece *p = &o->pieces[i];
        if (p->at > at) iov[n++] = run_of(o->text.data + at, p->at - at);
        iov[n++] = run_of(p->data, p->len);
        at = p->at;
        if (i + 1 < o->pieces_len) continue;
        if (o->text.len > at && n < IOV_MOST) iov[n++] = run_of(o->text.data + at, o->text.len - at);
    }
    if (o->first == o->pieces_len) iov[n++] = run_of(o->text.data + at, o->text.len - at);
    return n;
}

/* The kernel took n bytes. */
static void taken(struct link_out *o, size_t n)
{
    o->waiting -= n;
    while (n > 0) {
        struct link_piece *p = o->first < o->pieces_len ? &o->pieces[o->first] : NULL;
        size_t end = p ? p->at : o->text.len, text = end - o->text_at < n ? end - o->text_at : n;
        o->text_at += text;
        n -= text;
        if (!p || o->text_at < p->at) continue;
        size_t part = p->len < n ? p->len : n;
        p->data += part;
        p->len -= part;
        n -= part;
        if (p->len > 0) continue;
        bytes_drop(p->of);
        o->first++;
    }
}

static void rewind_all(struct link_out *o)
{
    o->text_at = o->first = o->pieces_len = 0;
    if (o->text.cap > KEEP_BYTES)
        buf_dispose(&o->text);
    else
        buf_clear(&o->text);
    if (o->pieces_cap <= KEEP_PIECES) return;
    mem_free(o->pieces);
    o->pieces = NULL;
    o->pieces_cap = 0;
}

int link_out_write(struct link_out *o, int fd)
{
    while (o->waiting > 0) {
        struct iovec iov[IOV_MOST];
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = gather(o, iov)};
        ssize_t n = sendmsg(fd, &m, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        taken(o, (size_t)n);
    }
    rewind_all(o);
    return 0;
}
