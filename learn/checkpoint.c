/* Lays a run down in a safetensors file, and picks it up again without trusting a byte. */
#include "learn/checkpoint.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "learn/safetensors.h"

#define FORMAT_NAME "tenor.checkpoint.1"
enum { N_META = 4, NAME_MAX_BYTES = GRAPH_NAME_MAX + 64, STATE_TOKENS = 100, HISTORY_TOKENS = 2000000 };
static const double LARGEST = 1e300;

/* The tensors of a checkpoint in their order: a group is one flat buffer of the weights' layout. */
enum { GROUPS_MAX = 2 + CHECKPOINT_MAX_SLOTS };
struct groups {
    int n;
    const char *prefix[GROUPS_MAX];
    const char *slot[GROUPS_MAX]; /* "" where there is none */
    float *data[GROUPS_MAX];
};

static void add_group(struct groups *g, const char *prefix, const char *slot, float *data)
{
    g->prefix[g->n] = prefix;
    g->slot[g->n] = slot;
    g->data[g->n++] = data;
}

static struct groups groups_of(const struct checkpoint *c, const struct checkpoint_state *state)
{
    struct groups g = {0};
    add_group(&g, "weights/", "", c->weights->data);
    if (state->fitted) return g;
    if (c->best && state->best_epoch) add_group(&g, "best/", "", c->best->data);
    for (int i = 0; i < c->n_slots; i++) add_group(&g, "optimizer/", c->slot_name[i], c->slot[i]);
    return g;
}

static void tensor_name(char out[NAME_MAX_BYTES], const struct groups *g, int group, const char *param)
{
    snprintf(out, NAME_MAX_BYTES, "%s%s%s%s", g->prefix[group], g->slot[group], g->slot[group][0] ? "/" : "",
             param);
}

/* ---- writing ---- */

static void state_to_json(const struct checkpoint *c, struct buf *out)
{
    const struct checkpoint_state *s = &c->state;
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    jw_kint(&w, "epoch", s->epoch);
    jw_kint(&w, "epochs", c->epochs);
    jw_kint(&w, "step", s->step);
    jw_kint(&w, "steps", c->steps);
    jw_kbool(&w, "fitted", s->fitted);
    jw_kbool(&w, "stopped_early", s->stopped_early);
    jw_knum(&w, "loss_sum", s->loss_sum);
    jw_knum(&w, "hits", s->hits);
    jw_knum(&w, "rows_done", s->rows_done);
    jw_knum(&w, "best_score", s->best_score);
    jw_kint(&w, "best_epoch", s->best_epoch);
    jw_knum(&w, "seconds", s->seconds);
    jw_kstr(&w, "backend", c->backend);
    jw_kint(&w, "threads", c->threads);
    jw_obj_end(&w);
}

static void describe(struct safetensor *t, const char *name, const struct params_entry *p, const float *data)
{
    *t = (struct safetensor){.name = name,
                             .dtype = "F32",
                             .rank = p->shape.rank,
                             .data = data + p->offset,
                             .bytes = p->count * sizeof(float)};
    memcpy(t->dim, p->shape.dim, (size_t)p->shape.rank * sizeof *t->dim);
}

static int write_tensors(const struct checkpoint *c, const struct safetensors_meta *meta, int fd,
                         uint64_t *bytes, struct err *e)
{
    struct groups g = groups_of(c, &c->state);
    size_t per = (size_t)c->weights->n, n = 0;
    struct safetensor *list = mem_try_alloc(per * (size_t)g.n + 1, sizeof *list);
    char(*names)[NAME_MAX_BYTES] = mem_try_alloc(per * (size_t)g.n + 1, sizeof *names);
    int rc = list && names ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory to write a checkpoint");
    for (int i = 0; i < g.n && !rc; i++)
        for (size_t k = 0; k < per; k++, n++) {
            const struct params_entry *p = &c->weights->entry[k];
            tensor_name(names[n], &g, i, p->name);
            describe(&list[n], names[n], p, g.data[i]);
        }
    if (!rc) rc = safetensors_write(fd, meta, N_META, list, n, bytes, e);
    mem_free(list);
    mem_free(names);
    return rc;
}

int checkpoint_write(const struct checkpoint *c, int fd, uint64_t *bytes, struct err *e)
{
    struct buf state = {0};
    if (lseek(fd, 0, SEEK_SET) != 0 || ftruncate(fd, 0) != 0)
        return err_errno(e, ERR_IO, "empty the checkpoint's file");
    state_to_json(c, &state);
    const struct safetensors_meta meta[N_META] = {{"tenor.format", FORMAT_NAME},
                                                  {"tenor.digest", c->digest},
                                                  {"tenor.state", state.data},
                                                  {"tenor.history", c->history.len ? c->history.data : ""}};
    int rc = state.failed || c->history.failed
                 ? err_set(e, ERR_NOMEM, NULL, "no memory to write a checkpoint")
                 : write_tensors(c, meta, fd, bytes, e);
    buf_dispose(&state);
    return rc;
}

/* ---- reading ---- */

static int corrupt(struct err *e, const char *what)
{
    return err_set(e, ERR_CORRUPT, NULL, "the checkpoint is not sound: %s", what);
}

static const char *metadata(const struct safetensors *s, const char *key)
{
    const char *text = safetensors_metadata(s, key);
    return text ? text : "";
}

static int check_origin(const struct checkpoint *c, const struct safetensors *s, struct err *e)
{
    if (strcmp(metadata(s, "tenor.format"), FORMAT_NAME) != 0)
        return corrupt(e, "it is no " FORMAT_NAME " file");
    if (strcmp(metadata(s, "tenor.digest"), c->digest) != 0)
        return err_set(e, ERR_CONFLICT, NULL,
                       "the checkpoint belongs to another run: its spec, data or program differ");
    return 0;
}

struct machine {
    const char *backend;
    int64_t threads;
};

static int take_state(struct checkpoint_state *out, const struct checkpoint *c, const cJSON *node,
                      struct machine *m, struct err *e)
{
    struct checkpoint_state s = {0};
    struct json_obj o;
    int rc;
    if ((rc = json_obj_open(&o, node, "tenor.state", e)) ||
        (rc = json_take_int(&o, "epoch", 1, c->epochs, &s.epoch, e)) ||
        (rc = json_take_int(&o, "epochs", c->epochs, c->epochs, &(int64_t){0}, e)) ||
        (rc = json_take_int(&o, "step", 0, c->steps, &s.step, e)) ||
        (rc = json_take_int(&o, "steps", c->steps, c->steps, &(int64_t){0}, e)) ||
        (rc = json_take_bool(&o, "fitted", &s.fitted, e)) ||
        (rc = json_take_bool(&o, "stopped_early", &s.stopped_early, e)) ||
        (rc = json_take_num(&o, "loss_sum", -LARGEST, LARGEST, &s.loss_sum, e)) ||
        (rc = json_take_num(&o, "hits", 0, LARGEST, &s.hits, e)) ||
        (rc = json_take_num(&o, "rows_done", 0, LARGEST, &s.rows_done, e)) ||
        (rc = json_take_num(&o, "best_score", -LARGEST, LARGEST, &s.best_score, e)) ||
        (rc = json_take_int(&o, "best_epoch", 0, s.epoch, &s.best_epoch, e)) ||
        (rc = json_take_num(&o, "seconds", 0, LARGEST, &s.seconds, e)) ||
        (rc = json_take_str(&o, "backend", 0, CHECKPOINT_BACKEND_MAX - 1, &m->backend, e)) ||
        (rc = json_take_int(&o, "threads", 0, 1 << 20, &m->threads, e)) || (rc = json_obj_close(&o, e)))
        return rc;
    if (!s.fitted && s.best_epoch >= s.epoch) return corrupt(e, "its best epoch is still to come");
    if (s.step > 0 && !s.fitted && !(s.rows_done > 0)) return corrupt(e, "steps without rows");
    *out = s;
    return 0;
}

static int read_state(struct checkpoint_state *out, const struct checkpoint *c, const struct safetensors *s,
                      bool *same_machine, struct err *e)
{
    const char *text = metadata(s, "tenor.state");
    struct machine m = {0};
    struct err why = {0};
    cJSON *node = NULL;
    int rc = json_parse(&node, text, strlen(text), STATE_TOKENS, &why);
    if (!rc) rc = take_state(out, c, node, &m, &why);
    if (!rc) *same_machine = strcmp(m.backend, c->backend) == 0 && m.threads == c->threads;
    cJSON_Delete(node);
    return rc == ERR_NOMEM ? err_set(e, rc, NULL, "%s", why.message) : rc ? corrupt(e, why.message) : 0;
}

static bool only_numbers(const cJSON *epoch)
{
    if (!cJSON_IsObject(epoch)) return false;
    for (const cJSON *n = epoch->child; n; n = n->next)
        if (!cJSON_IsNumber(n) && !cJSON_IsNull(n)) return false;
    return true;
}

/* As many epochs as are finished, each an object of numbers: this text goes into the version as it is. */
static int read_history(struct buf *out, const struct checkpoint_state *state, const struct safetensors *s,
                        struct err *e)
{
    const char *text = metadata(s, "tenor.history");
    int64_t finished = state->fitted ? state->epoch : state->epoch - 1, n = 0;
    struct err why = {0};
    struct buf whole = {0};
    cJSON *list = NULL;
    if (finished == 0) return text[0] ? corrupt(e, "a history before the first epoch's end") : 0;
    buf_str(&whole, text);
    buf_char(&whole, ']');
    int rc = whole.failed ? err_set(&why, ERR_NOMEM, NULL, "no memory for the history")
                          : json_parse(&list, whole.data, whole.len, HISTORY_TOKENS, &why);
    bool sound = !rc && cJSON_IsArray(list);
    for (const cJSON *c = sound ? list->child : NULL; c && sound; c = c->next, n++) sound = only_numbers(c);
    cJSON_Delete(list);
    buf_dispose(&whole);
    if (rc == ERR_NOMEM) return err_set(e, rc, NULL, "%s", why.message);
    if (!sound || n != finished) return corrupt(e, "its history is not that of its epochs");
    buf_str(out, text);
    return out->failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the history") : 0;
}

/* Every tensor in its place, with its name and shape. The reader lists them as their bytes lie. */
static int check_tensors(const struct groups *g, const struct params *p, const struct safetensors *s,
                         struct err *e)
{
    size_t at = 0;
    if (safetensors_count(s) != (size_t)p->n * (size_t)g->n)
        return corrupt(e, "it holds other tensors than the run has");
    for (int i = 0; i < g->n; i++)
        for (int k = 0; k < p->n; k++, at++) {
            const struct safetensor *t = safetensors_at(s, at);
            const struct params_entry *want = &p->entry[k];
            char name[NAME_MAX_BYTES];
            tensor_name(name, g, i, want->name);
            if (strcmp(t->name, name) != 0 || strcmp(t->dtype, "F32") != 0 ||
                t->bytes != want->count * sizeof(float) || t->rank != want->shape.rank ||
                memcmp(t->dim, want->shape.dim, (size_t)t->rank * sizeof *t->dim) != 0)
                return corrupt(e, "a tensor is missing or has another shape than the run's");
        }
    return 0;
}

static void copy_tensors(const struct groups *g, const struct params *p, const struct safetensors *s)
{
    size_t at = 0;
    for (int i = 0; i < g->n; i++)
        for (int k = 0; k < p->n; k++, at++) {
            const struct safetensor *t = safetensors_at(s, at);
            if (t->bytes) memcpy(g->data[i] + p->entry[k].offset, t->data, t->bytes);
        }
}

int checkpoint_read(struct checkpoint *c, const void *bytes, size_t len, bool *same_machine, struct err *e)
{
    struct safetensors *s = NULL;
    struct checkpoint_state state = {0};
    struct buf history = {0};
    struct groups g = {0};
    int rc = safetensors_open(&s, bytes, len, e);
    if (rc) return rc;
    if ((rc = check_origin(c, s, e)) == 0 && (rc = read_state(&state, c, s, same_machine, e)) == 0 &&
        (rc = read_history(&history, &state, s, e)) == 0) {
        g = groups_of(c, &state);
        rc = check_tensors(&g, c->weights, s, e);
    }
    if (rc) {
        buf_dispose(&history);
    } else {
        copy_tensors(&g, c->weights, s);
        buf_dispose(&c->history);
        c->history = history;
        c->state = state;
    }
    safetensors_free(s);
    return rc;
}
