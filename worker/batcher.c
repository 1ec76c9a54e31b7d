/* The per-version queues: a hash of versions, and a ring of those that have work. */
#include "worker/batcher.h"

#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "queue/redis_clock.h"

enum { BUCKETS = 1024 };

/* A version with work; freed when its queue runs empty, so idle versions cost nothing. */
struct lane {
    char version_id[ID_MAX];
    struct lane *hash_next;
    struct lane *ring_next;
    struct work *first, *last;
    size_t waiting, bytes;
};

struct batcher {
    size_t waiting_max, bytes_max;
    size_t waiting, bytes;
    struct lane *buckets[BUCKETS];
    struct lane *ring_first, *ring_last; /* whose turn is next */
};

/* ---- requests
 * -------------------------------------------------------------------------------------------------- */

struct work *work_create(const struct message *m, void *from)
{
    size_t data = 0, tensors;
    for (size_t i = 0; i < m->tensors_len; i++)
        if (!mem_add(data, m->tensors[i].data_len, &data)) return NULL;
    if (!mem_mul(m->tensors_len, sizeof *m->tensors, &tensors)) return NULL;
    size_t bytes = sizeof(struct work) + tensors;
    if (!mem_add(bytes, data, &bytes)) return NULL;
    struct work *w = mem_try_realloc(NULL, 1, bytes); /* not zeroed: all of it is written below */
    if (!w) return NULL;
    w->next = NULL;
    w->message = *m;
    w->message.tensors = (struct message_tensor *)(w + 1);
    w->from = from;
    w->bytes = bytes;
    w->arrived_us = clock_mono_us();
    w->answered = false;
    char *room = (char *)(w + 1) + tensors;
    for (size_t i = 0; i < m->tensors_len; i++) {
        w->message.tensors[i] = m->tensors[i];
        w->message.tensors[i].data = room;
        if (m->tensors[i].data_len) memcpy(room, m->tensors[i].data, m->tensors[i].data_len);
        room += m->tensors[i].data_len;
    }
    return w;
}

void work_free(struct work *w)
{
    mem_free(w);
}

/* ---- lanes
 * ----------------------------------------------------------------------------------------------------- */

static struct lane **lane_slot(struct batcher *b, const char *version_id)
{
    uint64_t h = 14695981039346656037u;
    for (const char *p = version_id; *p; p++) h = (h ^ (uint8_t)*p) * 1099511628211u;
    struct lane **slot = &b->buckets[(h ^ (h >> 32)) % BUCKETS];
    while (*slot && strcmp((*slot)->version_id, version_id) != 0) slot = &(*slot)->hash_next;
    return slot;
}

static void ring_push(struct batcher *b, struct lane *lane)
{
    lane->ring_next = NULL;
    *(b->ring_last ? &b->ring_last->ring_next : &b->ring_first) = lane;
    b->ring_last = lane;
}

static struct lane *ring_pop(struct batcher *b)
{
    struct lane *lane = b->ring_first;
    b->ring_first = lane->ring_next;
    if (!b->ring_first) b->ring_last = NULL;
    return lane;
}

static void lane_push(struct lane *lane, struct work *w)
{
    w->next = NULL;
    *(lane->last ? &lane->last->next : &lane->first) = w;
    lane->last = w;
    lane->waiting++;
    lane->bytes += w->bytes;
}

static struct work *lane_pop(struct lane *lane)
{
    struct work *w = lane->first;
    lane->first = w->next;
    if (!lane->first) lane->last = NULL;
    w->next = NULL;
    lane->waiting--;
    lane->bytes -= w->bytes;
    return w;
}

/* ---- the batcher
 * ----------------------------------------------------------------------------------------------- */

struct batcher *batcher_create(size_t waiting_max, size_t bytes_max)
{
    struct batcher *b = mem_alloc(1, sizeof *b);
    b->waiting_max = waiting_max;
    b->bytes_max = bytes_max;
    return b;
}

void batcher_free(struct batcher *b)
{
    if (!b) return;
    while (b->ring_first) {
        struct lane *lane = ring_pop(b);
        while (lane->first) work_free(lane_pop(lane));
        mem_free(lane);
    }
    mem_free(b);
}

static bool has_room(const struct batcher *b, const struct lane *lane, const struct work *w)
{
    if (b->waiting >= b->waiting_max || b->bytes + w->bytes > b->bytes_max) return false;
    return !lane || (lane->waiting < (b->waiting_max + 1) / 2 && lane->bytes + w->bytes <= b->bytes_max / 2);
}

int batcher_put(struct batcher *b, struct work *w, struct err *e)
{
    struct lane **slot = lane_slot(b, w->message.predict.version_id);
    bool room = has_room(b, *slot, w);
    if (room && !*slot) {
        struct lane *lane = mem_try_alloc(1, sizeof *lane);
        room = lane != NULL;
        if (lane) {
            memcpy(lane->version_id, w->message.predict.version_id, ID_MAX);
            *slot = lane;
            ring_push(b, lane);
        }
    }
    if (!room) {
        err_set(e, ERR_OVERLOAD, NULL, "the worker is full: %zu predictions wait", b->waiting);
        if (e) e->retry_after_ms = 1000;
        return ERR_OVERLOAD;
    }
    lane_push(*slot, w);
    b->waiting++;
    b->bytes += w->bytes;
    return 0;
}

/* Moves work from the lane to the batch until the next one would not fit. */
static void fill(struct batcher *b, struct lane *lane, int64_t rows_max, struct work **batch,
                 struct work **expired)
{
    int64_t now = redis_clock_us(), rows = 0;
    struct work **tail = batch;
    while (lane->first) {
        const struct message_predict *next = &lane->first->message.predict;
        bool late = next->deadline_us <= now;
        if (!late && rows > 0 && rows + next->rows > rows_max) break;
        struct work *w = lane_pop(lane);
        b->waiting--;
        b->bytes -= w->bytes;
        if (late) {
            w->next = *expired;
            *expired = w;
            continue;
        }
        rows += next->rows;
        *tail = w;
        tail = &w->next;
    }
}

/* The lane is in the ring no longer: back into it while it has work. */
static void ring_return(struct batcher *b, struct lane *lane)
{
    if (lane->first) {
        ring_push(b, lane);
        return;
    }
    struct lane **slot = lane_slot(b, lane->version_id);
    *slot = lane->hash_next;
    mem_free(lane);
}

bool batcher_take(struct batcher *b, int64_t rows_max, struct work **batch, struct work **expired)
{
    *batch = *expired = NULL;
    if (!b->ring_first) return false;
    struct lane *lane = ring_pop(b);
    fill(b, lane, rows_max, batch, expired);
    ring_return(b, lane);
    return true;
}

/* ---- withdrawing
 * ------------------------------------------------------------------------------------------------ */

static struct work *lane_remove(struct lane *lane, const void *from, const uint64_t *request_id)
{
    struct work *before = NULL;
    for (struct work *w = lane->first; w; before = w, w = w->next) {
        if (w->from != from || (request_id && w->message.predict.request_id != *request_id)) continue;
        *(before ? &before->next : &lane->first) = w->next;
        if (lane->last == w) lane->last = before;
        w->next = NULL;
        lane->waiting--;
        lane->bytes -= w->bytes;
        return w;
    }
    return NULL;
}

/* A lane that runs empty stays in the ring until its turn. */
static struct work *withdraw(struct batcher *b, const void *from, const uint64_t *request_id)
{
    for (struct lane *lane = b->ring_first; lane; lane = lane->ring_next) {
        struct work *w = lane_remove(lane, from, request_id);
        if (!w) continue;
        b->waiting--;
        b->bytes -= w->bytes;
        return w;
    }
    return NULL;
}

struct work *batcher_withdraw(struct batcher *b, const void *from, uint64_t request_id)
{
    return withdraw(b, from, &request_id);
}

struct work *batcher_withdraw_any(struct batcher *b, const void *from)
{
    return withdraw(b, from, NULL);
}

size_t batcher_waiting(const struct batcher *b)
{
    return b->waiting;
}
