/* A blocking HTTP client for tests: raw bytes out, parsed responses in. Every wait ends after 20 s with a
 * failed test. */
#ifndef TESTS_UNIT_GATEWAY_HTTP_CLIENT_H
#define TESTS_UNIT_GATEWAY_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <openssl/ssl.h>
#include "base/buf.h"

struct client {
    int fd;
    SSL *ssl; /* owned; NULL on plain connections */
    struct buf in;
};

struct reply {
    int status;
    char *head; /* owned: the head's text, with its last empty line */
    struct buf body;
    bool close; /* Connection: close */
};

void client_open(struct client *c, int port);    /* 127.0.0.1 */
void client_open_v6(struct client *c, int port); /* ::1 */
void client_open_unix(struct client *c, const char *path);
void client_start_tls(struct client *c, SSL_CTX *ctx); /* fails the test when the handshake does */
void client_close(struct client *c);

void client_send(struct client *c, const char *bytes,
                 size_t len); /* all of it; a reset by the server is not a failure */
void client_text(struct client *c, const char *text);

/* Reads until the server closes, or resets when may_reset; the bytes are in c->in. */
void client_read_to_end(struct client *c);
/* Reads one response. head_only: to a HEAD request. Fails the test when the connection ends before it is
 * complete. */
void client_reply(struct client *c, struct reply *r, bool head_only);
void reply_dispose(struct reply *r);
/* The value of a header (any case), or NULL. Valid until the next call. */
const char *reply_header(const struct reply *r, const char *name);

/* Sends text, reads one reply, checks its status, closes the reply. */
void client_expect(struct client *c, const char *text, int status);
bool client_is_closed(struct client *c); /* waits for the server to close */

/* Waits until ask(arg) is true; fails the test with what after 20 s. */
void wait_until(bool (*ask)(void *arg), void *arg, const char *what);

#endif
