/* Makes work of a request's record. */
#include "worker/work.h"

#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "queue/redis_clock.h"

static const int64_t deadline_max_us = 3600LL * 1000000; /* further away is as good as never */

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

/* Behind w: the list of its tensors, and their bytes unless they are kept. */
static void put_tensors(struct work *w, const struct message *m)
{
    struct message_tensor *tensors = (struct message_tensor *)(w + 1);
    char *room = (char *)(tensors + m->tensors_len);
    w->message.tensors = tensors;
    for (size_t i = 0; i < m->tensors_len; i++) {
        size_t len = m->tensors[i].data_len;
        tensors[i] = m->tensors[i];
        if (w->kept) continue;
        if (len) memcpy(room, m->tensors[i].data, len);
        tensors[i].data = room;
        room += len;
    }
}

struct work *work_create(const struct message *m, void *from, struct bytes *kept)
{
    size_t bytes = sizeof(struct work), list, data = 0;
    bool fits = mem_mul(m->tensors_len, sizeof *m->tensors, &list) && mem_add(bytes, list, &bytes);
    for (size_t i = 0; i < m->tensors_len; i++) fits = fits && mem_add(data, m->tensors[i].data_len, &data);
    size_t own = bytes; /* of the allocation */
    fits = fits && mem_add(bytes, data, &bytes) && (kept || mem_add(own, data, &own));
    struct work *w = fits ? mem_try_realloc(NULL, 1, own) : NULL; /* not zeroed: all of it is written below */
    if (!w) {
        bytes_drop(kept);
        return NULL;
    }
    *w = (struct work){.message = *m, .kept = kept, .from = from, .bytes = bytes};
    set_times(w);
    put_tensors(w, m);
    return w;
}

void work_free(struct work *w)
{
    if (w) bytes_drop(w->kept);
    mem_free(w);
}
