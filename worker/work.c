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
