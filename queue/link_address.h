/* Where a serving thread listens: "unix:/path", "unix:@name" (Linux's abstract sockets) or a numeric
 * "host:port"; and the listening socket there. */
#ifndef QUEUE_LINK_ADDRESS_H
#define QUEUE_LINK_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "base/err.h"

struct link_address {
    union {
        struct sockaddr any;
        struct sockaddr_un local;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } sockaddr;
    socklen_t len;
};

/* ERR_INVALID for a text that is no address, or a path that no socket can have (more than 107 bytes). */
int link_address_parse(struct link_address *out, const char *text, struct err *e);

/* A non-blocking listening socket in *fd. A unix socket that stands in the way and that nobody listens on is
 * replaced. ERR_CONFLICT when somebody listens there, ERR_IO. Blocks for a moment at the most. */
int link_listen(int *fd, const struct link_address *a, struct err *e);

#endif
