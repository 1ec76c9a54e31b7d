/* The per-version queues: a hash of versions, turns for those that are ready, and a heap, by due time, of
 * those that are held back for company. */
#include "worker/batcher.h"

#include <string.h>
#include "base/hash.h"
#include "base/mem.h"
#include "worker/turns.h"

enum { BUCKETS = 1024, MARGIN = 2 };

/* A version with work; freed when its queue runs empty, so idle versions cost nothing. It waits for its turn
 * or is in the heap. */
struct lane {
    struct turn turn; /* first */
    char version_id[ID_MAX];
    struct lane *hash_next;
    size_t heap_at; /* its place there, from 1; 0: it waits for its turn */
    struct work *first, *last;
    size_t waiting, bytes;
    int64_t rows;
    int64_t due_us;            /* the earliest of its requests' */
    int64_t rows_cap;          /* the least that one of them allows */
    double pace_us, pace_rows; /* what a batch took of late, and of how many rows; 0: not known */
};

struct batcher {
    size_t waiting_max, bytes_max;
    int64_t rows_max;
    size_t waiting, bytes;
    struct lane *buckets[BUCKETS];
    struct turns *turns; /* of those that are ready; owned */
    struct lane **heap;  /* held: owned, room for every lane; the first is due first */
    size_t lanes, heap_len, heap_cap;
};

/* ---- lanes
 * ----------------------------------------------------------------------------------------------------- */

static struct lane **lane_slot(struct batcher *b, const char *version_id)
{
    struct lane **slot = &b->buckets[hash_fold(hash_text(HASH_START, version_id)) % BUCKETS];
    while (*slot && strcmp((*slot)->version_id, version_id) != 0) slot = &(*slot)->hash_next;
    return slot;
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
        turns_push(b->turns, &lane->turn);
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
    b->turns = turns_create();
    return b;
}

static void lane_free(struct batcher *b, struct lane *lane)
{
    struct lane **slot = lane_slot(b, lane->version_id);
    *slot = lane->hash_next;
    b->lanes--;
    turns_leave(b->turns, &lane->turn);
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
    turns_free(b->turns);
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
    if (!turns_join(b->turns, &lane->turn, w->message.predict.tenant_id)) {
        mem_free(lane);
        return NULL;
    }
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

/* ---- time
 * ---------------------------------------------------------------------------------------------------------
 */

/* What so many rows take at least: more than were measured are taken for no more time. */
static int64_t needs_us(const struct lane *lane, int64_t rows)
{
    if (lane->pace_rows <= 0) return 0;
    return (int64_t)((double)rows < lane->pace_rows ? lane->pace_us * (double)rows / lane->pace_rows
                                                    : lane->pace_us);
}

void batcher_took(struct batcher *b, const char *version_id, int64_t rows, int64_t us)
{
    struct lane *lane = *lane_slot(b, version_id);
    if (!lane || rows <= 0) return;
    double keep = lane->pace_rows > 0 ? 0.75 : 0;
    lane->pace_us = keep * lane->pace_us + (1 - keep) * (double)us;
    lane->pace_rows = keep * lane->pace_rows + (1 - keep) * (double)rows;
}

/* Rows that take a turn's time, while others wait for theirs. */
static int64_t rows_of_turn(const struct batcher *b, const struct lane *lane)
{
    if (turns_empty(b->turns) || lane->pace_us <= 0) return INT64_MAX;
    double rows = BATCHER_TURN_US * lane->pace_rows / lane->pace_us;
    return rows > (double)b->rows_max ? b->rows_max : (int64_t)rows;
}

/* A batch while it is filled. */
struct filling {
    struct lane *lane;
    struct work **tail;
    int64_t now_us, rows, rows_cap, deadline_us;
};

/* Nobody wants its answer any more, or will when it is there. One that has waited for most of its time and
 * would only just be done among those behind it makes room for them: else an overloaded lane always computes
 * what is about to expire, one by one. */
static bool is_late(const struct filling *f, const struct work *w)
{
    int64_t left = w->deadline_us - f->now_us, batch = f->lane->rows;
    if (left <= needs_us(f->lane, w->message.predict.rows)) return true;
    if (batch > f->rows_cap) batch = f->rows_cap;
    return w->next && f->now_us - w->arrived_us > left && left <= MARGIN * needs_us(f->lane, batch);
}

/* Into the batch, unless that is too large then, or too late for one of them. */
static bool join(const struct batcher *b, struct filling *f, const struct work *w)
{
    int64_t rows = f->rows + w->message.predict.rows, cap = cap_of(b, w);
    int64_t first_us = w->deadline_us < f->deadline_us ? w->deadline_us : f->deadline_us;
    if (cap > f->rows_cap) cap = f->rows_cap;
    if (f->rows > 0 && (rows > cap || first_us < f->now_us + MARGIN * needs_us(f->lane, rows))) return false;
    f->rows = rows;
    f->rows_cap = cap;
    f->deadline_us = first_us;
    return true;
}

/* Moves work from the lane to the batch until the next one would not fit. */
static void fill(struct batcher *b, struct lane *lane, int64_t now_us, struct work **batch,
                 struct work **expired)
{
    struct filling f = {.lane = lane,
                        .tail = batch,
                        .now_us = now_us,
                        .rows_cap = rows_of_turn(b, lane),
                        .deadline_us = INT64_MAX};
    while (lane->first) {
        bool late = is_late(&f, lane->first);
        if (!late && !join(b, &f, lane->first)) break;
        struct work *w = lane_pop(lane);
        b->waiting--;
        b->bytes -= w->bytes;
        if (late) {
            w->next = *expired;
            *expired = w;
        } else {
            *f.tail = w;
            f.tail = &w->next;
        }
    }
}

/* Held lanes whose time has come wait for their turns, the earliest first. */
static void release_due(struct batcher *b, int64_t now_us)
{
    while (b->heap_len && b->heap[0]->due_us <= now_us) {
        struct lane *lane = b->heap[0];
        heap_remove(b, lane);
        turns_push(b->turns, &lane->turn);
    }
}

bool batcher_take(struct batcher *b, int64_t now_us, struct work **batch, struct work **expired)
{
    *batch = *expired = NULL;
    release_due(b, now_us);
    struct turn *turn;
    while (!*batch && !*expired && (turn = turns_pop(b->turns)) != NULL) {
        struct lane *lane = (struct lane *)turn;
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
    if (!turns_empty(b->turns)) return 0;
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

/* A lane that runs empty while it waits for its turn stays until then; a held one goes at once. */
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
    for (struct turn *t = turns_next(b->turns, NULL); t && !w; t = turns_next(b->turns, t)) {
        struct lane *lane = (struct lane *)t;
        if ((w = lane_remove(lane, from, request_id))) shrunk(b, lane, w);
    }
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
