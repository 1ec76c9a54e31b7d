/* An open-loop load generator: requests start when their time has come, whether or not earlier ones were
 * answered, and a latency counts from when the request was due. So a stall of the server is seen by every
 * request that would have met it.
 *
 *   poisson HOST PORT REQUEST_FILE RATE SECONDS CONNECTIONS poisson|uniform SEED
 *
 * REQUEST_FILE holds one whole HTTP/1.1 request. Prints a JSON line:
 * {"sent","answered","failed","p50_us","p99_us","p999_us", "max_us"}. A request that finds no free connection
 * waits for one, and its clock runs. One thread, epoll. */
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

enum { CONNECTIONS_MAX = 4096, REPLY_MAX = 1 << 18, EVENTS = 256, GRACE_NS = 2000000000 };

struct conn {
    int fd;
    int64_t due_ns; /* of the request under way; 0: free */
    size_t written, got;
    char *reply; /* owned, REPLY_MAX bytes */
};

struct load {
    struct sockaddr_in at;
    char *request; /* owned */
    size_t request_len;
    struct conn *conns;
    int conns_len, epoll, timer;
    int *free_list, free_len;
    int64_t *due; /* when each request is to start, from the beginning */
    size_t requests, next, ended, answered, failed;
    int64_t *latency_ns;
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

static void plan_arrivals(struct load *l, double rate, double seconds, bool poisson, uint64_t seed)
{
    size_t cap = (size_t)(rate * seconds * 1.5) + 1000;
    double at = 0;
    l->due = calloc(cap, sizeof *l->due);
    l->latency_ns = calloc(cap, sizeof *l->latency_ns);
    if (!l->due || !l->latency_ns) die("plan");
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
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&l->at, sizeof l->at) != 0) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = (uint32_t)i};
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &ev) != 0) die("epoll");
    c->due_ns = 0;
    c->got = 0;
    l->free_list[l->free_len++] = i;
}

static void conn_end(struct load *l, struct conn *c, bool ok, bool reopen)
{
    if (c->due_ns) {
        if (ok)
            l->latency_ns[l->answered++] = now_ns() - c->due_ns;
        else
            l->failed++;
        l->ended++;
    }
    c->due_ns = 0;
    c->got = 0;
    if (reopen) {
        close(c->fd);
        conn_open(l, (int)(c - l->conns));
    } else
        l->free_list[l->free_len++] = (int)(c - l->conns);
}

static void conn_write(struct load *l, struct conn *c)
{
    while (c->due_ns && c->written < l->request_len) {
        ssize_t n = write(c->fd, l->request + c->written, l->request_len - c->written);
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

static void conn_read(struct load *l, struct conn *c)
{
    for (;;) {
        ssize_t n = read(c->fd, c->reply + c->got, REPLY_MAX - c->got);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            bool was_free = c->due_ns == 0;
            for (int i = 0; was_free && i < l->free_len; i++)
                if (&l->conns[l->free_list[i]] == c) l->free_list[i--] = l->free_list[--l->free_len];
            conn_end(l, c, false, true);
            return;
        }
        c->got += (size_t)n;
        size_t whole = reply_length(c);
        if (whole == 0 || c->got < whole) continue;
        bool ok = strncmp(c->reply, "HTTP/1.1 200", 12) == 0;
        conn_end(l, c, ok, memmem(c->reply, whole, "\r\nConnection: close", 19) != NULL);
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
        struct conn *c = &l->conns[l->free_list[--l->free_len]];
        c->due_ns = begin + l->due[l->next++];
        c->written = 0;
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

static double quantile_us(const struct load *l, double q)
{
    if (!l->answered) return 0;
    size_t i = (size_t)(q * (double)l->answered);
    return (double)l->latency_ns[i < l->answered ? i : l->answered - 1] / 1e3;
}

static void read_request(struct load *l, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0) die(path);
    l->request_len = (size_t)ftell(f);
    rewind(f);
    l->request = malloc(l->request_len + 1);
    if (!l->request || fread(l->request, 1, l->request_len, f) != l->request_len) die(path);
    fclose(f);
}

int main(int argc, char **argv)
{
    struct load l = {0};
    if (argc != 9 || (l.conns_len = atoi(argv[6])) < 1 || l.conns_len > CONNECTIONS_MAX) {
        fprintf(stderr,
                "usage: poisson HOST PORT REQUEST_FILE RATE SECONDS CONNECTIONS poisson|uniform SEED\n");
        return 2;
    }
    l.at = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &l.at.sin_addr) != 1) die(argv[1]);
    read_request(&l, argv[3]);
    plan_arrivals(&l, atof(argv[4]), atof(argv[5]), strcmp(argv[7], "poisson") == 0,
                  strtoul(argv[8], NULL, 10));
    if (l.requests == 0) return 2;
    l.epoll = epoll_create1(EPOLL_CLOEXEC);
    l.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    if (epoll_ctl(l.epoll, EPOLL_CTL_ADD, l.timer, &ev) != 0) die("timer");
    l.conns = calloc((size_t)l.conns_len, sizeof *l.conns);
    l.free_list = calloc((size_t)l.conns_len, sizeof *l.free_list);
    for (int i = 0; i < l.conns_len; i++) {
        l.conns[i].reply = malloc(REPLY_MAX);
        conn_open(&l, i);
    }
    run(&l);
    qsort(l.latency_ns, l.answered, sizeof *l.latency_ns, compare);
    printf("{\"sent\":%zu,\"answered\":%zu,\"failed\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,"
           "\"max_us\":%.1f}\n",
           l.requests, l.answered, l.failed, quantile_us(&l, 0.5), quantile_us(&l, 0.99),
           quantile_us(&l, 0.999), quantile_us(&l, 1));
    return 0;
}
