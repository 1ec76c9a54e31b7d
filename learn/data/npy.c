/* NumPy's .npy, versions 1 to 3: a magic, the length of a Python dict, the dict, then the elements. */
#include "learn/data/format.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "learn/data/array.h"

enum { DICT_MAX = 4096 };

struct npy {
    struct array_body body;
    unsigned char head[12 + DICT_MAX];
    size_t have;
};

static int npy_create(void **self, const struct format_sink *sink, const struct format_limits *l,
                      struct err *e)
{
    (void)e;
    struct npy *x = mem_alloc(1, sizeof *x);
    x->body.sink = *sink;
    x->body.limits = *l;
    *self = x;
    return 0;
}

/* ---- the dict: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } ---- */

struct scanner {
    const char *p, *end;
};

static void skip_blanks(struct scanner *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n')) s->p++;
}

static bool accept(struct scanner *s, const char *word)
{
    size_t n = strlen(word);
    skip_blanks(s);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0) return false;
    s->p += n;
    return true;
}

/* A quoted text of at most cap-1 characters. */
static bool accept_text(struct scanner *s, char *out, size_t cap)
{
    skip_blanks(s);
    if (s->p == s->end || (*s->p != '\'' && *s->p != '"')) return false;
    char quote = *s->p++;
    size_t n = 0;
    while (s->p < s->end && *s->p != quote && n + 1 < cap) out[n++] = *s->p++;
    out[n] = '\0';
    if (s->p == s->end || *s->p != quote) return false;
    s->p++;
    return true;
}

static bool accept_size(struct scanner *s, int64_t *out)
{
    skip_blanks(s);
    int64_t v = 0;
    const char *from = s->p;
    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
        if (v > INT64_MAX / 10 - 1)
            return false;
        else
            v = v * 10 + (*s->p - '0');
    *out = v;
    return s->p > from;
}

static bool accept_shape(struct scanner *s, struct array_head *h)
{
    if (!accept(s, "(")) return false;
    bool more = true; /* nothing yet, or a comma: another size may follow */
    for (h->rank = 0; !accept(s, ")"); h->rank++) {
        if (!more || h->rank == SCHEMA_MAX_RANK + 1 || !accept_size(s, &h->dim[h->rank])) return false;
        more = accept(s, ",");
    }
    return true;
}

static int element_type(const char *descr, struct err *e)
{
    static const struct {
        const char *code;
        enum data_type type;
    } table[] = {{"u1", DATA_U8},  {"i1", DATA_I8},  {"u2", DATA_U16}, {"i2", DATA_I16},
                 {"u4", DATA_U32}, {"i4", DATA_I32}, {"u8", DATA_U64}, {"i8", DATA_I64},
                 {"f4", DATA_F32}, {"f8", DATA_F64}, {"b1", DATA_BOOL}};
    for (size_t i = 0; i < sizeof table / sizeof table[0] && strlen(descr) == 3; i++) {
        if (strcmp(descr + 1, table[i].code) != 0) continue;
        if (descr[0] == '>' && data_type_bytes(table[i].type) > 1)
            return err_set(e, ERR_UNSUPPORTED, NULL,
                           "the array is big-endian ('%s'); save it little-endian, "
                           "for example with a.astype('<%s')",
                           descr, table[i].code);
        if (strchr("<>|=", descr[0])) return table[i].type;
    }
    return err_set(
        e, ERR_UNSUPPORTED, NULL,
        "the array's element type '%s' is not offered; expected u1 u2 u4 u8 i1 i2 i4 i8 f4 f8 or bool",
        descr);
}

static int malformed(struct err *e)
{
    return err_set(e, ERR_INVALID, NULL,
                   "the .npy header is malformed; expected a dict of descr, fortran_order and shape");
}

static int read_dict(struct scanner *s, struct array_head *h, struct err *e)
{
    char key[16], descr[24] = "";
    bool fortran = false, descr_seen = false, order_seen = false, shape_seen = false;
    if (!accept(s, "{")) return malformed(e);
    while (!accept(s, "}")) {
        if (!accept_text(s, key, sizeof key) || !accept(s, ":")) return malformed(e);
        bool ok = false;
        if (strcmp(key, "descr") == 0 && !descr_seen)
            ok = descr_seen = accept_text(s, descr, sizeof descr);
        else if (strcmp(key, "fortran_order") == 0 && !order_seen)
            ok = order_seen = (fortran = accept(s, "True")) || accept(s, "False");
        else if (strcmp(key, "shape") == 0 && !shape_seen)
            ok = shape_seen = accept_shape(s, h);
        if (!ok) return malformed(e);
        if (!accept(s, ",") && (s->p == s->end || *s->p != '}')) return malformed(e);
    }
    if (!descr_seen || !order_seen || !shape_seen) return malformed(e);
    skip_blanks(s);
    if (s->p != s->end) return malformed(e);
    if (fortran && h->rank > 1)
        return err_set(
            e, ERR_UNSUPPORTED, NULL,
            "the array is in Fortran order; save it in C order, for example with numpy.ascontiguousarray(a)");
    int type = element_type(descr, e);
    if (type < 0) return type;
    h->dtype = (enum data_type)type;
    return 0;
}

/* Bytes of the head that are known to be needed so far; 0 and e set when it is no .npy that we read. */
static size_t head_need(const struct npy *x, struct err *e)
{
    if (x->have < 12) { /* enough to know magic, version and either length; the smallest head is longer */
        return 12;
    }
    if (memcmp(x->head, "\x93NUMPY", 6) != 0) {
        err_set(e, ERR_INVALID, NULL, "not an .npy file: it does not begin with \\x93NUMPY");
        return 0;
    }
    size_t len = (size_t)x->head[8] | (size_t)x->head[9] << 8, at = 10;
    if (x->head[6] == 2 || x->head[6] == 3) {
        len |= (size_t)x->head[10] << 16 | (size_t)x->head[11] << 24;
        at = 12;
    } else if (x->head[6] != 1) {
        err_set(e, ERR_UNSUPPORTED, NULL, ".npy version %d is not offered; expected 1, 2 or 3", x->head[6]);
        return 0;
    }
    if (len > DICT_MAX || len < 2) {
        err_set(e, ERR_INVALID, NULL, "the .npy header is %zu bytes long; expected 2 to %d", len, DICT_MAX);
        return 0;
    }
    return at + len;
}

static int npy_push(void *self, const unsigned char *data, size_t len, struct err *e)
{
    struct npy *x = self;
    while (!x->body.open) {
        struct err why = {0};
        size_t want = head_need(x, &why);
        if (want == 0) return err_set(e, why.code, NULL, "%s", why.message);
        if (x->have >= want) {
            size_t at = x->head[6] == 1 ? 10 : 12;
            struct scanner s = {(const char *)x->head + at, (const char *)x->head + want};
            struct array_head h = {0};
            int rc;
            if ((rc = read_dict(&s, &h, e)) || (rc = array_open(&x->body, &h, e))) return rc;
            break;
        }
        if (len == 0) return 0;
        x->head[x->have++] = *data++;
        len--;
    }
    return array_push(&x->body, data, len, e);
}

static int npy_finish(void *self, int64_t *rows, struct err *e)
{
    struct npy *x = self;
    return array_finish(&x->body, rows, e);
}

static void npy_free(void *self)
{
    mem_free(self);
}

const struct format_ops format_npy = {
    .format = SCHEMA_NPY, .create = npy_create, .push = npy_push, .finish = npy_finish, .free = npy_free};
