/* Checks that a listening address is free before a daemon is started on it, so that the answer is a sentence.
 */
#include "admin/launch/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/num.h"

static int split(const char *text, char host[200], char port[8], const char *field, struct err *e)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    bool bracket = len > 1 && text[0] == '[' && text[len - 1] == ']';
    int64_t number;
    if (!colon || len >= 200 || !num_parse_i64(colon + 1, 0, 65535, &number))
        return err_set(e, ERR_INVALID, field,
                       "'%s' is not an address; expected host:port, for example 127.0.0.1:8080", text);
    snprintf(host, 200, "%.*s", (int)(bracket ? len - 2 : len), bracket ? text + 1 : text);
    snprintf(port, 8, "%s", colon + 1);
    return 0;
}

static int bound_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at = {0};
    socklen_t len = sizeof at;
    if (getsockname(fd, &at.any, &len) != 0) return 0;
    return ntohs(at.any.sa_family == AF_INET6 ? at.v6.sin6_port : at.v4.sin_port);
}

int address_claim(const char *text, const char *field, char out[ADDRESS_TEXT_MAX], struct err *e)
{
    char host[200] = "", port[8] = "";
    int rc = split(text, host, port, field, e), on = 1, fd = -1;
    if (rc) return rc;
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *found = NULL;
    int code = getaddrinfo(host[0] ? host : NULL, port, &hints, &found);
    if (code) return err_set(e, ERR_INVALID, field, "'%s': %s", text, gai_strerror(code));
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        rc = err_errno(e, ERR_IO, "open a socket");
    } else {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        bool taken = bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 1) != 0;
        if (taken && errno == EADDRINUSE)
            rc = err_set(
                e, ERR_CONFLICT, field,
                "port %s is taken: another program listens on %s; stop it, or choose another with --listen",
                port, text);
        else if (taken)
            rc = err_errno(e, ERR_IO, "listen on %s", text);
        else
            snprintf(out, ADDRESS_TEXT_MAX, "%.*s:%d", (int)(strrchr(text, ':') - text), text,
                     bound_port(fd));
        close(fd);
    }
    freeaddrinfo(found);
    return rc;
}

void address_reachable(const char *text, char out[ADDRESS_TEXT_MAX])
{
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : strlen(text);
    bool any4 = len == 0 || (len == 7 && strncmp(text, "0.0.0.0", 7) == 0);
    bool any6 = len == 4 && strncmp(text, "[::]", 4) == 0;
    snprintf(out, ADDRESS_TEXT_MAX, "%.*s%s", any4 || any6 ? 0 : (int)len, text, "");
    if (any4 || any6) strcpy(out, any4 ? "127.0.0.1" : "[::1]");
    if (colon) strncat(out, colon, ADDRESS_TEXT_MAX - strlen(out) - 1);
}
