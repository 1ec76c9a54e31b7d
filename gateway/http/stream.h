/* The bytes of one client's connection, plain or TLS: what has come and was not consumed, what is to go out.
 *
 * A plain socket is read and written directly: one recv into a buffer that the loop's connections share, or
 * where the owner wants a large body to stand; one send for all that was written in a turn. TLS stays on
 * libevent's bufferevent. Both look the same from outside, but that only a plain stream hits what it was
 * aimed at.
 *
 * Who calls: the owner brackets each of its turns and ends it with stream_flush and stream_keep; callbacks
 * come from the loop only, never from inside a call. The owner may close the stream inside a callback. Loop
 * thread only. */
#ifndef GATEWAY_HTTP_STREAM_H
#define GATEWAY_HTTP_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <openssl/ssl.h>
#include "base/buf.h"

struct event;
struct event_base;

/* What the streams of one loop share. Zero it, set base, dispose at the end. */
struct stream_shared {
    struct event_base *base; /* borrowed */
    char *room;              /* owned: what is being read, until the turn's end */
    struct buf spare;        /* owned: the output buffer that the next stream takes */
};
void stream_shared_dispose(struct stream_shared *s);

struct stream_events {
    void (*on_input)(void *arg);                                /* more bytes came */
    void (*on_landed)(void *arg, const char *data, size_t len); /* these came to where the stream was aimed */
    void (*on_drained)(void *arg); /* the socket takes bytes again, or took most of what it had been given */
    void (*on_end)(void *arg);     /* the peer's FIN, or TLS's close_notify; writing goes on */
    void (*on_lost)(void *arg);    /* an error: nothing more can be done */
    void (*on_secure)(void *arg);  /* the TLS handshake is over */
};

struct stream {
    struct stream_shared *shared;       /* borrowed */
    const struct stream_events *events; /* borrowed */
    void *arg;
    int fd;                            /* owned */
    SSL *ssl;                          /* owned; NULL: plain */
    struct event *readable, *writable; /* owned */
    const char *at;                    /* input not yet consumed, in shared->room or in kept */
    size_t len;
    char *aim; /* where the next aim_len bytes go; borrowed */
    size_t aim_len;
    size_t gulp;      /* most bytes of one read that is not aimed */
    bool secure;      /* ssl: the handshake is over */
    bool more;        /* ssl: there is something to read that the kernel does not know of */
    struct buf kept;  /* input that outlives the turn in which it came */
    struct buf out;   /* to be sent; its memory is the loop's while it is empty */
    size_t out_at;    /* bytes of out that the kernel has taken */
    int64_t moved_us; /* when the socket last took bytes, clock_mono_us() */
    bool reading, blocked;
};

/* Takes fd over when it returns true. ssl: owned from then on; NULL for a plain connection. Reading is on. */
bool stream_open(struct stream *s, struct stream_shared *shared, int fd, SSL *ssl,
                 const struct stream_events *events, void *arg);
void stream_close(struct stream *s); /* with its descriptor; also one that failed to open */

/* A run of bytes that have come; NULL and 0 when there are none. Valid until the next call. */
const char *stream_input(const struct stream *s, size_t *len);
size_t stream_input_len(const struct stream *s);
void stream_consume(struct stream *s, size_t len);
void stream_read(struct stream *s, bool on); /* whether more is read */

/* While no input lies unread, the next len bytes at most go to `to`, and on_landed tells: until it is aimed
 * elsewhere, or at NULL. */
void stream_aim(struct stream *s, char *to, size_t len);
/* What comes next is probably a short head before a long body: only little is read, for the body to be aimed.
 */
void stream_sip(struct stream *s, bool on);

/* Where to append what is to be sent; `failed` says that memory ran out, and then nothing may be flushed. */
struct buf *stream_out(struct stream *s);
size_t stream_output_len(const struct stream *s); /* bytes that the kernel has not taken */

/* The turn is over. False: the connection is lost, or memory ran out; on_lost is not called for it. */
bool stream_flush(struct stream *s, int64_t now_us);
bool stream_keep(struct stream *s);

/* Tells the peer that nothing more comes. */
void stream_shut(struct stream *s);

#endif
