/* Resident models by version id, in order of use, under one lock that is never held while loading, computing
 * or freeing. */
#include "worker/model_cache.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

enum { BUCKETS = 4096 };

struct model_cache {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    int64_t bytes_max, bytes;
    size_t count;
    struct resident *buckets[BUCKETS];
    struct resident *oldest, *newest;
};

/* ---- one model
 * -------------------------------------------------------------------------------------------------- */

void resident_free(struct resident *m)
{
    if (!m) return;
    for (int i = 0; i < m->sessions_len; i++) model_session_free(m->sessions[i]);
    mem_free(m->sessions);
    model_free(m->model);
    mem_free(m);
}

static int make_sessions(struct resident *m, int sessions, int64_t batch_rows, int64_t limit_bytes,
                         struct err *e)
{
    m->sessions = mem_try_alloc((size_t)sessions, sizeof *m->sessions);
    if (!m->sessions)
        return err_set(e, ERR_NOMEM, NULL, "no memory for the sessions of model %s", m->version_id);
    while (m->sessions_len < sessions) {
        int rc = model_session_create(&m->sessions[m->sessions_len], m->model, batch_rows, e);
        if (rc) return rc;
        m->bytes += (int64_t)model_session_bytes(m->sessions[m->sessions_len++]);
        if (m->bytes > limit_bytes)
            return err_set(e, ERR_TOO_LARGE, NULL,
                           "model %s needs more than the %lld bytes that this worker has for models",
                           m->version_id, (long long)limit_bytes);
    }
    return 0;
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
static int warm(const struct resident *m, struct err *e)
{
    const struct signature *s = model_signature(m->model);
    struct model_input *inputs = NULL;
    void *data = NULL;
    struct model_output *outputs = mem_try_alloc(s->n_outputs, sizeof *outputs);
    int rc =
        outputs ? dummy_row(s, &inputs, &data, e) : err_set(e, ERR_NOMEM, NULL, "no memory to warm a model");
    for (int i = 0; i < m->sessions_len && rc == 0; i++) {
        rc = model_predict(m->sessions[i], inputs, 1, outputs, e);
        if (rc == ERR_INVALID) rc = 0;
    }
    mem_free(outputs);
    mem_free(inputs);
    mem_free(data);
    return rc;
}

int resident_create(struct resident **out, const char *tenant_id, const char *version_id,
                    const void *artifact, size_t len, int sessions, int64_t batch_rows, int64_t limit_bytes,
                    struct err *e)
{
    *out = NULL;
    struct resident *m = mem_alloc(1, sizeof *m);
    snprintf(m->version_id, ID_MAX, "%s", version_id);
    snprintf(m->tenant_id, ID_MAX, "%s", tenant_id);
    int rc = model_load(&m->model, artifact, len, (size_t)limit_bytes, e);
    if (rc == 0) {
        m->bytes = (int64_t)model_bytes(m->model);
        rc = make_sessions(m, sessions, batch_rows, limit_bytes, e);
    }
    if (rc == 0) rc = warm(m, e);
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
    uint64_t h = 14695981039346656037u;
    for (const char *p = version_id; *p; p++) h = (h ^ (uint8_t)*p) * 1099511628211u;
    struct resident **slot = &c->buckets[(h ^ (h >> 32)) % BUCKETS];
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

/* ---- the cache
 * -------------------------------------------------------------------------------------------------- */

struct model_cache *model_cache_create(int64_t bytes_max)
{
    struct model_cache *c = mem_alloc(1, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->freed, NULL);
    c->bytes_max = bytes_max;
    return c;
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
    mem_free(c);
}

struct resident *model_cache_acquire(struct model_cache *c, const char *tenant_id, const char *version_id)
{
    pthread_mutex_lock(&c->lock);
    struct resident *m = *slot_of(c, version_id);
    if (m && strcmp(m->tenant_id, tenant_id) != 0) m = NULL;
    if (m) {
        m->users++;
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

bool model_cache_remove(struct model_cache *c, const char *version_id)
{
    pthread_mutex_lock(&c->lock);
    struct resident **slot = slot_of(c, version_id), *m = *slot;
    if (m) {
        *slot = m->hash_next;
        unlink_age(c, m);
        m->leaving = true;
        while (m->users > 0) pthread_cond_wait(&c->freed, &c->lock);
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

size_t model_cache_count(struct model_cache *c)
{
    pthread_mutex_lock(&c->lock);
    size_t n = c->count;
    pthread_mutex_unlock(&c->lock);
    return n;
}
