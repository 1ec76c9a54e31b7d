/* Plain sockets by hand, TLS by bufferevent, behind one face. */
#include "gateway/http/stream.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/mem.h"

enum {
    READ_BYTES = 64 * 1024,
    LOW_BYTES = 64 * 1024,    /* on_drained comes when no more than this is left */
    SPARE_BYTES = 256 * 1024, /* no larger output buffer is kept for the next one */
    SHRINK_BYTES = 4 * 1024,  /* nor a larger input buffer for a stream without input */
};

void stream_shared_dispose(struct stream_shared *s)
{
    mem_free(s->room);
    buf_dispose(&s->spare);
    *s = (struct stream_shared){0};
}

/* ---- input ---- */

const char *stream_input(const struct stream *s, size_t *len)
{
    struct evbuffer_iovec piece = {0};
    if (!s->bev) {
        *len = s->len;
        return s->len ? s->at : NULL;
    }
    bool some = evbuffer_peek(bufferevent_get_input(s->bev), -1, NULL, &piece, 1) > 0;
    *len = some ? piece.iov_len : 0;
    return some ? piece.iov_base : NULL;
}

size_t stream_input_len(const struct stream *s)
{
    return s->bev ? evbuffer_get_length(bufferevent_get_input(s->bev)) : s->len;
}

void stream_consume(struct stream *s, size_t len)
{
    if (s->bev) {
        evbuffer_drain(bufferevent_get_input(s->bev), len);
    } else {
        s->at += len;
        s->len -= len;
    }
}

void stream_read(struct stream *s, bool on)
{
    if (on == s->reading) return;
    s->reading = on;
    if (s->bev)
        (void)(on ? bufferevent_enable(s->bev, EV_READ) : bufferevent_disable(s->bev, EV_READ));
    else
        (void)(on ? event_add(s->readable, NULL) : event_del(s->readable));
}

/* Where the next bytes go: behind those that were kept, or into the loop's room when there are none. */
static char *room_of(struct stream *s)
{
    if (s->len > 0) {
        buf_consume(&s->kept, (size_t)(s->at - s->kept.data));
        char *room = buf_reserve(&s->kept, READ_BYTES);
        s->at = s->kept.data;
        return room;
    }
    struct stream_shared *shared = s->shared;
    if (!shared->room) shared->room = mem_try_realloc(NULL, READ_BYTES, 1);
    s->at = shared->room;
    return shared->room;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct stream *s = arg;
    bool behind = s->len > 0;
    char *room = room_of(s);
    ssize_t n = room ? recv(fd, room, READ_BYTES, 0) : -1;
    if (n > 0) {
        if (behind) s->kept.len += (size_t)n;
        s->len += (size_t)n;
        s->events->on_input(s->arg);
    } else if (n == 0) {
        stream_read(s, false);
        s->events->on_end(s->arg);
    } else if (!room || (errno != EAGAIN && errno != EINTR)) {
        s->events->on_lost(s->arg);
    }
}

/* What lies in the loop's room goes into memory of this stream's own. */
bool stream_keep(struct stream *s)
{
    if (s->bev) return true;
    if (s->len == 0) {
        if (s->kept.cap > SHRINK_BYTES) buf_dispose(&s->kept);
        buf_clear(&s->kept);
        return true;
    }
    if (s->at >= s->kept.data && s->at < s->kept.data + s->kept.len) return true;
    buf_clear(&s->kept);
    buf_append(&s->kept, s->at, s->len);
    s->at = s->kept.data;
    return !s->kept.failed;
}

/* ---- output ---- */

struct buf *stream_out(struct stream *s)
{
    if (!s->out.data) {
        s->out = s->shared->spare;
        s->shared->spare = (struct buf){0};
    }
    return &s->out;
}

size_t stream_output_len(const struct stream *s)
{
    size_t ours = s->out.len - s->out_at;
    return s->bev ? ours + evbuffer_get_length(bufferevent_get_output(s->bev)) : ours;
}

/* All of out has gone: its memory is the next stream's. */
static void out_done(struct stream *s)
{
    s->out_at = 0;
    if (s->shared->spare.data || s->out.cap > SPARE_BYTES) {
        buf_dispose(&s->out);
        return;
    }
    buf_clear(&s->out);
    s->shared->spare = s->out;
    s->out = (struct buf){0};
}

static bool flush_secure(struct stream *s)
{
    bool good = bufferevent_write(s->bev, s->out.data, s->out.len) == 0;
    out_done(s);
    return good;
}

bool stream_flush(struct stream *s, int64_t now_us)
{
    if (s->out.len == s->out_at || s->blocked) return true;
    if (s->bev) return flush_secure(s);
    while (s->out_at < s->out.len) {
        ssize_t n = send(s->fd, s->out.data + s->out_at, s->out.len - s->out_at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) return false;
        if (s->out_at == 0 || n > 0) s->moved_us = now_us;
        if (n < 0) {
            s->blocked = true;
            return event_add(s->writable, NULL) == 0;
        }
        s->out_at += (size_t)n;
    }
    out_done(s);
    return true;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct stream *s = arg;
    s->blocked = false;
    if (s->out_at > s->out.len / 2) {
        buf_consume(&s->out, s->out_at);
        s->out_at = 0;
    }
    s->events->on_drained(s->arg);
}

void stream_shut(struct stream *s)
{
    if (s->bev) SSL_shutdown(bufferevent_openssl_get_ssl(s->bev));
    shutdown(s->fd, SHUT_WR);
}

/* ---- TLS ---- */

static void on_bev_input(struct bufferevent *bev, void *arg)
{
    (void)bev;
    struct stream *s = arg;
    s->events->on_input(s->arg);
}

static void on_bev_drained(struct bufferevent *bev, void *arg)
{
    (void)bev;
    struct stream *s = arg;
    s->events->on_drained(s->arg);
}

/* libevent's TLS can no longer write after an end: as good as lost. */
static void on_bev_event(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    struct stream *s = arg;
    if (what & BEV_EVENT_CONNECTED)
        s->events->on_secure(s->arg);
    else
        s->events->on_lost(s->arg);
}

static void on_bev_output(struct evbuffer *out, const struct evbuffer_cb_info *info, void *arg)
{
    (void)out;
    struct stream *s = arg;
    if (info->n_deleted > 0 || info->orig_size == 0) s->moved_us = clock_mono_us();
}

/* Deferred callbacks never run inside a call of ours into the bufferevent. */
static bool open_secure(struct stream *s, SSL *ssl)
{
    s->bev = bufferevent_openssl_socket_new(s->shared->base, s->fd, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                            BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    if (!s->bev) return false;
    bufferevent_openssl_set_allow_dirty_shutdown(s->bev, 1);
    bufferevent_setcb(s->bev, on_bev_input, on_bev_drained, on_bev_event, s);
    bufferevent_setwatermark(s->bev, EV_WRITE, LOW_BYTES, 0);
    evbuffer_add_cb(bufferevent_get_output(s->bev), on_bev_output, s);
    return bufferevent_enable(s->bev, EV_READ | EV_WRITE) == 0;
}

/* ---- life ---- */

static bool open_plain(struct stream *s)
{
    s->readable = event_new(s->shared->base, s->fd, EV_READ | EV_PERSIST, on_readable, s);
    s->writable = event_new(s->shared->base, s->fd, EV_WRITE, on_writable, s);
    return s->readable && s->writable && event_add(s->readable, NULL) == 0;
}

bool stream_open(struct stream *s, struct stream_shared *shared, int fd, SSL *ssl,
                 const struct stream_events *events, void *arg)
{
    *s = (struct stream){.shared = shared, .events = events, .arg = arg, .fd = fd, .reading = true};
    s->moved_us = clock_mono_us();
    if (ssl ? open_secure(s, ssl) : open_plain(s)) return true;
    if (!s->bev) SSL_free(ssl);
    return false;
}

void stream_close(struct stream *s)
{
    if (s->readable) event_free(s->readable);
    if (s->writable) event_free(s->writable);
    if (s->bev)
        bufferevent_free(s->bev);
    else if (s->fd >= 0)
        close(s->fd);
    buf_dispose(&s->kept);
    buf_dispose(&s->out);
    s->fd = -1;
}
