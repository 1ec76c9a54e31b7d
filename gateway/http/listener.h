/* Listening sockets: from an address's text to accepted descriptors, living through a lack of descriptors. */
#ifndef GATEWAY_HTTP_LISTENER_H
#define GATEWAY_HTTP_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "base/err.h"

struct event;
struct event_base;

enum { ADDRESS_TEXT_MAX = 128 };

struct address {
    struct sockaddr_storage storage;
    socklen_t len;
    char text[ADDRESS_TEXT_MAX]; /* as written; with the real port once bound */
    int port;                    /* 0 for a unix socket */
    bool bound;                  /* by address_listen */
};

/* "127.0.0.1:80", "[::1]:80", "unix:/path". Numeric hosts only. ERR_INVALID says what was expected. */
int address_parse(struct address *out, const char *text, struct err *e);
bool address_is_unix(const struct address *a);

/* Fails with the address in the message when somebody listens there already, which SO_REUSEPORT alone would
 * hide. A unix socket that nobody serves is removed. */
int address_probe(const struct address *a, struct err *e);

/* A bound, listening, non-blocking descriptor in *fd. A port of 0 is replaced in *a by the real one, so that
 * the next loop binds the same. */
int address_listen(int *fd, struct address *a, struct err *e);

/* Accepts on one descriptor in one loop. on_accept owns fd. Loop thread only. */
typedef void (*accept_fn)(int fd, const struct sockaddr *peer, socklen_t len, void *arg);

struct acceptor {
    int fd;              /* owned; -1 when closed */
    int spare;           /* owned: given up for a moment to turn a client away when descriptors run out */
    struct event *ready; /* owned */
    struct event *retry; /* owned: switches `ready` on again after a failure */
    accept_fn on_accept;
    void *arg;
};

int acceptor_init(struct acceptor *a, struct event_base *base, int fd, accept_fn on_accept, void *arg,
                  struct err *e);
void acceptor_dispose(struct acceptor *a);

#endif
