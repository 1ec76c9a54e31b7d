/* Encodes around large tensors, and holds what they lie in. */
#include "queue/record.h"

#include <assert.h>

/* Room for what stands in a record beside its tensors' bytes. */
enum { HEAD_BYTES = 256, TENSOR_HEAD_BYTES = 96 };

/* One allocation instead of many that double. */
static void reserve(struct record *r, const struct message *m, size_t gaps_max)
{
    size_t bytes = HEAD_BYTES, gaps = 0;
    for (size_t i = 0; i < m->tensors_len; i++) {
        bool left_out = gaps < gaps_max && m->tensors[i].data_len >= RECORD_LARGE;
        gaps += left_out;
        bytes += TENSOR_HEAD_BYTES + (left_out ? 0 : m->tensors[i].data_len);
    }
    (void)buf_reserve(&r->text, bytes);
}

void record_encode(struct record *r, const struct message *m, struct bytes *const *of)
{
    struct message_gap gaps[RECORD_PIECES_MAX];
    size_t gaps_max = of ? RECORD_PIECES_MAX : 0;
    reserve(r, m, gaps_max);
    r->pieces_len = message_encode_around(&r->text, m, RECORD_LARGE, gaps, gaps_max);
    for (size_t i = 0; i < r->pieces_len; i++) {
        const struct message_tensor *t = &m->tensors[gaps[i].tensor];
        struct bytes *in = of ? of[gaps[i].tensor] : NULL; /* there are no gaps without owners */
        assert(in);
        r->pieces[i] = (struct record_piece){gaps[i].at, t->data, t->data_len, bytes_hold(in)};
    }
}

void record_copy(struct record *to, const struct record *r)
{
    buf_append(&to->text, r->text.data, r->text.len);
    to->pieces_len = r->pieces_len;
    for (size_t i = 0; i < r->pieces_len; i++) {
        to->pieces[i] = r->pieces[i];
        bytes_hold(to->pieces[i].of);
    }
}

void record_dispose(struct record *r)
{
    for (size_t i = 0; i < r->pieces_len; i++) bytes_drop(r->pieces[i].of);
    buf_dispose(&r->text);
    *r = (struct record){0};
}

size_t record_len(const struct record *r)
{
    size_t len = r->text.len;
    for (size_t i = 0; i < r->pieces_len; i++) len += r->pieces[i].len;
    return len;
}
