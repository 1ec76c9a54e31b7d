/* An open-loop load generator: requests start when their time has come, whether or not earlier ones were
 * answered, and a latency counts from when the request was due. So a stall of the server is seen by every
 * request that would have met it.
 *
 *   poisson HOST PORT REQUEST_FILE RATE SECONDS CONNECTIONS poisson|uniform SEED [OUTCOMES [PICKS]]
 *
 * REQUEST_FILE holds one whole HTTP/1.1 request, or with PICKS many, one after another: then each arrival
 * takes the next pick of that file, two u32 that say where in REQUEST_FILE its request begins and how long it
 * is. OUTCOMES is written: per request struct outcome, in order of their ends. Prints a JSON line:
 *   "sent", "answered", "failed"
 *   "p50_us", "p99_us", "p999_us", "max_us": of the answered (200), from when they were due
 *   "limited" (429), "busy" (503), "untold" (either of them without a Retry-After), "retry_most_s" (the
 *     largest of those), "expired" (504): of the failed
 *   "expired_p50_us", "expired_p99_us", "expired_max_us": from a request's first byte written to its 504
 *   "own_late_p50_us", "own_late_p99_us", "own_late_max_us": how long after it was due, and a connection was
 *     free, a request's first byte was written. That is this program's own lateness at moments that nothing
 *     chose, so that it also tells how late it saw its answers
 *   "cpu_s": that it took itself
 *
 * Arrivals stand for many callers who know nothing of each other, so a request takes the connection that has
 * been free the longest; one that finds none waits for it, and its clock runs. One thread, epoll. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4096, PER_ADDRESS = 128, REPLY_MAX = 1 << 18, EVENTS = 256, GRACE_NS = 2000000000 };

struct pick {
    uint32_t at, len;
};

/* When it was due by the wall clock, and how long it took from then on, and from its first byte written. */
struct outcome {
    uint32_t request, status; /* its number, from 0, in order of arrival; 0: the connection broke */
    int64_t due_wall_ns, latency_ns, taken_ns;
};

struct conn {
    int fd;
    size_t request; /* its number */
    int64_t due_ns; /* of the request under way; 0: free */
    int64_t begun_ns, freed_ns;
    size_t written, got;
    char *reply; /* owned, REPLY_MAX bytes */
};

struct sample {
    int64_t *ns; /* owned, room for every request */
    size_t len;
};

struct load {
    struct sockaddr_in at;
    char *texts; /* of the requests; owned, as all pointers here */
    struct pick *picks;
    size_t picks_len;
    FILE *outcomes; /* NULL: nobody wants them */
    struct conn *conns;
    int conns_len, epoll, timer;
    int *free_ring, free_first, free_len; /* from the one that has been free the longest */
    int64_t *due;                         /* when each request is to start, from the beginning */
    size_t requests, next, ended, failed;
    size_t limited, busy, untold; /* of the failed: 429; 503; either of them without Retry-After */
    long retry_most_s;            /* the largest Retry-After */
    struct sample answered, expired, own_late;
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* splitmix64: small, and good enough for arrivals. */
static double uniform01(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static void sample_init(struct sample *s, size_t cap)
{
    s->ns = calloc(cap, sizeof *s->ns);
    if (!s->ns) die("plan");
}

static void sample_add(struct sample *s, int64_t ns)
{
    s->ns[s->len++] = ns;
}

static void plan_arrivals(struct load *l, double rate, double seconds, bool poisson, uint64_t seed)
{
    size_t cap = (size_t)(rate * seconds * 1.5) + 1000;
    double at = 0;
    l->due = calloc(cap, sizeof *l->due);
    if (!l->due) die("plan");
    sample_init(&l->answered, cap);
    sample_init(&l->expired, cap);
    sample_init(&l->own_late, cap);
    while (l->requests < cap) {
        at += (poisson ? -log(uniform01(&seed)) : 1.0) / rate;
        if (at > seconds) break;
        l->due[l->requests++] = (int64_t)(at * 1e9);
    }
}

/* ---- connections ---- */

static void conn_open(struct load *l, int i)
{
    struct conn *c = &l->conns[i];
    int one = 1;
    /* On loopback from many addresses, since servers bound the connections of one. */
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(i / PER_ADDRESS))};
    bool local = l->at.sin_addr.s_addr == htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (local && bind(c->fd, (struct sockaddr *)&from, sizeof from) != 0) die("bind");
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&l->at, sizeof l->at) != 0) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = (uint32_t)i};
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &ev) != 0) die("epoll");
}

static void conn_set_free(struct load *l, int i)
{
    l->conns[i].due_ns = 0;
    l->conns[i].freed_ns = now_ns();
    l->free_ring[(l->free_first + l->free_len++) % l->conns_len] = i;
}

static struct conn *conn_take(struct load *l)
{
    struct conn *c = &l->conns[l->free_ring[l->free_first]];
    l->free_first = (l->free_first + 1) % l->conns_len;
    l->free_len--;
    return c;
}

static void tell_outcome(const struct load *l, const struct conn *c, unsigned status, int64_t end_ns)
{
    struct timespec wall;
    int64_t latency_ns = end_ns - c->due_ns;
    if (!l->outcomes) return;
    clock_gettime(CLOCK_REALTIME, &wall);
    struct outcome o = {(uint32_t)c->request, status,
                        (int64_t)wall.tv_sec * 1000000000 + wall.tv_nsec - latency_ns, latency_ns,
                        end_ns - c->begun_ns};
    if (fwrite(&o, sizeof o, 1, l->outcomes) != 1) die("outcomes");
}

/* status: of its answer; 0: the connection broke. A free one that broke keeps its place among the free. */
static void conn_end(struct load *l, struct conn *c, unsigned status, bool reopen)
{
    int64_t end_ns = now_ns();
    bool was_free = c->due_ns == 0;
    if (!was_free) {
        tell_outcome(l, c, status, end_ns);
        if (status == 200)
            sample_add(&l->answered, end_ns - c->due_ns);
        else
            l->failed++;
        if (status == 504) sample_add(&l->expired, end_ns - c->begun_ns);
        l->ended++;
    }
    c->got = 0;
    if (reopen) {
        close(c->fd);
        conn_open(l, (int)(c - l->conns));
    }
    if (!was_free) conn_set_free(l, (int)(c - l->conns));
}

static void conn_write(struct load *l, struct conn *c)
{
    const struct pick *p = &l->picks[c->request % l->picks_len];
    while (c->due_ns && c->written < p->len) {
        ssize_t n = write(c->fd, l->texts + p->at + c->written, p->len - c->written);
        if (n <= 0) return; /* a broken one is noticed by the read */
        c->written += (size_t)n;
    }
}

/* Length of the whole response when its head is there, else 0. */
static size_t reply_length(const struct conn *c)
{
    const char *end = memmem(c->reply, c->got, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = (size_t)(end - c->reply) + 4;
    for (const char *p = c->reply; p < end; p = (const char *)memchr(p, '\n', (size_t)(end + 2 - p)) + 1)
        if (strncasecmp(p, "content-length:", 15) == 0) return head + (size_t)strtoul(p + 15, NULL, 10);
    return head;
}

/* The reply is there from "HTTP/1.1 " on. */
static unsigned status_of(const struct conn *c)
{
    return (unsigned)strtoul(c->reply + 9, NULL, 10);
}

/* A refusal: of which kind, and whether it says when to come back. */
static void count_refusal(struct load *l, const struct conn *c, unsigned status, size_t whole)
{
    if (status != 429 && status != 503) return;
    const char *again = memmem(c->reply, whole, "\r\nRetry-After: ", 15);
    long after_s = again ? strtol(again + 15, NULL, 10) : 0;
    *(status == 429 ? &l->limited : &l->busy) += 1;
    if (after_s < 1) l->untold++;
    if (after_s > l->retry_most_s) l->retry_most_s = after_s;
}

static void conn_read(struct load *l, struct conn *c)
{
    for (;;) {
        ssize_t n = read(c->fd, c->reply + c->got, REPLY_MAX - c->got);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            conn_end(l, c, 0, true);
            return;
        }
        c->got += (size_t)n;
        size_t whole = reply_length(c);
        if (whole == 0 || c->got < whole) continue;
        unsigned status = status_of(c);
        count_refusal(l, c, status, whole);
        conn_end(l, c, status, memmem(c->reply, whole, "\r\nConnection: close", 19) != NULL);
        return;
    }
}

/* ---- the run ---- */

static void arm(struct load *l, int64_t at_ns)
{
    struct itimerspec t = {.it_value = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000}};
    timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &t, NULL);
}

static void send_due(struct load *l, int64_t begin)
{
    while (l->next < l->requests && l->free_len > 0 && begin + l->due[l->next] <= now_ns()) {
        struct conn *c = conn_take(l);
        c->request = l->next;
        c->due_ns = begin + l->due[l->next++];
        c->written = 0;
        c->begun_ns = now_ns();
        sample_add(&l->own_late, c->begun_ns - (c->freed_ns > c->due_ns ? c->freed_ns : c->due_ns));
        conn_write(l, c);
    }
    if (l->next < l->requests && l->free_len > 0) arm(l, begin + l->due[l->next]);
}

static void run(struct load *l)
{
    struct epoll_event events[EVENTS];
    int64_t begin = now_ns(), give_up = begin + l->due[l->requests - 1] + GRACE_NS;
    uint64_t ticks;
    while (l->ended < l->requests && now_ns() < give_up) {
        send_due(l, begin);
        int n = epoll_wait(l->epoll, events, EVENTS, 100);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u32 == UINT32_MAX) {
                if (read(l->timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timer");
                continue;
            }
            struct conn *c = &l->conns[events[i].data.u32];
            conn_write(l, c);
            conn_read(l, c);
        }
    }
    l->failed += l->requests - l->ended; /* never answered */
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Of a sample that is in order. */
static double quantile_us(const struct sample *s, double q)
{
    if (!s->len) return 0;
    size_t i = (size_t)(q * (double)s->len);
    return (double)s->ns[i < s->len ? i : s->len - 1] / 1e3;
}

static char *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0) die(path);
    *len = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(*len + 1);
    if (!data || fread(data, 1, *len, f) != *len) die(path);
    fclose(f);
    return data;
}

static void read_requests(struct load *l, const char *path, const char *picks)
{
    size_t len, picks_bytes = sizeof *l->picks;
    l->texts = read_file(path, &len);
    l->picks = picks ? (struct pick *)(void *)read_file(picks, &picks_bytes) : malloc(sizeof *l->picks);
    if (!l->picks) die("picks");
    if (!picks) *l->picks = (struct pick){0, (uint32_t)len};
    l->picks_len = picks_bytes / sizeof *l->picks;
    for (size_t i = 0; i < l->picks_len; i++)
        if ((size_t)l->picks[i].at + l->picks[i].len > len) l->picks_len = 0;
    if (!l->picks_len) {
        fprintf(stderr, "poisson: the picks do not fit the requests\n");
        exit(2);
    }
}

static void report(struct load *l)
{
    struct sample *samples[] = {&l->answered, &l->expired, &l->own_late}, *a = &l->answered, *x = &l->expired,
                  *own = &l->own_late;
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        qsort(samples[i]->ns, samples[i]->len, sizeof *samples[i]->ns, compare);
    printf("{\"sent\":%zu,\"answered\":%zu,\"failed\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,"
           "\"max_us\":%.1f,\"limited\":%zu,\"busy\":%zu,\"untold\":%zu,\"retry_most_s\":%ld,",
           l->requests, a->len, l->failed, quantile_us(a, 0.5), quantile_us(a, 0.99), quantile_us(a, 0.999),
           quantile_us(a, 1), l->limited, l->busy, l->untold, l->retry_most_s);
    printf("\"expired\":%zu,\"expired_p50_us\":%.1f,\"expired_p99_us\":%.1f,\"expired_max_us\":%.1f,"
           "\"own_late_p50_us\":%.1f,\"own_late_p99_us\":%.1f,\"own_late_max_us\":%.1f,\"cpu_s\":%.3f}\n",
           x->len, quantile_us(x, 0.5), quantile_us(x, 0.99), quantile_us(x, 1), quantile_us(own, 0.5),
           quantile_us(own, 0.99), quantile_us(own, 1), (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
}

static void open_all(struct load *l)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->timer, &ev) != 0) die("timer");
    l->conns = calloc((size_t)l->conns_len, sizeof *l->conns);
    l->free_ring = calloc((size_t)l->conns_len, sizeof *l->free_ring);
    if (!l->conns || !l->free_ring) die("connections");
    for (int i = 0; i < l->conns_len; i++) {
        if (!(l->conns[i].reply = malloc(REPLY_MAX))) die("connections");
        conn_open(l, i);
        conn_set_free(l, i);
    }
}

int main(int argc, char **argv)
{
    struct load l = {0};
    if (argc < 9 || argc > 11 || (l.conns_len = atoi(argv[6])) < 1 || l.conns_len > CONNECTIONS_MAX) {
        fprintf(stderr, "usage: poisson HOST PORT REQUEST_FILE RATE SECONDS CONNECTIONS poisson|uniform SEED "
                        "[OUTCOMES [PICKS]]\n");
        return 2;
    }
    l.at = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &l.at.sin_addr) != 1) die(argv[1]);
    read_requests(&l, argv[3], argc == 11 ? argv[10] : NULL);
    if (argc > 9 && !(l.outcomes = fopen(argv[9], "wb"))) die(argv[9]);
    plan_arrivals(&l, atof(argv[4]), atof(argv[5]), strcmp(argv[7], "poisson") == 0,
                  strtoul(argv[8], NULL, 10));
    if (l.requests == 0) return 2;
    open_all(&l);
    run(&l);
    if (l.outcomes && fclose(l.outcomes) != 0) die(argv[9]);
    report(&l);
    return 0;
}
