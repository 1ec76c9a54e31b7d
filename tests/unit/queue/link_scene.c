/* A listening socket, a loop, and both ends of a connection on it. */
#include "tests/unit/queue/link_scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/crypto.h"
#include "queue/link_address.h"

enum { PATIENCE_MS = 10000 };

struct loop *loop;
struct side near, far;
uint8_t key[LINK_KEY_LEN];
char address[LINK_ADDRESS_MAX];
int far_send_bytes;
static int listening;

static void on_up(void *arg)
{
    ((struct side *)arg)->up++;
}

static void on_record(void *arg, const char *data, size_t len)
{
    struct side *s = arg;
    uint32_t head = (uint32_t)len;
    s->records++;
    if (s->take) {
        s->take(s, data, len);
    } else {
        buf_append(&s->got, &head, sizeof head);
        buf_append(&s->got, data, len);
    }
    if (s->refuse_on_record) link_refuse(s->link, "not so");
    if (!s->free_on_record) return;
    link_free(s->link);
    s->link = NULL;
}

static void on_down(void *arg, const char *why)
{
    struct side *s = arg;
    s->down++;
    snprintf(s->why, sizeof s->why, "%s", why);
    if (!s->free_on_down) return;
    link_free(s->link);
    s->link = NULL;
}

struct link_events events_of(struct side *s)
{
    return (struct link_events){.on_up = on_up, .on_record = on_record, .on_down = on_down, .arg = s};
}

int send_bytes(struct link *l, const char *bytes, size_t len)
{
    struct record r = {0};
    buf_append(&r.text, bytes, len);
    int rc = link_send(l, &r);
    record_dispose(&r);
    return rc;
}

void turn(void)
{
    event_base_loopexit(loop_base(loop), &(struct timeval){.tv_usec = 5000});
    event_base_loop(loop_base(loop), EVLOOP_ONCE);
}

void run_until(const int *count, int wanted)
{
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (*count < wanted && clock_mono_ms() < until) turn();
    assert_int_equal(*count, wanted);
}

int accept_one(void)
{
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    int fd;
    while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0 && clock_mono_ms() < until)
        turn();
    assert_true(fd >= 0);
    if (far_send_bytes) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &far_send_bytes, sizeof far_send_bytes);
    return fd;
}

void open_links(const uint8_t far_key[LINK_KEY_LEN])
{
    struct link_events n = events_of(&near), f = events_of(&far);
    assert_int_equal(link_dial(&near.link, loop, address, key, &n, NULL), 0);
    assert_int_equal(link_accept(&far.link, loop, accept_one(), far_key, &f, NULL), 0);
}

void connect_sides(void)
{
    open_links(key);
    run_until(&near.up, 1);
    run_until(&far.up, 1);
}

int scene_set_up(void **state)
{
    (void)state;
    static int number;
    struct link_address a;
    crypto_init();
    crypto_random(key, sizeof key);
    memset(&near, 0, sizeof near);
    memset(&far, 0, sizeof far);
    far_send_bytes = 0;
    snprintf(address, sizeof address, "unix:%stenor-link-%d-%d", number % 2 ? "@" : "/tmp/", (int)getpid(),
             number);
    number++;
    assert_int_equal(link_address_parse(&a, address, NULL), 0);
    assert_int_equal(link_listen(&listening, &a, NULL), 0);
    return loop_create(&loop, NULL);
}

int scene_tear_down(void **state)
{
    (void)state;
    link_free(near.link);
    link_free(far.link);
    buf_dispose(&near.got);
    buf_dispose(&far.got);
    loop_free(loop);
    close(listening);
    unlink(address + 5);
    return 0;
}

/* ---- pieces ---- */

static struct run {
    struct bytes *shared;
    const char *data;
} pool[POOL_RUNS];

void pool_make(void)
{
    uint64_t noise = 88172645463325252u;
    for (size_t i = 0; i < POOL_RUNS; i++) {
        struct buf b = {0};
        char *room = buf_reserve(&b, POOL_RUN_BYTES);
        for (size_t at = 0; at < POOL_RUN_BYTES; at += sizeof noise) {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            memcpy(room + at, &noise, sizeof noise);
        }
        b.len = POOL_RUN_BYTES;
        pool[i] = (struct run){.data = room, .shared = bytes_share(&b)};
        assert_non_null(pool[i].shared);
    }
}

static size_t up_to(size_t most)
{
    return (size_t)random() % (most + 1);
}

void pool_record(struct record *r, size_t text_max, size_t piece_max, struct buf *whole)
{
    size_t text = up_to(text_max), at = 0;
    r->pieces_len = up_to(RECORD_PIECES_MAX);
    buf_append(&r->text, pool[0].data + up_to(POOL_RUN_BYTES - text), text);
    for (size_t i = 0; i < r->pieces_len; i++) {
        const struct run *run = &pool[up_to(POOL_RUNS - 1)];
        size_t len = 1 + up_to(piece_max - 1);
        at += up_to(3) ? up_to(text - at) : 0; /* or right behind the one before */
        r->pieces[i] =
            (struct record_piece){at, run->data + up_to(POOL_RUN_BYTES - len), len, bytes_hold(run->shared)};
    }
    uint32_t len = (uint32_t)record_len(r);
    buf_append(whole, &len, sizeof len);
    for (size_t i = 0, from = 0; i <= r->pieces_len; i++) {
        size_t to = i < r->pieces_len ? r->pieces[i].at : text;
        buf_append(whole, r->text.data + from, to - from);
        if (i < r->pieces_len) buf_append(whole, r->pieces[i].data, r->pieces[i].len);
        from = to;
    }
}

bool pool_is_unheld(void)
{
    bool unheld = true;
    for (size_t i = 0; i < POOL_RUNS; i++) {
        struct buf b = {0};
        bool returned = bytes_return(pool[i].shared, &b);
        unheld = unheld && returned;
        if (returned) pool[i].shared = bytes_share(&b);
    }
    return unheld;
}

void pool_free(void)
{
    assert_true(pool_is_unheld());
    for (size_t i = 0; i < POOL_RUNS; i++) bytes_drop(pool[i].shared);
}
