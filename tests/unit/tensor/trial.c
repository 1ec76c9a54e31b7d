/* The networks, data and runs of trial.h. */
#include "trial.h"

#include "tensor/layer.h"
#include "tensor/rng.h"

enum {
    FEATURES = TRIAL_FEATURES,
    CLASSES = TRIAL_CLASSES,
    ROWS = TRIAL_ROWS,
    STEPS = TRIAL_STEPS,
    VOCABULARY = 12
};

struct net_data trial_data;
static int32_t words[ROWS * STEPS];

struct plan_options trial_options(enum optim_kind kind, int64_t batch, int threads)
{
    return (struct plan_options){.mode = PLAN_TRAIN,
                                 .max_batch = batch,
                                 .threads = threads,
                                 .thread_flops = 1,
                                 .optim = optim_defaults(kind)};
}

/* ---- networks ---- */

struct net {
    struct graph *g;
    int y;
    struct err e;
};

static void begin(struct net *n, enum dtype dtype, int64_t row)
{
    struct shape s = shape_of(2, (int64_t[]){SHAPE_BATCH, row});
    *n = (struct net){0};
    must(graph_create(&n->g, &n->e), &n->e);
    must(graph_input(n->g, "x", dtype, &s, &n->y, &n->e), &n->e);
}

static struct graph *finish(struct net *n)
{
    struct shape s = shape_of(1, (int64_t[]){SHAPE_BATCH});
    struct layer_dense d = layer_dense_defaults(CLASSES, "softmax");
    int label;
    must(graph_input(n->g, "label", DTYPE_I32, &s, &label, &n->e), &n->e);
    must(layer_dense(n->g, "head", n->y, &d, &n->y, &n->e), &n->e);
    must(graph_output(n->g, "probabilities", n->y, &n->e), &n->e);
    must(layer_loss(n->g, "loss", "sparse_categorical_crossentropy", n->y, label, &n->e), &n->e);
    return n->g;
}

static struct graph *dense_net(void)
{
    return net_classifier(FEATURES, 23, "relu", 0.4, CLASSES, 1e-3);
}

static struct graph *image_net(void)
{
    struct net n;
    struct layer_conv c = layer_conv_defaults(6, 3, "relu");
    struct layer_pool p = {.kind = LAYER_POOL_MAX, .size = {2, 2}};
    begin(&n, DTYPE_F32, FEATURES);
    must(layer_reshape(n.g, "image", n.y, &(struct shape){.rank = 3, .dim = {7, 3, 1}}, &n.y, &n.e), &n.e);
    c.padding = "same";
    must(layer_conv(n.g, "conv", n.y, &c, &n.y, &n.e), &n.e);
    must(layer_pool(n.g, "pool", n.y, &p, &n.y, &n.e), &n.e);
    must(layer_flatten(n.g, "flat", n.y, &n.y, &n.e), &n.e);
    must(layer_dropout(n.g, "drop", n.y, 0.3, &n.y, &n.e), &n.e);
    return finish(&n);
}

static struct graph *recurrent_net(void)
{
    struct net n;
    struct layer_recurrent r = layer_recurrent_defaults(LAYER_LSTM, 7);
    begin(&n, DTYPE_I32, STEPS);
    must(layer_lengths(n.g, "lengths", n.y, 0, &r.lengths, &n.e), &n.e);
    must(layer_embedding(n.g, "words", n.y, VOCABULARY, 5, &n.y, &n.e), &n.e);
    r.bidirectional = r.return_sequences = true;
    must(layer_recurrent(n.g, "lstm", n.y, &r, &n.y, &n.e), &n.e);
    must(layer_dropout(n.g, "drop", n.y, 0.2, &n.y, &n.e), &n.e);
    r.return_sequences = false;
    must(layer_recurrent(n.g, "top", n.y, &r, &n.y, &n.e), &n.e);
    return finish(&n);
}

static struct graph *attention_net(void)
{
    struct net n;
    struct layer_attention a = {.heads = 2, .memory = -1};
    int h;
    begin(&n, DTYPE_I32, STEPS);
    must(layer_lengths(n.g, "lengths", n.y, 0, &a.lengths, &n.e), &n.e);
    must(layer_embedding(n.g, "words", n.y, VOCABULARY, 8, &n.y, &n.e), &n.e);
    must(layer_positions(n.g, "places", n.y, &(struct init_spec){INIT_RANDOM_NORMAL, 0.02}, &n.y, &n.e),
         &n.e);
    must(layer_layer_norm(n.g, "norm", n.y, 1e-5, &h, &n.e), &n.e);
    must(layer_attention(n.g, "attention", h, &a, &h, &n.e), &n.e);
    must(layer_add(n.g, "add", n.y, h, &n.y, &n.e), &n.e);
    must(layer_sequence_mean(n.g, "mean", n.y, a.lengths, &n.y, &n.e), &n.e);
    return finish(&n);
}

struct graph *trial_whole_batch_net(void)
{
    struct net n;
    begin(&n, DTYPE_F32, FEATURES);
    must(layer_batch_norm(n.g, "norm", n.y, 0.9, 1e-3, &n.y, &n.e), &n.e);
    return finish(&n);
}

const struct trial_net trial_nets[TRIAL_NETS] = {{"dense", dense_net, false},
                                                 {"image", image_net, false},
                                                 {"recurrent", recurrent_net, true},
                                                 {"attention", attention_net, true}};
int trial_make_data(void **state)
{
    struct rng_key k = {.seed = 5, .stream = 9};
    (void)state;
    net_data_init(&trial_data, ROWS, FEATURES, CLASSES, 1);
    for (int i = 0; i < ROWS; i++) { /* at least one word, padding at the end */
        int length = 1 + (int)rng_below(&k, (uint64_t)i, STEPS);
        for (int t = 0; t < length; t++)
            words[i * STEPS + t] = 1 + (int)rng_below(&k, (uint64_t)(1000 + i * STEPS + t), VOCABULARY - 1);
    }
    return 0;
}

int trial_drop_data(void **state)
{
    (void)state;
    net_data_dispose(&trial_data);
    return 0;
}

/* ---- trials ---- */

void trial_open(struct trial *t, int net, const struct plan_options *o)
{
    t->g = trial_nets[net].make();
    t->plan = net_plan(t->g, o);
    t->params = net_params(t->g, 3);
    t->run = net_run(t->plan, t->params);
    t->feeds[0] = trial_nets[net].words ? (const void *)words : trial_data.x;
    t->feeds[1] = trial_data.label;
}

void trial_close(struct trial *t)
{
    run_free(t->run);
    params_free(t->params);
    plan_free(t->plan);
    graph_free(t->g);
}
