/* The per-version queues: a hash of versions, a ring of those that are ready, and a heap, by due time, of
 * those that are held back for company. */
#include "worker/batcher.h"

#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "queue/redis_clock.h"

enum { BUCKETS = 1024 };
static const int64_t deadline_max_us = 3600LL * 1000000; /* further away is as good as never */

/* A version with work; freed when its queue runs empty, so idle versions cost nothing. It is in the ring or
 * in the heap. */
struct lane {
    char version_id[ID_MAX];
    struct lane *hash_next;
    struct lane *ring_next;
    size_t heap_at; /* its place there, from 1; 0: it is in the ring */
    struct work *first, *last;
    size_t waiting, bytes;
    int64_t rows;
    int64_t due_us;   /* the earliest of its requests' */
    int64_t rows_cap; /* the least that one of them allows */
};

struct batcher {
    size_t waiting_max, bytes_max;
    int64_t rows_max;
    size_t waiting, bytes;
    struct lane *buckets[BUCKETS];
    struct lane *ring_first, *ring_last; /* ready: whose turn is next */
    struct lane **heap;                  /* held: owned, room for every lane; the first is due first */
    size_t lanes, heap_len, heap_cap;
};

/* ---- requests
 * -------------------------------------------------------------------------------------------------- */

/* Half of the time that is left is kept for its turn and for computing it. */
static void set_times(struct work *w)
{
    const struct message_predict *p = &w->message.predict;
    int64_t left = p->deadline_us - redis_clock_us(), delay = p->max_queue_delay_us;
    if (left < 0) left = 0;
    if (left > deadline_max_us) left = deadline_max_us;
    w->arrived_us = clock_mono_us();
    w->deadline_us = w->arrived_us + left;
    w->due_us = w->arrived_us + (delay < left / 2 ? delay : left / 2);
}

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
    w->answered = false;
    set_times(w);
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

/* ---- the heap of held lanes
 * ---------------------------------------------------------------------------------------- */

static void heap_set(struct batcher *b, size_t at, struct lane *lane)
{
    b->heap[at - 1] = lane;
    lane->heap_at = at;
}

/* Puts the lane where it belongs, from place `at` on towards the root or the leaves. */
static void heap_sift(struct batcher *b, size_t at, struct lane *lane)
{
    for (; at > 1 && b->heap[at / 2 - 1]->due_us > lane->due_us; at /= 2)
        heap_set(b, at, b->heap[at / 2 - 1]);
    for (size_t child; (child = 2 * at) <= b->heap_len; at = child) {
        if (child < b->heap_len && b->heap[child]->due_us < b->heap[child - 1]->due_us) child++;
        if (b->heap[child - 1]->due_us >= lane->due_us) break;
        heap_set(b, at, b->heap[child - 1]);
    }
    heap_set(b, at, lane);
}

static void heap_remove(struct batcher *b, struct lane *lane)
{
    size_t at = lane->heap_at;
    struct lane *last = b->heap[--b->heap_len];
    lane->heap_at = 0;
    if (last != lane) heap_sift(b, at, last);
}

/* Room for one lane more, so that holding one back cannot fail later. */
static bool heap_reserve(struct batcher *b)
{
    if (b->lanes < b->heap_cap) return true;
    size_t cap = b->heap_cap ? b->heap_cap * 2 : 16;
    struct lane **grown = mem_try_realloc(b->heap, cap, sizeof(struct lane *));
    if (!grown) return false;
    b->heap = grown;
    b->heap_cap = cap;
    return true;
}

/* ---- a lane's requests
 * --------------------------------------------------------------------------------------------- */

static int64_t cap_of(const struct batcher *b, const struct work *w)
{
    int64_t own = w->message.predict.max_batch_rows;
    return own && own < b->rows_max ? own : b->rows_max;
}

static void note(const struct batcher *b, struct lane *lane, const struct work *w)
{
    int64_t cap = cap_of(b, w);
    if (w->due_us < lane->due_us) lane->due_us = w->due_us;
    if (cap < lane->rows_cap) lane->rows_cap = cap;
}

/* After requests have left. Where the first one is due already, the others change nothing. */
static void recount(const struct batcher *b, struct lane *lane, int64_t now_us)
{
    lane->due_us = lane->rows_cap = INT64_MAX;
    for (const struct work *w = lane->first; w; w = w->next) {
        note(b, lane, w);
        if (lane->due_us <= now_us) return;
    }
}

static void lane_push(const struct batcher *b, struct lane *lane, struct work *w)
{
    w->next = NULL;
    *(lane->last ? &lane->last->next : &lane->first) = w;
    lane->last = w;
    lane->waiting++;
    lane->bytes += w->bytes;
    lane->rows += w->message.predict.rows;
    note(b, lane, w);
}

static void lane_left(struct lane *lane, struct work *w)
{
    w->next = NULL;
    lane->waiting--;
    lane->bytes -= w->bytes;
    lane->rows -= w->message.predict.rows;
}

static struct work *lane_pop(struct lane *lane)
{
    struct work *w = lane->first;
    lane->first = w->next;
    if (!lane->first) lane->last = NULL;
    lane_left(lane, w);
    return w;
}

static bool is_ready(const struct lane *lane, int64_t now_us)
{
    return lane->rows >= lane->rows_cap || lane->due_us <= now_us;
}

/* A lane that stands nowhere: to its place. */
static void stand(struct batcher *b, struct lane *lane, int64_t now_us)
{
    if (is_ready(lane, now_us))
        ring_push(b, lane);
    else
        heap_sift(b, ++b->heap_len, lane);
}

/* ---- the batcher
 * ----------------------------------------------------------------------------------------------- */

struct batcher *batcher_create(size_t waiting_max, size_t bytes_max, int64_t rows_max)
{
    struct batcher *b = mem_alloc(1, sizeof *b);
    b->waiting_max = waiting_max;
    b->bytes_max = bytes_max;
    b->rows_max = rows_max;
    return b;
}

static void lane_free(struct batcher *b, struct lane *lane)
{
    struct lane **slot = lane_slot(b, lane->version_id);
    *slot = lane->hash_next;
    b->lanes--;
    mem_free(lane);
}

void batcher_free(struct batcher *b)
{
    if (!b) return;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct lane *lane; (lane = b->buckets[i]);) {
            while (lane->first) work_free(lane_pop(lane));
            lane_free(b, lane);
        }
    mem_free(b->heap);
    mem_free(b);
}

static bool has_room(const struct batcher *b, const struct lane *lane, const struct work *w)
{
    if (b->waiting >= b->waiting_max || b->bytes + w->bytes > b->bytes_max) return false;
    return !lane || (lane->waiting < (b->waiting_max + 1) / 2 && lane->bytes + w->bytes <= b->bytes_max / 2);
}

/* A lane for w's version, which has none. NULL when memory is out. */
static struct lane *lane_add(struct batcher *b, struct lane **slot, const struct work *w)
{
    struct lane *lane = heap_reserve(b) ? mem_try_alloc(1, sizeof *lane) : NULL;
    if (!lane) return NULL;
    memcpy(lane->version_id, w->message.predict.version_id, ID_MAX);
    lane->due_us = lane->rows_cap = INT64_MAX;
    *slot = lane;
    b->lanes++;
    return lane;
}

int batcher_put(struct batcher *b, struct work *w, struct err *e)
{
    struct lane **slot = lane_slot(b, w->message.predict.version_id), *lane = *slot;
    bool room = has_room(b, lane, w), is_new = !lane;
    if (room && is_new) lane = lane_add(b, slot, w);
    if (!room || !lane) {
        err_set(e, ERR_OVERLOAD, NULL, "the worker is full: %zu predictions wait", b->waiting);
        if (e) e->retry_after_ms = 1000;
        return ERR_OVERLOAD;
    }
    bool held = lane->heap_at != 0;
    lane_push(b, lane, w);
    b->waiting++;
    b->bytes += w->bytes;
    if (held) heap_remove(b, lane);
    if (held || is_new) stand(b, lane, w->arrived_us);
    return 0;
}

/* Moves work from the lane to the batch until the next one would not fit. */
static void fill(struct batcher *b, struct lane *lane, int64_t now_us, struct work **batch,
                 struct work **expired)
{
    int64_t rows = 0, rows_cap = INT64_MAX;
    struct work **tail = batch;
    while (lane->first) {
        const struct work *next = lane->first;
        int64_t next_rows = next->message.predict.rows, next_cap = cap_of(b, next);
        bool late = next->deadline_us <= now_us;
        if (next_cap > rows_cap) next_cap = rows_cap;
        if (!late && rows > 0 && rows + next_rows > next_cap) break;
        struct work *w = lane_pop(lane);
        b->waiting--;
        b->bytes -= w->bytes;
        if (late) {
            w->next = *expired;
            *expired = w;
            continue;
        }
        rows += next_rows;
        rows_cap = next_cap;
        *tail = w;
        tail = &w->next;
    }
}

/* Held lanes whose time has come take their places in the ring, the earliest first. */
static void release_due(struct batcher *b, int64_t now_us)
{
    while (b->heap_len && b->heap[0]->due_us <= now_us) {
        struct lane *lane = b->heap[0];
        heap_remove(b, lane);
        ring_push(b, lane);
    }
}

bool batcher_take(struct batcher *b, int64_t now_us, struct work **batch, struct work **expired)
{
    *batch = *expired = NULL;
    release_due(b, now_us);
    while (b->ring_first && !*batch && !*expired) {
        struct lane *lane = ring_pop(b);
        if (lane->first && is_ready(lane, now_us)) { /* else some were withdrawn since it was */
            fill(b, lane, now_us, batch, expired);
            recount(b, lane, now_us);
        }
        if (lane->first)
            stand(b, lane, now_us);
        else
            lane_free(b, lane);
    }
    return *batch || *expired;
}

int64_t batcher_due_us(const struct batcher *b)
{
    if (b->ring_first) return 0;
    return b->heap_len ? b->heap[0]->due_us : INT64_MAX;
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
        lane_left(lane, w);
        return w;
    }
    return NULL;
}

/* A lane in the ring that runs empty stays there until its turn; a held one goes at once. */
static void shrunk(struct batcher *b, struct lane *lane, const struct work *w)
{
    b->waiting--;
    b->bytes -= w->bytes;
    recount(b, lane, INT64_MIN);
    if (!lane->heap_at) return;
    heap_remove(b, lane);
    if (lane->first)
        heap_sift(b, ++b->heap_len, lane);
    else
        lane_free(b, lane);
}

static struct work *withdraw(struct batcher *b, const void *from, const uint64_t *request_id)
{
    struct work *w = NULL;
    for (struct lane *lane = b->ring_first; lane && !w; lane = lane->ring_next)
        if ((w = lane_remove(lane, from, request_id))) shrunk(b, lane, w);
    for (size_t i = 0; i < b->heap_len && !w; i++) {
        struct lane *lane = b->heap[i];
        if ((w = lane_remove(lane, from, request_id))) shrunk(b, lane, w);
    }
    return w;
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
