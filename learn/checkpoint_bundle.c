/* Writes a job's state with its bytes, and opens such a file without trusting it. */
#include "learn/checkpoint_bundle.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "learn/safetensors.h"

enum { N_META = 3, STATE_TOKENS = 100000 };

struct bundle {
    struct safetensors *file;
    cJSON *state;
};

/* ---- writing ---- */

int bundle_digest(char out[SHA256_HEX_LEN], const char *format, const struct train_request *q, struct err *e)
{
    struct buf text = {0};
    struct json_writer w;
    uint8_t sum[SHA256_LEN];
    jw_init(&w, &text);
    jw_arr(&w);
    jw_str(&w, format);
    jw_node(&w, q->spec);
    jw_node(&w, q->schema);
    jw_node(&w, q->test_schema);
    jw_node(&w, q->lineage);
    jw_arr_end(&w);
    if (!text.failed) crypto_sha256(sum, text.data, text.len);
    if (!text.failed) crypto_hex(out, sum, sizeof sum);
    int rc = text.failed ? err_set(e, ERR_NOMEM, NULL, "no memory to describe the job") : 0;
    buf_dispose(&text);
    return rc;
}

static size_t element_bytes(const char *dtype)
{
    return strcmp(dtype, "U8") == 0 ? 1 : strcmp(dtype + 1, "32") == 0 ? 4 : 8;
}

int bundle_write(int fd, const char *format, const char *digest, const char *state,
                 const struct bundle_item *items, size_t n, uint64_t *bytes, struct err *e)
{
    const struct safetensors_meta meta[N_META] = {
        {"tenor.format", format}, {"tenor.digest", digest}, {"tenor.state", state}};
    struct safetensor *list = mem_try_alloc(n + 1, sizeof *list);
    if (!list) return err_set(e, ERR_NOMEM, NULL, "no memory to write a checkpoint");
    for (size_t i = 0; i < n; i++)
        list[i] = (struct safetensor){.name = items[i].name,
                                      .dtype = items[i].dtype,
                                      .rank = 1,
                                      .dim = {(int64_t)(items[i].bytes / element_bytes(items[i].dtype))},
                                      .data = items[i].data,
                                      .bytes = items[i].bytes};
    int rc = lseek(fd, 0, SEEK_SET) != 0 || ftruncate(fd, 0) != 0
                 ? err_errno(e, ERR_IO, "empty the checkpoint's file")
                 : safetensors_write(fd, meta, N_META, list, n, bytes, e);
    mem_free(list);
    return rc;
}

/* ---- reading ---- */

static int corrupt(struct err *e, const char *what)
{
    return err_set(e, ERR_CORRUPT, NULL, "the checkpoint is not sound: %s", what);
}

static const char *metadata(const struct bundle *b, const char *key)
{
    const char *text = safetensors_metadata(b->file, key);
    return text ? text : "";
}

static int read_head(struct bundle *b, const char *format, const char *digest, struct err *e)
{
    const char *text = metadata(b, "tenor.state");
    struct err why = {0};
    if (strcmp(metadata(b, "tenor.format"), format) != 0)
        return err_set(e, ERR_CORRUPT, NULL, "the checkpoint is not sound: it is no %s file", format);
    if (strcmp(metadata(b, "tenor.digest"), digest) != 0)
        return err_set(e, ERR_CONFLICT, NULL,
                       "the checkpoint belongs to another job: its spec, data or program differ");
    int rc = json_parse(&b->state, text, strlen(text), STATE_TOKENS, &why);
    return rc == ERR_NOMEM ? err_set(e, rc, NULL, "%s", why.message) : rc ? corrupt(e, why.message) : 0;
}

int bundle_open(struct bundle **out, const void *bytes, size_t len, const char *format, const char *digest,
                struct err *e)
{
    struct bundle *b = mem_try_alloc(1, sizeof *b);
    *out = NULL;
    if (!b) return err_set(e, ERR_NOMEM, NULL, "no memory to read a checkpoint");
    int rc = safetensors_open(&b->file, bytes, len, e);
    if (!rc) rc = read_head(b, format, digest, e);
    if (rc)
        bundle_close(b);
    else
        *out = b;
    return rc;
}

void bundle_close(struct bundle *b)
{
    if (!b) return;
    safetensors_free(b->file);
    cJSON_Delete(b->state);
    mem_free(b);
}

const cJSON *bundle_state(const struct bundle *b)
{
    return b->state;
}

size_t bundle_count(const struct bundle *b)
{
    return safetensors_count(b->file);
}

int bundle_item(struct bundle_item *out, const struct bundle *b, size_t i, struct err *e)
{
    const struct safetensor *t = safetensors_at(b->file, i);
    if (t->rank != 1) return corrupt(e, "a part of it is not flat");
    int n = snprintf(out->name, sizeof out->name, "%s", t->name);
    if (n < 0 || (size_t)n >= sizeof out->name) return corrupt(e, "a part of it has a name too long");
    out->dtype = t->dtype;
    out->data = t->data;
    out->bytes = t->bytes;
    return 0;
}
