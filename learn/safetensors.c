/* Writes and reads safetensors files. */
#include "learn/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <cjson/cJSON.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"

enum { MAX_TOKENS = 2000000 };

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {{"F32", 4}, {"F64", 8}, {"F16", 2}, {"BF16", 2}, {"I8", 1},  {"I16", 2}, {"I32", 4},
              {"I64", 8}, {"U8", 1},  {"U16", 2}, {"U32", 4},  {"U64", 8}, {"BOOL", 1}};

static int find_dtype(const char *name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, name) == 0) return (int)i;
    return -1;
}

/* ---- writing ---- */

static void header_to_json(struct buf *out, const struct safetensors_meta *meta, size_t n_meta,
                           const struct safetensor *tensors, size_t n_tensors)
{
    struct json_writer w;
    size_t at = 0;
    jw_init(&w, out);
    jw_obj(&w);
    if (n_meta) {
        jw_name(&w, "__metadata__");
        jw_obj(&w);
        for (size_t i = 0; i < n_meta; i++) jw_kstr(&w, meta[i].key, meta[i].value);
        jw_obj_end(&w);
    }
    for (size_t i = 0; i < n_tensors; i++) {
        jw_name(&w, tensors[i].name);
        jw_obj(&w);
        jw_kstr(&w, "dtype", tensors[i].dtype);
        jw_name(&w, "shape");
        jw_arr(&w);
        for (int k = 0; k < tensors[i].rank; k++) jw_int(&w, tensors[i].dim[k]);
        jw_arr_end(&w);
        jw_name(&w, "data_offsets");
        jw_arr(&w);
        jw_int(&w, (int64_t)at);
        at += tensors[i].bytes;
        jw_int(&w, (int64_t)at);
        jw_arr_end(&w);
        jw_obj_end(&w);
    }
    jw_obj_end(&w);
    while (out->len % 8 && !out->failed) buf_char(out, ' ');
}

int safetensors_write(int fd, const struct safetensors_meta *meta, size_t n_meta,
                      const struct safetensor *tensors, size_t n_tensors, uint64_t *written, struct err *e)
{
    struct buf header = {.limit = SAFETENSORS_MAX_HEADER};
    unsigned char prefix[8];
    int rc = 0;
    header_to_json(&header, meta, n_meta, tensors, n_tensors);
    if (header.failed) {
        buf_dispose(&header);
        return err_set(e, ERR_TOO_LARGE, NULL, "the version's description is larger than %d bytes",
                       SAFETENSORS_MAX_HEADER);
    }
    for (int i = 0; i < 8; i++) prefix[i] = (unsigned char)((uint64_t)header.len >> (8 * i));
    *written = sizeof prefix + header.len;
    if ((rc = fs_write_all(fd, prefix, sizeof prefix, e)) == 0)
        rc = fs_write_all(fd, header.data, header.len, e);
    buf_dispose(&header);
    for (size_t i = 0; i < n_tensors && !rc; i++) {
        rc = fs_write_all(fd, tensors[i].data, tensors[i].bytes, e);
        *written += tensors[i].bytes;
    }
    return rc;
}

/* ---- reading ---- */

struct safetensors {
    cJSON *root;
    const cJSON *metadata;     /* borrowed from root; NULL without */
    struct safetensor *tensor; /* in the order of their data */
    size_t n;
    const unsigned char *data;
    size_t data_len;
};

static int corrupt(struct err *e, const char *name, const char *what)
{
    return err_set(e, ERR_CORRUPT, NULL, "not a sound safetensors file: %s%s%.64s", what, name[0] ? ": " : "",
                   name);
}

/* A whole number in [0, 2^53]. */
static bool whole(const cJSON *n, int64_t *out)
{
    if (!cJSON_IsNumber(n) || !(n->valuedouble >= 0 && n->valuedouble <= 9007199254740992.0)) return false;
    *out = (int64_t)n->valuedouble;
    return (double)*out == n->valuedouble;
}

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static int read_shape(struct safetensor *t, const cJSON *list, size_t element, struct err *e)
{
    size_t bytes = element;
    if (!cJSON_IsArray(list)) return corrupt(e, t->name, "a tensor without a shape");
    for (const cJSON *n = list->child; n; n = n->next) {
        if (t->rank == SAFETENSORS_MAX_RANK) return corrupt(e, t->name, "a tensor with too many dimensions");
        if (!whole(n, &t->dim[t->rank])) return corrupt(e, t->name, "a dimension that is no size");
        if (!mem_mul(bytes, (size_t)t->dim[t->rank++], &bytes))
            return corrupt(e, t->name, "a shape that overflows");
    }
    return bytes == t->bytes ? 0 : corrupt(e, t->name, "a shape that does not agree with the tensor's bytes");
}

static int read_tensor(struct safetensors *s, const cJSON *node, struct err *e)
{
    struct safetensor *t = &s->tensor[s->n++];
    int64_t begin, end;
    t->name = node->string;
    const cJSON *dtype = member(node, "dtype"), *offsets = member(node, "data_offsets");
    if (!cJSON_IsObject(node) || cJSON_GetArraySize(node) != 3)
        return corrupt(e, t->name, "an entry with other fields");
    if (!cJSON_IsString(dtype) || find_dtype(dtype->valuestring) < 0)
        return corrupt(e, t->name, "an unknown dtype");
    t->dtype = dtype->valuestring;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 || !whole(offsets->child, &begin) ||
        !whole(offsets->child->next, &end) || begin > end || (uint64_t)end > s->data_len)
        return corrupt(e, t->name, "data_offsets outside the file");
    t->data = s->data + begin;
    t->bytes = (size_t)(end - begin);
    return read_shape(t, member(node, "shape"), dtypes[find_dtype(t->dtype)].bytes, e);
}

static int data_order(const void *a, const void *b)
{
    const struct safetensor *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Tensors must stand back to back and fill the file: no overlap, nothing hidden between or behind them. */
static int check_layout(struct safetensors *s, struct err *e)
{
    size_t at = 0;
    qsort(s->tensor, s->n, sizeof *s->tensor, data_order);
    for (size_t i = 0; i < s->n; i++) {
        if ((const unsigned char *)s->tensor[i].data != s->data + at)
            return corrupt(e, s->tensor[i].name, "tensors that overlap or leave a hole");
        at += s->tensor[i].bytes;
    }
    return at == s->data_len ? 0 : corrupt(e, "", "bytes behind the last tensor");
}

static int read_header(struct safetensors *s, struct err *e)
{
    int n = cJSON_GetArraySize(s->root), rc = 0;
    if (!cJSON_IsObject(s->root)) return corrupt(e, "", "the header is no object");
    if (n > SAFETENSORS_MAX_TENSORS) return corrupt(e, "", "too many tensors");
    s->tensor = mem_try_alloc((size_t)n + 1, sizeof *s->tensor);
    if (!s->tensor) return err_set(e, ERR_NOMEM, NULL, "no memory for the file's header");
    for (const cJSON *c = s->root->child; c && !rc; c = c->next) {
        if (strcmp(c->string, "__metadata__") != 0) {
            rc = read_tensor(s, c, e);
            continue;
        }
        if (!cJSON_IsObject(c)) return corrupt(e, "", "__metadata__ is no object");
        for (const cJSON *m = c->child; m; m = m->next)
            if (!cJSON_IsString(m)) return corrupt(e, m->string, "a metadata value that is no text");
        s->metadata = c;
    }
    return rc ? rc : check_layout(s, e);
}

int safetensors_open(struct safetensors **out, const void *bytes, size_t len, struct err *e)
{
    const unsigned char *p = bytes;
    uint64_t header = 0;
    struct err why = {0};
    *out = NULL;
    if (len < 8) return corrupt(e, "", "shorter than its length field");
    for (int i = 7; i >= 0; i--) header = header << 8 | p[i];
    if (header > SAFETENSORS_MAX_HEADER || header > len - 8)
        return corrupt(e, "", "the header's length is beyond the file or the limit");
    if (header < 2 || p[8] != '{') return corrupt(e, "", "the header does not begin with '{'");
    struct safetensors *s = mem_alloc(1, sizeof *s);
    s->data = p + 8 + header;
    s->data_len = len - 8 - (size_t)header;
    int rc = json_parse(&s->root, (const char *)p + 8, (size_t)header, MAX_TOKENS, &why);
    if (rc)
        rc = err_set(e, rc == ERR_NOMEM ? rc : ERR_CORRUPT, NULL, "the safetensors header: %s", why.message);
    else
        rc = read_header(s, e);
    if (rc)
        safetensors_free(s);
    else
        *out = s;
    return rc;
}

void safetensors_free(struct safetensors *s)
{
    if (!s) return;
    cJSON_Delete(s->root);
    mem_free(s->tensor);
    mem_free(s);
}

size_t safetensors_count(const struct safetensors *s)
{
    return s->n;
}

const struct safetensor *safetensors_at(const struct safetensors *s, size_t index)
{
    return &s->tensor[index];
}

const struct safetensor *safetensors_find(const struct safetensors *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->tensor[i].name, name) == 0) return &s->tensor[i];
    return NULL;
}

const char *safetensors_metadata(const struct safetensors *s, const char *key)
{
    const cJSON *c = s->metadata ? member(s->metadata, key) : NULL;
    return c ? c->valuestring : NULL;
}
