/* A Redis connection on an event loop: commands answered by callbacks, with our own time-outs, a bound on
 * what is in flight, and reconnection with jitter. Everything runs on the loop's thread.
 *
 *   down ──timer──▶ connecting ──AUTH answered──▶ up ──error, time-out──▶ down (every command in flight is
 * answered: unavailable)
 *
 * Use one for commands, one for blocking pops, one for subscriptions: a blocked or subscribed connection
 * answers nothing else. */
#ifndef QUEUE_REDIS_ASYNC_H
#define QUEUE_REDIS_ASYNC_H

#include <stddef.h>
#include <stdbool.h>
#include <hiredis/hiredis.h>
#include "base/err.h"
#include "base/loop.h"
#include "queue/redis.h"

struct redis_async;

struct redis_async_config {
    const struct redis_address *address;  /* copied */
    const char *name;                     /* for logs: "commands"; borrowed */
    int timeout_ms;                       /* connecting, and each reply; 0: 2,000 */
    size_t in_flight_max;                 /* commands; 0: 10,000 */
    void (*on_state)(void *arg, bool up); /* may be NULL */
    void *arg;
};

/* Exactly once per accepted command. reply is borrowed for the call and NULL when rc is not 0:
 * ERR_UNAVAILABLE (connection lost or time-out: the command may or may not have run), ERR_OVERLOAD (Redis is
 * out of memory), ERR_INTERNAL (another error reply: its text is in e). */
typedef void (*redis_async_fn)(void *arg, int rc, const redisReply *reply, const struct err *e);

/* Starts connecting at once. Never blocks. */
struct redis_async *redis_async_create(struct loop *loop, const struct redis_async_config *config);
void redis_async_free(
    struct redis_async *r); /* answers what is in flight first; not from inside its own callbacks */
bool redis_async_up(const struct redis_async *r);
size_t redis_async_in_flight(const struct redis_async *r);

/* 0: accepted, fn will be called (fn may be NULL). ERR_UNAVAILABLE when down, ERR_OVERLOAD at the bound: fn
 * is not called. block_ms is added to the time-out, for commands that block in Redis. */
int redis_async_argv(struct redis_async *r, int block_ms, redis_async_fn fn, void *arg, int argc,
                     const char **argv, const size_t *lens);
int redis_async_call(struct redis_async *r, redis_async_fn fn, void *arg, const char *format, ...);
/* Hands what has been accepted to the kernel now, as far as it takes it, instead of when the loop's callbacks
 * of this round are through. May call the fn of commands that fail with the connection, which may be freed in
 * here: so not from inside an fn. */
void redis_async_flush(struct redis_async *r);

/* Subscribes to channels on this connection now and after every reconnection. Once, before anything else; the
 * connection takes no other command. Messages published while the connection was down are lost: on_state(up)
 * is the time to re-read. Text is borrowed for the call. The array and its texts are borrowed for the life of
 * r. */
typedef void (*redis_async_message_fn)(void *arg, const char *channel, const char *data, size_t len);
void redis_async_subscribe(struct redis_async *r, const char *const *channels, size_t n,
                           redis_async_message_fn fn, void *arg);

#endif
