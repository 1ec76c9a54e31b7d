/* Links: non-blocking stream sockets with our own buffers, one read as large as what is there or as the large
 * record that is on its way (queue/link_in.h), one write for all that was sent in a turn of the loop
 * (queue/link_out.h). */
#include "queue/link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <event2/event.h>
#include "base/crypto.h"
#include "base/mem.h"
#include "queue/link_address.h"
#include "queue/link_in.h"
#include "queue/link_out.h"

enum { MAGIC_LEN = 4, NONCE_LEN = 32 };
static const char magic[MAGIC_LEN + 1] = "TNL1";

enum state { CONNECTING, PROVING, UP, DOWN };

struct link {
    struct link_events events;
    enum state state;
    bool dialled, freed;
    const char *refused; /* why; borrowed */
    int busy;            /* callbacks that are running: freeing waits for them */
    int fd;
    struct event *readable, *writable, *flush, *patience; /* owned */
    struct link_in in;
    struct link_out out;
    bool blocked; /* the kernel takes no more for now */
    uint8_t key[LINK_KEY_LEN], nonce[NONCE_LEN], theirs[NONCE_LEN];
};

void link_key(uint8_t out[LINK_KEY_LEN], const struct redis_address *redis)
{
    static const char label[] = "tenor predict link";
    crypto_hmac_sha256(out, redis->password, strlen(redis->password), label, sizeof label - 1);
}

/* ---- down and freed ---- */

static void destroy(struct link *l)
{
    struct event *events[] = {l->readable, l->writable, l->flush, l->patience};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i]) event_free(events[i]);
    if (l->fd >= 0) close(l->fd);
    link_in_dispose(&l->in);
    link_out_dispose(&l->out);
    mem_free(l);
}

void link_free(struct link *l)
{
    if (!l) return;
    l->freed = true;
    l->state = DOWN;
    if (l->busy == 0) destroy(l);
}

static void enter(struct link *l)
{
    l->busy++;
}

static void leave(struct link *l)
{
    if (--l->busy == 0 && l->freed) destroy(l);
}

/* Inside enter and leave. */
static void go_down(struct link *l, const char *why)
{
    if (l->state == DOWN) return;
    l->state = DOWN;
    event_del(l->readable);
    event_del(l->writable);
    event_del(l->flush);
    event_del(l->patience);
    if (l->events.on_down) l->events.on_down(l->events.arg, why);
}

struct bytes *link_keep(struct link *l, size_t len)
{
    return link_in_keep(&l->in, len);
}

void link_refuse(struct link *l, const char *why)
{
    l->refused = why;
}

/* ---- writing ---- */

static void flush(struct link *l)
{
    int rc = link_out_write(&l->out, l->fd);
    l->blocked = rc == EAGAIN;
    if (l->blocked)
        event_add(l->writable, NULL);
    else if (rc)
        go_down(l, strerror(rc));
}

static void send_soon(struct link *l)
{
    if (!l->blocked) event_active(l->flush, EV_WRITE, 1);
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct link *l = arg;
    enter(l);
    if (!l->blocked && l->state != DOWN && l->state != CONNECTING) flush(l);
    leave(l);
}

int link_send(struct link *l, const struct record *r)
{
    size_t len = record_len(r);
    if (l->state != UP) return ERR_UNAVAILABLE;
    if (len > LINK_RECORD_MAX) return ERR_TOO_LARGE;
    if (link_waiting(l) + len > LINK_WAITING_MAX || !link_out_record(&l->out, r)) return ERR_OVERLOAD;
    send_soon(l);
    return 0;
}

size_t link_waiting(const struct link *l)
{
    return l->out.waiting;
}

bool link_up(const struct link *l)
{
    return l->state == UP;
}

/* ---- the proof ---- */

static void prove(const struct link *l, const char *who, uint8_t out[SHA256_LEN])
{
    const uint8_t *dialler = l->dialled ? l->nonce : l->theirs, *acceptor = l->dialled ? l->theirs : l->nonce;
    uint8_t text[16 + 2 * NONCE_LEN] = {0};
    memcpy(text, who, strlen(who));
    memcpy(text + 16, dialler, NONCE_LEN);
    memcpy(text + 16 + NONCE_LEN, acceptor, NONCE_LEN);
    crypto_hmac_sha256(out, l->key, sizeof l->key, text, sizeof text);
}

static bool proven(const struct link *l, const char *who, const char *claim)
{
    uint8_t expected[SHA256_LEN];
    prove(l, who, expected);
    return crypto_equal(expected, claim, sizeof expected);
}

static bool put_bytes(struct link *l, const void *data, size_t len)
{
    bool good = link_out_append(&l->out, data, len);
    if (!good) go_down(l, "no memory for the proof");
    return good;
}

static bool put_proof(struct link *l, const char *who)
{
    uint8_t proof[SHA256_LEN];
    prove(l, who, proof);
    if (!put_bytes(l, proof, sizeof proof)) return false;
    send_soon(l);
    return true;
}

static void come_up(struct link *l)
{
    l->state = UP;
    event_del(l->patience);
    if (l->events.on_up) l->events.on_up(l->events.arg);
}

/* dialler: magic, nonce → acceptor: nonce, proof → dialler: proof, records. False: more bytes are needed. */
static bool take_proof_dialler(struct link *l, const char *data, size_t len)
{
    if (len < NONCE_LEN + SHA256_LEN) return false;
    memcpy(l->theirs, data, NONCE_LEN);
    if (!proven(l, "acceptor", data + NONCE_LEN)) {
        go_down(l, "the other side does not know the platform's key");
        return false;
    }
    link_in_take(&l->in, NONCE_LEN + SHA256_LEN);
    if (!put_proof(l, "dialler")) return false;
    come_up(l);
    return true;
}

static bool take_proof_acceptor(struct link *l, const char *data, size_t len)
{
    static const uint8_t none[NONCE_LEN];
    if (memcmp(l->theirs, none, NONCE_LEN) == 0) { /* nothing of theirs has come yet */
        if (len < MAGIC_LEN + NONCE_LEN) return false;
        memcpy(l->theirs, data + MAGIC_LEN, NONCE_LEN);
        if (memcmp(data, magic, MAGIC_LEN) != 0 || memcmp(l->theirs, none, NONCE_LEN) == 0) {
            go_down(l, "this is no link");
            return false;
        }
        link_in_take(&l->in, MAGIC_LEN + NONCE_LEN);
        return put_bytes(l, l->nonce, NONCE_LEN) && put_proof(l, "acceptor");
    }
    if (len < SHA256_LEN) return false;
    if (!proven(l, "dialler", data)) {
        go_down(l, "the other side does not know the platform's key");
        return false;
    }
    link_in_take(&l->in, SHA256_LEN);
    come_up(l);
    return true;
}

/* ---- reading ---- */

/* One step forward in what has been read; false when more bytes are needed or the link is down. */
static bool take_one(struct link *l)
{
    size_t len;
    const char *data = link_in_rest(&l->in, &len);
    if (l->state == PROVING)
        return l->dialled ? take_proof_dialler(l, data, len) : take_proof_acceptor(l, data, len);
    int rc = l->state == UP ? link_in_record(&l->in, &data, &len) : ERR_NOT_FOUND;
    if (rc == ERR_TOO_LARGE) go_down(l, "a record longer than any may be");
    if (rc) return false;
    if (l->events.on_record) l->events.on_record(l->events.arg, data, len);
    if (l->refused) go_down(l, l->refused);
    return l->state == UP;
}

static void fill(struct link *l)
{
    size_t most;
    char *room = link_in_room(&l->in, l->state == UP, &most);
    if (!room) {
        go_down(l, "no memory to read");
        return;
    }
    ssize_t n = recv(l->fd, room, most, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        go_down(l, n == 0 ? "closed by the other side" : strerror(errno));
        return;
    }
    link_in_came(&l->in, (size_t)n);
    while (take_one(l)) continue;
    if (l->state != DOWN && !link_in_settle(&l->in)) go_down(l, "no memory to read");
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct link *l = arg;
    enter(l);
    if (l->state != DOWN) fill(l);
    leave(l);
}

/* ---- connecting ---- */

static void begin_proof(struct link *l)
{
    l->state = PROVING;
    event_add(l->readable, NULL);
    if (!l->dialled) return;
    if (put_bytes(l, magic, MAGIC_LEN) && put_bytes(l, l->nonce, NONCE_LEN)) flush(l);
}

static void on_connected(struct link *l)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) error = errno;
    if (error)
        go_down(l, strerror(error));
    else
        begin_proof(l);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct link *l = arg;
    enter(l);
    l->blocked = false;
    if (l->state == CONNECTING)
        on_connected(l);
    else if (l->state != DOWN)
        flush(l);
    leave(l);
}

static void on_impatience(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct link *l = arg;
    enter(l);
    go_down(l, "the connection was not made in time");
    leave(l);
}

static int make(struct link **out, struct loop *loop, int fd, const uint8_t key[LINK_KEY_LEN],
                const struct link_events *events, struct err *e)
{
    struct event_base *base = loop_base(loop);
    struct link *l = mem_try_alloc(1, sizeof *l);
    int on = 1;
    *out = NULL;
    if (!l) {
        close(fd);
        return err_set(e, ERR_NOMEM, NULL, "no memory for a link");
    }
    l->fd = fd;
    link_in_init(&l->in);
    l->events = *events;
    memcpy(l->key, key, LINK_KEY_LEN);
    crypto_random(l->nonce, sizeof l->nonce);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* no harm on a unix socket */
    l->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, l);
    l->writable = event_new(base, fd, EV_WRITE, on_writable, l);
    l->flush = event_new(base, -1, 0, on_flush, l);
    l->patience = evtimer_new(base, on_impatience, l);
    if (!l->readable || !l->writable || !l->flush || !l->patience) {
        destroy(l);
        return err_set(e, ERR_NOMEM, NULL, "no memory for a link");
    }
    event_add(l->patience, &(struct timeval){.tv_sec = LINK_PROOF_MS / 1000});
    *out = l;
    return 0;
}

int link_dial(struct link **out, struct loop *loop, const char *address, const uint8_t key[LINK_KEY_LEN],
              const struct link_events *events, struct err *e)
{
    struct link_address a;
    *out = NULL;
    int rc = link_address_parse(&a, address, e);
    if (rc) return rc;
    int fd = socket(a.sockaddr.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return err_errno(e, ERR_UNAVAILABLE, "a socket");
    if (connect(fd, &a.sockaddr.any, a.len) != 0 && errno != EINPROGRESS) {
        rc = err_errno(e, ERR_UNAVAILABLE, "connect to %s", address);
        close(fd);
        return rc;
    }
    rc = make(out, loop, fd, key, events, e);
    if (rc) return rc;
    (*out)->dialled = true;
    event_add((*out)->writable, NULL);
    return 0;
}

int link_accept(struct link **out, struct loop *loop, int fd, const uint8_t key[LINK_KEY_LEN],
                const struct link_events *events, struct err *e)
{
    int rc = make(out, loop, fd, key, events, e);
    if (rc == 0) begin_proof(*out);
    return rc;
}
