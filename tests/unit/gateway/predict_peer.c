/* The worker that tests of the predict road speak to. */
#include "tests/unit/gateway/predict_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/mem.h"
#include "queue/heartbeat.h"
#include "queue/inbox.h"
#include "queue/link_address.h"
#include "queue/message.h"
#include "queue/placement.h"
#include "tests/unit/queue/redis_fixture.h"

struct peer_link {
    struct peer *peer;
    struct link *link;
};

static void answer(struct peer *p, struct link *to, const struct message *in)
{
    float sums[16];
    struct message_tensor t = {.dtype = MESSAGE_FP32,
                               .ndim = 1,
                               .dims = {in->predict.rows},
                               .data = sums,
                               .data_len = in->predict.rows * 4};
    struct message out = {.type = MESSAGE_PREDICT_REPLY, .tensors = &t, .tensors_len = 1};
    struct record record = {0};
    out.reply.request_id = in->predict.request_id;
    out.reply.compute_us = in->predict.rows * PEER_ROW_US;
    for (uint32_t i = 0; i < in->predict.rows; i++) {
        float row[2];
        memcpy(row, (const char *)in->tensors[0].data + i * sizeof row, sizeof row);
        sums[i] = row[0] + row[1] + (p->manner == ANSWER_MORE ? 1 : 0);
    }
    if (p->manner == SAY_STALE) out.reply.code = ERR_STALE;
    if (p->manner == SAY_INTERNAL) out.reply.code = ERR_INTERNAL;
    if (p->manner == SAY_INVALID) {
        out.reply.code = ERR_INVALID;
        strcpy(out.reply.field, "input");
        strcpy(out.reply.message, "row 0: not a number");
    }
    if (out.reply.code) {
        out.tensors_len = 0;
        out.reply.compute_us = 0;
    }
    record_encode(&record, &out, NULL);
    link_send(to, &record);
    record_dispose(&record);
}

static void on_record(void *arg, const char *data, size_t len)
{
    struct peer_link *pl = arg;
    struct peer *p = pl->peer;
    struct message_tensor room[4];
    struct message m;
    assert_int_equal(message_decode(&m, room, 4, data, len, NULL), 0);
    if (m.type == MESSAGE_PREDICT_CANCEL) {
        p->cancelled++;
        return;
    }
    bool swallows = p->manner == SWALLOW;
    if (swallows) {
        buf_append(&p->swallowed, &len, sizeof len);
        buf_append(&p->swallowed, data, len);
        p->swallowed_from = pl->link;
    }
    p->popped++;
    if (!swallows) answer(p, pl->link, &m);
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct peer *p = arg;
    uint8_t key[LINK_KEY_LEN];
    static struct peer_link room[64];
    static atomic_size_t used; /* peers have a thread each */
    struct peer_link *pl = &room[atomic_fetch_add(&used, 1) % 64];
    struct link_events events = {.on_record = on_record, .arg = pl};
    int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0) return;
    link_key(key, redis_fixture_start());
    pl->peer = p;
    assert_int_equal(link_accept(&pl->link, p->loop, client, key, &events, NULL), 0);
    assert_true(p->links_len < 8);
    p->links[p->links_len++] = pl->link;
}

static void place_what_is_asked_for(struct peer *p)
{
    struct inbox_batch batch;
    struct message m;
    if (inbox_pop(p->redis, INBOX_SCHEDULER, 64, 0, &batch, NULL)) return;
    for (size_t i = 0; i < batch.len; i++) {
        struct inbox_record record = inbox_batch_get(&batch, i);
        if (message_decode(&m, NULL, 0, record.data, record.len, NULL) || m.type != MESSAGE_PLACE) continue;
        p->place_orders++;
        placement_announce(p->redis, m.model.version_id, p->inc, NULL);
    }
    inbox_batch_dispose(&batch);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct peer *p = arg;
    struct heartbeat *h = mem_alloc(1, sizeof *h);
    h->slots = h->slots_free = 1;
    h->ports_len = 1;
    memcpy(h->inc, p->inc, ID_MAX);
    memcpy(h->ports[0], p->address, sizeof p->address);
    if (!p->dumb) heartbeat_publish(p->redis, h, NULL, NULL);
    if (p->places) place_what_is_asked_for(p);
    mem_free(h);
}

static void *run_peer(void *arg)
{
    struct peer *p = arg;
    loop_run(p->loop);
    return NULL;
}

void peer_start(struct peer *p, enum manner manner, bool places)
{
    struct link_address a;
    static int number;
    memset(p, 0, sizeof *p);
    id_new(p->inc, "inc");
    p->manner = manner;
    p->places = places;
    snprintf(p->address, sizeof p->address, "unix:/tmp/tenor-test-%d-%d", (int)getpid(), number++);
    assert_int_equal(link_address_parse(&a, p->address, NULL), 0);
    assert_int_equal(link_listen(&p->fd, &a, NULL), 0);
    assert_int_equal(loop_create(&p->loop, NULL), 0);
    p->redis = redis_fixture_connect();
    p->acceptable = event_new(loop_base(p->loop), p->fd, EV_READ | EV_PERSIST, on_acceptable, p);
    p->tick = event_new(loop_base(p->loop), -1, EV_PERSIST, on_tick, p);
    event_add(p->acceptable, NULL);
    event_add(p->tick, &(struct timeval){.tv_usec = 20000});
    on_tick(-1, 0, p);
    pthread_create(&p->thread, NULL, run_peer, p);
}

static void hang_up(void *arg)
{
    struct peer *p = arg;
    for (size_t i = 0; i < p->links_len; i++) link_free(p->links[i]);
    p->links_len = 0;
    p->swallowed_from = NULL;
    buf_clear(&p->swallowed);
}

void peer_hang_up(struct peer *p)
{
    loop_post(p->loop, hang_up, p);
}

static void answer_swallowed(void *arg)
{
    struct peer *p = arg;
    struct message_tensor room[4];
    struct message m;
    size_t len;
    for (size_t at = 0; at < p->swallowed.len; at += sizeof len + len) {
        memcpy(&len, p->swallowed.data + at, sizeof len);
        assert_int_equal(message_decode(&m, room, 4, p->swallowed.data + at + sizeof len, len, NULL), 0);
        answer(p, p->swallowed_from, &m);
    }
    buf_clear(&p->swallowed);
}

void peer_answer_swallowed(struct peer *p)
{
    p->manner = ANSWER;
    loop_post(p->loop, answer_swallowed, p);
}

void peer_stop(struct peer *p)
{
    loop_stop(p->loop);
    pthread_join(p->thread, NULL);
    heartbeat_remove(p->redis, p->inc, NULL);
    event_free(p->acceptable);
    event_free(p->tick);
    hang_up(p);
    close(p->fd);
    unlink(p->address + 5);
    loop_free(p->loop);
    redis_free(p->redis);
    buf_dispose(&p->swallowed);
}
