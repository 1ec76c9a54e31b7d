/* A connection's deadlines: when the present state ends by itself, and what happens then. */
#include <event2/event.h>
#include "gateway/http/connection.h"

enum { FORGET_US = 1000 }; /* a timer that fires this much early counts as on time */

static const int64_t US_PER_MS = 1000, US_PER_S = 1000000;

/* ---- how fast the body comes
 * --------------------------------------------------------------------------------- */

void conn_body_clock_start(struct conn *c)
{
    c->body_began_us = c->body_last_us = c->home->now_us;
    c->body_bytes = 0;
    c->paused_us = 0;
}

/* Time during which we ourselves would not read is not held against the client. */
void conn_body_clock_pause(struct conn *c, bool paused)
{
    int64_t now = c->home->now_us;
    if (paused) {
        c->paused_us = now;
    } else if (c->paused_us) {
        c->body_began_us += now - c->paused_us;
        c->body_last_us += now - c->paused_us;
        c->paused_us = 0;
    }
}

void conn_body_clock_count(struct conn *c, size_t len)
{
    c->body_last_us = c->home->now_us;
    c->body_bytes += (int64_t)len;
}

/* The body is too slow at the earlier of: no byte for body_idle_ms; what came so far is used up at the least
 * rate. */
static int64_t body_due_us(const struct conn *c)
{
    const struct server_limits *l = &c->home->server->limits;
    int64_t idle = c->body_last_us + l->body_idle_ms * US_PER_MS;
    int64_t used_up = (int64_t)((double)c->body_bytes / (double)l->body_min_rate * (double)US_PER_S);
    int64_t grace = l->body_grace_ms * US_PER_MS;
    int64_t slow = c->body_began_us + (used_up > grace ? used_up : grace);
    return idle < slow ? idle : slow;
}

/* ---- deadlines
 * ----------------------------------------------------------------------------------------------- */

/* When the present state is over; 0 for never. */
static int64_t state_due_us(const struct conn *c)
{
    const struct server_limits *l = &c->home->server->limits;
    switch (c->state) {
    case CONN_HANDSHAKE:
    case CONN_HEAD:
        return c->entered_us + l->header_ms * US_PER_MS;
    case CONN_IDLE:
        return c->entered_us + l->idle_ms * US_PER_MS;
    case CONN_BODY:
        return c->body_paused ? 0 : body_due_us(c);
    case CONN_DISCARD:
        return body_due_us(c);
    case CONN_LINGER:
        return c->entered_us + l->linger_ms * US_PER_MS;
    default:
        return 0;
    }
}

static int64_t write_due_us(const struct conn *c)
{
    if (stream_output_len(&c->stream) == 0) return 0;
    return c->stream.moved_us + c->home->server->limits.write_stall_ms * US_PER_MS;
}

static int64_t due_us(const struct conn *c)
{
    int64_t state = state_due_us(c), write = write_due_us(c);
    if (state == 0 || write == 0) return state + write;
    return state < write ? state : write;
}

/* A timer that is set to fire too early is left alone: it checks and sets itself anew. So a busy connection
 * sets one timer in seconds, not one for each state. */
void conn_arm(struct conn *c)
{
    int64_t due = due_us(c);
    if (due == 0 || (c->armed_us && c->armed_us <= due)) return;
    int64_t wait = due - c->home->now_us;
    if (wait < FORGET_US) wait = FORGET_US;
    struct timeval tv = {.tv_sec = wait / US_PER_S, .tv_usec = wait % US_PER_S};
    event_add(c->timer, &tv);
    c->armed_us = due;
}

static void body_too_slow(struct conn *c)
{
    struct err e = {0};
    c->close = true;
    conn_enter(c, CONN_WAIT);
    err_set(&e, ERR_TIMEOUT, "body", "the request body came too slowly: %lld bytes arrived",
            (long long)c->x->taken);
    exchange__body_end(c->x, e.code, &e);
}

void conn_expired(struct conn *c)
{
    int64_t now = c->home->now_us + FORGET_US;
    int64_t state = state_due_us(c), write = write_due_us(c);
    bool state_over = state && state <= now, stalled = write && write <= now;
    if (!state_over && !stalled) return;
    if (c->state != CONN_LINGER && c->state != CONN_IDLE) atomic_fetch_add(&c->home->server->timed_out, 1);
    if (stalled) {
        conn_cut(c);
    } else if (c->state == CONN_HEAD) {
        conn_refuse(c, 408, "the request head was not complete in time", NULL);
    } else if (c->state == CONN_BODY) {
        body_too_slow(c);
    } else {
        conn_cut(c);
    }
}
