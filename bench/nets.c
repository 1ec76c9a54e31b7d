/* Builds the benchmarks' networks from layers, maps their data and writes their weights. */
#include "bench/nets.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/json.h"
#include "base/mem.h"
#include "learn/safetensors.h"
#include "tensor/layer.h"

enum { SIDE = 28, WIDTH = 128, WORDS = 64, VOCABULARY = 8000 };

static int head(struct graph *g, int64_t classes, int *y, struct err *e)
{
    struct layer_dense d = layer_dense_defaults(classes, "softmax");
    return layer_dense(g, "head", *y, &d, y, e);
}

static int input(struct graph *g, enum dtype dtype, int rank, const int64_t *row, int *y, struct err *e)
{
    struct shape s = {.rank = rank + 1, .dim = {SHAPE_BATCH}};
    for (int i = 0; i < rank; i++) s.dim[i + 1] = row[i];
    return graph_input(g, "x", dtype, &s, y, e);
}

static int build_mlp(struct graph *g, int *y, struct err *e)
{
    struct layer_dense d = layer_dense_defaults(WIDTH, "relu");
    int rc;
    if ((rc = input(g, DTYPE_F32, 1, (int64_t[]){SIDE * SIDE}, y, e)) ||
        (rc = layer_dense(g, "dense1", *y, &d, y, e)) || (rc = layer_dense(g, "dense2", *y, &d, y, e)))
        return rc;
    return head(g, 10, y, e);
}

static int build_cnn(struct graph *g, int *y, struct err *e)
{
    struct layer_conv c1 = layer_conv_defaults(32, 3, "relu"), c2 = layer_conv_defaults(64, 3, "relu");
    struct layer_pool p = {.kind = LAYER_POOL_MAX, .size = {2, 2}};
    struct layer_dense d = layer_dense_defaults(WIDTH, "relu");
    int rc;
    if ((rc = input(g, DTYPE_F32, 3, (int64_t[]){SIDE, SIDE, 1}, y, e)) ||
        (rc = layer_conv(g, "conv1", *y, &c1, y, e)) || (rc = layer_pool(g, "pool1", *y, &p, y, e)) ||
        (rc = layer_conv(g, "conv2", *y, &c2, y, e)) || (rc = layer_pool(g, "pool2", *y, &p, y, e)) ||
        (rc = layer_flatten(g, "flat", *y, y, e)) || (rc = layer_dense(g, "dense", *y, &d, y, e)))
        return rc;
    return head(g, 10, y, e);
}

static int build_lstm(struct graph *g, int *y, struct err *e)
{
    struct layer_recurrent r = layer_recurrent_defaults(LAYER_LSTM, WIDTH);
    int rc;
    r.return_sequences = true;
    if ((rc = input(g, DTYPE_F32, 2, (int64_t[]){SIDE, SIDE}, y, e)) ||
        (rc = layer_recurrent(g, "lstm1", *y, &r, y, e)))
        return rc;
    r.return_sequences = false;
    if ((rc = layer_recurrent(g, "lstm2", *y, &r, y, e))) return rc;
    return head(g, 10, y, e);
}

static int encoder_block(struct graph *g, int number, int *y, struct err *e)
{
    struct layer_attention a = {.heads = 4, .memory = -1, .lengths = -1};
    struct layer_dense wide = layer_dense_defaults(4 * WIDTH, "relu"),
                       narrow = layer_dense_defaults(WIDTH, NULL);
    char name[7][GRAPH_NAME_MAX];
    static const char *const part[] = {"attention", "add1", "norm1", "wide", "narrow", "add2", "norm2"};
    int x = *y, h, rc;
    for (int i = 0; i < 7; i++) snprintf(name[i], sizeof name[i], "block%d/%s", number, part[i]);
    if ((rc = layer_attention(g, name[0], x, &a, &h, e)) || (rc = layer_add(g, name[1], x, h, &x, e)) ||
        (rc = layer_layer_norm(g, name[2], x, 1e-5, &x, e)) ||
        (rc = layer_dense(g, name[3], x, &wide, &h, e)) ||
        (rc = layer_dense(g, name[4], h, &narrow, &h, e)) || (rc = layer_add(g, name[5], x, h, &x, e)))
        return rc;
    return layer_layer_norm(g, name[6], x, 1e-5, y, e);
}

static int build_transformer(struct graph *g, int *y, struct err *e)
{
    int rc;
    if ((rc = input(g, DTYPE_I32, 1, (int64_t[]){WORDS}, y, e)) ||
        (rc = layer_embedding(g, "words", *y, VOCABULARY, WIDTH, y, e)) ||
        (rc = layer_positions(g, "places", *y, NULL, y, e)) || (rc = encoder_block(g, 1, y, e)) ||
        (rc = encoder_block(g, 2, y, e)) || (rc = layer_global_pool(g, "mean", *y, LAYER_POOL_AVERAGE, y, e)))
        return rc;
    return head(g, 2, y, e);
}

static const struct net nets[] = {
    {"mlp", "images.f32", "labels.i32", SIDE *SIDE, 10, build_mlp},
    {"cnn", "images.f32", "labels.i32", SIDE *SIDE, 10, build_cnn},
    {"lstm", "images.f32", "labels.i32", SIDE *SIDE, 10, build_lstm},
    {"transformer", "tokens.i32", "token_labels.i32", WORDS, 2, build_transformer},
};

const struct net *net_find(const char *name)
{
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++)
        if (strcmp(nets[i].name, name) == 0) return &nets[i];
    return NULL;
}

int net_graph(struct graph **out, const struct net *n, bool loss, struct err *e)
{
    struct shape rows = shape_of(1, (int64_t[]){SHAPE_BATCH});
    struct graph *g;
    int y, label, rc = graph_create(&g, e);
    if (rc) return rc;
    if ((rc = n->build(g, &y, e)) == 0) rc = graph_output(g, "probabilities", y, e);
    if (rc == 0 && loss && (rc = graph_input(g, "label", DTYPE_I32, &rows, &label, e)) == 0)
        rc = layer_loss(g, "loss", "sparse_categorical_crossentropy", y, label, e);
    if (rc)
        graph_free(g);
    else
        *out = g;
    return rc;
}

int net_data(const void **out, const char *folder, const char *file, int64_t row, struct err *e)
{
    size_t bytes = (size_t)NET_DATA_ROWS * (size_t)row * 4;
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) return err_errno(e, ERR_IO, "%s", path);
    if (st.st_size != (off_t)bytes) {
        close(fd);
        return err_set(e, ERR_CORRUPT, file, "%s has %lld bytes; expected %zu", path, (long long)st.st_size,
                       bytes);
    }
    void *map = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    if (map == MAP_FAILED) return err_errno(e, ERR_IO, "%s", path);
    *out = map;
    return 0;
}

int net_save(const struct params *p, const char *path, struct err *e)
{
    struct safetensor *list = mem_alloc((size_t)p->n, sizeof *list);
    uint64_t written;
    for (int i = 0; i < p->n; i++) {
        const struct params_entry *t = &p->entry[i];
        list[i] = (struct safetensor){.name = t->name,
                                      .dtype = "F32",
                                      .rank = t->shape.rank,
                                      .data = p->data + t->offset,
                                      .bytes = t->count * sizeof(float)};
        memcpy(list[i].dim, t->shape.dim, sizeof t->shape.dim);
    }
    int rc, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        rc = err_errno(e, ERR_IO, "%s", path);
    else
        rc = safetensors_write(fd, NULL, 0, list, (size_t)p->n, &written, e);
    if (fd >= 0) close(fd);
    mem_free(list);
    return rc;
}

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct net_time net_now(void)
{
    return (struct net_time){seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID)};
}

bool net_command(char word[NET_WORD_MAX], long *number)
{
    char line[64];
    return fgets(line, sizeof line, stdin) && sscanf(line, "%31s %ld", word, number) == 2;
}

int net_backend(const struct backend **out, const char *precision, struct err *e)
{
    int rc = backend_find(out, strcmp(precision, "f32") == 0 ? "auto" : precision, e);
    return rc == ERR_INVALID ? ERR_UNSUPPORTED : rc;
}

int net_refused(const char *program, bool unsupported, const struct err *e)
{
    struct buf text = {0};
    struct json_writer w;
    if (!unsupported) {
        fprintf(stderr, "%s: %s\n", program, e->message);
        return 1;
    }
    jw_init(&w, &text);
    jw_obj(&w);
    jw_kstr(&w, "unsupported", e->message);
    jw_obj_end(&w);
    if (!text.failed) puts(text.data);
    buf_dispose(&text);
    return 0;
}
