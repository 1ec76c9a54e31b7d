/* A connection between a gateway loop and a serving thread of a worker: whole records both ways, in order,
 * over a stream socket on an event loop.
 *
 *   dial ──▶ connecting ──▶ proving ──▶ up ──closed by either side, an error, or malformed bytes──▶ down
 *   accept ───────────────▶ proving ──▶ up ──▶ down                        (for good: the owner makes a new
 * one)
 *
 * Both sides prove that they know the key before any record is read: the acceptor answers the dialler's nonce
 * by HMAC, and the dialler the acceptor's. A record is a little-endian u32 of its length and that many bytes.
 * Everything runs on the loop's thread. */
#ifndef QUEUE_LINK_H
#define QUEUE_LINK_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/loop.h"
#include "queue/record.h"
#include "queue/redis.h"

enum {
    LINK_KEY_LEN = 32,
    LINK_ADDRESS_MAX = 128,               /* with the NUL */
    LINK_RECORD_MAX = 256 * 1024 * 1024,  /* bytes of one record */
    LINK_WAITING_MAX = 256 * 1024 * 1024, /* bytes that wait to be sent */
    LINK_PROOF_MS = 5000,                 /* from the connection's beginning until it is up */
};

struct link;

/* Any of them may be NULL. data is borrowed for the call. on_down is called at most once, and never by
 * link_free. A link may be freed inside its own callbacks. */
struct link_events {
    void (*on_up)(void *arg);
    void (*on_record)(void *arg, const char *data, size_t len);
    void (*on_down)(void *arg, const char *why);
    void *arg;
};

/* What all processes of one platform share: derived from Redis's password, which they all know. */
void link_key(uint8_t out[LINK_KEY_LEN], const struct redis_address *redis);

/* address is "unix:/path", "unix:@name" or a numeric "host:port" ("[::1]:port"). Never blocks; a failure to
 * connect comes through on_down. ERR_INVALID for an address that is none, ERR_UNAVAILABLE when there is no
 * socket to be had. */
int link_dial(struct link **out, struct loop *loop, const char *address, const uint8_t key[LINK_KEY_LEN],
              const struct link_events *events, struct err *e);
/* Takes fd over, also on failure. */
int link_accept(struct link **out, struct loop *loop, int fd, const uint8_t key[LINK_KEY_LEN],
                const struct link_events *events, struct err *e);
void link_free(struct link *l); /* NULL is fine; what was not sent is dropped */

bool link_up(const struct link *l);

/* Copies the record's text and holds its pieces; it goes out when the loop has run what is due, together with
 * whatever else was sent by then. ERR_UNAVAILABLE when the link is not up, ERR_OVERLOAD beyond
 * LINK_WAITING_MAX or without memory, ERR_TOO_LARGE. */
int link_send(struct link *l, const struct record *r);
/* Inside on_record, of a record of len bytes: what it lies in, for the caller to hold beyond the call. NULL
 * when copying it is cheaper than holding that, or memory is out. */
struct bytes *link_keep(struct link *l, size_t len);
/* Inside on_record: the other side broke the rules. Goes down, with on_down, when the callback has returned.
 * why: static text. */
void link_refuse(struct link *l, const char *why);
size_t link_waiting(const struct link *l); /* bytes not yet taken by the kernel */

#endif
