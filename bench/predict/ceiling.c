/* The ceiling: what libevent's own HTTP server does on this machine when a request costs nothing but its
 * reading and a reply of the usual size.
 *
 *   ceiling PORT REPLY_BYTES [CERT KEY]
 *
 * One process per core, sharing the port (SO_REUSEPORT), as the gateway's loops do. Ends with SIGTERM to the
 * first process. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <openssl/ssl.h>

struct reply {
    char *body;
    size_t len;
};

static void on_request(struct evhttp_request *q, void *arg)
{
    const struct reply *r = arg;
    struct evbuffer *out = evbuffer_new();
    evhttp_add_header(evhttp_request_get_output_headers(q), "Content-Type", "application/json");
    evbuffer_add(out, r->body, r->len);
    evhttp_send_reply(q, 200, "OK", out);
    evbuffer_free(out);
}

static struct bufferevent *on_accept(struct event_base *base, void *ctx)
{
    return bufferevent_openssl_socket_new(base, -1, SSL_new(ctx), BUFFEREVENT_SSL_ACCEPTING,
                                          BEV_OPT_CLOSE_ON_FREE);
}

static int listen_shared(int port)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* accepted sockets inherit it */
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 1024) != 0) {
        perror("ceiling");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 5) {
        fprintf(stderr, "usage: ceiling PORT REPLY_BYTES [CERT KEY]\n");
        return 2;
    }
    struct reply r = {.len = (size_t)strtoul(argv[2], NULL, 10)};
    r.body = malloc(r.len + 1);
    if (!r.body) return 1;
    memset(r.body, 'x', r.len);
    signal(SIGPIPE, SIG_IGN);
    for (long core = 1; core < sysconf(_SC_NPROCESSORS_ONLN); core++)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            break;
        }
    struct event_base *base = event_base_new();
    struct evhttp *http = evhttp_new(base);
    if (argc == 5) {
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        if (SSL_CTX_use_certificate_chain_file(ctx, argv[3]) != 1 ||
            SSL_CTX_use_PrivateKey_file(ctx, argv[4], SSL_FILETYPE_PEM) != 1)
            return 1;
        evhttp_set_bevcb(http, on_accept, ctx);
    }
    evhttp_set_gencb(http, on_request, &r);
    evhttp_set_max_body_size(http, 32 << 20);
    if (evhttp_accept_socket(http, listen_shared(atoi(argv[1]))) != 0) return 1;
    event_base_dispatch(base);
    return 0;
}
