/* Binds addresses and accepts connections; when accepting fails it turns one client away and rests for 100
 * ms. */
#include "gateway/http/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/log.h"
#include "base/num.h"

enum { BACKLOG = 1024, REST_MS = 100, ACCEPTS_PER_TURN = 64 };

/* ---- addresses
 * ----------------------------------------------------------------------------------------------- */

bool address_is_unix(const struct address *a)
{
    return a->storage.ss_family == AF_UNIX;
}

static int parse_unix(struct address *out, const char *path, struct err *e)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&out->storage;
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof un->sun_path)
        return err_set(e, ERR_INVALID, "listen", "a unix socket's path must have 1 to %zu bytes: %s",
                       sizeof un->sun_path - 1, path);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, len + 1);
    out->len = sizeof *un;
    return 0;
}

static int parse_host(struct address *out, const char *host, bool v6, uint16_t port)
{
    struct sockaddr_in *in4 = (struct sockaddr_in *)&out->storage;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->storage;
    if (v6) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        out->len = sizeof *in6;
        return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1 ? 0 : -1;
    }
    in4->sin_family = AF_INET;
    in4->sin_port = htons(port);
    out->len = sizeof *in4;
    return inet_pton(AF_INET, host, &in4->sin_addr) == 1 ? 0 : -1;
}

int address_parse(struct address *out, const char *text, struct err *e)
{
    memset(out, 0, sizeof *out);
    if (strlen(text) >= sizeof out->text)
        return err_set(e, ERR_INVALID, "listen", "the listen address is too long: %.60s…", text);
    snprintf(out->text, sizeof out->text, "%s", text);
    if (!strncmp(text, "unix:", 5)) return parse_unix(out, text + 5, e);

    char host[ADDRESS_TEXT_MAX];
    const char *colon = strrchr(text, ':');
    int64_t port = 0;
    bool good = colon && num_parse_i64(colon + 1, 0, 65535, &port);
    if (good) {
        bool v6 = text[0] == '[' && colon > text + 1 && colon[-1] == ']';
        snprintf(host, sizeof host, "%.*s", (int)(colon - text) - 2 * v6, text + v6);
        good = parse_host(out, host, v6, (uint16_t)port) == 0;
    }
    if (!good)
        return err_set(e, ERR_INVALID, "listen",
                       "%s is not a listen address: expected 127.0.0.1:8080, [::1]:8080 or unix:/path", text);
    out->port = (int)port;
    return 0;
}

static int address_socket(const struct address *a, struct err *e)
{
    int fd = socket(a->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return err_errno(e, ERR_IO, "socket for %s", a->text);
    int on = 1;
    if (address_is_unix(a)) return fd;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->storage.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    return fd;
}

/* A unix socket file left by a dead server is in the way of bind; one that answers is somebody's. */
static int probe_unix(const struct address *a, int fd, struct err *e)
{
    const char *path = a->text + 5;
    if (connect(fd, (const struct sockaddr *)&a->storage, a->len) == 0 || errno == EAGAIN)
        return err_set(e, ERR_CONFLICT, "listen", "another process is listening on %s", a->text);
    if (errno == ENOENT) return 0;
    if (errno != ECONNREFUSED) return err_errno(e, ERR_IO, "cannot use %s", a->text);
    return unlink(path) == 0 ? 0 : err_errno(e, ERR_IO, "remove the old socket %s", path);
}

int address_probe(const struct address *a, struct err *e)
{
    int fd = address_socket(a, e);
    if (fd < 0) return fd;
    int rc = 0;
    if (address_is_unix(a)) {
        rc = probe_unix(a, fd, e);
    } else if (a->port != 0 && bind(fd, (const struct sockaddr *)&a->storage, a->len) != 0) {
        rc = errno == EADDRINUSE ? err_set(e, ERR_CONFLICT, "listen",
                                           "%s is taken: another process is listening there", a->text)
                                 : err_errno(e, ERR_IO, "listen on %s", a->text);
    }
    close(fd);
    return rc;
}

static int learn_port(int fd, struct address *a, struct err *e)
{
    a->len = sizeof a->storage;
    if (getsockname(fd, (struct sockaddr *)&a->storage, &a->len) != 0)
        return err_errno(e, ERR_IO, "getsockname");
    bool v6 = a->storage.ss_family == AF_INET6;
    a->port = ntohs(v6 ? ((struct sockaddr_in6 *)&a->storage)->sin6_port
                       : ((struct sockaddr_in *)&a->storage)->sin_port);
    char *colon = strrchr(a->text, ':');
    snprintf(colon, sizeof a->text - (size_t)(colon - a->text), ":%d", a->port);
    return 0;
}

int address_listen(int *fd_out, struct address *a, struct err *e)
{
    int fd = address_socket(a, e);
    if (fd < 0) return fd;
    int on = 1, rc = 0;
    if (!address_is_unix(a) && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
        rc = err_errno(e, ERR_IO, "SO_REUSEPORT for %s", a->text);
    else if (bind(fd, (const struct sockaddr *)&a->storage, a->len) != 0 || listen(fd, BACKLOG) != 0)
        rc = err_errno(e, ERR_IO, "listen on %s", a->text);
    else if (!address_is_unix(a) && a->port == 0)
        rc = learn_port(fd, a, e);
    if (rc) {
        close(fd);
        return rc;
    }
    a->bound = true;
    *fd_out = fd;
    return 0;
}

/* ---- accepting
 * ----------------------------------------------------------------------------------------------- */

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Out of descriptors, the backlog would stay readable and spin the loop. The spare one lets a client be told
 * at least. */
static void turn_one_away(struct acceptor *a)
{
    if (a->spare < 0) return;
    close(a->spare);
    int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) close(fd);
    a->spare = open_spare();
}

static void rest(struct acceptor *a)
{
    struct timeval tv = {.tv_usec = REST_MS * 1000};
    event_del(a->ready);
    event_add(a->retry, &tv);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct acceptor *a = arg;
    if (a->spare < 0) a->spare = open_spare();
    event_add(a->ready, NULL);
}

/* These concern one connection that died in the queue, not the listener. */
static bool is_of_one_client(int error)
{
    return error == ECONNABORTED || error == EINTR || error == EPROTO || error == ENETDOWN ||
           error == EHOSTUNREACH || error == ENETUNREACH || error == EPERM;
}

static void on_ready(evutil_socket_t listening, short what, void *arg)
{
    (void)what;
    struct acceptor *a = arg;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof peer;
        int fd = accept4(listening, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            a->on_accept(fd, (struct sockaddr *)&peer, len, a->arg);
            continue;
        }
        if (errno == EAGAIN) return;
        if (is_of_one_client(errno)) continue;
        log_warn("accept_failed", "error=\"%s\" resting_ms=%d", strerror(errno), REST_MS);
        turn_one_away(a);
        rest(a);
        return;
    }
}

int acceptor_init(struct acceptor *a, struct event_base *base, int fd, accept_fn on_accept, void *arg,
                  struct err *e)
{
    *a = (struct acceptor){.fd = fd, .spare = open_spare(), .on_accept = on_accept, .arg = arg};
    a->ready = event_new(base, fd, EV_READ | EV_PERSIST, on_ready, a);
    a->retry = event_new(base, -1, 0, on_retry, a);
    if (a->ready && a->retry && event_add(a->ready, NULL) == 0) return 0;
    acceptor_dispose(a);
    return err_set(e, ERR_NOMEM, NULL, "no memory for a listener");
}

void acceptor_dispose(struct acceptor *a)
{
    if (a->ready) event_free(a->ready);
    if (a->retry) event_free(a->retry);
    if (a->fd >= 0) close(a->fd);
    if (a->spare >= 0) close(a->spare);
    *a = (struct acceptor){.fd = -1, .spare = -1};
}
