/* Learns vocabularies, and turns texts into ids and back. */
#include "learn/text/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "learn/text/vocabulary_impl.h"

struct vocabulary_learner {
    struct text_options options;
    struct token_table seen;
};

/* ---- learning ---- */

int vocabulary_learner_create(struct vocabulary_learner **out, const struct text_options *o, struct err *e)
{
    *out = mem_try_alloc(1, sizeof **out);
    if (!*out) return err_set(e, ERR_NOMEM, NULL, "no memory for a vocabulary");
    (*out)->options = *o;
    return 0;
}

void vocabulary_learner_free(struct vocabulary_learner *l)
{
    if (!l) return;
    token_table_dispose(&l->seen);
    mem_free(l);
}

/* The smallest count that at most half of the entries lie above. */
static uint32_t rare(const struct token_table *t)
{
    for (uint32_t limit = 1;; limit *= 2) {
        uint32_t above = 0;
        for (uint32_t i = 0; i < t->n; i++) above += t->entry[i].count > limit;
        if (above <= t->n / 2 || limit > UINT32_MAX / 2) return limit;
    }
}

/* Keeps the frequent half. */
static bool forget(struct vocabulary_learner *l)
{
    struct token_table kept = {0}, *t = &l->seen;
    uint32_t limit = rare(t);
    for (uint32_t i = 0; i < t->n; i++) {
        const struct token_entry *x = &t->entry[i];
        if (x->count <= limit) continue;
        if (!token_table_add(&kept, t->bytes + x->at, x->len, x->hash)) {
            token_table_dispose(&kept);
            return false;
        }
        kept.entry[kept.n - 1].count = x->count;
    }
    token_table_dispose(t);
    *t = kept;
    return true;
}

int vocabulary_learner_add(struct vocabulary_learner *l, const char *text, size_t len, struct err *e)
{
    struct token_reader r;
    token_reader_init(&r, &l->options.tokenise, text, len);
    while (token_reader_next(&r)) {
        uint32_t hash = token_hash(r.token, r.len);
        int64_t at = token_table_find(&l->seen, r.token, r.len, hash);
        if (at < 0) {
            if ((l->seen.n == TEXT_MAX_DISTINCT && !forget(l)) ||
                !token_table_add(&l->seen, r.token, r.len, hash))
                return err_set(e, ERR_NOMEM, NULL, "no memory to count the texts' tokens");
            at = l->seen.n - 1;
        }
        if (l->seen.entry[at].count < UINT32_MAX) l->seen.entry[at].count++;
    }
    return 0;
}

static int by_count(const void *a, const void *b, void *ctx)
{
    const struct token_table *t = ctx;
    const struct token_entry *x = &t->entry[*(const uint32_t *)a], *y = &t->entry[*(const uint32_t *)b];
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    int order = memcmp(t->bytes + x->at, t->bytes + y->at, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

int vocabulary__create(struct vocabulary **out, const struct text_options *o, struct err *e)
{
    *out = mem_try_alloc(1, sizeof **out);
    if (!*out) return err_set(e, ERR_NOMEM, NULL, "no memory for a vocabulary");
    (*out)->options = *o;
    return 0;
}

int vocabulary_learn(struct vocabulary **out, const struct vocabulary_learner *l, struct err *e)
{
    const struct token_table *t = &l->seen;
    struct vocabulary *v = NULL;
    uint32_t n = 0, most = (uint32_t)(l->options.max_ids - TEXT_ID_FIRST);
    uint32_t *order = mem_try_alloc(t->n + 1, sizeof *order);
    int rc = order ? vocabulary__create(&v, &l->options, e)
                   : err_set(e, ERR_NOMEM, NULL, "no memory to sort the tokens");
    for (uint32_t i = 0; i < t->n && !rc; i++)
        if (t->entry[i].count >= l->options.min_count) order[n++] = i;
    if (n) qsort_r(order, n, sizeof *order, by_count, (void *)(uintptr_t)t);
    for (uint32_t i = 0; i < n && i < most && !rc; i++) {
        const struct token_entry *x = &t->entry[order[i]];
        if (!token_table_add(&v->tokens, t->bytes + x->at, x->len, x->hash))
            rc = err_set(e, ERR_NOMEM, NULL, "no memory for a vocabulary");
    }
    mem_free(order);
    if (rc) vocabulary_free(v);
    *out = rc ? NULL : v;
    return rc;
}

void vocabulary_free(struct vocabulary *v)
{
    if (!v) return;
    token_table_dispose(&v->tokens);
    mem_free(v);
}

/* ---- asking ---- */

const struct text_options *vocabulary_options(const struct vocabulary *v)
{
    return &v->options;
}

int64_t vocabulary_size(const struct vocabulary *v)
{
    return (int64_t)v->tokens.n + TEXT_ID_FIRST;
}

size_t vocabulary_bytes(const struct vocabulary *v)
{
    return sizeof *v + token_table_bytes(&v->tokens);
}

int32_t vocabulary_id(const struct vocabulary *v, const char *token, size_t len)
{
    int64_t at = token_table_find(&v->tokens, token, len, token_hash(token, len));
    return at < 0 ? TEXT_ID_UNKNOWN : (int32_t)at + TEXT_ID_FIRST;
}

const char *vocabulary_token(const struct vocabulary *v, int32_t id, size_t *len)
{
    if (id < TEXT_ID_FIRST || id >= vocabulary_size(v)) return NULL;
    const struct token_entry *x = &v->tokens.entry[id - TEXT_ID_FIRST];
    *len = x->len;
    return v->tokens.bytes + x->at;
}

/* ---- encoding ---- */

static void reverse(int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n / 2; i++) {
        int32_t id = ids[i];
        ids[i] = ids[n - 1 - i];
        ids[n - 1 - i] = id;
    }
}

/* The last `room` of a text's ids: written round and round, then turned so that the oldest comes first. */
static int64_t encode_last(const struct vocabulary *v, struct token_reader *r, int64_t room, int32_t *out)
{
    int64_t n = 0, at = 0;
    for (; token_reader_next(r); n++) {
        if (at == room) at = 0;
        out[at++] = vocabulary_id(v, r->token, r->len);
    }
    if (n <= room) return n;
    reverse(out, at);
    reverse(out + at, room - at);
    reverse(out, room);
    return room;
}

int64_t vocabulary_encode(const struct vocabulary *v, const char *text, size_t len, int32_t *out)
{
    const struct text_options *o = &v->options;
    int64_t marks = o->marks ? 1 : 0, room = o->length - 2 * marks, n = 0;
    struct token_reader r;
    token_reader_init(&r, &o->tokenise, text, len);
    if (o->truncate == TEXT_TRUNCATE_START)
        n = encode_last(v, &r, room, out + marks);
    else
        while (n < room && token_reader_next(&r)) out[marks + n++] = vocabulary_id(v, r.token, r.len);
    if (o->marks) {
        out[0] = TEXT_ID_START;
        out[n + 1] = TEXT_ID_END;
        n += 2;
    }
    memset(out + n, 0, (size_t)(o->length - n) * sizeof *out); /* TEXT_ID_PADDING */
    return n;
}

void vocabulary_decode(const struct vocabulary *v, const int32_t *ids, int64_t n, struct buf *out)
{
    bool words = v->options.tokenise.mode == TEXT_WORD, first = true;
    for (int64_t i = 0; i < n && ids[i] != TEXT_ID_PADDING && ids[i] != TEXT_ID_END; i++) {
        size_t len = 0;
        if (ids[i] == TEXT_ID_START) continue;
        const char *token = vocabulary_token(v, ids[i], &len);
        if (words && !first) buf_char(out, ' ');
        first = false;
        if (token)
            buf_append(out, token, len);
        else
            buf_str(out, "\xEF\xBF\xBD");
    }
}
