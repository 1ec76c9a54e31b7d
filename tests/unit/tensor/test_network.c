/* Whole networks of every layer, each held to the same promises: it learns, the same seed gives the same
 * bits, resumed or not, in shared memory or apart, without an allocation, and a row does not feel the others.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "allocations.h"
#include "base/mem.h"
#include "net.h"
#include "tensor/backend.h"
#include "tensor/layer.h"

enum { ROWS = 20, BATCH = 8, STEPS = 6, VOCABULARY = 12, CLASSES = 4 };

/* A graph while it is written; the last value. */
struct net {
    struct graph *g;
    int y;
    struct err e;
};

static void begin(struct net *n, enum dtype dtype, int rank, const int64_t *row)
{
    struct shape s = {.rank = rank + 1, .dim = {SHAPE_BATCH}};
    *n = (struct net){0};
    for (int i = 0; i < rank; i++) s.dim[i + 1] = row[i];
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

/* Convolutions with a residual block and batch normalisation. */
static struct graph *image_net(void)
{
    struct net n;
    struct layer_conv c = layer_conv_defaults(6, 3, NULL);
    struct layer_pool p = {.kind = LAYER_POOL_MAX, .size = {2, 2}};
    int skip;
    begin(&n, DTYPE_F32, 3, (int64_t[]){8, 7, 2});
    c.padding = "same";
    c.bias = false;
    must(layer_conv(n.g, "conv1", n.y, &c, &n.y, &n.e), &n.e);
    must(layer_batch_norm(n.g, "norm1", n.y, 0.9, 1e-3, &n.y, &n.e), &n.e);
    must(layer_activation(n.g, "act1", n.y, "relu", &skip, &n.e), &n.e);
    c.bias = true;
    c.activation = "gelu";
    c.groups = 2;
    must(layer_conv(n.g, "conv2", skip, &c, &n.y, &n.e), &n.e);
    must(layer_add(n.g, "joined", n.y, skip, &n.y, &n.e), &n.e);
    must(layer_pool(n.g, "pool", n.y, &p, &n.y, &n.e), &n.e);
    c = layer_conv_defaults(9, 2, "relu");
    must(layer_conv(n.g, "conv3", n.y, &c, &n.y, &n.e), &n.e);
    must(layer_global_pool(n.g, "mean", n.y, LAYER_POOL_AVERAGE, &n.y, &n.e), &n.e);
    /* Near the loss: what it keeps must outlive the whole way back. */
    must(layer_batch_norm(n.g, "norm2", n.y, 0.9, 1e-3, &n.y, &n.e), &n.e);
    return finish(&n);
}

/* Embedded words through stacked recurrent layers of every kind, padding masked. */
static struct graph *recurrent_net(void)
{
    struct net n;
    struct layer_recurrent r = layer_recurrent_defaults(LAYER_LSTM, 7);
    begin(&n, DTYPE_I32, 1, (int64_t[]){STEPS});
    must(layer_lengths(n.g, "lengths", n.y, 0, &r.lengths, &n.e), &n.e);
    must(layer_embedding(n.g, "words", n.y, VOCABULARY, 5, &n.y, &n.e), &n.e);
    r.bidirectional = r.return_sequences = true;
    must(layer_recurrent(n.g, "lstm", n.y, &r, &n.y, &n.e), &n.e);
    must(layer_dropout(n.g, "drop", n.y, 0.1, &n.y, &n.e), &n.e);
    r.cell = LAYER_RNN;
    r.bidirectional = false;
    must(layer_recurrent(n.g, "rnn", n.y, &r, &n.y, &n.e), &n.e);
    r.cell = LAYER_GRU;
    r.bidirectional = true;
    r.return_sequences = false;
    must(layer_recurrent(n.g, "gru", n.y, &r, &n.y, &n.e), &n.e);
    return finish(&n);
}

/* One encoder block with its norm first, then one that is causal. */
static struct graph *attention_net(void)
{
    struct net n;
    struct layer_attention a = {.heads = 2, .memory = -1};
    struct layer_dense d = layer_dense_defaults(16, "gelu");
    int lengths, h;
    begin(&n, DTYPE_I32, 1, (int64_t[]){STEPS});
    must(layer_lengths(n.g, "lengths", n.y, 0, &lengths, &n.e), &n.e);
    must(layer_embedding(n.g, "words", n.y, VOCABULARY, 8, &n.y, &n.e), &n.e);
    must(layer_positions(n.g, "places", n.y, NULL, &n.y, &n.e), &n.e);
    a.lengths = lengths;
    must(layer_layer_norm(n.g, "norm1", n.y, 1e-5, &h, &n.e), &n.e);
    must(layer_attention(n.g, "attention1", h, &a, &h, &n.e), &n.e);
    must(layer_add(n.g, "add1", n.y, h, &n.y, &n.e), &n.e);
    must(layer_layer_norm(n.g, "norm2", n.y, 1e-5, &h, &n.e), &n.e);
    must(layer_dense(n.g, "wide", h, &d, &h, &n.e), &n.e);
    d = layer_dense_defaults(8, NULL);
    must(layer_dense(n.g, "narrow", h, &d, &h, &n.e), &n.e);
    must(layer_add(n.g, "add2", n.y, h, &n.y, &n.e), &n.e);
    must(layer_positions(n.g, "learned", n.y, &(struct init_spec){INIT_RANDOM_NORMAL, 0.02}, &n.y, &n.e),
         &n.e);
    a.causal = true;
    must(layer_attention(n.g, "attention2", n.y, &a, &n.y, &n.e), &n.e);
    must(layer_sequence_mean(n.g, "mean", n.y, lengths, &n.y, &n.e), &n.e);
    return finish(&n);
}

/* A Transformer's encoder, and a decoder that looks at its rows as far as they count. */
static struct graph *transformer_net(void)
{
    struct net n;
    struct layer_transformer t = layer_transformer_defaults(2, 12);
    int lengths, memory;
    begin(&n, DTYPE_I32, 1, (int64_t[]){STEPS});
    must(layer_lengths(n.g, "lengths", n.y, 0, &lengths, &n.e), &n.e);
    must(layer_embedding(n.g, "words", n.y, VOCABULARY, 8, &n.y, &n.e), &n.e);
    must(layer_positions(n.g, "places", n.y, &(struct init_spec){.kind = INIT_GLOROT_UNIFORM}, &n.y, &n.e),
         &n.e);
    t.lengths = lengths;
    must(layer_transformer(n.g, "encoder", n.y, &t, &memory, &n.e), &n.e);
    t.activation = "gelu";
    t.normalize_first = t.causal = true;
    t.lengths = -1;
    t.memory = memory;
    t.memory_lengths = lengths;
    must(layer_transformer(n.g, "decoder", n.y, &t, &n.y, &n.e), &n.e);
    must(layer_sequence_mean(n.g, "mean", n.y, lengths, &n.y, &n.e), &n.e);
    return finish(&n);
}

static struct graph *(*const networks[])(void) = {image_net, recurrent_net, attention_net, transformer_net};
enum { N_NETWORKS = sizeof networks / sizeof networks[0] };

/* ROWS rows to learn by heart. Words end early, in padding, for most. */
struct data {
    void *x;
    int32_t label[ROWS];
    size_t row_bytes;
};

static void data_init(struct data *d, const struct graph *g)
{
    const struct value *v = graph_value(g, graph_input_value(g, 0));
    size_t row = shape_row_count(&v->shape);
    d->row_bytes = row * sizeof(float);
    d->x = mem_alloc(ROWS * row, sizeof(float));
    net_random(d->x, ROWS * row, 1, 3, 1);
    for (size_t i = 0; v->dtype == DTYPE_I32 && i < ROWS * row; i++) {
        size_t r = i / row, step = i % row;
        ((int32_t *)d->x)[i] =
            step <= r % row ? (int32_t)((r * 5 + step * (r % 3 + 1)) % (VOCABULARY - 1)) + 1 : 0;
    }
    for (int i = 0; i < ROWS; i++) d->label[i] = i * 7 % 5 % CLASSES;
}

/* Steps first … first + steps − 1, batches in order, the last of them smaller. */
static float train(struct run *r, const struct data *d, int first, int steps)
{
    struct err e = {0};
    float loss = 0;
    for (int s = first; s < first + steps; s++) {
        int at = s % 3 * BATCH, rows = ROWS - at < BATCH ? ROWS - at : BATCH;
        const void *feeds[] = {(char *)d->x + (size_t)at * d->row_bytes, d->label + at};
        must(run_step(r, &(struct step){feeds, rows, 5, (uint64_t)s, 0.01}, &loss, &e), &e);
    }
    return loss;
}

static struct plan_options options(const char *backend)
{
    struct plan_options o = {.mode = PLAN_TRAIN, .max_batch = BATCH, .optim = optim_defaults(OPTIM_ADAM)};
    struct err e = {0};
    must(backend_find(&o.backend, backend, &e), &e);
    return o;
}

/* Trains from the seed; the weights' hash, state and all. */
static uint64_t outcome(const struct graph *g, const struct plan_options *o, const struct data *d, int steps,
                        float *loss)
{
    struct plan *p = net_plan(g, o);
    struct params *w = net_params(g, 11);
    struct run *r = net_run(p, w);
    *loss = train(r, d, 0, steps);
    uint64_t hash = net_hash(w->data, w->len * sizeof(float));
    run_free(r);
    params_free(w);
    plan_free(p);
    return hash;
}

static void every_network_learns_its_rows_by_heart_on_every_backend(void **state)
{
    (void)state;
    for (int i = 0; i < N_NETWORKS; i++)
        for (const char *const *name = backend_names(); *name; name++) {
            struct graph *g = networks[i]();
            struct data d;
            float loss;
            data_init(&d, g);
            struct plan_options o = options(*name);
            outcome(g, &o, &d, 600, &loss);
            if (!(loss < 0.2f)) fail_msg("network %d on %s ends at %g", i, *name, (double)loss);
            mem_free(d.x);
            graph_free(g);
        }
}

static void memory_shared_or_apart_gives_the_same_bits_every_time(void **state)
{
    (void)state;
    for (int i = 0; i < N_NETWORKS; i++) {
        struct graph *g = networks[i]();
        struct plan_options o = options("auto");
        struct data d;
        float loss;
        data_init(&d, g);
        uint64_t plain = outcome(g, &o, &d, 14, &loss);
        assert_true(plain == outcome(g, &o, &d, 14, &loss));
        o.poison = o.keep_outputs = true;
        assert_true(plain == outcome(g, &o, &d, 14, &loss));
        o.no_alias = true;
        assert_true(plain == outcome(g, &o, &d, 14, &loss));
        assert_true(isfinite(loss));
        assert_true(plain != outcome(g, &o, &d, 15, &loss));
        mem_free(d.x);
        graph_free(g);
    }
}

static void a_resumed_network_ends_with_the_bits_of_an_uninterrupted_one(void **state)
{
    (void)state;
    for (int i = 0; i < N_NETWORKS; i++) {
        struct graph *g = networks[i]();
        struct plan_options o = options("auto");
        struct plan *p = net_plan(g, &o);
        struct params *w = net_params(g, 11), *later = net_params(g, 12);
        struct run *a = net_run(p, w), *b = net_run(p, later);
        struct data d;
        float loss;
        data_init(&d, g);
        train(a, &d, 0, 5);
        params_copy(later, w);
        for (int s = 0; s < run_slot_count(a); s++)
            memcpy(run_slot(b, s), run_slot(a, s), w->len * sizeof(float));
        train(b, &d, 5, 9);
        assert_true(net_hash(later->data, w->len * sizeof(float)) == outcome(g, &o, &d, 14, &loss));
        run_free(a);
        run_free(b);
        params_free(w);
        params_free(later);
        plan_free(p);
        mem_free(d.x);
        graph_free(g);
    }
}

static void steps_and_predictions_allocate_nothing_and_rows_are_alone(void **state)
{
    (void)state;
    for (int i = 0; i < N_NETWORKS; i++) {
        struct graph *g = networks[i]();
        struct plan_options o = options("auto"), in = {.mode = PLAN_INFER, .max_batch = ROWS, .poison = true};
        struct plan *p = net_plan(g, &o), *q = net_plan(g, &in);
        struct params *w = net_params(g, 11);
        struct run *r = net_run(p, w);
        struct data d;
        struct err e = {0};
        float together[ROWS * CLASSES];
        data_init(&d, g);
        size_t before = allocations_so_far();
        train(r, &d, 0, 20);
        assert_int_equal(allocations_so_far() - before, 0);
        must(plan_load(q, w, &e), &e);
        struct run *s = net_run(q, NULL);
        before = allocations_so_far();
        must(run_forward(s, (const void *[]){d.x}, ROWS, &e), &e);
        memcpy(together, run_output(s, 0).data, sizeof together);
        for (int rows = 1; rows < 8; rows += 2)
            for (int at = 0; at + rows <= ROWS; at += rows) {
                must(run_forward(s, (const void *[]){(char *)d.x + (size_t)at * d.row_bytes}, rows, &e), &e);
                assert_memory_equal(run_output(s, 0).data, together + (ptrdiff_t)at * CLASSES,
                                    (size_t)(rows * CLASSES) * sizeof(float));
            }
        assert_int_equal(allocations_so_far() - before, 0);
        run_free(r);
        run_free(s);
        params_free(w);
        plan_free(p);
        plan_free(q);
        mem_free(d.x);
        graph_free(g);
    }
}

/* Keras's rule, by hand: running = 0.9·running + 0.1·batch. A gradient alone moves nothing. */
static void running_moments_follow_the_batch_in_a_step_and_only_there(void **state)
{
    (void)state;
    struct net n;
    struct plan_options o = options("auto");
    const float x[] = {1, 10, 3, 10, 8, 10};
    const int32_t label[] = {0, 1, 2};
    const void *feeds[] = {x, label};
    struct step step = {feeds, 3, 1, 0, 0.01};
    struct err e = {0};
    float loss;
    begin(&n, DTYPE_F32, 1, (int64_t[]){2});
    must(layer_batch_norm(n.g, "norm", n.y, 0.9, 1e-3, &n.y, &n.e), &n.e);
    finish(&n);
    struct plan *p = net_plan(n.g, &o);
    struct params *w = net_params(n.g, 1);
    struct run *r = net_run(p, w);
    const float *mean = params_view(w, params_find(w, "norm/moving_mean"), w->data).data;
    const float *variance = params_view(w, params_find(w, "norm/moving_variance"), w->data).data;
    must(run_gradients(r, &step, &loss, &e), &e);
    assert_true(mean[0] == 0 && variance[0] == 1);
    must(run_step(r, &step, &loss, &e), &e);
    assert_true(fabsf(mean[0] - 0.4f) < 1e-6f && fabsf(mean[1] - 1) < 1e-6f);
    assert_true(fabsf(variance[0] - (0.9f + 0.1f * 26 / 3)) < 1e-5f && fabsf(variance[1] - 0.9f) < 1e-6f);
    run_free(r);
    params_free(w);
    plan_free(p);
    graph_free(n.g);
}

static void state_that_could_not_be_kept_is_refused(void **state)
{
    (void)state;
    struct plan_options o = options("auto");
    struct net n;
    struct param_spec c = {.shape = shape_of(1, (int64_t[]){2}), .trainable = true};
    struct plan *p;
    int in[5], v[NODE_MAX_OUTPUTS];
    static const char *const names[] = {"", "scale", "bias", "mean", "variance"};
    begin(&n, DTYPE_F32, 1, (int64_t[]){2});
    in[0] = n.y;
    for (int i = 1; i < 5; i++) must(graph_param(n.g, names[i], &c, &in[i], &n.e), &n.e);
    must(graph_op(n.g, "norm", "BatchNormalization", in, 5, NULL, 0, v, &n.e), &n.e);
    n.y = v[0];
    finish(&n);
    assert_int_equal(plan_create(&p, n.g, &o, &n.e), ERR_INVALID);
    assert_non_null(strstr(n.e.message, "not trainable"));
    graph_free(n.g);
}

static void numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    struct net n;
    struct layer_recurrent r = layer_recurrent_defaults(LAYER_LSTM, 3);
    struct shape s = shape_of(1, (int64_t[]){SHAPE_BATCH});
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = 2};
    int32_t ids[2 * STEPS] = {0}, length[2] = {STEPS, 0};
    begin(&n, DTYPE_I32, 1, (int64_t[]){STEPS});
    must(graph_input(n.g, "length", DTYPE_I32, &s, &r.lengths, &n.e), &n.e);
    must(layer_embedding(n.g, "words", n.y, VOCABULARY, 5, &n.y, &n.e), &n.e);
    must(layer_recurrent(n.g, "lstm", n.y, &r, &n.y, &n.e), &n.e);
    finish(&n);
    struct plan *p = net_plan(n.g, &o);
    struct params *w = net_params(n.g, 1);
    must(plan_load(p, w, &n.e), &n.e);
    struct run *run = net_run(p, NULL);
    const void *feeds[] = {ids, length};
    must(run_forward(run, feeds, 2, &n.e), &n.e);
    for (int bad = -1; bad <= VOCABULARY; bad += VOCABULARY + 1) {
        ids[7] = bad;
        assert_int_equal(run_forward(run, feeds, 2, &n.e), ERR_INVALID);
        assert_non_null(strstr(n.e.message, "place 7"));
    }
    ids[7] = VOCABULARY - 1;
    for (int bad = -1; bad <= STEPS + 1; bad += STEPS + 2) {
        length[1] = bad;
        assert_int_equal(run_forward(run, feeds, 2, &n.e), ERR_INVALID);
        assert_non_null(strstr(n.e.message, "row 1"));
    }
    run_free(run);
    params_free(w);
    plan_free(p);
    graph_free(n.g);
}

/* What stands behind a row's length changes nothing. */
static void padding_is_not_seen(void **state)
{
    (void)state;
    static struct graph *(*const sequence[])(void) = {recurrent_net, attention_net};
    for (int i = 0; i < 2; i++) {
        struct graph *g = sequence[i]();
        struct plan_options o = {.mode = PLAN_INFER, .max_batch = 1};
        struct plan *p = net_plan(g, &o);
        struct params *w = net_params(g, 11);
        struct err e = {0};
        int32_t ids[STEPS] = {4, 2, 9}, zero = 0;
        float before[CLASSES];
        must(plan_load(p, w, &e), &e);
        struct run *r = net_run(p, NULL);
        must(run_forward(r, (const void *[]){ids}, 1, &e), &e);
        memcpy(before, run_output(r, 0).data, sizeof before);
        /* Another embedding of the padding's number. */
        struct view table = params_view(w, params_find(w, "words/embeddings"), w->data);
        for (int64_t j = 0; j < table.shape.dim[1]; j++)
            ((float *)table.data)[zero * table.shape.dim[1] + j] += 3;
        must(plan_load(p, w, &e), &e);
        must(run_forward(r, (const void *[]){ids}, 1, &e), &e);
        assert_memory_equal(run_output(r, 0).data, before, sizeof before);
        run_free(r);
        params_free(w);
        plan_free(p);
        graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_network_learns_its_rows_by_heart_on_every_backend),
        cmocka_unit_test(memory_shared_or_apart_gives_the_same_bits_every_time),
        cmocka_unit_test(a_resumed_network_ends_with_the_bits_of_an_uninterrupted_one),
        cmocka_unit_test(steps_and_predictions_allocate_nothing_and_rows_are_alone),
        cmocka_unit_test(running_moments_follow_the_batch_in_a_step_and_only_there),
        cmocka_unit_test(state_that_could_not_be_kept_is_refused),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(padding_is_not_seen),
    };
    return cmocka_run_group_tests_name("tensor/network", tests, NULL, NULL);
}
