/* Says why a queued job has not begun, as far as the workers' heartbeats tell: what the scheduler goes by. */
#include "gateway/routes/routes.h"

#include <stdio.h>

#include "base/mem.h"
#include "queue/heartbeat.h"
#include "store/job.h"

/* The most that any one worker offers to training jobs; draining ones take none. */
struct fleet {
    int workers, slots;
    int64_t memory_bytes;      /* of all jobs of a worker together */
    int64_t memory_free_bytes; /* among those with slots enough free */
    bool unlimited;            /* some worker knows no limit */
    bool has_room, has_slots;  /* for the job: all of it, the slots of it; now, on one worker */
};

static void add_worker(struct fleet *f, const struct heartbeat *h, const struct job *j)
{
    bool slots = h->slots_free >= j->threads, any = h->job_memory_bytes == 0;
    if (h->draining || h->slots == 0) return;
    f->workers++;
    f->unlimited |= any && h->slots >= j->threads;
    if (h->slots > f->slots) f->slots = h->slots;
    if (h->slots >= j->threads && h->job_memory_bytes > f->memory_bytes)
        f->memory_bytes = h->job_memory_bytes;
    f->has_slots |= slots;
    f->has_room |= slots && (any || h->job_memory_free >= j->memory_bytes);
    if (slots && h->job_memory_free > f->memory_free_bytes) f->memory_free_bytes = h->job_memory_free;
}

static double gib(int64_t bytes)
{
    return (double)bytes / (double)(1 << 30);
}

static void describe(const struct fleet *f, const struct job *j, char out[JOB_WAITING_MAX])
{
    double needs = gib(j->memory_bytes);
    out[0] = '\0';
    if (f->workers == 0)
        snprintf(out, JOB_WAITING_MAX, "no worker for such jobs is running");
    else if (f->slots < j->threads)
        snprintf(out, JOB_WAITING_MAX, "needs %d slots of one worker; the largest worker has %d", j->threads,
                 f->slots);
    else if (!f->unlimited && f->memory_bytes < j->memory_bytes)
        snprintf(out, JOB_WAITING_MAX, "needs %.2f GiB; the largest worker has %.2f GiB for jobs", needs,
                 gib(f->memory_bytes));
    else if (!f->has_slots && j->threads == 1)
        snprintf(out, JOB_WAITING_MAX, "every slot for such jobs is taken");
    else if (!f->has_slots)
        snprintf(out, JOB_WAITING_MAX, "needs %d free slots of one worker; none has as many now", j->threads);
    else if (!f->has_room)
        snprintf(out, JOB_WAITING_MAX, "needs %.2f GiB; no worker has more than %.2f GiB free for jobs now",
                 needs, gib(f->memory_free_bytes));
}

const char *job__waiting_reason(const struct api_call *c, const struct job *j, char out[JOB_WAITING_MAX])
{
    struct heartbeat *workers;
    struct fleet f = {0};
    struct err away = {0};
    size_t n;
    if (j->state != JOB_QUEUED || j->dataset_id[0] == '\0') return NULL; /* a predict job takes no slot */
    if (heartbeat_list(c->redis, &workers, &n, &away) != 0) return NULL;
    for (size_t i = 0; i < n; i++) add_worker(&f, &workers[i], j);
    mem_free(workers);
    describe(&f, j, out);
    return out[0] ? out : NULL;
}
