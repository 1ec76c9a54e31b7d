/* The blocking Redis connection: lazy connecting with time-outs and AUTH, commands, pipelining, and what
 * errors mean. */
#include "queue/redis.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/time.h>
#include "base/crypto.h"
#include "base/mem.h"
#include "base/num.h"

enum { BACKOFF_BASE_MS = 50, BACKOFF_MAX_MS = 2000 };

struct redis {
    struct redis_address address;
    int timeout_ms;
    int reply_ms;      /* the read time-out that is set on the connection now */
    redisContext *ctx; /* owned; NULL when down */
    int failures;      /* connection attempts in a row that failed */
};

/* ---- address
 * -------------------------------------------------------------------------------------------------- */

static int parse_port(struct redis_address *out, const char *text, struct err *e)
{
    int64_t port;
    if (!num_parse_i64(text, 1, 65535, &port))
        return err_set(e, ERR_INVALID, "redis-url", "the Redis port \"%s\" is not a number from 1 to 65535",
                       text);
    out->port = (int)port;
    return 0;
}

static int parse_host_port(struct redis_address *out, const char *rest, struct err *e)
{
    const char *host = rest, *end, *port = NULL;
    if (*rest == '[') {
        host = rest + 1;
        end = strchr(host, ']');
        if (!end) return err_set(e, ERR_INVALID, "redis-url", "the bracket in \"%s\" is not closed", rest);
        if (end[1] == ':') port = end + 2;
    } else {
        end = host + strcspn(host, ":/");
        if (*end == ':') port = end + 1;
    }
    size_t len = (size_t)(end - host);
    if (len == 0 || len >= sizeof out->host)
        return err_set(e, ERR_INVALID, "redis-url", "\"%s\" has no host name of 1 to 255 bytes", rest);
    memcpy(out->host, host, len);
    out->port = 6379;
    if (!port) return 0;
    char digits[8];
    snprintf(digits, sizeof digits, "%.*s", (int)strcspn(port, "/"), port);
    return parse_port(out, digits, e);
}

int redis_address_parse(struct redis_address *out, const char *url, const char *password, struct err *e)
{
    memset(out, 0, sizeof *out);
    if (password && strlen(password) >= sizeof out->password)
        return err_set(e, ERR_INVALID, "redis-password", "the Redis password is longer than %zu bytes",
                       sizeof out->password - 1);
    if (password) memcpy(out->password, password, strlen(password));
    if (strncmp(url, "unix:", 5) == 0) {
        const char *path = url + 5;
        if (!*path || strlen(path) > 107)
            return err_set(e, ERR_INVALID, "redis-url",
                           "the socket path in \"%s\" must have 1 to 107 bytes: choose a shorter folder",
                           url);
        out->is_unix = true;
        memcpy(out->host, path, strlen(path));
        return 0;
    }
    if (strncmp(url, "redis://", 8) == 0) return parse_host_port(out, url + 8, e);
    return err_set(e, ERR_INVALID, "redis-url",
                   "\"%s\" is not a Redis address: use unix:/path or redis://host:port", url);
}

/* ---- replies
 * -------------------------------------------------------------------------------------------------- */

int redis__reply_error(const redisReply *reply, struct err *e)
{
    if (!reply || reply->type != REDIS_REPLY_ERROR) return 0;
    const char *text = reply->str ? reply->str : "";
    if (strncmp(text, "OOM", 3) == 0)
        return err_set(e, ERR_OVERLOAD, NULL, "Redis is out of memory: %s", text);
    if (strncmp(text, "LOADING", 7) == 0 || strncmp(text, "MASTERDOWN", 10) == 0 ||
        strncmp(text, "READONLY", 8) == 0)
        return err_set(e, ERR_UNAVAILABLE, NULL, "Redis is not ready: %s", text);
    return err_set(e, ERR_INTERNAL, NULL, "Redis refused a command: %s", text);
}

int64_t redis_reply_int(const redisReply *reply, int64_t fallback)
{
    if (!reply) return fallback;
    if (reply->type == REDIS_REPLY_INTEGER) return reply->integer;
    int64_t v;
    if (reply->type == REDIS_REPLY_STRING && num_parse_i64(reply->str, INT64_MIN, INT64_MAX, &v)) return v;
    return fallback;
}

const char *redis_reply_str(const redisReply *reply)
{
    if (!reply || (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS)) return NULL;
    return reply->str;
}

/* ---- connection
 * ----------------------------------------------------------------------------------------------- */

static void ignore_once(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL) signal(SIGPIPE, SIG_IGN);
}

void redis__ignore_sigpipe(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, ignore_once);
}

struct redis *redis_create(const struct redis_address *addr, int timeout_ms)
{
    redis__ignore_sigpipe();
    struct redis *r = mem_alloc(1, sizeof *r);
    r->address = *addr;
    r->timeout_ms = timeout_ms;
    return r;
}

static void disconnect(struct redis *r)
{
    if (r->ctx) redisFree(r->ctx);
    r->ctx = NULL;
}

void redis_free(struct redis *r)
{
    if (!r) return;
    disconnect(r);
    mem_free(r);
}

/* Closes the connection and says why; always ERR_UNAVAILABLE. */
static int lost(struct redis *r, struct err *e)
{
    const char *why = r->ctx && r->ctx->err ? r->ctx->errstr : "connection closed";
    if (r->ctx && r->ctx->err == REDIS_ERR_IO && (strstr(why, "temporarily unavailable") || !*why))
        why = "no answer in time";
    int rc = err_set(e, ERR_UNAVAILABLE, NULL, "Redis at %s: %s", r->address.host, why);
    disconnect(r);
    return rc;
}

static struct timeval millis(int ms)
{
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
}

static int set_reply_timeout(struct redis *r, int ms, struct err *e)
{
    if (ms == r->reply_ms) return 0;
    if (redisSetTimeout(r->ctx, millis(ms)) != REDIS_OK) return lost(r, e);
    r->reply_ms = ms;
    return 0;
}

static int authenticate(struct redis *r, struct err *e)
{
    if (!r->address.password[0]) return 0;
    redisReply *reply = redisCommand(r->ctx, "AUTH %s", r->address.password);
    if (!reply) return lost(r, e);
    int rc = 0;
    if (reply->type == REDIS_REPLY_ERROR)
        rc = err_set(e, ERR_UNAVAILABLE, "redis-password", "Redis at %s refused the password: %s",
                     r->address.host, reply->str);
    freeReplyObject(reply);
    if (rc) disconnect(r);
    return rc;
}

int redis_connect(struct redis *r, struct err *e)
{
    if (r->ctx) return 0;
    struct timeval tv = millis(r->timeout_ms);
    r->ctx = r->address.is_unix ? redisConnectUnixWithTimeout(r->address.host, tv)
                                : redisConnectWithTimeout(r->address.host, r->address.port, tv);
    r->reply_ms = -1;
    int rc;
    if (!r->ctx)
        rc = err_set(e, ERR_UNAVAILABLE, NULL, "no memory for a Redis connection");
    else if (r->ctx->err)
        rc = lost(r, e);
    else {
        if (!r->address.is_unix) redisEnableKeepAlive(r->ctx);
        rc = set_reply_timeout(r, r->timeout_ms, e);
        if (rc == 0) rc = authenticate(r, e);
    }
    r->failures = rc ? r->failures + 1 : 0;
    return rc;
}

bool redis_connected(const struct redis *r)
{
    return r->ctx != NULL;
}

int redis_backoff_ms(struct redis *r)
{
    if (r->failures == 0) return 0;
    int top = r->failures > 6 ? BACKOFF_MAX_MS : BACKOFF_BASE_MS << r->failures;
    uint32_t dice;
    crypto_random(&dice, sizeof dice);
    return 1 + (int)(dice % (uint32_t)(top > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : top));
}

/* ---- commands
 * ------------------------------------------------------------------------------------------------- */

/* Takes reply over: hands it on, or frees it and makes an error of it. */
static int deliver(redisReply *reply, redisReply **out, struct err *e)
{
    int rc = redis__reply_error(reply, e);
    if (rc == 0 && out)
        *out = reply;
    else
        freeReplyObject(reply);
    return rc;
}

int redis_call(struct redis *r, redisReply **out, struct err *e, const char *format, ...)
{
    if (out) *out = NULL;
    int rc = redis_connect(r, e);
    if (rc || (rc = set_reply_timeout(r, r->timeout_ms, e))) return rc;
    va_list ap;
    va_start(ap, format);
    redisReply *reply = redisvCommand(r->ctx, format, ap);
    va_end(ap);
    return reply ? deliver(reply, out, e) : lost(r, e);
}

int redis_call_blocking(struct redis *r, redisReply **out, int block_ms, int argc, const char **argv,
                        const size_t *lens, struct err *e)
{
    if (out) *out = NULL;
    int rc = redis_connect(r, e);
    if (rc || (rc = set_reply_timeout(r, r->timeout_ms + block_ms, e))) return rc;
    redisReply *reply = redisCommandArgv(r->ctx, argc, argv, lens);
    return reply ? deliver(reply, out, e) : lost(r, e);
}

int redis_call_argv(struct redis *r, redisReply **out, int argc, const char **argv, const size_t *lens,
                    struct err *e)
{
    return redis_call_blocking(r, out, 0, argc, argv, lens, e);
}

int redis_append(struct redis *r, struct err *e, const char *format, ...)
{
    int rc = redis_connect(r, e);
    if (rc || (rc = set_reply_timeout(r, r->timeout_ms, e))) return rc;
    va_list ap;
    va_start(ap, format);
    rc = redisvAppendCommand(r->ctx, format, ap);
    va_end(ap);
    return rc == REDIS_OK ? 0 : lost(r, e);
}

int redis_append_argv(struct redis *r, int argc, const char **argv, const size_t *lens, struct err *e)
{
    int rc = redis_connect(r, e);
    if (rc || (rc = set_reply_timeout(r, r->timeout_ms, e))) return rc;
    return redisAppendCommandArgv(r->ctx, argc, argv, lens) == REDIS_OK ? 0 : lost(r, e);
}

int redis_take(struct redis *r, redisReply **out, struct err *e)
{
    *out = NULL;
    void *reply = NULL;
    if (!r->ctx) return err_set(e, ERR_UNAVAILABLE, NULL, "Redis at %s: not connected", r->address.host);
    if (redisGetReply(r->ctx, &reply) != REDIS_OK || !reply) return lost(r, e);
    *out = reply;
    return 0;
}

int redis_take_all(struct redis *r, size_t n, struct err *e)
{
    int first = 0;
    for (size_t i = 0; i < n; i++) {
        redisReply *reply;
        int rc = redis_take(r, &reply, first ? NULL : e);
        if (rc) return first ? first : rc;
        rc = redis__reply_error(reply, first ? NULL : e);
        if (rc && !first) first = rc;
        freeReplyObject(reply);
    }
    return first;
}
