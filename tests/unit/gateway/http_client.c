/* Sockets, polling and just enough response parsing to test a server from outside. */
#include "tests/unit/gateway/http_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/mem.h"

enum { PATIENCE_MS = 20 * 1000 };

static void connect_to(struct client *c, const struct sockaddr *address, socklen_t len)
{
    signal(SIGPIPE, SIG_IGN);
    memset(c, 0, sizeof *c);
    c->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(c->fd >= 0);
    if (connect(c->fd, address, len) != 0) fail_msg("connect: %s", strerror(errno));
}

void client_open(struct client *c, int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connect_to(c, (struct sockaddr *)&in, sizeof in);
}

void client_open_v6(struct client *c, int port)
{
    struct sockaddr_in6 in = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = in6addr_loopback};
    connect_to(c, (struct sockaddr *)&in, sizeof in);
}

void client_open_unix(struct client *c, const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    connect_to(c, (struct sockaddr *)&un, sizeof un);
}

void client_start_tls(struct client *c, SSL_CTX *ctx)
{
    c->ssl = SSL_new(ctx);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_tlsext_host_name(c->ssl, "localhost");
    assert_int_equal(SSL_connect(c->ssl), 1);
}

void client_close(struct client *c)
{
    if (c->ssl) SSL_free(c->ssl);
    if (c->fd >= 0) close(c->fd);
    c->ssl = NULL;
    c->fd = -1;
    buf_dispose(&c->in);
}

static void wait_for(const struct client *c, short events)
{
    struct pollfd p = {.fd = c->fd, .events = events};
    int n;
    do {
        n = poll(&p, 1, PATIENCE_MS);
    } while (n < 0 && errno == EINTR);
    if (n == 0)
        fail_msg("the server did not answer within %d ms; so far: %.200s", PATIENCE_MS,
                 c->in.data ? c->in.data : "");
}

void client_send(struct client *c, const char *bytes, size_t len)
{
    while (len > 0) {
        wait_for(c, POLLOUT);
        ssize_t n = c->ssl ? SSL_write(c->ssl, bytes, len > 1 << 20 ? 1 << 20 : (int)len)
                           : send(c->fd, bytes, len, MSG_NOSIGNAL);
        if (n <= 0) return; /* it refused and closed: what it answered is still to be read */
        bytes += n;
        len -= (size_t)n;
    }
}

void client_text(struct client *c, const char *text)
{
    client_send(c, text, strlen(text));
}

/* False at the end of the connection. */
static bool read_some(struct client *c)
{
    char piece[16384];
    if (!c->ssl || SSL_pending(c->ssl) == 0) wait_for(c, POLLIN);
    ssize_t n = c->ssl ? SSL_read(c->ssl, piece, sizeof piece) : recv(c->fd, piece, sizeof piece, 0);
    if (n <= 0) return false;
    buf_append(&c->in, piece, (size_t)n);
    return true;
}

void client_read_to_end(struct client *c)
{
    while (read_some(c)) {
    }
    if (!c->in.data) buf_append(&c->in, "", 0);
}

bool client_is_closed(struct client *c)
{
    client_read_to_end(c);
    return c->in.len == 0;
}

static void need(struct client *c, size_t len, const char *what)
{
    while (c->in.len < len) {
        if (!read_some(c))
            fail_msg("the connection ended before %s: %.300s", what, c->in.data ? c->in.data : "");
    }
}

static void read_head(struct client *c, struct reply *r)
{
    char *end;
    while (!c->in.data || !(end = memmem(c->in.data, c->in.len, "\r\n\r\n", 4)))
        need(c, c->in.len + 1, "the head was complete");
    size_t len = (size_t)(end - c->in.data) + 4;
    r->head = mem_strndup(c->in.data, len);
    buf_consume(&c->in, len);
    assert_int_equal(strncmp(r->head, "HTTP/1.1 ", 9), 0);
    r->status = atoi(r->head + 9);
    const char *connection = reply_header(r, "Connection");
    r->close = connection && !strcmp(connection, "close");
}

static void read_chunks(struct client *c, struct reply *r)
{
    for (;;) {
        char *end;
        while (!c->in.data || !(end = memmem(c->in.data, c->in.len, "\r\n", 2)))
            need(c, c->in.len + 1, "a chunk's size");
        size_t size = strtoul(c->in.data, NULL, 16), head = (size_t)(end - c->in.data) + 2;
        need(c, head + size + 2, "a chunk");
        buf_append(&r->body, c->in.data + head, size);
        buf_consume(&c->in, head + size + 2);
        if (size == 0) return;
    }
}

void client_reply(struct client *c, struct reply *r, bool head_only)
{
    memset(r, 0, sizeof *r);
    do {
        reply_dispose(r);
        read_head(c, r);
    } while (r->status == 100);
    const char *length = reply_header(r, "Content-Length"), *coding = reply_header(r, "Transfer-Encoding");
    bool bare = head_only || r->status == 204 || r->status == 304;
    if (!bare && coding) {
        read_chunks(c, r);
    } else if (!bare && length) {
        size_t len = strtoul(reply_header(r, "Content-Length"), NULL, 10);
        need(c, len, "the body was complete");
        buf_append(&r->body, c->in.data, len);
        buf_consume(&c->in, len);
    }
    if (!r->body.data) buf_append(&r->body, "", 0);
}

void reply_dispose(struct reply *r)
{
    mem_free(r->head);
    buf_dispose(&r->body);
    r->head = NULL;
}

const char *reply_header(const struct reply *r, const char *name)
{
    static char value[512];
    size_t len = strlen(name);
    for (const char *line = strstr(r->head, "\r\n"); line && line[2] != '\r';
         line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, len) != 0 || line[2 + len] != ':') continue;
        const char *at = line + 2 + len + 1 + strspn(line + 2 + len + 1, " ");
        snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\r"), at);
        return value;
    }
    return NULL;
}

void client_expect(struct client *c, const char *text, int status)
{
    struct reply r;
    client_text(c, text);
    client_reply(c, &r, false);
    if (r.status != status) fail_msg("status %d instead of %d: %s", r.status, status, r.body.data);
    reply_dispose(&r);
}

void wait_until(bool (*ask)(void *arg), void *arg, const char *what)
{
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (!ask(arg)) {
        if (clock_mono_ms() > until) fail_msg("waited in vain: %s", what);
        poll(NULL, 0, 1);
    }
}
