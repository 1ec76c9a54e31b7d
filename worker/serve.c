/* Serving threads. Everything but `in_work`, the counters and the posted functions belongs to the thread's
 * loop. */
#include "worker/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <event2/event.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/priority.h"
#include "queue/link.h"
#include "queue/redis_clock.h"
#include "worker/batcher.h"
#include "worker/engine_batch.h"

/* NAME_LEN: of a socket's name, the random end of the incarnation: paths of sockets are short. */
enum { ACCEPT_PAUSE_MS = 100, NAME_LEN = 12 };

/* A gateway's loop, or one call from inside this process. Its memory stays until nothing of it is in work. */
struct client {
    struct serve *owner;
    struct client *prev, *next;
    struct link *link;       /* NULL once it is gone, and of a call */
    serve_reply_fn on_reply; /* of a call that has not been answered; else NULL */
    void *reply_arg;
    size_t works; /* requests of it in work */
};

struct serve {
    struct serve_config config;
    struct loop *loop; /* owned, as all below */
    pthread_t thread;
    bool started;
    _Atomic int tid; /* 0: it has not run yet */
    char address[LINK_ADDRESS_MAX];
    int fd, timer_fd;
    struct event *acceptable, *resume, *compute, *again, *timer;
    int64_t armed_us; /* when the timer fires; INT64_MAX: not at all */
    struct client *clients;
    struct batcher *batcher;
    struct message_tensor *scratch; /* MESSAGE_TENSORS_MAX */
    uint8_t key[LINK_KEY_LEN];
    bool computing; /* the compute event is on its way */
    _Atomic size_t in_work;
    _Atomic int64_t requests, rows, batches, expired, cancelled, refused, failed, lost;
};

/* ---- clients ---- */

static void client_release(struct client *c)
{
    if (c->link || c->works) return;
    if (c->on_reply) c->on_reply(c->reply_arg, NULL, 0);
    *(c->prev ? &c->prev->next : &c->owner->clients) = c->next;
    if (c->next) c->next->prev = c->prev;
    mem_free(c);
}

/* One request of c less is in work. */
static void work_done(struct client *c)
{
    c->owner->in_work--;
    c->works--;
    client_release(c);
}

static void drop(struct work *w)
{
    struct client *c = w->from;
    work_free(w);
    work_done(c);
}

static void on_down(void *arg, const char *why)
{
    struct client *c = arg;
    struct serve *s = c->owner;
    struct work *w;
    log_debug("link-down", "port=%d reason=\"%s\"", s->config.index, why);
    while ((w = batcher_withdraw_any(s->batcher, c)) != NULL) {
        s->cancelled++;
        work_free(w);
        s->in_work--;
        c->works--;
    }
    link_free(c->link);
    c->link = NULL;
    client_release(c);
}

/* ---- replies ---- */

static void deliver(struct reply *r)
{
    struct client *c = r->to;
    struct record record = {.text = r->record};
    r->next = NULL;
    if (c->on_reply) {
        c->on_reply(c->reply_arg, r->record.data, r->record.len);
        c->on_reply = NULL;
    } else if (c->link && link_send(c->link, &record) != 0) {
        c->owner->lost++; /* a gateway that does not read: its deadlines tell */
        log_warn("reply-lost", "bytes=%zu waiting=%zu", r->record.len, link_waiting(c->link));
    }
    reply_free_list(r);
    work_done(c);
}

/* ---- requests ---- */

static void compute_soon(struct serve *s)
{
    if (s->computing) return;
    s->computing = true;
    event_active(s->compute, EV_READ, 1); /* behind what is readable now */
}

/* A timer of the kernel's, in nanoseconds: the loop's own are cut to milliseconds. One that is set too early
 * only looks once more. */
static void compute_at(struct serve *s, int64_t due_us)
{
    struct itimerspec at = {
        .it_value = {.tv_sec = due_us / 1000000, .tv_nsec = (long)(due_us % 1000000) * 1000}};
    if (due_us >= s->armed_us) return;
    s->armed_us = due_us;
    if (timerfd_settime(s->timer_fd, TFD_TIMER_ABSTIME, &at, NULL) != 0) compute_soon(s);
}

/* Now, or when what is held back for company is due. */
static void compute_when_due(struct serve *s)
{
    int64_t due_us = batcher_due_us(s->batcher);
    if (due_us == 0)
        compute_soon(s);
    else
        compute_at(s, due_us);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct serve *s = arg;
    uint64_t times;
    if (read(fd, &times, sizeof times) != (ssize_t)sizeof times) return;
    s->armed_us = INT64_MAX;
    compute_soon(s);
}

static void refuse(struct work *w, const struct err *e, int code)
{
    struct reply *r = reply_of_error(w, e, code);
    if (r)
        deliver(r);
    else
        work_done(w->from);
    work_free(w);
}

/* len: of its record. */
static void on_predict(struct client *c, const struct message *m, size_t len)
{
    struct serve *s = c->owner;
    struct err e = {0};
    if (m->predict.deadline_us <= redis_clock_us()) {
        s->expired++;
        return;
    }
    struct work *w = work_create(m, c, c->link ? link_keep(c->link, len) : NULL);
    if (!w) {
        s->refused++;
        return; /* the gateway's deadline tells */
    }
    c->works++;
    s->in_work++;
    int rc = batcher_put(s->batcher, w, &e);
    if (rc) {
        s->refused++;
        refuse(w, &e, rc);
        return;
    }
    compute_when_due(s);
}

static void on_cancel(struct client *c, uint64_t request_id)
{
    struct work *w = batcher_withdraw(c->owner->batcher, c, request_id);
    if (!w) return; /* computed already, or never here */
    c->owner->cancelled++;
    drop(w);
}

static void on_record(void *arg, const char *data, size_t len)
{
    struct client *c = arg;
    struct message m;
    struct err e;
    if (message_decode(&m, c->owner->scratch, MESSAGE_TENSORS_MAX, data, len, &e)) {
        log_warn("message-refused", "reason=\"%s\"", e.message);
        link_refuse(c->link, "a malformed message");
        return;
    }
    if (m.type == MESSAGE_PREDICT)
        on_predict(c, &m, len);
    else if (m.type == MESSAGE_PREDICT_CANCEL)
        on_cancel(c, m.predict.request_id);
    else
        link_refuse(c->link, "a message that belongs elsewhere");
}

/* ---- calls from inside this process ---- */

struct inside_call {
    struct serve *s;
    struct buf record; /* owned */
    serve_reply_fn fn;
    void *arg;
};

static void take_call(void *arg)
{
    struct inside_call *k = arg;
    struct serve *s = k->s;
    struct client *c = mem_alloc(1, sizeof *c);
    struct message m;
    struct err e;
    *c = (struct client){.owner = s, .next = s->clients, .on_reply = k->fn, .reply_arg = k->arg, .works = 1};
    if (c->next) c->next->prev = c;
    s->clients = c;
    s->in_work++;
    if (message_decode(&m, s->scratch, MESSAGE_TENSORS_MAX, k->record.data, k->record.len, &e))
        log_warn("message-refused", "reason=\"%s\"", e.message);
    else if (m.type == MESSAGE_PREDICT)
        on_predict(c, &m, k->record.len);
    buf_dispose(&k->record);
    mem_free(k);
    work_done(c); /* the call itself; its request counts for itself */
}

void serve_call(struct serve *s, struct buf *record, serve_reply_fn fn, void *arg)
{
    struct inside_call *k = mem_alloc(1, sizeof *k);
    *k = (struct inside_call){.s = s, .record = *record, .fn = fn, .arg = arg};
    *record = (struct buf){0};
    loop_post(s->loop, take_call, k);
}

/* ---- computing ---- */

/* The model left between the gateway's choice and now: ask another worker. */
static void answer_stale(struct serve *s, struct work *batch)
{
    struct err e = {0};
    err_set(&e, ERR_STALE, NULL, "this worker does not hold the model version any more");
    engine__loader_disown(s->config.loader, batch->message.predict.version_id);
    for (struct work *w = batch, *next; w; w = next) {
        next = w->next;
        refuse(w, &e, ERR_STALE);
    }
}

static void refuse_all(struct serve *s, struct work *batch, const struct err *e, int code)
{
    for (struct work *w = batch, *next; w; w = next) {
        next = w->next;
        s->refused++;
        refuse(w, e, code);
    }
}

static void run(struct serve *s, struct resident *m, struct work *batch)
{
    struct batch_counts counts = {0};
    struct model_session *session;
    struct err e = {0};
    if (model_cache_session(s->config.cache, m, s->config.index, &session, &e) != 0) {
        refuse_all(s, batch, &e, ERR_OVERLOAD);
        return;
    }
    struct reply *replies = engine__batch_run(session, model_signature(m->model), batch, &counts);
    s->requests += counts.requests;
    s->rows += counts.rows;
    s->batches += counts.runs;
    s->failed += counts.failed;
    batcher_took(s->batcher, batch->message.predict.version_id, counts.rows, counts.compute_us);
    atomic_fetch_add_explicit(&m->cost.requests, counts.requests, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->cost.compute_us, counts.compute_us, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->cost.queue_us, counts.queue_us, memory_order_relaxed);
    for (struct work *w = batch, *next; w; w = next) {
        next = w->next;
        if (!w->answered) work_done(w->from); /* no memory even for an error */
        work_free(w);
    }
    for (struct reply *r = replies, *next; r; r = next) {
        next = r->next;
        deliver(r);
    }
}

/* A version id names one tenant's model, but what stands in the message decides nothing: requests of a tenant
 * that does not own the model are split off and told that there is none. */
static void compute(struct serve *s, struct work *batch)
{
    struct work *mine = NULL, **mine_tail = &mine, *others = NULL;
    char tenant_id[ID_MAX];
    memcpy(tenant_id, batch->message.predict.tenant_id, ID_MAX);
    for (struct work *w = batch, *next; w; w = next) {
        next = w->next;
        bool same = strcmp(w->message.predict.tenant_id, tenant_id) == 0;
        w->next = same ? NULL : others;
        if (same) {
            *mine_tail = w;
            mine_tail = &w->next;
        } else
            others = w;
    }
    struct resident *m = model_cache_acquire(s->config.cache, tenant_id, batch->message.predict.version_id);
    if (m) {
        run(s, m, mine);
        model_cache_release(s->config.cache, m);
    } else
        answer_stale(s, mine);
    if (others) compute(s, others);
}

static void on_compute(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct serve *s = arg;
    struct work *batch, *expired;
    s->computing = false;
    batcher_take(s->batcher, clock_mono_us(), &batch, &expired);
    for (struct work *w = expired, *next; w; w = next) {
        next = w->next;
        s->expired++;
        drop(w);
    }
    if (batch) compute(s, batch);
    if (s->computing) return;
    if (batcher_due_us(s->batcher) > 0) {
        compute_at(s, batcher_due_us(s->batcher));
        return;
    }
    s->computing = true;
    event_add(s->again, &(struct timeval){0}); /* the sockets first */
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
    on_compute(fd, what, arg);
}

/* ---- the port ---- */

static void welcome(struct serve *s, int fd)
{
    struct client *c = mem_try_alloc(1, sizeof *c);
    struct link_events events = {.on_record = on_record, .on_down = on_down, .arg = c};
    struct err e;
    if (!c) {
        close(fd);
        return;
    }
    c->owner = s;
    if (link_accept(&c->link, s->loop, fd, s->key, &events, &e)) {
        log_warn("link-refused", "reason=\"%s\"", e.message);
        mem_free(c);
        return;
    }
    c->next = s->clients;
    if (c->next) c->next->prev = c;
    s->clients = c;
}

static void on_acceptable(evutil_socket_t listening, short what, void *arg)
{
    (void)what;
    struct serve *s = arg;
    int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        welcome(s, fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        log_warn("link-refused", "reason=\"%s\"", strerror(errno));
        event_del(s->acceptable);
        event_add(s->resume, &(struct timeval){.tv_usec = ACCEPT_PAUSE_MS * 1000});
    }
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct serve *s = arg;
    event_add(s->acceptable, NULL);
}

/* Where thread `index` listens, as the option says: a socket of its own name, in a folder or without, or
 * ports one after another. */
static int address_of(struct serve *s, struct err *e)
{
    const struct engine_config *c = s->config.engine;
    const char *colon = strrchr(c->listen, ':');
    int len, port;
    if (strncmp(c->listen, "unix:", 5) == 0)
        len = snprintf(s->address, sizeof s->address, "%s%c%s-%d", c->listen, c->listen[5] == '@' ? '-' : '/',
                       c->inc + strlen(c->inc) - NAME_LEN, s->config.index);
    else if (colon && sscanf(colon + 1, "%d", &port) == 1 && port >= 0 && port + s->config.index < 65536)
        len = snprintf(s->address, sizeof s->address, "%.*s:%d", (int)(colon - c->listen), c->listen,
                       port ? port + s->config.index : 0);
    else
        return err_set(e, ERR_INVALID, "predict-listen",
                       "\"%.100s\" is none of unix:@name, unix:/folder and host:port", c->listen);
    if (len >= (int)sizeof s->address)
        return err_set(e, ERR_INVALID, "predict-listen", "\"%.60s…\" is too long for an address", c->listen);
    return 0;
}

/* What gateways are told: the port that the kernel chose, and the host that they can reach. */
static void advertise(struct serve *s)
{
    const char *host = s->config.engine->advertise, *colon = strrchr(s->address, ':');
    struct link_address bound = {.len = sizeof bound.sockaddr};
    if (strncmp(s->address, "unix:", 5) == 0) return;
    if (getsockname(s->fd, &bound.sockaddr.any, &bound.len) != 0) return;
    char text[LINK_ADDRESS_MAX];
    int port = ntohs(bound.sockaddr.any.sa_family == AF_INET6 ? bound.sockaddr.in6.sin6_port
                                                              : bound.sockaddr.in4.sin_port);
    if (host && host[0])
        snprintf(text, sizeof text, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
    else
        snprintf(text, sizeof text, "%.*s:%d", (int)(colon - s->address), s->address, port);
    memcpy(s->address, text, sizeof text);
}

static int open_port(struct serve *s, struct err *e)
{
    struct link_address a;
    int rc = address_of(s, e);
    if (rc == 0) rc = link_address_parse(&a, s->address, e);
    if (rc == 0) rc = link_listen(&s->fd, &a, e);
    if (rc) return rc;
    advertise(s);
    return 0;
}

/* ---- life ---- */

static void close_all(struct serve *s)
{
    struct event *events[] = {s->acceptable, s->resume, s->compute, s->again, s->timer};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i]) event_free(events[i]);
    batcher_free(s->batcher);
    for (struct client *c = s->clients, *next; c; c = next) {
        next = c->next;
        link_free(c->link);
        mem_free(c);
    }
    if (s->timer_fd >= 0) close(s->timer_fd);
    if (s->fd >= 0) close(s->fd);
    if (s->fd >= 0 && strncmp(s->address, "unix:/", 6) == 0) unlink(s->address + 5);
}

int serve_create(struct serve **out, const struct serve_config *config, struct err *e)
{
    const struct engine_config *c = config->engine;
    struct serve *s = mem_alloc(1, sizeof *s);
    size_t threads = (size_t)c->predict_threads;
    *out = NULL;
    s->config = *config;
    s->fd = s->timer_fd = -1;
    s->armed_us = INT64_MAX;
    int rc = open_port(s, e);
    if (rc == 0) rc = loop_create(&s->loop, e);
    if (rc) {
        serve_free(s);
        return rc;
    }
    link_key(s->key, c->redis);
    s->scratch = mem_alloc(MESSAGE_TENSORS_MAX, sizeof *s->scratch);
    s->batcher = batcher_create(c->waiting_max / threads, c->waiting_bytes_max / threads, c->batch_rows_max);
    struct event_base *base = loop_base(s->loop);
    s->acceptable = event_new(base, s->fd, EV_READ | EV_PERSIST, on_acceptable, s);
    s->resume = evtimer_new(base, on_resume, s);
    s->compute = event_new(base, -1, 0, on_compute, s);
    s->again = evtimer_new(base, on_again, s);
    s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    s->timer = s->timer_fd < 0 ? NULL : event_new(base, s->timer_fd, EV_READ | EV_PERSIST, on_timer, s);
    if (!s->acceptable || !s->resume || !s->compute || !s->again || !s->timer) {
        serve_free(s);
        return err_set(e, ERR_NOMEM, NULL, "no memory or no descriptors for a serving thread");
    }
    event_add(s->acceptable, NULL);
    event_add(s->timer, NULL);
    *out = s;
    return 0;
}

static void *run_loop(void *arg)
{
    struct serve *s = arg;
    s->tid = gettid();
    priority_prompt();
    loop_run(s->loop);
    return NULL;
}

int serve_start(struct serve *s, struct err *e)
{
    if (pthread_create(&s->thread, NULL, run_loop, s))
        return err_errno(e, ERR_INTERNAL, "start serving thread %d", s->config.index);
    s->started = true;
    return 0;
}

void serve_free(struct serve *s)
{
    if (!s) return;
    if (s->started) {
        loop_stop(s->loop);
        pthread_join(s->thread, NULL);
    }
    close_all(s);
    loop_free(s->loop);
    mem_free(s->scratch);
    mem_free(s);
}

/* ---- telling ---- */

const char *serve_address(const struct serve *s)
{
    return s->address;
}

size_t serve_in_work(const struct serve *s)
{
    return s->in_work;
}

/* Where the kernel does not tell how long the thread waited for a processor, what it took is all there is. */
int64_t serve_wanted_us(const struct serve *s)
{
    char path[64], text[64] = "";
    long long ran_ns = 0, waited_ns = 0;
    clockid_t clock;
    struct timespec t = {0};
    if (!s->tid) return 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", s->tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (n > 0 && sscanf(text, "%lld %lld", &ran_ns, &waited_ns) == 2) return (ran_ns + waited_ns) / 1000;
    if (pthread_getcpuclockid(s->thread, &clock) == 0) clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void serve_add_stats(const struct serve *s, struct serve_stats *sum)
{
    sum->requests += s->requests;
    sum->rows += s->rows;
    sum->batches += s->batches;
    sum->expired += s->expired;
    sum->cancelled += s->cancelled;
    sum->refused += s->refused;
    sum->failed += s->failed;
    sum->lost += s->lost;
}
