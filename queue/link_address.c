/* Addresses of serving threads, and listening on them. */
#include "queue/link_address.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include <event2/util.h>

enum { BACKLOG = 256 };
static const char unix_prefix[] = "unix:";

/* "/path", or "@name" in the kernel's own space of names, where nothing is left behind by the dead. */
static int parse_path(struct link_address *out, const char *path, struct err *e)
{
    struct sockaddr_un *a = &out->sockaddr.local;
    size_t len = strlen(path), most = sizeof a->sun_path - 1;
    if ((path[0] != '/' && path[0] != '@') || len < 2 || len > most)
        return err_set(
            e, ERR_INVALID, NULL,
            "\"unix:%.120s\" is no address of a socket: expected an absolute path or @name of at most %zu "
            "bytes",
            path, most);
    bool named = path[0] == '@';
    a->sun_family = AF_UNIX;
    memcpy(a->sun_path, path, len);
    if (named) a->sun_path[0] = '\0';
    out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + !named);
    return 0;
}

int link_address_parse(struct link_address *out, const char *text, struct err *e)
{
    memset(out, 0, sizeof *out);
    if (strncmp(text, unix_prefix, sizeof unix_prefix - 1) == 0)
        return parse_path(out, text + sizeof unix_prefix - 1, e);
    int len = sizeof out->sockaddr;
    if (evutil_parse_sockaddr_port(text, &out->sockaddr.any, &len) != 0 || !strrchr(text, ':'))
        return err_set(e, ERR_INVALID, NULL,
                       "\"%.120s\" is no address: expected unix:/path or a numeric host:port", text);
    out->len = (socklen_t)len;
    return 0;
}

/* Whether a path in the way is a socket that nobody serves any more. */
static bool is_left_over(const struct link_address *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool dead = fd >= 0 && connect(fd, &a->sockaddr.any, a->len) != 0 && errno == ECONNREFUSED;
    if (fd >= 0) close(fd);
    return dead;
}

static int bind_to(int fd, const struct link_address *a)
{
    int on = 1;
    bool local = a->sockaddr.any.sa_family == AF_UNIX;
    if (!local) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, &a->sockaddr.any, a->len) == 0) return 0;
    if (!local || errno != EADDRINUSE || !is_left_over(a)) return -1;
    unlink(a->sockaddr.local.sun_path);
    return bind(fd, &a->sockaddr.any, a->len);
}

int link_listen(int *out, const struct link_address *a, struct err *e)
{
    int fd = socket(a->sockaddr.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *out = fd;
    if (fd < 0) return err_errno(e, ERR_IO, "a socket to listen on");
    if (bind_to(fd, a) == 0 && listen(fd, BACKLOG) == 0) return 0;
    int rc = err_errno(e, errno == EADDRINUSE ? ERR_CONFLICT : ERR_IO, "listen for predictions");
    close(fd);
    *out = -1;
    return rc;
}
