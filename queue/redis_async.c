/* hiredis's asynchronous context on a libevent loop, with the time-outs, bounds and reconnection that it
 * lacks.
 *
 * hiredis frees a context by itself when it disconnects and answers every command in flight with NULL first.
 * So a context is forgotten (r->ac = NULL) before or when that happens, never used after, and freed by us
 * only through drop(). */
#include "queue/redis_async.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>
#include <event2/event.h>
#include <hiredis/async.h>
#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"

enum { TIMEOUT_MS = 2000, IN_FLIGHT_MAX = 10000, TICK_MS = 100, BACKOFF_BASE_MS = 50, BACKOFF_MAX_MS = 2000 };

/* One command under way, in the order in which it was sent. */
struct command {
    struct redis_async *owner;
    struct command *prev, *next;
    redis_async_fn fn;
    void *arg;
    int64_t deadline_ms;
};

struct redis_async {
    struct loop *loop;
    struct redis_address address;
    const char *name;
    int timeout_ms;
    size_t in_flight_max;
    void (*on_state)(void *arg, bool up);
    void *arg;

    redisAsyncContext *ac;      /* hiredis's; NULL when down */
    struct event *retry, *tick; /* owned */
    bool up, freeing;
    int failures;
    int64_t connecting_deadline_ms; /* 0 when not connecting */
    size_t in_flight;
    struct command *first, *last;

    const char *const *channels; /* subscriptions; borrowed */
    size_t channels_len;
    redis_async_message_fn on_message;
    void *message_arg;
};

static void connect_now(struct redis_async *r);

/* ---- state
 * ---------------------------------------------------------------------------------------------------- */

static void schedule_retry(struct redis_async *r)
{
    if (r->freeing) return;
    int top = r->failures > 6 ? BACKOFF_MAX_MS : BACKOFF_BASE_MS << r->failures;
    if (top > BACKOFF_MAX_MS) top = BACKOFF_MAX_MS;
    uint32_t dice;
    crypto_random(&dice, sizeof dice);
    int ms = 1 + (int)(dice % (uint32_t)top);
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
    event_add(r->retry, &tv);
}

/* The context is gone or as good as gone: hears of it once. */
static void went_down(struct redis_async *r, const char *why)
{
    bool was_up = r->up;
    r->ac = NULL;
    r->up = false;
    r->connecting_deadline_ms = 0;
    if (r->freeing) return;
    if (was_up || r->failures == 0) log_warn("redis-down", "connection=%s reason=\"%s\"", r->name, why);
    r->failures++;
    schedule_retry(r);
    if (was_up && r->on_state) r->on_state(r->arg, false);
}

/* Forgets the context and frees it, which answers everything in flight. Safe inside hiredis's callbacks: it
 * then frees later. */
static void drop(struct redis_async *r, const char *why)
{
    redisAsyncContext *ac = r->ac;
    if (!ac) return;
    ac->data = NULL; /* on_disconnect must not report it again */
    went_down(r, why);
    redisAsyncFree(ac);
}

static void came_up(struct redis_async *r)
{
    r->connecting_deadline_ms = 0;
    r->up = true;
    if (r->failures) log_info("redis-up", "connection=%s", r->name);
    r->failures = 0;
    if (r->on_state) r->on_state(r->arg, true);
}

/* ---- hiredis's callbacks
 * ---------------------------------------------------------------------------------------- */

static void on_disconnect(const redisAsyncContext *ac, int status)
{
    struct redis_async *r = ac->data;
    if (r && r->ac == ac) went_down(r, status == REDIS_OK ? "closed" : ac->errstr);
}

static void on_published(redisAsyncContext *ac, void *data, void *arg)
{
    struct redis_async *r = arg;
    const redisReply *reply = data;
    if (!reply || r->ac != ac || reply->type != REDIS_REPLY_ARRAY || reply->elements != 3) return;
    const char *kind = redis_reply_str(reply->element[0]), *channel = redis_reply_str(reply->element[1]);
    if (!kind || !channel) return;
    if (strcmp(kind, "subscribe") == 0) {
        if (!r->up && redis_reply_int(reply->element[2], 0) == (int64_t)r->channels_len) came_up(r);
        return;
    }
    const char *text = redis_reply_str(reply->element[2]);
    if (strcmp(kind, "message") == 0 && text)
        r->on_message(r->message_arg, channel, text, reply->element[2]->len);
}

static void send_subscriptions(struct redis_async *r)
{
    for (size_t i = 0; i < r->channels_len && r->ac; i++)
        redisAsyncCommand(r->ac, on_published, r, "SUBSCRIBE %s", r->channels[i]);
}

static void ready(struct redis_async *r)
{
    if (r->channels_len)
        send_subscriptions(r); /* up when Redis has confirmed them */
    else
        came_up(r);
}

static void on_auth(redisAsyncContext *ac, void *data, void *arg)
{
    struct redis_async *r = arg;
    const redisReply *reply = data;
    if (!reply || r->ac != ac) return;
    if (reply->type == REDIS_REPLY_ERROR) {
        drop(r, "the password was refused");
        return;
    }
    ready(r);
}

static void on_connect(const redisAsyncContext *ac, int status)
{
    struct redis_async *r = ac->data;
    if (!r || r->ac != ac) return;
    if (status != REDIS_OK) {
        /* hiredis frees the context right after this call, without on_disconnect. */
        went_down(r, ac->errstr && *ac->errstr ? ac->errstr : "cannot connect");
        return;
    }
    if (r->address.password[0])
        redisAsyncCommand(r->ac, on_auth, r, "AUTH %s", r->address.password);
    else
        ready(r);
}

/* ---- the connection's events
 *
 * As hiredis's adapter for libevent, but that a command does not wait for the kernel to say that the socket
 * can be written: what the callbacks of one round have queued is written when they are through, in one go.
 * Only what the socket did not take waits for it. */

struct watch {
    redisAsyncContext *ac;             /* hiredis's */
    struct event *read, *write, *soon; /* owned */
};

static void on_read_ready(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    redisAsyncHandleRead(((struct watch *)arg)->ac);
}

/* hiredis may free the context in here, and the watch with it, so nothing of it is touched after. */
static void on_write_ready(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    redisAsyncHandleWrite(((struct watch *)arg)->ac);
}

static void on_soon(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    const struct watch *w = arg;
    event_add(w->write, NULL); /* undone again when all is written */
    redisAsyncHandleWrite(w->ac);
}

static void watch_read(void *arg)
{
    event_add(((struct watch *)arg)->read, NULL);
}

static void unwatch_read(void *arg)
{
    event_del(((struct watch *)arg)->read);
}

/* hiredis asks for this after each command, and again while something is left. */
static void watch_write(void *arg)
{
    const struct watch *w = arg;
    bool connected = (w->ac->c.flags & REDIS_CONNECTED) != 0;
    if (!connected)
        event_add(w->write, NULL);
    else if (!event_pending(w->write, EV_WRITE, NULL))
        event_active(w->soon, EV_TIMEOUT, 0);
}

static void unwatch_write(void *arg)
{
    event_del(((struct watch *)arg)->write);
}

static void watch_free(void *arg)
{
    struct watch *w = arg;
    if (w->read) event_free(w->read);
    if (w->write) event_free(w->write);
    if (w->soon) event_free(w->soon);
    mem_free(w);
}

static bool watch_attach(redisAsyncContext *ac, struct event_base *base)
{
    struct watch *w = mem_alloc(1, sizeof *w);
    *w = (struct watch){.ac = ac};
    w->read = event_new(base, ac->c.fd, EV_READ | EV_PERSIST, on_read_ready, w);
    w->write = event_new(base, ac->c.fd, EV_WRITE | EV_PERSIST, on_write_ready, w);
    w->soon = event_new(base, -1, 0, on_soon, w);
    if (!w->read || !w->write || !w->soon) {
        watch_free(w);
        return false;
    }
    ac->ev.addRead = watch_read;
    ac->ev.delRead = unwatch_read;
    ac->ev.addWrite = watch_write;
    ac->ev.delWrite = unwatch_write;
    ac->ev.cleanup = watch_free;
    ac->ev.data = w;
    event_add(w->read, NULL);
    event_add(w->write, NULL); /* says when it is connected */
    return true;
}

/* ---- connecting and time
 * ---------------------------------------------------------------------------------------- */

static void connect_now(struct redis_async *r)
{
    redisAsyncContext *ac = r->address.is_unix ? redisAsyncConnectUnix(r->address.host)
                                               : redisAsyncConnect(r->address.host, r->address.port);
    if (!ac || ac->err) {
        if (ac) redisAsyncFree(ac);
        went_down(r, "cannot connect");
        return;
    }
    r->ac = ac;
    ac->data = r;
    r->connecting_deadline_ms = clock_mono_ms() + r->timeout_ms;
    if (!r->address.is_unix) redisEnableKeepAlive(&ac->c);
    if (!watch_attach(ac, loop_base(r->loop))) {
        drop(r, "cannot watch the connection");
        return;
    }
    redisAsyncSetConnectCallback(ac, on_connect);
    redisAsyncSetDisconnectCallback(ac, on_disconnect);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct redis_async *r = arg;
    if (!r->ac) connect_now(r);
}

/* Commands are answered in order, so that the oldest one's age tells for all; a blocking pop may have the
 * later deadline, hence a connection is used either for those or for quick commands. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct redis_async *r = arg;
    int64_t now = clock_mono_ms();
    if (!r->ac) return;
    if (r->connecting_deadline_ms && now > r->connecting_deadline_ms)
        drop(r, "connecting took too long");
    else if (r->first && now > r->first->deadline_ms)
        drop(r, "no answer in time");
}

struct redis_async *redis_async_create(struct loop *loop, const struct redis_async_config *config)
{
    redis__ignore_sigpipe();
    struct redis_async *r = mem_alloc(1, sizeof *r);
    r->loop = loop;
    r->address = *config->address;
    r->name = config->name;
    r->timeout_ms = config->timeout_ms ? config->timeout_ms : TIMEOUT_MS;
    r->in_flight_max = config->in_flight_max ? config->in_flight_max : IN_FLIGHT_MAX;
    r->on_state = config->on_state;
    r->arg = config->arg;
    r->retry = event_new(loop_base(loop), -1, 0, on_retry, r);
    r->tick = event_new(loop_base(loop), -1, EV_PERSIST, on_tick, r);
    event_add(r->tick, &(struct timeval){.tv_usec = TICK_MS * 1000});
    /* From the loop, never from inside this call: the creator has yet to store r before a callback may use
     * it. */
    event_add(r->retry, &(struct timeval){0});
    return r;
}

void redis_async_free(struct redis_async *r)
{
    if (!r) return;
    r->freeing = true;
    drop(r, "closing");
    assert(r->in_flight == 0);
    event_free(r->retry);
    event_free(r->tick);
    mem_free(r);
}

bool redis_async_up(const struct redis_async *r)
{
    return r->up;
}

size_t redis_async_in_flight(const struct redis_async *r)
{
    return r->in_flight;
}

/* ---- commands
 * --------------------------------------------------------------------------------------------------- */

static void unlink_command(struct command *c)
{
    struct redis_async *r = c->owner;
    *(c->prev ? &c->prev->next : &r->first) = c->next;
    *(c->next ? &c->next->prev : &r->last) = c->prev;
    r->in_flight--;
}

static void on_reply(redisAsyncContext *ac, void *data, void *arg)
{
    (void)ac;
    struct command *c = arg;
    const redisReply *reply = data;
    struct err e = {0};
    int rc = reply
                 ? redis__reply_error(reply, &e)
                 : err_set(&e, ERR_UNAVAILABLE, NULL, "the connection to Redis was lost before it answered");
    unlink_command(c);
    if (c->fn) c->fn(c->arg, rc, rc ? NULL : reply, &e);
    mem_free(c);
}

/* Room for one more command, linked; or NULL with *rc saying why. */
static struct command *admit(struct redis_async *r, int block_ms, redis_async_fn fn, void *arg, int *rc)
{
    assert(r->channels_len == 0);
    *rc = !r->up ? ERR_UNAVAILABLE : r->in_flight >= r->in_flight_max ? ERR_OVERLOAD : 0;
    if (*rc) return NULL;
    struct command *c = mem_alloc(1, sizeof *c);
    *c = (struct command){.owner = r, .fn = fn, .arg = arg, .prev = r->last};
    c->deadline_ms = clock_mono_ms() + r->timeout_ms + block_ms;
    *(r->last ? &r->last->next : &r->first) = c;
    r->last = c;
    r->in_flight++;
    return c;
}

static int refused(struct command *c)
{
    unlink_command(c);
    mem_free(c);
    return ERR_UNAVAILABLE;
}

int redis_async_argv(struct redis_async *r, int block_ms, redis_async_fn fn, void *arg, int argc,
                     const char **argv, const size_t *lens)
{
    int rc;
    struct command *c = admit(r, block_ms, fn, arg, &rc);
    if (!c) return rc;
    return redisAsyncCommandArgv(r->ac, on_reply, c, argc, argv, lens) == REDIS_OK ? 0 : refused(c);
}

int redis_async_call(struct redis_async *r, redis_async_fn fn, void *arg, const char *format, ...)
{
    int rc;
    struct command *c = admit(r, 0, fn, arg, &rc);
    if (!c) return rc;
    va_list ap;
    va_start(ap, format);
    rc = redisvAsyncCommand(r->ac, on_reply, c, format, ap);
    va_end(ap);
    return rc == REDIS_OK ? 0 : refused(c);
}

void redis_async_flush(struct redis_async *r)
{
    if (!r->up) return;
    struct watch *w = r->ac->ev.data;
    event_del(w->soon);
    on_soon(-1, 0, w);
}

void redis_async_subscribe(struct redis_async *r, const char *const *channels, size_t n,
                           redis_async_message_fn fn, void *arg)
{
    assert(!r->channels_len && n && !r->ac);
    r->channels = channels;
    r->channels_len = n;
    r->on_message = fn;
    r->message_arg = arg;
}
