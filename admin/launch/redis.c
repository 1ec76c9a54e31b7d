/* Starts the private Redis: a unix socket, a password, noeviction, and an append-only file so that a restart
 * is warm. */
#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "admin/launch/process.h"
#include "admin/launch/servers.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"

enum { START_PATIENCE_MS = 15000 };

static int write_config(const struct home *h, const char *path, struct err *e)
{
    char secret[HOME_SECRET_HEX_LEN], socket[PATH_MAX];
    int rc = home_secret(h, "redis-password", secret, e);
    if (rc) return rc;
    home_socket(h, "redis.sock", socket);
    struct buf text = {0};
    buf_printf(&text,
               "port 0\nunixsocket \"%s\"\nunixsocketperm 700\nrequirepass %s\ndir \"%s/redis\"\n"
               "appendonly yes\nappendfsync everysec\nsave \"\"\nmaxmemory-policy noeviction\ndaemonize no\n",
               socket, secret, h->root);
    rc = text.failed ? err_set(e, ERR_NOMEM, NULL, "out of memory")
                     : fs_write_atomic(path, text.data, text.len, 0600, e);
    buf_dispose(&text);
    return rc;
}

int redis_ping(const struct home *h, struct err *e)
{
    char secret[HOME_SECRET_HEX_LEN], socket[PATH_MAX];
    int rc = home_secret(h, "redis-password", secret, e);
    if (rc) return rc;
    home_socket(h, "redis.sock", socket);
    redisContext *c = redisConnectUnixWithTimeout(socket, (struct timeval){.tv_sec = 2});
    if (!c || c->err) {
        rc = err_set(e, ERR_UNAVAILABLE, NULL, "Redis at %s: %s", socket, c ? c->errstr : "out of memory");
        if (c) redisFree(c);
        return rc;
    }
    redisSetTimeout(c, (struct timeval){.tv_sec = 2});
    redisReply *auth = redisCommand(c, "AUTH %s", secret);
    redisReply *pong = auth && auth->type == REDIS_REPLY_STATUS ? redisCommand(c, "PING") : NULL;
    if (!pong || pong->type != REDIS_REPLY_STATUS) {
        const redisReply *said = pong ? pong : auth;
        rc = err_set(e, ERR_UNAVAILABLE, NULL, "Redis at %s: %s", socket,
                     said && said->str ? said->str : c->errstr);
    }
    if (pong) freeReplyObject(pong);
    if (auth) freeReplyObject(auth);
    redisFree(c);
    return rc;
}

void redis_url(const struct home *h, char out[CONNINFO_MAX])
{
    snprintf(out, CONNINFO_MAX, "unix:%s/redis.sock", h->sockets);
}

int redis_start(const struct home *h, struct err *e)
{
    if (process_find(h, "redis") > 0) return 0;
    const char *program =
        access("/usr/bin/redis-server", X_OK) == 0 ? "/usr/bin/redis-server" : "/usr/local/bin/redis-server";
    if (access(program, X_OK) != 0)
        return err_set(e, ERR_NOT_FOUND, NULL, "Redis is not installed (no redis-server); run `make setup`");
    char config[PATH_MAX];
    home_path(h, "etc/redis.conf", config);
    int rc = write_config(h, config, e);
    if (rc) return rc;
    const char *argv[] = {program, config, NULL};
    pid_t pid;
    if ((rc = process_spawn(h, &(struct process_spec){.name = "redis", .argv = argv}, &pid, e))) return rc;
    int64_t deadline = clock_mono_ms() + START_PATIENCE_MS;
    while (redis_ping(h, e)) {
        char tail[300];
        if (process_age_ms(pid) < 0) {
            process_log_tail(h, "redis", tail, sizeof tail);
            return err_set(e, ERR_UNAVAILABLE, NULL, "Redis ended while it was starting: %s", tail);
        }
        if (clock_mono_ms() > deadline)
            return err_prefix(e, "Redis did not answer within %d s", START_PATIENCE_MS / 1000);
        poll(NULL, 0, 25);
    }
    err_clear(e);
    return 0;
}
