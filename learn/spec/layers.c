/* The table of layers, by Keras's names. */
#include "learn/spec/layers.h"

#include <string.h>

#define AT(member) .at = offsetof(struct layer_spec, member)
#define INT(name_, member, lo, hi)                                                                           \
    {                                                                                                        \
        .name = (name_), .type = FIELD_INT, AT(member), .min = (lo), .max = (hi)                             \
    }
#define NEED(name_, member, lo, hi)                                                                          \
    {                                                                                                        \
        .name = (name_), .type = FIELD_INT, AT(member), .min = (lo), .max = (hi), .required = true           \
    }
#define NUM(name_, member, lo, hi)                                                                           \
    {                                                                                                        \
        .name = (name_), .type = FIELD_NUM, AT(member), .min = (lo), .max = (hi)                             \
    }
#define BOOL(name_, member)                                                                                  \
    {                                                                                                        \
        .name = (name_), .type = FIELD_BOOL, AT(member)                                                      \
    }
#define INIT(name_, member)                                                                                  \
    {                                                                                                        \
        .name = (name_), .type = FIELD_INIT, AT(member)                                                      \
    }
#define ONLY(name_, value)                                                                                   \
    {                                                                                                        \
        .name = (name_), .type = FIELD_FIXED, .only = (value)                                                \
    }
#define IGNORED(name_)                                                                                       \
    {                                                                                                        \
        .name = (name_), .type = FIELD_IGNORED                                                               \
    }
#define ACTIVATION                                                                                           \
    {                                                                                                        \
        .name = "activation", .type = FIELD_ACTIVATION, AT(activation)                                       \
    }
#define L2                                                                                                   \
    {                                                                                                        \
        .name = "l2", .type = FIELD_L2, AT(l2), .max = 1000                                                  \
    }
#define CHANNELS_LAST ONLY("data_format", "channels_last")
#define UNREGULARISED                                                                                        \
    ONLY("bias_regularizer", NULL), ONLY("activity_regularizer", NULL), ONLY("kernel_constraint", NULL),     \
        ONLY("bias_constraint", NULL)

#define SIZES(name_, member, hi, required_)                                                                  \
    {                                                                                                        \
        .name = (name_), .type = FIELD_SIZES, AT(member), .min = 1, .max = (hi), .required = (required_)     \
    }

enum {
    MAX_STEP = 4096,
    MAX_UNITS = SPEC_MAX_UNITS,
    MAX_RECURRENT = 65536,
    MAX_IDS = 1 << 24,
    MAX_STEPS = 1 << 16,
    MAX_HEADS = 1024
};

static const struct layer_field dense_fields[] = {NEED("units", units, 1, MAX_UNITS),
                                                  ACTIVATION,
                                                  BOOL("use_bias", bias),
                                                  INIT("kernel_initializer", kernel_init),
                                                  INIT("bias_initializer", bias_init),
                                                  L2,
                                                  UNREGULARISED,
                                                  ONLY("lora_rank", NULL),
                                                  ONLY("quantization_config", NULL),
                                                  {0}};
static const struct layer_field dropout_fields[] = {
    {.name = "rate", .type = FIELD_NUM, AT(rate), .max = 0.99, .required = true},
    ONLY("noise_shape", NULL),
    IGNORED("seed"),
    {0}};
static const struct layer_field flatten_fields[] = {CHANNELS_LAST, {0}};
static const struct layer_field reshape_fields[] = {
    {.name = "target_shape", .type = FIELD_SHAPE, AT(shape), .min = -1, .required = true}, {0}};
static const struct layer_field activation_fields[] = {
    {.name = "activation", .type = FIELD_ACTIVATION, AT(activation), .required = true}, {0}};
static const struct layer_field relu_fields[] = {
    NUM("negative_slope", slope, 0, 10), ONLY("threshold", "0"), ONLY("max_value", NULL), {0}};
static const struct layer_field leaky_relu_fields[] = {
    NUM("negative_slope", slope, 0, 10),
    {.name = "alpha", .type = FIELD_NUM, AT(slope), .max = 10, .alias = true},
    {0}};
static const struct layer_field softmax_fields[] = {ONLY("axis", "-1"), {0}};
static const struct layer_field input_fields[] = {
    IGNORED("sparse"),
    IGNORED("ragged"),
    IGNORED("optional"),
    {.name = "shape", .type = FIELD_SHAPE, AT(shape), .min = 1, .required = true},
    {0}};

#define CONV_FIELDS(paddings)                                                                                \
    NEED("filters", units, 1, MAX_UNITS), SIZES("kernel_size", size, MAX_STEP, true),                        \
        SIZES("strides", strides, MAX_STEP, false), SIZES("dilation_rate", dilation, MAX_STEP, false),       \
        INT("groups", groups, 1, 65536),                                                                     \
        {.name = "padding", .type = FIELD_PADDING, AT(padding), .max = (paddings)}, ACTIVATION,              \
        BOOL("use_bias", bias), INIT("kernel_initializer", kernel_init),                                     \
        INIT("bias_initializer", bias_init), L2, UNREGULARISED, CHANNELS_LAST

static const struct layer_field conv1d_fields[] = {CONV_FIELDS(3), {0}};
static const struct layer_field conv2d_fields[] = {CONV_FIELDS(2), {0}};
static const struct layer_field pool_fields[] = {
    SIZES("pool_size", size, MAX_STEP, false),
    SIZES("strides", strides, MAX_STEP, false),
    {.name = "padding", .type = FIELD_PADDING, AT(padding), .max = 2},
    CHANNELS_LAST,
    {0}};
static const struct layer_field global_pool_fields[] = {CHANNELS_LAST, ONLY("keepdims", "false"), {0}};
static const struct layer_field batch_norm_fields[] = {{.name = "axis", .type = FIELD_AXIS, AT(axis)},
                                                       NUM("momentum", momentum, 0, 1),
                                                       NUM("epsilon", epsilon, 1e-12, 1),
                                                       ONLY("center", "true"),
                                                       ONLY("scale", "true"),
                                                       ONLY("beta_initializer", "zeros"),
                                                       ONLY("gamma_initializer", "ones"),
                                                       ONLY("moving_mean_initializer", "zeros"),
                                                       ONLY("moving_variance_initializer", "ones"),
                                                       ONLY("beta_regularizer", NULL),
                                                       ONLY("gamma_regularizer", NULL),
                                                       ONLY("beta_constraint", NULL),
                                                       ONLY("gamma_constraint", NULL),
                                                       ONLY("synchronized", "false"),
                                                       ONLY("renorm", "false"),
                                                       {0}};
static const struct layer_field layer_norm_fields[] = {{.name = "axis", .type = FIELD_AXIS, AT(axis)},
                                                       NUM("epsilon", epsilon, 1e-12, 1),
                                                       ONLY("center", "true"),
                                                       ONLY("scale", "true"),
                                                       ONLY("rms_scaling", "false"),
                                                       ONLY("beta_initializer", "zeros"),
                                                       ONLY("gamma_initializer", "ones"),
                                                       ONLY("beta_regularizer", NULL),
                                                       ONLY("gamma_regularizer", NULL),
                                                       ONLY("beta_constraint", NULL),
                                                       ONLY("gamma_constraint", NULL),
                                                       {0}};
static const struct layer_field embedding_fields[] = {INT("input_dim", input_dim, 1, MAX_IDS),
                                                      NEED("output_dim", units, 1, MAX_RECURRENT),
                                                      BOOL("mask_zero", mask_zero),
                                                      ONLY("embeddings_initializer", "random_uniform"),
                                                      ONLY("embeddings_regularizer", NULL),
                                                      ONLY("activity_regularizer", NULL),
                                                      ONLY("embeddings_constraint", NULL),
                                                      ONLY("lora_rank", NULL),
                                                      ONLY("quantization_config", NULL),
                                                      IGNORED("input_length"),
                                                      {0}};

#define RECURRENT_FIELDS                                                                                     \
    NEED("units", units, 1, MAX_RECURRENT), BOOL("return_sequences", return_sequences),                      \
        BOOL("bidirectional", bidirectional), INIT("kernel_initializer", kernel_init),                       \
        INIT("recurrent_initializer", recurrent_init), L2, ONLY("activation", "tanh"),                       \
        ONLY("use_bias", "true"), ONLY("bias_initializer", "zeros"), ONLY("recurrent_regularizer", NULL),    \
        ONLY("recurrent_constraint", NULL), UNREGULARISED, ONLY("dropout", "0"),                             \
        ONLY("recurrent_dropout", "0"), ONLY("return_state", "false"), ONLY("go_backwards", "false"),        \
        ONLY("stateful", "false"), ONLY("time_major", "false"), ONLY("zero_output_for_mask", "false"),       \
        IGNORED("unroll"), IGNORED("implementation"), IGNORED("use_cudnn"), IGNORED("seed")

static const struct layer_field rnn_fields[] = {RECURRENT_FIELDS, {0}};
static const struct layer_field gru_fields[] = {
    RECURRENT_FIELDS, ONLY("recurrent_activation", "sigmoid"), ONLY("reset_after", "true"), {0}};
static const struct layer_field lstm_fields[] = {
    RECURRENT_FIELDS, ONLY("recurrent_activation", "sigmoid"), ONLY("unit_forget_bias", "true"), {0}};

static const struct layer_field position_fields[] = {
    INT("sequence_length", steps, 1, MAX_STEPS), INIT("initializer", kernel_init), {0}};
static const struct layer_field sine_position_fields[] = {ONLY("max_wavelength", "10000"), {0}};
static const struct layer_field token_position_fields[] = {INT("vocabulary_size", input_dim, 1, MAX_IDS),
                                                           INT("sequence_length", steps, 1, MAX_STEPS),
                                                           NEED("embedding_dim", units, 1, MAX_RECURRENT),
                                                           BOOL("mask_zero", mask_zero),
                                                           ONLY("embeddings_initializer", "random_uniform"),
                                                           ONLY("tie_weights", "true"),
                                                           {0}};
static const struct layer_field attention_fields[] = {NEED("num_heads", heads, 1, MAX_HEADS),
                                                      NEED("key_dim", key_dim, 1, MAX_RECURRENT),
                                                      ONLY("value_dim", NULL),
                                                      BOOL("use_bias", bias),
                                                      BOOL("use_causal_mask", causal),
                                                      INIT("kernel_initializer", kernel_init),
                                                      ONLY("bias_initializer", "zeros"),
                                                      ONLY("dropout", "0"),
                                                      ONLY("output_shape", NULL),
                                                      ONLY("attention_axes", NULL),
                                                      ONLY("kernel_regularizer", NULL),
                                                      UNREGULARISED,
                                                      IGNORED("flash_attention"),
                                                      IGNORED("seed"),
                                                      {0}};

#define TRANSFORMER_FIELDS                                                                                   \
    NEED("intermediate_dim", intermediate_dim, 1, MAX_UNITS), NEED("num_heads", heads, 1, MAX_HEADS),        \
        NUM("dropout", rate, 0, 0.99), ACTIVATION, NUM("layer_norm_epsilon", epsilon, 1e-12, 1),             \
        INIT("kernel_initializer", kernel_init), ONLY("bias_initializer", "zeros"),                          \
        BOOL("normalize_first", normalize_first)

static const struct layer_field transformer_fields[] = {TRANSFORMER_FIELDS, {0}};
static const struct layer_field no_fields[] = {{0}};

/* Keras's activation "leaky_relu" has another slope than its layer LeakyReLU. */
#define KERNEL .bias = true, .slope = 0.2, .kernel_init = "glorot_uniform", .bias_init = "zeros", .l2 = -1
#define CONV   KERNEL, .strides = {1, 1}, .dilation = {1, 1}, .groups = 1
#define CELL   KERNEL, .recurrent_init = "orthogonal"
#define BLOCK  .activation = ACTIVATION_RELU, .epsilon = 1e-5, .kernel_init = "glorot_uniform"

static const struct layer_class classes[] = {
    [KIND_DENSE] = {"Dense", 0, dense_fields, {KERNEL}, settle_dense},
    [KIND_DROPOUT] = {"Dropout", 0, dropout_fields, {0}, NULL},
    [KIND_FLATTEN] = {"Flatten", 0, flatten_fields, {0}, settle_flatten},
    [KIND_RESHAPE] = {"Reshape", 0, reshape_fields, {0}, settle_reshape},
    [KIND_ACTIVATION] = {"Activation", 0, activation_fields, {.slope = 0.2}, NULL},
    [KIND_RELU] = {"ReLU", 0, relu_fields, {.activation = ACTIVATION_RELU}, settle_relu},
    [KIND_LEAKY_RELU] =
        {"LeakyReLU", 0, leaky_relu_fields, {.activation = ACTIVATION_LEAKY_RELU, .slope = 0.3}, NULL},
    [KIND_SOFTMAX] = {"Softmax", 0, softmax_fields, {.activation = ACTIVATION_SOFTMAX}, NULL},
    [KIND_INPUT] = {"InputLayer", 0, input_fields, {0}, settle_input_layer},
    [KIND_CONV1D] = {"Conv1D", 1, conv1d_fields, {CONV}, settle_conv},
    [KIND_CONV2D] = {"Conv2D", 2, conv2d_fields, {CONV}, settle_conv},
    [KIND_MAX_POOLING1D] = {"MaxPooling1D", 1, pool_fields, {.size = {2, 2}}, settle_pool},
    [KIND_MAX_POOLING2D] = {"MaxPooling2D", 2, pool_fields, {.size = {2, 2}}, settle_pool},
    [KIND_AVERAGE_POOLING1D] = {"AveragePooling1D", 1, pool_fields, {.size = {2, 2}}, settle_pool},
    [KIND_AVERAGE_POOLING2D] = {"AveragePooling2D", 2, pool_fields, {.size = {2, 2}}, settle_pool},
    [KIND_GLOBAL_MAX_POOLING1D] = {"GlobalMaxPooling1D", 1, global_pool_fields, {0}, settle_global_pool},
    [KIND_GLOBAL_MAX_POOLING2D] = {"GlobalMaxPooling2D", 2, global_pool_fields, {0}, settle_global_pool},
    [KIND_GLOBAL_AVERAGE_POOLING1D] =
        {"GlobalAveragePooling1D", 1, global_pool_fields, {0}, settle_global_pool},
    [KIND_GLOBAL_AVERAGE_POOLING2D] =
        {"GlobalAveragePooling2D", 2, global_pool_fields, {0}, settle_global_pool},
    [KIND_BATCH_NORMALIZATION] = {"BatchNormalization",
                                  0,
                                  batch_norm_fields,
                                  {.axis = -1, .momentum = 0.99, .epsilon = 1e-3},
                                  settle_norm},
    [KIND_LAYER_NORMALIZATION] =
        {"LayerNormalization", 0, layer_norm_fields, {.axis = -1, .epsilon = 1e-3}, settle_norm},
    [KIND_EMBEDDING] = {"Embedding", 0, embedding_fields, {0}, settle_embedding},
    [KIND_SIMPLE_RNN] = {"SimpleRNN", 0, rnn_fields, {CELL}, settle_recurrent},
    [KIND_GRU] = {"GRU", 0, gru_fields, {CELL}, settle_recurrent},
    [KIND_LSTM] = {"LSTM", 0, lstm_fields, {CELL}, settle_recurrent},
    [KIND_POSITION_EMBEDDING] =
        {"PositionEmbedding", 0, position_fields, {.kernel_init = "glorot_uniform"}, settle_positions},
    [KIND_SINE_POSITION_ENCODING] = {"SinePositionEncoding", 0, sine_position_fields, {0}, settle_positions},
    [KIND_MULTI_HEAD_ATTENTION] = {"MultiHeadAttention", 0, attention_fields, {KERNEL}, settle_attention},
    [KIND_TRANSFORMER_ENCODER] = {"TransformerEncoder", 0, transformer_fields, {BLOCK}, settle_transformer},
    [KIND_TRANSFORMER_DECODER] =
        {"TransformerDecoder", 0, transformer_fields, {BLOCK, .causal = true}, settle_transformer},
    [KIND_TOKEN_AND_POSITION_EMBEDDING] =
        {"TokenAndPositionEmbedding", 0, token_position_fields, {.kernel_init = "glorot_uniform"}, NULL},
    [KIND_RESIDUAL] = {"Residual", 0, no_fields, {0}, settle_residual},
};

_Static_assert(sizeof classes / sizeof classes[0] == KIND_COUNT, "every kind of layer has an entry");

const struct layer_class *layer_class_of(enum layer_kind k)
{
    return &classes[k];
}

const struct layer_class *layer_class_find(const char *name)
{
    for (int k = 0; k < KIND_COUNT; k++)
        if (strcmp(classes[k].name, name) == 0) return &classes[k];
    return NULL;
}

struct layer_spec layer_usual(enum layer_kind k)
{
    struct layer_spec l = classes[k].usual;
    l.kind = k;
    return l;
}

bool layer_is_activation(enum layer_kind k)
{
    return k == KIND_ACTIVATION || k == KIND_RELU || k == KIND_LEAKY_RELU || k == KIND_SOFTMAX;
}

const char *layer_kind_name(enum layer_kind k)
{
    return classes[k].name;
}
