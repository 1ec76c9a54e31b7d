/* Copies of calls in flight, each waiting for its answer and for the primary's, whichever comes first. */
#include "gateway/predict/shadow.h"

#include <string.h>
#include <event2/event.h>
#include "base/clock.h"
#include "base/mem.h"
#include "gateway/http/envelope.h"
#include "gateway/predict/compare.h"
#include "queue/redis_clock.h"

/* CALL_MAX: a larger call, or answer, would hold the loop up with its copying. WANTED_MS: so long a holder is
 * looked for after a call that found none. */
enum { SWEEP_MS = 100, CALL_MAX = 4 << 20, WANTED_MS = 5000 };

/* Both answers are kept as they come; once both are there, they are compared when the loop has done what is
 * due. It is dropped when its deadline has passed, or its worker is lost. */
enum side { PRIMARY, COPY, SIDES };
struct shadow {
    uint64_t id, primary_id;
    struct shared_route *route; /* of the shadow's version; a reference */
    struct arms *arms;          /* a reference */
    struct port *port;          /* who has it; NULL once it has answered */
    int64_t sent_us, deadline_us;
    int64_t rows;
    size_t record_bytes;
    struct buf kept[SIDES]; /* their answers, as records; owned */
    struct shadow *next;
};

/* A version that no worker holds, asked for because a shadow was due. */
struct wanted {
    struct shared_route *route; /* a reference */
    int64_t until_ms;
    struct wanted *next;
};

struct shadows {
    struct predict *p;
    struct event *sweep, *compare;
    struct shadow *first;
    struct wanted *wanted;
    size_t n, bytes;
    struct message_tensor *tensors[SIDES]; /* MESSAGE_TENSORS_MAX each; owned */
};

/* ---- the list ---- */

static void leave_port(struct shadow *d)
{
    if (d->port) d->port->outstanding--;
    d->port = NULL;
}

static size_t bytes_of(const struct shadow *d)
{
    return d->record_bytes + d->kept[PRIMARY].len + d->kept[COPY].len;
}

static void drop(struct shadows *s, struct shadow *d)
{
    struct shadow **slot = &s->first;
    while (*slot != d) slot = &(*slot)->next;
    *slot = d->next;
    s->n--;
    s->bytes -= bytes_of(d);
    leave_port(d);
    shared_route_release(d->route);
    arms_close(d->arms);
    buf_dispose(&d->kept[PRIMARY]);
    buf_dispose(&d->kept[COPY]);
    mem_free(d);
}

static struct shadow *find_primary(struct shadows *s, uint64_t primary_id)
{
    struct shadow *d = s->first;
    while (d && d->primary_id != primary_id) d = d->next;
    return d;
}

/* ---- sending ---- */

static void skip(struct arms *a)
{
    a->counts.skipped++;
    a->dirty = true;
}

static void want(struct shadows *s, struct shared_route *route)
{
    struct wanted *w = s->wanted;
    while (w && w->route != route) w = w->next;
    if (!w) {
        w = mem_alloc(1, sizeof *w);
        w->route = route;
        route->refs++;
        w->next = s->wanted;
        s->wanted = w;
        holders_want(s->p->holders, route->route.tenant_id, route->route.version_id, route->route.bytes);
    }
    w->until_ms = clock_mono_ms() + WANTED_MS;
}

static void unwant_until(struct shadows *s, int64_t now_ms)
{
    for (struct wanted **slot = &s->wanted; *slot;) {
        struct wanted *w = *slot;
        if (w->until_ms > now_ms) {
            slot = &w->next;
            continue;
        }
        *slot = w->next;
        holders_unwant(s->p->holders, w->route->route.version_id);
        shared_route_release(w->route);
        mem_free(w);
    }
}

/* What one tenant has in flight: copies, of these at one port, and bytes. */
struct load {
    size_t n, at_port, bytes;
};

static struct load load_of(const struct shadows *s, const char *tenant_id, const struct port *port)
{
    struct load l = {0};
    for (const struct shadow *d = s->first; d; d = d->next) {
        if (strcmp(d->route->route.tenant_id, tenant_id) != 0) continue;
        l.n++;
        l.at_port += port && d->port == port;
        l.bytes += bytes_of(d);
    }
    return l;
}

/* How much more a tenant may take of what all share: with it, as much is free as the tenant has. So one alone
 * gets half, two a third each, and whoever has nothing yet finds something left. */
static size_t share(size_t most, size_t taken, size_t of_tenant)
{
    size_t used = taken + of_tenant;
    return used < most ? (most - used) / 2 : 0;
}

static bool has_room(const struct shadows *s, const struct predict_request *r)
{
    struct load l = load_of(s, r->tenant_id, NULL);
    size_t len = record_len(&r->record);
    return share(SHADOWS_MAX, s->n, l.n) > 0 && len <= CALL_MAX &&
           len <= share(SHADOW_BYTES_MAX, s->bytes, l.bytes);
}

static bool is_busy(const struct shadows *s, const struct predict_request *r, const struct port *port)
{
    return share(SHADOW_BUSY, (size_t)port->outstanding, load_of(s, r->tenant_id, port).at_port) == 0;
}

/* r's record with another version and number, to that port. */
static bool send_record(const struct predict_request *r, uint64_t id, struct port *port)
{
    struct record copy = {0};
    record_copy(&copy, &r->record);
    bool good = !copy.text.failed;
    if (good) message_readdress(&copy.text, id, r->shadow->route.version_id);
    good = good && link_send(port->link, &copy) == 0;
    record_dispose(&copy);
    return good;
}

static bool send_copy(struct shadows *s, struct predict_request *r)
{
    uint64_t id = s->p->next_id;
    if (r->state != REQUEST_SENT || !has_room(s, r)) return false;
    struct port *port = holders_pick(s->p->holders, r->shadow->route.version_id);
    if (!port) want(s, r->shadow);
    bool sent = port && !is_busy(s, r, port) && send_record(r, id, port);
    if (sent) {
        struct shadow *d = mem_alloc(1, sizeof *d);
        *d = (struct shadow){.id = id,
                             .primary_id = r->id,
                             .route = r->shadow,
                             .arms = arms_share(r->arms),
                             .port = port,
                             .sent_us = clock_mono_us(),
                             .deadline_us = r->deadline_us,
                             .rows = r->infer.rows,
                             .record_bytes = record_len(&r->record),
                             .next = s->first};
        s->p->next_id++;
        r->shadow->refs++;
        port->outstanding++;
        s->first = d;
        s->n++;
        s->bytes += d->record_bytes;
    }
    return sent;
}

void shadow_send(struct predict_request *r)
{
    r->shadowed = send_copy(r->owner->shadows, r);
    if (!r->shadowed) skip(r->arms);
}

/* ---- both answers ---- */

static void compare(struct shadow *d, const struct message *a, const struct message *b)
{
    struct rollout_counts *c = &d->arms->counts;
    struct comparison found = {0};
    if (a->reply.code == 0 && b->reply.code == 0)
        found = compare_answers(a->tensors, a->tensors_len, b->tensors, b->tensors_len, d->route->tolerance);
    c->compared++;
    if (!found.equal) c->disagreements++;
    if (found.largest > c->largest_difference) c->largest_difference = found.largest;
    d->arms->dirty = true;
}

static bool has_both(const struct shadow *d)
{
    return d->kept[PRIMARY].len > 0 && d->kept[COPY].len > 0;
}

static void on_compare(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct shadows *s = arg;
    struct message m[SIDES];
    for (struct shadow *d = s->first, *next; d; d = next) {
        next = d->next;
        if (!has_both(d)) continue;
        int rc = 0;
        for (size_t i = 0; i < SIDES && rc == 0; i++)
            rc = message_decode(&m[i], s->tensors[i], MESSAGE_TENSORS_MAX, d->kept[i].data, d->kept[i].len,
                                NULL);
        if (rc == 0) compare(d, &m[PRIMARY], &m[COPY]);
        drop(s, d);
    }
}

/* m's tensors are whoever called's: they are copied, as far as the tenant's copies have room. */
static void keep(struct shadows *s, struct shadow *d, enum side side, const struct message *m)
{
    struct buf *to = &d->kept[side];
    size_t left = share(SHADOW_BYTES_MAX, s->bytes, load_of(s, d->route->route.tenant_id, NULL).bytes);
    to->limit = left < 1 ? 1 : left < CALL_MAX ? left : CALL_MAX;
    message_encode(to, m);
    s->bytes += to->len;
    if (to->failed) {
        skip(d->arms);
        drop(s, d);
    } else if (has_both(d)) {
        event_active(s->compare, EV_TIMEOUT, 0);
    }
}

void shadow_on_primary(struct shadows *s, uint64_t request_id, const struct message *m)
{
    struct shadow *d = find_primary(s, request_id);
    if (d) keep(s, d, PRIMARY, m);
}

/* It is written to Redis with the next answer's, or within a second. */
static void count(struct shadows *s, const struct shadow *d, const struct message *m)
{
    const struct model_route *route = &d->route->route;
    biller_count(s->p->biller, route->tenant_id, route->version_id, d->rows, m->reply.compute_us);
}

bool shadow_on_reply(struct shadows *s, const struct port *from, const struct message *m)
{
    struct shadow *d = s->first;
    while (d && d->id != m->reply.request_id) d = d->next;
    if (!d || d->port != from) return false;
    struct err e = {.code = m->reply.code};
    leave_port(d);
    if (m->reply.code == ERR_STALE) {
        holders_forget(s->p->holders, d->route->route.version_id, from->worker->inc);
        skip(d->arms);
        drop(s, d);
    } else if (m->reply.code != 0 && http_status_of(&e) >= 500) {
        arms_failed(d->arms, ROLLOUT_SHADOW);
        drop(s, d);
    } else { /* a refusal of the input is an answer too: another one than the primary's */
        if (m->reply.code == 0) count(s, d, m);
        arms_answered(d->arms, ROLLOUT_SHADOW, clock_mono_us() - d->sent_us);
        keep(s, d, COPY, m);
    }
    return true;
}

void shadow_on_lost(struct shadows *s, const struct port *port)
{
    for (struct shadow *d = s->first, *next; d; d = next) {
        next = d->next;
        if (d->port == port) drop(s, d);
    }
}

/* ---- life ---- */

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct shadows *s = arg;
    int64_t now_us = redis_clock_us();
    for (struct shadow *d = s->first, *next; d; d = next) {
        next = d->next;
        if (d->deadline_us > now_us) continue;
        if (d->port) arms_failed(d->arms, ROLLOUT_SHADOW);
        drop(s, d);
    }
    unwant_until(s, clock_mono_ms());
}

struct shadows *shadows_create(struct predict *p)
{
    struct shadows *s = mem_alloc(1, sizeof *s);
    s->p = p;
    for (size_t i = 0; i < SIDES; i++) s->tensors[i] = mem_alloc(MESSAGE_TENSORS_MAX, sizeof *s->tensors[i]);
    s->sweep = event_new(loop_base(p->loop), -1, EV_PERSIST, on_sweep, s);
    s->compare = event_new(loop_base(p->loop), -1, 0, on_compare, s);
    event_add(s->sweep, &(struct timeval){.tv_usec = SWEEP_MS * 1000});
    return s;
}

void shadows_free(struct shadows *s)
{
    if (!s) return;
    event_free(s->sweep);
    event_free(s->compare);
    while (s->first) drop(s, s->first);
    unwant_until(s, INT64_MAX);
    for (size_t i = 0; i < SIDES; i++) mem_free(s->tensors[i]);
    mem_free(s);
}
