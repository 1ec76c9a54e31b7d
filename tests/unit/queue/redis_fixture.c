/* Starts, stops and asks the tests' own redis-server. */
#include "tests/unit/queue/redis_fixture.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/crypto.h"
#include "base/fs.h"
#include "base/log.h"

#define PASSWORD "fixture password"

static char dir[64];
static struct redis_address address;
static pid_t server;

static void die(const char *what)
{
    fprintf(stderr, "redis fixture: %s\n", what);
    exit(1);
}

static void run_server(const char *socket_path)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* A test's connections: one that only the server still held open would stay in the test's epoll. */
    close_range(3, ~0U, 0);
    if (chdir(dir) || !freopen("redis.log", "a", stdout)) _exit(127);
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket_path, "--requirepass",
           PASSWORD, "--save", "", "--appendonly", "no", "--dir", dir, (char *)NULL);
    _exit(127);
}

void redis_fixture_start_server(void)
{
    pid_t parent = getpid();
    server = fork();
    if (server < 0) die("fork failed");
    if (server == 0) {
        if (getppid() != parent) _exit(0);
        run_server(address.host);
    }
    struct redis *r = redis_create(&address, 1000);
    struct err e = {0};
    for (int tries = 0; redis_call(r, NULL, &e, "PING"); tries++) {
        if (tries == 1000 || waitpid(server, NULL, WNOHANG) == server) die(e.message);
        nanosleep(&(struct timespec){.tv_nsec = 10000000},
                  NULL); /* polls a condition that another process brings about */
    }
    redis_free(r);
}

void redis_fixture_stop_server(void)
{
    if (server <= 0) return;
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    server = 0;
}

void redis_fixture_pause_server(void)
{
    if (server > 0) kill(server, SIGSTOP);
}

void redis_fixture_resume_server(void)
{
    if (server > 0) kill(server, SIGCONT);
}

static void clean_up(void)
{
    redis_fixture_stop_server();
    fs_remove_tree(dir, NULL);
}

const struct redis_address *redis_fixture_start(void)
{
    char url[128];
    struct err e;
    if (server) return &address;
    crypto_init();
    log_init("test", LOG_ERROR);
    snprintf(dir, sizeof dir, "/tmp/tenor-redis-XXXXXX");
    if (!mkdtemp(dir)) die("no temporary folder");
    atexit(clean_up);
    snprintf(url, sizeof url, "unix:%s/redis.sock", dir);
    if (redis_address_parse(&address, url, PASSWORD, &e)) die(e.message);
    redis_fixture_start_server();
    return &address;
}

struct redis *redis_fixture_connect(void)
{
    return redis_create(redis_fixture_start(), 2000);
}

void redis_fixture_flush(void)
{
    redis_fixture_int("FLUSHALL");
}

long long redis_fixture_int(const char *format, ...)
{
    char *command;
    va_list ap;
    redis_fixture_start();
    va_start(ap, format);
    int len = redisvFormatCommand(&command, format, ap);
    va_end(ap);
    redisContext *raw = redisConnectUnix(address.host);
    redisReply *reply = NULL;
    long long value = -1;
    if (len > 0 && raw && !raw->err) {
        freeReplyObject(redisCommand(raw, "AUTH %s", PASSWORD));
        redisAppendFormattedCommand(raw, command, (size_t)len);
        if (redisGetReply(raw, (void **)&reply) == REDIS_OK && reply->type == REDIS_REPLY_INTEGER)
            value = reply->integer;
    }
    if (reply) freeReplyObject(reply);
    if (raw) redisFree(raw);
    redisFreeCommand(command);
    return value;
}
