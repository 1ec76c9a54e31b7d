/* A non-blocking socket and two events; TLS differs in the calls that move bytes, and in what OpenSSL holds
 * back. */
#include "gateway/http/stream.h"

#include <errno.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/mem.h"

enum {
    READ_BYTES = 64 * 1024,
    SIP_BYTES = 4 * 1024,
    AIM_BYTES = 256 * 1024,   /* most bytes of one aimed read: others want to be read too */
    SPARE_BYTES = 256 * 1024, /* no larger output buffer is kept for the next one */
    SHRINK_BYTES = 4 * 1024,  /* nor a larger input buffer for a stream without input */
};

void stream_shared_dispose(struct stream_shared *s)
{
    mem_free(s->room);
    buf_dispose(&s->spare);
    *s = (struct stream_shared){0};
}

/* ---- moving bytes: how many; 0: the peer's end ---- */

enum { AGAIN = -1, LOST = -2 };

static ssize_t why_not(struct stream *s, int rc)
{
    switch (SSL_get_error(s->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return AGAIN;
    case SSL_ERROR_WANT_WRITE:
        return event_add(s->writable, NULL) == 0 ? AGAIN : LOST;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        return LOST;
    }
}

/* What OpenSSL has read from the socket and not given away wakes nobody, nor does an end that it has seen. */
static ssize_t receive_secure(struct stream *s, char *to, size_t len)
{
    size_t sum = 0, n;
    ssize_t why = AGAIN;
    ERR_clear_error();
    while (sum < len) {
        int rc = SSL_read_ex(s->ssl, to + sum, len - sum, &n);
        if (rc != 1) {
            why = why_not(s, rc);
            break;
        }
        sum += n;
    }
    bool must_write = sum < len && SSL_want_write(s->ssl); /* then on_writable goes on */
    s->more = must_write || (sum == len ? SSL_has_pending(s->ssl) : why != AGAIN);
    if (sum > 0 && s->more && !must_write) event_active(s->readable, EV_READ, 0);
    return sum > 0 ? (ssize_t)sum : why;
}

static ssize_t receive(struct stream *s, char *to, size_t len)
{
    if (s->ssl) return receive_secure(s, to, len);
    ssize_t n = recv(s->fd, to, len, 0);
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? AGAIN : LOST;
}

static ssize_t transmit(struct stream *s, const char *data, size_t len)
{
    size_t n;
    if (s->ssl) {
        ERR_clear_error();
        int rc = SSL_write_ex(s->ssl, data, len, &n);
        return rc == 1 ? (ssize_t)n : why_not(s, rc) == AGAIN ? AGAIN : LOST;
    }
    ssize_t sent;
    do sent = send(s->fd, data, len, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent >= 0 ? sent : errno == EAGAIN ? AGAIN : LOST;
}

/* ---- input ---- */

const char *stream_input(const struct stream *s, size_t *len)
{
    *len = s->len;
    return s->len ? s->at : NULL;
}

size_t stream_input_len(const struct stream *s)
{
    return s->len;
}

void stream_consume(struct stream *s, size_t len)
{
    s->at += len;
    s->len -= len;
}

void stream_read(struct stream *s, bool on)
{
    if (on == s->reading) return;
    s->reading = on;
    (void)(on ? event_add(s->readable, NULL) : event_del(s->readable));
    if (on && s->more) event_active(s->readable, EV_READ, 0);
}

void stream_aim(struct stream *s, char *to, size_t len)
{
    s->aim = to;
    s->aim_len = to ? len : 0;
}

void stream_sip(struct stream *s, bool on)
{
    s->gulp = on ? SIP_BYTES : READ_BYTES;
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

static void shake(struct stream *s)
{
    ERR_clear_error();
    int rc = SSL_accept(s->ssl);
    if (rc == 1) {
        s->secure = s->more = true;
        event_active(s->readable, EV_READ, 0); /* a first request may have come along */
        s->events->on_secure(s->arg);
    } else if (why_not(s, rc) != AGAIN) {
        s->events->on_lost(s->arg);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct stream *s = arg;
    if (s->ssl && !s->secure) {
        shake(s);
        return;
    }
    bool behind = s->len > 0, aimed = !behind && s->aim_len > 0;
    char *room = aimed ? s->aim : room_of(s);
    size_t most = !aimed ? s->gulp : s->aim_len < AIM_BYTES ? s->aim_len : AIM_BYTES;
    ssize_t n = room ? receive(s, room, most) : LOST;
    if (n > 0 && aimed) {
        s->events->on_landed(s->arg, room, (size_t)n);
    } else if (n > 0) {
        if (behind) s->kept.len += (size_t)n;
        s->len += (size_t)n;
        s->events->on_input(s->arg);
    } else if (n == 0) {
        stream_read(s, false);
        s->events->on_end(s->arg);
    } else if (n == LOST) {
        s->events->on_lost(s->arg);
    }
}

/* What lies in the loop's room goes into memory of this stream's own. */
bool stream_keep(struct stream *s)
{
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
    return s->out.len - s->out_at;
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

bool stream_flush(struct stream *s, int64_t now_us)
{
    if (s->out.len == s->out_at || s->blocked) return true;
    while (s->out_at < s->out.len) {
        ssize_t n = transmit(s, s->out.data + s->out_at, s->out.len - s->out_at);
        if (n == LOST) return false;
        if (s->out_at == 0 || n > 0) s->moved_us = now_us;
        if (n == AGAIN) {
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
    if (s->ssl && !s->secure) {
        shake(s);
        return;
    }
    s->blocked = false;
    if (s->more && s->reading) event_active(s->readable, EV_READ, 0); /* reading had to write first */
    if (s->out_at > s->out.len / 2) {
        buf_consume(&s->out, s->out_at);
        s->out_at = 0;
    }
    s->events->on_drained(s->arg);
}

void stream_shut(struct stream *s)
{
    ERR_clear_error();
    if (s->ssl) SSL_shutdown(s->ssl);
    shutdown(s->fd, SHUT_WR);
}

/* ---- life ---- */

bool stream_open(struct stream *s, struct stream_shared *shared, int fd, SSL *ssl,
                 const struct stream_events *events, void *arg)
{
    *s = (struct stream){.shared = shared, .events = events, .arg = arg, .fd = fd, .reading = true};
    s->gulp = READ_BYTES;
    s->moved_us = clock_mono_us();
    s->readable = event_new(shared->base, fd, EV_READ | EV_PERSIST, on_readable, s);
    s->writable = event_new(shared->base, fd, EV_WRITE, on_writable, s);
    if (!s->readable || !s->writable || (ssl && SSL_set_fd(ssl, fd) != 1) ||
        event_add(s->readable, NULL) != 0) {
        SSL_free(ssl);
        return false;
    }
    s->ssl = ssl;
    return true;
}

void stream_close(struct stream *s)
{
    if (s->readable) event_free(s->readable);
    if (s->writable) event_free(s->writable);
    SSL_free(s->ssl);
    if (s->fd >= 0) close(s->fd);
    buf_dispose(&s->kept);
    buf_dispose(&s->out);
    s->fd = -1;
}
