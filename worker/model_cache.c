/* Resident models by version id, in order of use, under one lock that is never held while loading, computing
 * or freeing. */
#include "worker/model_cache.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"

/* POOL_PART: of the budget, for pooled sessions. POOL_SMALL: a session that takes more of its thread's pool
 * than this part is not pooled, nor is one of more than POOLED_MOST_BYTES, which takes a serving thread long
 * to make. */
enum {
    BUCKETS = 4096,
    IDLE_LOOKED_AT = 512,
    POOL_PART = 8,
    POOL_SMALL = 4,
    POOL_LEAST_BYTES = 1 << 20,
    POOLED_MOST_BYTES = 2 << 20
};

/* A thread's sessions that come and go. */
struct pool {
    struct resident *oldest, *newest;
    int64_t bytes;
};

struct model_cache {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    int64_t bytes_max, bytes; /* of models */
    int64_t pool_bytes_max;   /* of each pool */
    struct pool *pools;       /* owned: one per predict thread */
    int pools_len;
    size_t count;
    struct resident *buckets[BUCKETS];
    struct resident *oldest, *newest;
};

/* ---- one model
 * -------------------------------------------------------------------------------------------------- */

void resident_free(struct resident *m)
{
    if (!m) return;
    for (int i = 0; m->sessions && i < m->sessions_len; i++) model_session_free(m->sessions[i].session);
    mem_free(m->sessions);
    model_free(m->model);
    mem_free(m);
}

/* A row of zeros and empty texts for each input; *data_out is what they point into. */
static int dummy_row(const struct signature *s, struct model_input **inputs_out, void **data_out,
                     struct err *e)
{
    size_t most = sizeof(uint32_t);
    for (size_t i = 0; i < s->n_inputs; i++) {
        size_t bytes = (size_t)signature_width(&s->inputs[i]) * sizeof(double);
        if (bytes > most) most = bytes;
    }
    struct model_input *inputs = mem_try_alloc(s->n_inputs, sizeof *inputs);
    void *data = mem_try_alloc(1, most);
    *inputs_out = inputs;
    *data_out = data;
    if (!inputs || !data) return err_set(e, ERR_NOMEM, NULL, "no memory to warm a model");
    for (size_t i = 0; i < s->n_inputs; i++) {
        enum datatype t = s->inputs[i].datatype;
        size_t element = t == DATATYPE_BYTES ? sizeof(uint32_t) : datatype_bytes(t);
        inputs[i] = (struct model_input){t, data, (size_t)signature_width(&s->inputs[i]) * element};
    }
    return 0;
}

/* A model with categories may refuse the empty text; then it has at least staged a row. */
static int warm(const struct resident *m, struct model_session *session, struct err *e)
{
    const struct signature *s = model_signature(m->model);
    struct model_input *inputs = NULL;
    void *data = NULL;
    struct model_output *outputs = mem_try_alloc(s->n_outputs, sizeof *outputs);
    int rc =
        outputs ? dummy_row(s, &inputs, &data, e) : err_set(e, ERR_NOMEM, NULL, "no memory to warm a model");
    if (rc == 0) rc = model_predict(session, inputs, 1, outputs, e);
    mem_free(outputs);
    mem_free(inputs);
    mem_free(data);
    return rc == ERR_INVALID ? 0 : rc;
}

static int make_session(struct resident *m, int i, struct err *e)
{
    int rc = model_session_create(&m->sessions[i].session, m->model, m->batch_rows, e);
    return rc ? rc : warm(m, m->sessions[i].session, e);
}

/* The first one tells how large they are, and so whether they come and go. */
static int make_sessions(struct resident *m, const struct resident_options *o, struct err *e)
{
    int rc = make_session(m, 0, e);
    if (rc) return rc;
    m->session_bytes = (int64_t)model_session_bytes(m->sessions[0].session);
    m->pooled = m->session_bytes <= o->pool_bytes / POOL_SMALL && m->session_bytes <= POOLED_MOST_BYTES;
    if (!m->pooled) m->bytes += m->session_bytes * m->sessions_len;
    if (m->bytes > o->limit_bytes)
        return err_set(e, ERR_TOO_LARGE, NULL,
                       "model %s needs more than the %lld bytes that this worker has for models",
                       m->version_id, (long long)o->limit_bytes);
    for (int i = 1; i < m->sessions_len && !m->pooled && rc == 0; i++) rc = make_session(m, i, e);
    if (!m->pooled) return rc;
    model_session_free(m->sessions[0].session);
    m->sessions[0].session = NULL;
    return 0;
}

int resident_create(struct resident **out, const char *tenant_id, const char *version_id,
                    const void *artifact, size_t len, const struct resident_options *o, struct err *e)
{
    *out = NULL;
    struct resident *m = mem_alloc(1, sizeof *m);
    snprintf(m->version_id, ID_MAX, "%s", version_id);
    snprintf(m->tenant_id, ID_MAX, "%s", tenant_id);
    m->batch_rows = o->batch_rows;
    m->sessions_len = o->sessions;
    m->sessions = mem_try_alloc((size_t)o->sessions, sizeof *m->sessions);
    int rc = m->sessions
                 ? model_load(&m->model, artifact, len, (size_t)o->limit_bytes, e)
                 : err_set(e, ERR_NOMEM, NULL, "no memory for the sessions of model %s", m->version_id);
    if (rc == 0) {
        m->bytes = (int64_t)(model_bytes(m->model) + sizeof *m + (size_t)o->sessions * sizeof *m->sessions);
        rc = make_sessions(m, o, e);
    }
    if (rc) {
        resident_free(m);
        return rc;
    }
    *out = m;
    return 0;
}

/* ---- lists: with the lock held
 * --------------------------------------------------------------------------------- */

static struct resident **slot_of(struct model_cache *c, const char *version_id)
{
    struct resident **slot = &c->buckets[hash_fold(hash_text(HASH_START, version_id)) % BUCKETS];
    while (*slot && strcmp((*slot)->version_id, version_id) != 0) slot = &(*slot)->hash_next;
    return slot;
}

static void unlink_age(struct model_cache *c, struct resident *m)
{
    *(m->older ? &m->older->newer : &c->oldest) = m->newer;
    *(m->newer ? &m->newer->older : &c->newest) = m->older;
    m->older = m->newer = NULL;
}

static void link_newest(struct model_cache *c, struct resident *m)
{
    m->older = c->newest;
    m->newer = NULL;
    *(c->newest ? &c->newest->newer : &c->oldest) = m;
    c->newest = m;
}

static void pool_remove(struct pool *p, struct resident *m, int thread)
{
    struct resident_session *at = &m->sessions[thread];
    *(at->older ? &at->older->sessions[thread].newer : &p->oldest) = at->newer;
    *(at->newer ? &at->newer->sessions[thread].older : &p->newest) = at->older;
    at->older = at->newer = NULL;
    p->bytes -= m->session_bytes;
}

static void pool_add(struct pool *p, struct resident *m, int thread)
{
    struct resident_session *at = &m->sessions[thread];
    at->older = p->newest;
    at->newer = NULL;
    *(p->newest ? &p->newest->sessions[thread].newer : &p->oldest) = m;
    p->newest = m;
    p->bytes += m->session_bytes;
}

/* ---- the cache
 * -------------------------------------------------------------------------------------------------- */

struct model_cache *model_cache_create(int64_t bytes_max, int threads)
{
    struct model_cache *c = mem_alloc(1, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->freed, NULL);
    c->pool_bytes_max = bytes_max / POOL_PART / threads;
    if (c->pool_bytes_max < POOL_LEAST_BYTES) c->pool_bytes_max = 0;
    c->bytes_max = bytes_max - c->pool_bytes_max * threads;
    c->pools = mem_alloc((size_t)threads, sizeof *c->pools);
    c->pools_len = threads;
    return c;
}

int64_t model_cache_pool_bytes(const struct model_cache *c)
{
    return c->pool_bytes_max;
}

int64_t model_cache_bytes_max(const struct model_cache *c)
{
    return c->bytes_max;
}

void model_cache_free(struct model_cache *c)
{
    if (!c) return;
    for (struct resident *m = c->oldest, *next; m; m = next) {
        assert(m->users == 0);
        next = m->newer;
        resident_free(m);
    }
    pthread_cond_destroy(&c->freed);
    pthread_mutex_destroy(&c->lock);
    mem_free(c->pools);
    mem_free(c);
}

struct resident *model_cache_acquire(struct model_cache *c, const char *tenant_id, const char *version_id)
{
    int64_t now_ms = clock_mono_ms();
    pthread_mutex_lock(&c->lock);
    struct resident *m = *slot_of(c, version_id);
    if (m && strcmp(m->tenant_id, tenant_id) != 0) m = NULL;
    if (m) {
        m->users++;
        m->used_ms = now_ms;
        unlink_age(c, m);
        link_newest(c, m);
    }
    pthread_mutex_unlock(&c->lock);
    return m;
}

void model_cache_release(struct model_cache *c, struct resident *m)
{
    pthread_mutex_lock(&c->lock);
    assert(m->users > 0);
    if (--m->users == 0 && m->leaving) pthread_cond_broadcast(&c->freed);
    pthread_mutex_unlock(&c->lock);
}

/* Only the thread itself puts sessions into its pool and makes room there, so that nobody frees one that it
 * uses. */
static int make_pooled(struct model_cache *c, struct resident *m, int thread, struct err *e)
{
    struct pool *p = &c->pools[thread];
    struct model_session *made, *gone = NULL;
    do {
        gone = NULL;
        pthread_mutex_lock(&c->lock);
        struct resident *last = p->bytes + m->session_bytes > c->pool_bytes_max ? p->oldest : NULL;
        if (last) {
            pool_remove(p, last, thread);
            gone = last->sessions[thread].session;
            last->sessions[thread].session = NULL;
        }
        pthread_mutex_unlock(&c->lock);
        model_session_free(gone);
    } while (gone);
    int rc = model_session_create(&made, m->model, m->batch_rows, e);
    if (rc) return rc;
    pthread_mutex_lock(&c->lock);
    m->sessions[thread].session = made;
    pool_add(p, m, thread);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

int model_cache_session(struct model_cache *c, struct resident *m, int thread, struct model_session **out,
                        struct err *e)
{
    struct resident_session *at = &m->sessions[thread];
    int rc = 0;
    if (m->pooled && !at->session) {
        rc = make_pooled(c, m, thread, e);
    } else if (m->pooled) {
        pthread_mutex_lock(&c->lock);
        pool_remove(&c->pools[thread], m, thread);
        pool_add(&c->pools[thread], m, thread);
        pthread_mutex_unlock(&c->lock);
    }
    *out = rc ? NULL : at->session;
    return rc;
}

bool model_cache_holds(struct model_cache *c, const char *version_id)
{
    pthread_mutex_lock(&c->lock);
    bool held = *slot_of(c, version_id) != NULL;
    pthread_mutex_unlock(&c->lock);
    return held;
}

int model_cache_add(struct model_cache *c, struct resident *m, struct err *e)
{
    pthread_mutex_lock(&c->lock);
    struct resident **slot = slot_of(c, m->version_id);
    int rc = *slot ? ERR_CONFLICT : c->bytes + m->bytes > c->bytes_max ? ERR_LIMIT : 0;
    if (rc == 0) {
        m->hash_next = NULL;
        m->used_ms = clock_mono_ms();
        *slot = m;
        link_newest(c, m);
        c->bytes += m->bytes;
        c->count++;
    }
    int64_t used = c->bytes;
    pthread_mutex_unlock(&c->lock);
    if (rc == ERR_CONFLICT) return err_set(e, rc, NULL, "model %s is loaded already", m->version_id);
    if (rc)
        return err_set(e, rc, NULL, "model %s needs %lld bytes, and %lld of %lld are taken", m->version_id,
                       (long long)m->bytes, (long long)used, (long long)c->bytes_max);
    return 0;
}

bool model_cache_victim(struct model_cache *c, int64_t bytes, char version_id[ID_MAX])
{
    pthread_mutex_lock(&c->lock);
    bool found = c->bytes + bytes > c->bytes_max && c->oldest;
    if (found) memcpy(version_id, c->oldest->version_id, ID_MAX);
    pthread_mutex_unlock(&c->lock);
    return found;
}

/* With the lock held. */
static int64_t idle_bytes(const struct model_cache *c, int64_t before_ms)
{
    int64_t bytes = 0;
    const struct resident *m = c->oldest;
    for (int i = 0; m && m->used_ms < before_ms && i < IDLE_LOOKED_AT; i++, m = m->newer) bytes += m->bytes;
    return bytes;
}

int64_t model_cache_idle_bytes(struct model_cache *c, int64_t before_ms)
{
    pthread_mutex_lock(&c->lock);
    int64_t bytes = idle_bytes(c, before_ms);
    pthread_mutex_unlock(&c->lock);
    return bytes;
}

bool model_cache_has_idle(struct model_cache *c, int64_t bytes, int64_t before_ms)
{
    pthread_mutex_lock(&c->lock);
    bool fits = c->bytes - idle_bytes(c, before_ms) + bytes <= c->bytes_max;
    pthread_mutex_unlock(&c->lock);
    return fits;
}

void model_cache_each_used(struct model_cache *c, int64_t since_ms,
                           void (*each)(void *arg, struct resident *m), void *arg)
{
    pthread_mutex_lock(&c->lock);
    for (struct resident *m = c->newest; m && m->used_ms >= since_ms; m = m->older) each(arg, m);
    pthread_mutex_unlock(&c->lock);
}

bool model_cache_remove(struct model_cache *c, const char *version_id)
{
    pthread_mutex_lock(&c->lock);
    struct resident **slot = slot_of(c, version_id), *m = *slot;
    if (m) {
        *slot = m->hash_next;
        unlink_age(c, m);
        m->leaving = true;
        while (m->users > 0) pthread_cond_wait(&c->freed, &c->lock);
        for (int i = 0; m->pooled && i < m->sessions_len; i++)
            if (m->sessions[i].session) pool_remove(&c->pools[i], m, i);
    }
    pthread_mutex_unlock(&c->lock);
    if (!m) return false;
    int64_t bytes = m->bytes;
    resident_free(m);
    pthread_mutex_lock(&c->lock);
    c->bytes -= bytes;
    c->count--;
    pthread_mutex_unlock(&c->lock);
    return true;
}

void model_cache_versions(struct model_cache *c, char (**out)[ID_MAX], size_t *n)
{
    *n = 0;
    pthread_mutex_lock(&c->lock);
    *out = c->count ? mem_try_alloc(c->count, sizeof **out) : NULL;
    for (struct resident *m = c->oldest; m && *out; m = m->newer)
        memcpy((*out)[(*n)++], m->version_id, ID_MAX);
    pthread_mutex_unlock(&c->lock);
}

int64_t model_cache_bytes(struct model_cache *c)
{
    pthread_mutex_lock(&c->lock);
    int64_t bytes = c->bytes;
    pthread_mutex_unlock(&c->lock);
    return bytes;
}

int64_t model_cache_pool_used(struct model_cache *c)
{
    int64_t bytes = 0;
    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < c->pools_len; i++) bytes += c->pools[i].bytes;
    pthread_mutex_unlock(&c->lock);
    return bytes;
}

size_t model_cache_count(struct model_cache *c)
{
    pthread_mutex_lock(&c->lock);
    size_t n = c->count;
    pthread_mutex_unlock(&c->lock);
    return n;
}
