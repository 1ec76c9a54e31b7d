/* Cases of recurrent layers (each kind, both directions, with and without lengths) and of attention. */
#include "cases.h"

#include "net.h"

enum { STEPS = 4 };

/* Numbers from 0 to n − 1 are fed, of which those above STEPS would be refused. */
static int lengths(struct at *t)
{
    struct shape s = shape_of(1, (int64_t[]){SHAPE_BATCH});
    return t->n <= STEPS + 1 ? case_input(t, "lengths", DTYPE_I32, s) : -1;
}

static int recurrent(struct at *t, const char *op, int64_t gates, bool reverse, bool masked)
{
    int64_t units = t->n, inputs = t->n % 6 + 2;
    struct attr attr = {"reverse", {.i = reverse}};
    bool gru = gates == 3;
    int in[5] = {
        case_shifted(t, "steps", shape_of(3, (int64_t[]){SHAPE_BATCH, STEPS, inputs})),
        case_param(t, "kernel", shape_of(2, (int64_t[]){inputs, gates * units})),
        case_param(t, "recurrent", shape_of(2, (int64_t[]){units, gates * units})),
        case_param(t, "bias",
                   gru ? shape_of(2, (int64_t[]){2, 3 * units}) : shape_of(1, (int64_t[]){gates * units}))};
    int n = 4;
    if (masked && (in[4] = lengths(t)) >= 0) n = 5;
    return case_op(t, "y", op, in, n, &attr, 1);
}

#define RECURRENT(FN, OP, GATES)                                                                             \
    static int FN(struct at *t)                                                                              \
    {                                                                                                        \
        return recurrent(t, OP, GATES, false, false);                                                        \
    }                                                                                                        \
    static int FN##_reverse(struct at *t)                                                                    \
    {                                                                                                        \
        return recurrent(t, OP, GATES, true, false);                                                         \
    }                                                                                                        \
    static int FN##_masked(struct at *t)                                                                     \
    {                                                                                                        \
        return recurrent(t, OP, GATES, false, true);                                                         \
    }                                                                                                        \
    static int FN##_reverse_masked(struct at *t)                                                             \
    {                                                                                                        \
        return recurrent(t, OP, GATES, true, true);                                                          \
    }
RECURRENT(rnn, "RNN", 1)
RECURRENT(gru, "GRU", 3)
RECURRENT(lstm, "LSTM", 4)

/* Probabilities do not feel a shift of all keys: these are scaled. */
static int scaled(struct at *t, const char *name, struct shape s)
{
    int x = case_input(t, name, DTYPE_F32, s), scale = case_param(t, "key-scale", shape_of(1, &s.dim[2]));
    return case_op(t, "scaled", "Mul", (int[]){x, scale}, 2, NULL, 0);
}

/* Three heads; keys of another number than queries unless causal. */
static int attend(struct at *t, bool causal, bool masked)
{
    int64_t size = 3 * (t->n % 23 + 1), keys = causal ? STEPS + 1 : t->n + STEPS;
    struct attr attrs[] = {{"heads", {.i = 3}}, {"causal", {.i = causal}}};
    struct shape qs = shape_of(3, (int64_t[]){SHAPE_BATCH, STEPS + 1, size});
    struct shape ks = shape_of(3, (int64_t[]){SHAPE_BATCH, keys, size});
    int in[4] = {case_shifted(t, "q", qs), scaled(t, "k", ks), case_shifted(t, "v", ks)};
    int n = 3;
    if (masked && t->n > 2 && (in[3] = lengths(t)) >= 0) n = 4;
    return case_op(t, "y", "Attention", in, n, attrs, 2);
}

static int attention(struct at *t)
{
    return attend(t, false, false);
}

static int attention_masked(struct at *t)
{
    return attend(t, false, true);
}

static int attention_causal(struct at *t)
{
    return attend(t, true, true);
}

/* One value as queries, keys and values. */
static int attention_self(struct at *t)
{
    struct attr heads = {"heads", {.i = 1}};
    int x = case_shifted(t, "x3", shape_of(3, (int64_t[]){SHAPE_BATCH, t->n, 4}));
    return case_op(t, "y", "Attention", (int[]){x, x, x}, 3, &heads, 1);
}

/* Lengths from padded numbers. */
static int sequence_mean(struct at *t)
{
    int ids = case_input(t, "ids", DTYPE_I32, shape_of(2, (int64_t[]){SHAPE_BATCH, STEPS}));
    int len = case_op(t, "lengths", "SequenceLengths", &ids, 1, NULL, 0);
    int x = case_shifted(t, "x3", shape_of(3, (int64_t[]){SHAPE_BATCH, STEPS, t->n}));
    return case_op(t, "y", "SequenceMean", (int[]){x, len}, 2, NULL, 0);
}

/* Labels from 0 to n − 1 are fed: with pad 0 some steps count and some do not. */
static int sequence_loss(struct at *t, int64_t pad)
{
    struct attr attr = {"pad", {.i = pad}};
    int x = case_shifted(t, "x3", shape_of(3, (int64_t[]){SHAPE_BATCH, STEPS, t->n}));
    int label = case_input(t, "label", DTYPE_I32, shape_of(2, (int64_t[]){SHAPE_BATCH, STEPS}));
    return case_op(t, "y", "SequenceCrossEntropy", (int[]){x, label}, 2, &attr, 1);
}

static int sequence_loss_padded(struct at *t)
{
    return sequence_loss(t, 0);
}

static int sequence_loss_whole(struct at *t)
{
    return sequence_loss(t, -1);
}

const struct op_case cases_sequence[] = {
    {"rnn", rnn},
    {"rnn_reverse", rnn_reverse},
    {"rnn_masked", rnn_masked},
    {"rnn_reverse_masked", rnn_reverse_masked},
    {"gru", gru},
    {"gru_reverse", gru_reverse},
    {"gru_masked", gru_masked},
    {"gru_reverse_masked", gru_reverse_masked},
    {"lstm", lstm},
    {"lstm_reverse", lstm_reverse},
    {"lstm_masked", lstm_masked},
    {"lstm_reverse_masked", lstm_reverse_masked},
    {"attention", attention},
    {"attention_masked", attention_masked},
    {"attention_causal", attention_causal},
    {"attention_self", attention_self},
    {"sequence_mean", sequence_mean},
    {"sequence_loss_padded", sequence_loss_padded},
    {"sequence_loss_whole", sequence_loss_whole},
    {NULL, NULL},
};
