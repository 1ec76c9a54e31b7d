/* A blocking Redis connection for one thread at a time, and the address that every connection is made from.
 *
 * It connects on first use and again after a failure, with full-jitter back-off. A command that fails on the
 * way is not sent again: the caller knows whether that is harmless. Replies are hiredis's, freed with
 * freeReplyObject. */
#ifndef QUEUE_REDIS_H
#define QUEUE_REDIS_H

#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <hiredis/hiredis.h>
#include "base/err.h"

enum { REDIS_HOST_MAX = 256, REDIS_PASSWORD_MAX = 256 };

struct redis_address {
    bool is_unix;
    char host[REDIS_HOST_MAX]; /* host name or socket path */
    int port;
    char password[REDIS_PASSWORD_MAX]; /* "" for none */
};

/* url is "unix:/path/of.sock" or "redis://host[:port]" (an IPv6 host in brackets); password may be NULL.
 * Nothing connects. */
int redis_address_parse(struct redis_address *out, const char *url, const char *password, struct err *e);

struct redis;

/* timeout_ms bounds connecting and each reply. addr is copied. Does not connect yet, so it cannot fail.
 * hiredis writes without MSG_NOSIGNAL: a process that leaves SIGPIPE at its default has it ignored from the
 * first connection on. */
struct redis *redis_create(const struct redis_address *addr, int timeout_ms);
void redis_free(struct redis *r); /* NULL is fine */

/* Connects unless connected. ERR_UNAVAILABLE with the reason; then redis_backoff_ms says when to try again.
 */
int redis_connect(struct redis *r, struct err *e);
bool redis_connected(const struct redis *r);

/* How long to wait before the next attempt: 0 after a success, else a random time below 50 ms × 2^failures
 * (at most 2 s). The caller waits on its own condition, so that a stop does not have to wait for it. */
int redis_backoff_ms(struct redis *r);

/* One command in hiredis's format (%s for text, %b for pointer and size_t). Any error reply is a failure:
 * ERR_OVERLOAD for OOM, ERR_UNAVAILABLE for LOADING and lost connections, else ERR_INTERNAL. *out may be NULL
 * when the reply is of no interest; else it is the caller's (freeReplyObject). */
int redis_call(struct redis *r, redisReply **out, struct err *e, const char *format, ...);
int redis_call_argv(struct redis *r, redisReply **out, int argc, const char **argv, const size_t *lens,
                    struct err *e);

/* As redis_call_argv for a command that blocks in Redis for at most block_ms. */
int redis_call_blocking(struct redis *r, redisReply **out, int block_ms, int argc, const char **argv,
                        const size_t *lens, struct err *e);

/* Pipelining: append any number, then take exactly as many replies in order. After a failure of take the
 * connection is gone and so are all replies outstanding. An error reply inside is returned as the reply
 * itself (type REDIS_REPLY_ERROR). */
int redis_append(struct redis *r, struct err *e, const char *format, ...);
int redis_append_argv(struct redis *r, int argc, const char **argv, const size_t *lens, struct err *e);
int redis_take(struct redis *r, redisReply **out, struct err *e);
int redis_take_all(struct redis *r, size_t n, struct err *e); /* n replies of which none may be an error */

/* A number or text element of an array reply; fallback when it is absent or of another type. */
int64_t redis_reply_int(const redisReply *reply, int64_t fallback);
const char *redis_reply_str(const redisReply *reply); /* NULL when it is not text */

/* Inside queue/: the above; an error reply as our error (always negative), or 0 when the reply is not one. */
void redis__ignore_sigpipe(void);
int redis__reply_error(const redisReply *reply, struct err *e);

#endif
