/* One buffer that is read into, lent to whoever keeps a large record, and replaced when it is still held. */
#include "queue/link_in.h"

#include <string.h>
#include "queue/link.h"

/* READ_LARGE: no longer record decides how much is read. KEEP_READS: no buffer of more reads is kept. */
enum { READ_MIN = 64 * 1024, READ_LARGE = 1 << 20, KEEP_READS = 4, HEAD = sizeof(uint32_t) };

void link_in_init(struct link_in *in)
{
    *in = (struct link_in){.reads = READ_MIN};
}

void link_in_dispose(struct link_in *in)
{
    if (in->lent)
        bytes_drop(in->lent);
    else
        buf_dispose(&in->memory);
    link_in_init(in);
}

/* ---- reading ---- */

/* How much a read may bring: a large record's rest and no more, so that whoever keeps it keeps nothing of
 * others along. What is only claimed gets no memory: at most as much again as has really come. */
static size_t want_bytes(const struct link_in *in, bool records)
{
    size_t have = in->memory.len, most = have > READ_MIN ? have : READ_MIN;
    uint32_t len;
    if (!records || have < HEAD) return in->reads;
    memcpy(&len, in->memory.data, HEAD);
    size_t rest = HEAD + len - have; /* link_in_record left it, so it is not whole */
    return len < RECORD_LARGE ? READ_MIN : rest < most ? rest : most;
}

char *link_in_room(struct link_in *in, bool records, size_t *len)
{
    *len = want_bytes(in, records);
    return buf_reserve(&in->memory, *len);
}

void link_in_came(struct link_in *in, size_t len)
{
    in->memory.len += len;
}

/* ---- taking ---- */

const char *link_in_rest(const struct link_in *in, size_t *len)
{
    *len = in->memory.len - in->at;
    return in->memory.data + in->at;
}

void link_in_take(struct link_in *in, size_t len)
{
    in->at += len;
}

int link_in_record(struct link_in *in, const char **data, size_t *len)
{
    size_t rest;
    uint32_t record;
    const char *from = link_in_rest(in, &rest);
    if (rest < HEAD) return ERR_NOT_FOUND;
    memcpy(&record, from, HEAD);
    if (record > LINK_RECORD_MAX) return ERR_TOO_LARGE;
    if (rest - HEAD < record) return ERR_NOT_FOUND;
    *data = from + HEAD;
    *len = record;
    link_in_take(in, HEAD + record);
    in->reads = record >= RECORD_LARGE && record <= READ_LARGE ? HEAD + record : READ_MIN;
    return 0;
}

struct bytes *link_in_keep(struct link_in *in, size_t len)
{
    if (len < RECORD_LARGE || len < in->memory.cap / 2) return NULL;
    if (!in->lent) {
        struct buf view = in->memory;
        in->lent = bytes_share(&in->memory);
        in->memory = view;
    }
    return bytes_hold(in->lent);
}

/* ---- making room ---- */

/* What was lent is ours again, or, when others still hold it, what is left of it gets memory of its own. */
static bool take_back(struct link_in *in)
{
    struct bytes *lent = in->lent;
    struct buf old = in->memory;
    if (!lent) return true;
    in->memory = (struct buf){0};
    in->lent = NULL;
    if (bytes_return(lent, &in->memory)) return true;
    if (in->at < old.len) buf_append(&in->memory, old.data + in->at, old.len - in->at);
    bytes_drop(lent);
    in->at = 0;
    return !in->memory.failed;
}

bool link_in_settle(struct link_in *in)
{
    if (!take_back(in)) return false;
    if (in->at < in->memory.len)
        buf_consume(&in->memory, in->at);
    else if (in->memory.cap > KEEP_READS * in->reads)
        buf_dispose(&in->memory);
    else
        buf_clear(&in->memory);
    in->at = 0;
    return true;
}
