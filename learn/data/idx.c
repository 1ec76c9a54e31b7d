/* IDX, the format of the MNIST files: a big-endian head of sizes, then the elements. */
#include "learn/data/format.h"

#include <string.h>

#include "base/mem.h"
#include "learn/data/array.h"

struct idx {
    struct array_body body;
    unsigned char head[4 + 4 * 255];
    size_t have;
};

static int idx_create(void **self, const struct format_sink *sink, const struct format_limits *l,
                      struct err *e)
{
    (void)e;
    struct idx *x = mem_alloc(1, sizeof *x);
    x->body.sink = *sink;
    x->body.limits = *l;
    *self = x;
    return 0;
}

static int element_type(unsigned char code)
{
    switch (code) {
    case 0x08:
        return DATA_U8;
    case 0x09:
        return DATA_I8;
    case 0x0B:
        return DATA_I16;
    case 0x0C:
        return DATA_I32;
    case 0x0D:
        return DATA_F32;
    case 0x0E:
        return DATA_F64;
    default:
        return -1;
    }
}

static int open_body(struct idx *x, struct err *e)
{
    struct array_head h = {.big_endian = true, .rank = x->head[3]};
    h.dtype = (enum data_type)element_type(x->head[2]);
    for (int i = 0; i < h.rank && i < SCHEMA_MAX_RANK + 1; i++) {
        const unsigned char *p = x->head + 4 + 4 * i;
        h.dim[i] = (int64_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
    }
    return array_open(&x->body, &h, e);
}

static int check_magic(const struct idx *x, struct err *e)
{
    if (x->head[0] || x->head[1] || element_type(x->head[2]) < 0)
        return err_set(e, ERR_INVALID, NULL,
                       "not an IDX file: it must begin 00 00, a type of 08 09 0b 0c 0d 0e and a rank; "
                       "this begins %02x %02x %02x %02x",
                       x->head[0], x->head[1], x->head[2], x->head[3]);
    return 0;
}

static int idx_push(void *self, const unsigned char *data, size_t len, struct err *e)
{
    struct idx *x = self;
    while (!x->body.open) {
        size_t want = x->have < 4 ? 4 : 4 + 4 * (size_t)x->head[3];
        if (x->have == want) {
            int rc = open_body(x, e);
            if (rc) return rc;
            break;
        }
        if (len == 0) return 0;
        x->head[x->have++] = *data++;
        len--;
        if (x->have == 4) {
            int rc = check_magic(x, e);
            if (rc) return rc;
        }
    }
    return array_push(&x->body, data, len, e);
}

static int idx_finish(void *self, int64_t *rows, struct err *e)
{
    struct idx *x = self;
    return array_finish(&x->body, rows, e);
}

static void idx_free(void *self)
{
    mem_free(self);
}

const struct format_ops format_idx = {
    .format = SCHEMA_IDX, .create = idx_create, .push = idx_push, .finish = idx_finish, .free = idx_free};
