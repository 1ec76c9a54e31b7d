/* Links: non-blocking stream sockets with our own buffers, one read as large as what is there, one write for
 * all that was sent in a turn of the loop. */
#include "queue/link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <event2/event.h>
#include "base/buf.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "queue/link_address.h"

enum { MAGIC_LEN = 4, NONCE_LEN = 32, READ_MIN = 64 * 1024, KEEP_BYTES = 1 << 20 };
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
    struct buf in, out;
    size_t in_at, out_at; /* bytes of in read by us, of out taken by the kernel */
    bool blocked;         /* the kernel takes no more for now */
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
    buf_dispose(&l->in);
    buf_dispose(&l->out);
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

void link_refuse(struct link *l, const char *why)
{
    l->refused = why;
}

/* ---- writing ---- */

static void flush(struct link *l)
{
    while (l->out_at < l->out.len) {
        ssize_t n = send(l->fd, l->out.data + l->out_at, l->out.len - l->out_at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) {
            l->blocked = true;
            event_add(l->writable, NULL);
            return;
        }
        if (n < 0) {
            go_down(l, strerror(errno));
            return;
        }
        l->out_at += (size_t)n;
    }
    l->out_at = 0;
    if (l->out.cap > KEEP_BYTES)
        buf_dispose(&l->out);
    else
        buf_clear(&l->out);
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

int link_send(struct link *l, const void *data, size_t len)
{
    uint32_t head = (uint32_t)len;
    if (l->state != UP) return ERR_UNAVAILABLE;
    if (len > LINK_RECORD_MAX) return ERR_TOO_LARGE;
    if (link_waiting(l) + len > LINK_WAITING_MAX) return ERR_OVERLOAD;
    if (l->out_at > l->out.len / 2 && l->out_at > READ_MIN) {
        buf_consume(&l->out, l->out_at);
        l->out_at = 0;
    }
    size_t before = l->out.len;
    buf_append(&l->out, &head, sizeof head);
    buf_append(&l->out, data, len);
    if (l->out.failed) { /* half a record must not go out */
        l->out.len = before;
        l->out.failed = false;
        return ERR_OVERLOAD;
    }
    send_soon(l);
    return 0;
}

size_t link_waiting(const struct link *l)
{
    return l->out.len - l->out_at;
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

static void put_proof(struct link *l, const char *who)
{
    uint8_t proof[SHA256_LEN];
    prove(l, who, proof);
    buf_append(&l->out, proof, sizeof proof);
    send_soon(l);
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
    l->in_at += NONCE_LEN + SHA256_LEN;
    put_proof(l, "dialler");
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
        l->in_at += MAGIC_LEN + NONCE_LEN;
        buf_append(&l->out, l->nonce, NONCE_LEN);
        put_proof(l, "acceptor");
        return true;
    }
    if (len < SHA256_LEN) return false;
    if (!proven(l, "dialler", data)) {
        go_down(l, "the other side does not know the platform's key");
        return false;
    }
    l->in_at += SHA256_LEN;
    come_up(l);
    return true;
}

/* ---- reading ---- */

/* One step forward in what has been read; false when more bytes are needed or the link is down. */
static bool take_one(struct link *l)
{
    const char *data = l->in.data + l->in_at;
    size_t len = l->in.len - l->in_at;
    if (l->state == PROVING)
        return l->dialled ? take_proof_dialler(l, data, len) : take_proof_acceptor(l, data, len);
    uint32_t record;
    if (l->state != UP || len < sizeof record) return false;
    memcpy(&record, data, sizeof record);
    if (record > LINK_RECORD_MAX) {
        go_down(l, "a record longer than any may be");
        return false;
    }
    if (len - sizeof record < record) return false;
    l->in_at += sizeof record + record;
    if (l->events.on_record) l->events.on_record(l->events.arg, data + sizeof record, record);
    if (l->refused) go_down(l, l->refused);
    return l->state == UP;
}

/* Room for the rest of the record that has begun, as far as a read may fill it, never for what is only
 * claimed. */
static size_t want_bytes(const struct link *l)
{
    size_t have = l->in.len - l->in_at;
    return have > READ_MIN ? have : READ_MIN; /* at most doubles what has really come */
}

static void compact(struct link *l)
{
    if (l->in_at == l->in.len) {
        l->in_at = 0;
        if (l->in.cap > KEEP_BYTES)
            buf_dispose(&l->in);
        else
            buf_clear(&l->in);
    } else if (l->in_at > 0) {
        buf_consume(&l->in, l->in_at);
        l->in_at = 0;
    }
}

static void fill(struct link *l)
{
    size_t want = want_bytes(l);
    char *room = buf_reserve(&l->in, want);
    if (!room) {
        go_down(l, "no memory to read");
        return;
    }
    ssize_t n = recv(l->fd, room, want, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        go_down(l, n == 0 ? "closed by the other side" : strerror(errno));
        return;
    }
    l->in.len += (size_t)n;
    while (take_one(l)) continue;
    if (!l->freed) compact(l);
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
    buf_append(&l->out, magic, MAGIC_LEN);
    buf_append(&l->out, l->nonce, NONCE_LEN);
    flush(l);
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
