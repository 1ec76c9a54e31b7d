/* Takes the serving threads' time apart by model: the network's time as measured, and an equal part
 * of all the rest for each request. */
#include "worker/engine_load.h"

#include <string.h>
#include "base/clock.h"

struct totals {
    int64_t requests, compute_us;
};

static void close_window(void *arg, struct resident *m)
{
    struct totals *sum = arg;
    int64_t requests = atomic_load_explicit(&m->cost.requests, memory_order_relaxed);
    int64_t compute_us = atomic_load_explicit(&m->cost.compute_us, memory_order_relaxed);
    int64_t queue_us = atomic_load_explicit(&m->cost.queue_us, memory_order_relaxed);
    m->window.requests = requests - m->told.requests;
    m->window.compute_us = compute_us - m->told.compute_us;
    m->window.queue_us = queue_us - m->told.queue_us;
    m->told.requests = requests;
    m->told.compute_us = compute_us;
    m->told.queue_us = queue_us;
    sum->requests += m->window.requests;
    sum->compute_us += m->window.compute_us;
}

/* Where it belongs among the busiest, if it does. */
static void rank(struct engine_load *l, const struct heartbeat_model *m)
{
    size_t at = l->models_len;
    while (at > 0 && l->models[at - 1].busy_milli < m->busy_milli) at--;
    if (at == HEARTBEAT_MODELS_MAX) return;
    if (l->models_len < HEARTBEAT_MODELS_MAX) l->models_len++;
    memmove(&l->models[at + 1], &l->models[at], (l->models_len - 1 - at) * sizeof *m);
    l->models[at] = *m;
}

static void weigh(void *arg, struct resident *m)
{
    struct engine_load *l = arg;
    int64_t us = m->window.compute_us + m->window.requests * l->overhead_ns / 1000;
    struct heartbeat_model told = {.bytes = m->bytes};
    told.busy_milli = l->total_us > 0 ? (int)(us * l->busy_milli / l->total_us) : 0;
    if (told.busy_milli < LOAD_BUSY_LEAST) return;
    if (told.busy_milli > 1000) told.busy_milli = 1000; /* it was used between the two looks */
    int64_t waiting = m->window.queue_us * 1000 / l->length_us;
    told.waiting_milli = waiting < INT32_MAX ? (int)waiting : INT32_MAX;
    memcpy(told.version_id, m->version_id, sizeof told.version_id);
    memcpy(told.tenant_id, m->tenant_id, sizeof told.tenant_id);
    rank(l, &told);
}

static void measure(struct engine_load *l, struct model_cache *c, int64_t wanted_us, int threads,
                    int64_t now_us)
{
    struct totals sum = {0};
    int64_t since_ms = l->begun_us / 1000, spent_us = wanted_us - l->wanted_us;
    l->length_us = now_us - l->begun_us;
    if (spent_us < 0) spent_us = 0; /* the kernel told less this time: serve_wanted_us */
    int64_t milli = spent_us * 1000 / (l->length_us * threads);
    l->busy_milli = milli > 1000 ? 1000 : (int)milli;
    l->begun_us = now_us;
    l->wanted_us = wanted_us;
    l->models_len = 0;
    model_cache_each_used(c, since_ms, close_window, &sum);
    int64_t rest_us = spent_us > sum.compute_us ? spent_us - sum.compute_us : 0;
    l->overhead_ns = sum.requests > 0 ? rest_us * 1000 / sum.requests : 0;
    l->total_us = sum.compute_us + sum.requests * l->overhead_ns / 1000;
    model_cache_each_used(c, since_ms, weigh, l);
}

void engine__load_describe(struct engine_load *l, struct model_cache *c, int64_t wanted_us, int threads,
                           struct heartbeat *h)
{
    int64_t now_us = clock_mono_us();
    if (l->begun_us == 0) {
        l->begun_us = now_us;
        l->wanted_us = wanted_us;
    } else if (now_us - l->begun_us >= LOAD_WINDOW_MS * 1000) {
        measure(l, c, wanted_us, threads, now_us);
    }
    h->predict_busy_milli = l->busy_milli;
    h->models_len = l->models_len;
    memcpy(h->models, l->models, l->models_len * sizeof *l->models);
    h->model_bytes_idle = model_cache_idle_bytes(c, now_us / 1000 - HEARTBEAT_IDLE_MS);
}
