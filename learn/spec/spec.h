/* A training job's spec: what the tenant asks for, and what that comes to for a given dataset. No tensor
 * core, no BLAS: the gateway refuses at submission what cannot fit, naming the field or the layer, and the
 * runner compiles the same resolved spec.
 *
 *     JSON ──spec_parse──▶ struct spec ──spec_resolve(schema)──▶ struct resolved ──▶ JSON, signature,
 * learn/family.h
 *
 * All plain data, immutable once made; any thread may read. */
#ifndef LEARN_SPEC_SPEC_H
#define LEARN_SPEC_SPEC_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cjson/cJSON.h>
#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "learn/data/schema.h"
#include "learn/spec/signature.h"
#include "learn/spec/text.h"

enum {
    SPEC_MAX_LAYERS = 256, /* of one list, and of all in a spec */
    SPEC_MAX_NESTING = 4,  /* of Residual in Residual */
    SPEC_MAX_STEPS = 64,
    SPEC_MAX_UNITS = 1 << 20,
    SPEC_MAX_RANK = 5,
    SPEC_NAME_MAX = 64
};

enum task { TASK_AUTO, TASK_REGRESSION, TASK_CLASSIFICATION, TASK_SEQUENCE };
enum family { FAMILY_LINEAR_REGRESSION, FAMILY_LOGISTIC_REGRESSION, FAMILY_MLP, FAMILY_SEQ2SEQ };
enum loss { LOSS_AUTO, LOSS_MSE, LOSS_CROSS_ENTROPY, LOSS_BINARY_CROSS_ENTROPY };

/* Activations, by Keras's names. */
enum activation {
    ACTIVATION_LINEAR,
    ACTIVATION_RELU,
    ACTIVATION_LEAKY_RELU,
    ACTIVATION_TANH,
    ACTIVATION_SIGMOID,
    ACTIVATION_SOFTMAX,
    ACTIVATION_GELU,
    ACTIVATION_SILU,
    ACTIVATION_COUNT
};

/* By the classes of Keras; learn/spec/layers.h has an entry for each. */
enum layer_kind {
    KIND_DENSE,
    KIND_DROPOUT,
    KIND_FLATTEN,
    KIND_RESHAPE,
    KIND_ACTIVATION,
    KIND_RELU,
    KIND_LEAKY_RELU,
    KIND_SOFTMAX,
    KIND_INPUT,
    KIND_CONV1D,
    KIND_CONV2D,
    KIND_MAX_POOLING1D,
    KIND_MAX_POOLING2D,
    KIND_AVERAGE_POOLING1D,
    KIND_AVERAGE_POOLING2D,
    KIND_GLOBAL_MAX_POOLING1D,
    KIND_GLOBAL_MAX_POOLING2D,
    KIND_GLOBAL_AVERAGE_POOLING1D,
    KIND_GLOBAL_AVERAGE_POOLING2D,
    KIND_BATCH_NORMALIZATION,
    KIND_LAYER_NORMALIZATION,
    KIND_EMBEDDING,
    KIND_SIMPLE_RNN,
    KIND_GRU,
    KIND_LSTM,
    KIND_POSITION_EMBEDDING,
    KIND_SINE_POSITION_ENCODING,
    KIND_MULTI_HEAD_ATTENTION,
    KIND_TRANSFORMER_ENCODER,
    KIND_TRANSFORMER_DECODER,
    KIND_TOKEN_AND_POSITION_EMBEDDING, /* in a list of layers as given only: parsing makes two of it */
    KIND_RESIDUAL,
    KIND_COUNT
};

enum padding { PADDING_VALID, PADDING_SAME, PADDING_CAUSAL };

struct layer_shape { /* of one row */
    int rank;
    int64_t dim[SPEC_MAX_RANK];
};

/* One layer. Lists of layers are chains; what is no chain is said by composites: a RESIDUAL holds a list and
 * adds its result to its input (docs/decisions/0006). */
struct layer_spec {
    enum layer_kind kind;
    char name[SPEC_NAME_MAX]; /* given, or "dense_1": unique in its spec */
    char path[JSON_PATH_MAX]; /* where it stood, for messages: "spec.architecture[1]" */
    int64_t units;            /* of dense and recurrent layers; filters; an embedding's output_dim */
    enum activation activation;
    double slope; /* ACTIVATION_LEAKY_RELU */
    bool bias;
    const char *kernel_init, *bias_init, *recurrent_init; /* names as in tensor/init.h; static text */
    double init_value;   /* for "constant", "random_uniform", "random_normal" kernels */
    double l2;           /* on the kernel; < 0 until resolved: training.l2 counts */
    double rate;         /* of dropout */
    int64_t size[2];     /* kernel_size or pool_size: {height, width}, or {length} */
    int64_t strides[2];  /* 0: as the pool's size */
    int64_t dilation[2]; /* of convolutions */
    int64_t groups;      /* of convolutions */
    int padding;         /* enum padding */
    int64_t axis;        /* of a normalisation: the last one, as -1 once resolved */
    double momentum, epsilon;
    int64_t input_dim;                    /* of an embedding: its numbers are 0 … input_dim − 1 */
    bool mask_zero;                       /* of an embedding: zeros at a row's end are padding */
    bool return_sequences, bidirectional; /* of recurrent layers */
    int64_t heads, key_dim;               /* of attention; Transformers: key_dim once resolved */
    bool causal;                          /* of attention: a step sees itself and those before */
    int64_t intermediate_dim;             /* of Transformers: units of the hidden Dense */
    bool normalize_first;                 /* of Transformers: before attention and Dense, not behind them */
    bool crosses;    /* of a TransformerDecoder, once resolved: it also attends to the encoder's rows */
    int64_t steps;   /* of position embeddings: most steps of a row; 0 until resolved: the input's */
    size_t n_layers; /* of a RESIDUAL */
    struct layer_spec *layers;  /* in order; the arena of the spec, or of what is resolved */
    struct layer_shape shape;   /* RESHAPE: of a row, one -1 until resolved; INPUT: as declared */
    struct layer_shape in, out; /* of a row; filled by spec_resolve */
};

enum step_op { STEP_STANDARDISE, STEP_SCALE, STEP_ONE_HOT, STEP_RESCALE, STEP_IMPUTE, STEP_TOKENISE };
enum impute { IMPUTE_MEAN, IMPUTE_MOST_FREQUENT, IMPUTE_CONSTANT };

struct step_spec {
    enum step_op op;
    double min, max;       /* SCALE */
    double factor, offset; /* RESCALE: x·factor + offset */
    enum impute impute;
    double value;             /* IMPUTE_CONSTANT */
    struct text_options text; /* TOKENISE */
    size_t n_columns;         /* 0: every feature that the step applies to */
    const char **columns;     /* the spec's arena */
};

/* How the learning rate changes with the step, by Keras's names and formulas. Before warmup_steps it climbs
 * in a line to the schedule's first rate; the schedule's own steps count from there. */
enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_EXPONENTIAL, SCHEDULE_COSINE, SCHEDULE_PIECEWISE };
enum { SCHEDULE_MAX_PIECES = 32 };

struct schedule_spec {
    enum schedule_kind kind;
    int64_t warmup_steps;
    int64_t decay_steps; /* EXPONENTIAL, COSINE; 0 in struct spec: all steps of the run after the warm-up */
    double decay_rate;   /* EXPONENTIAL */
    bool staircase;      /* EXPONENTIAL: by whole multiples of decay_steps */
    double alpha;        /* COSINE: share of the first rate that is left at the end */
    int n_boundaries;    /* PIECEWISE: value[i] up to and with step boundary[i], then the next */
    int64_t boundary[SCHEDULE_MAX_PIECES];
    double value[SCHEDULE_MAX_PIECES + 1];
};

struct optimizer_spec {
    char name[16]; /* "adam", …; "least_squares": closed form, linear_regression only */
    double learning_rate, momentum, rho, beta_1, beta_2, epsilon, weight_decay;
    /* At most one is above 0: limits of each weight tensor's gradient norm, of each gradient number, of the
     * norm of the whole gradient. */
    double clipnorm, clipvalue, global_clipnorm;
    bool nesterov;
    bool rate_auto; /* "auto": settled by batch size and family */
    struct schedule_spec schedule;
};

struct early_stopping_spec {
    bool on;
    char monitor[24];      /* "val_loss", "val_accuracy", "loss", "accuracy", "val_rmse", … */
    bool higher_is_better; /* follows from monitor */
    int64_t patience;
    double min_delta;
    bool restore_best_weights;
};

/* What is minimised where it is not the loss that goes with the output. */
enum objective_kind { OBJECTIVE_USUAL, OBJECTIVE_MAE, OBJECTIVE_HUBER };

/* The part of each class in the loss. */
enum weighting { WEIGHTING_NONE, WEIGHTING_BALANCED, WEIGHTING_GIVEN };

/* What products are computed in; sums, weights and all else are f32 either way. AUTO: the runner picks, by
 * its CPU and the network (learn/precision.h). */
enum precision { PRECISION_AUTO, PRECISION_F32, PRECISION_BF16, PRECISION_BF16X3, PRECISION_COUNT };

/* What may happen to an image before it is learnt from (learn/augment.h), anew in each epoch. */
struct augmentation_spec {
    int64_t shift; /* at most so many pixels, each way */
    bool flip_horizontal, flip_vertical;
    double crop;  /* a window of at least this share of each side; 1: all of it */
    double noise; /* standard deviation of what is added to each number, as the network sees it */
};

struct training_spec {
    int64_t epochs;   /* 0 in struct spec: default by the size of the data */
    bool epochs_auto; /* asked for as "auto", so that the result says what was picked */
    int64_t batch_size;
    bool batch_auto, batch_full; /* "auto"; "full": all training rows in one step */
    bool shuffle, stratify;
    uint64_t seed;
    enum loss loss;
    enum objective_kind objective;
    double huber_delta;     /* in standard deviations of the target, which is what networks predict */
    double label_smoothing; /* CLASSIFICATION; [0, 1) */
    enum weighting weighting;
    size_t n_class_weights;
    const char **class_weight_names; /* labels as texts, as given; the spec's arena, gone once resolved */
    double *class_weights;   /* as class_weight_names; in struct resolved one a class, its arena; GIVEN */
    double validation_split; /* [0, 0.9]; 0 for none */
    double l1;               /* on every kernel: l1·Σ|w| joins the loss */
    double l2;               /* on every kernel without its own */
    enum precision precision;
    struct augmentation_spec augmentation;
    bool optimizer_given;
    struct optimizer_spec optimizer;
    struct early_stopping_spec early_stopping;
};

struct spec {
    struct arena arena;       /* owns the texts below */
    char path[JSON_PATH_MAX]; /* where the spec stood: prefix of every field named in errors */
    enum family family;
    enum task task;
    const char *target; /* NULL: not given */
    size_t n_features;  /* 0: not given */
    const char **features;
    bool preprocess_given;
    size_t n_steps;
    struct step_spec *steps;
    size_t n_layers;
    struct layer_spec *layers; /* SEQ2SEQ: the encoder's */
    size_t n_decoder;
    struct layer_spec *decoder;   /* SEQ2SEQ */
    char (*names)[SPEC_NAME_MAX]; /* of all layers */
    size_t n_names;
    struct training_spec training;
};

/* Reads a spec. path is where node stands ("spec"; "" at the top) and prefixes `field`. Unknown names, wrong
 * types, values out of range: ERR_INVALID with the path; a layer that we don't offer: ERR_UNSUPPORTED. */
int spec_parse(struct spec **out, const cJSON *node, const char *path, struct err *e);
void spec_free(struct spec *s);

/* What one feature column becomes: its steps in order, and its place in the row that the network sees. */
struct feature_spec {
    const char *name;      /* of the column */
    int column;            /* index in the schema */
    bool one_hot, text;    /* text: tokenised; its width is the length of a row of ids */
    int64_t offset, width; /* in the input row, in floats */
    size_t n_steps;
    int *steps; /* indices in resolved.steps, in order */
};

struct estimate {
    int64_t parameters;    /* trainable numbers */
    int64_t flops_per_row; /* one forward pass */
    uint64_t data_bytes;   /* the dataset in the runner's memory */
    uint64_t memory_bytes; /* the runner's whole need: data, weights, gradients, optimiser, activations, fixed
                              part, and the two files that checkpoints are written to */
    uint64_t checkpoint_bytes; /* the largest one of a training */
    uint64_t thread_bytes;     /* what each thread of the training beyond the first needs on top */
    uint64_t model_bytes;      /* a loaded version with one session of 64 rows */
    double seconds;            /* on one core, roughly */
    double step_seconds;       /* of these: what the threads of a training share */
    double threads;            /* so many can; of several trainings the mean */
};

/* The need of a run with so many threads; and how long it should take. */
uint64_t estimate_bytes(const struct estimate *e, int64_t threads);
double estimate_seconds(const struct estimate *e, int64_t threads);

struct resolved {
    struct arena arena;
    enum family family;
    enum task task;
    int target;           /* column index; labels for tensor datasets */
    int64_t target_width; /* REGRESSION: numbers a row */
    size_t n_features;
    struct feature_spec *features;
    bool table;          /* scalar columns (else one tensor column) */
    bool has_categories; /* some feature is a category: the signature has an input per column */
    bool has_texts;      /* the one feature is a text: the signature has one input of that name */
    size_t n_steps;
    struct step_spec *steps;  /* as given, or the defaults; columns always listed */
    struct layer_shape input; /* of a row that enters the network */
    int64_t ids_below; /* > 0: the network takes whole numbers below this, for the Embedding that is first */
    size_t n_layers;
    struct layer_spec *layers;  /* without InputLayer; with the output activation and, for linear families,
                                   their one Dense;  SEQ2SEQ: the encoder's */
    size_t n_decoder;           /* SEQ2SEQ */
    struct layer_spec *decoder; /* its rows are one id shorter than target_text's */
    struct text_options source_text, target_text; /* SEQ2SEQ: those of the two steps; the target has marks */
    size_t n_classes;                             /* CLASSIFICATION: ≥ 2 */
    bool integer_labels;
    int64_t *class_integers;             /* integer_labels */
    const char **class_texts;            /* else */
    struct training_spec training;       /* all defaults settled */
    int64_t train_rows, validation_rows; /* as the split will be, before rows without a target are dropped */
    struct estimate estimate;
};

/* Settles a spec against the dataset (and the test dataset, or NULL). train and test are borrowed for the
 * call only. ERR_INVALID naming field and layer for what cannot fit; ERR_TOO_LARGE for sizes that overflow.
 */
int spec_resolve(struct resolved **out, const struct spec *s, const struct schema *train,
                 const struct schema *test, struct err *e);
void resolved_free(struct resolved *r);

/* The settled spec as one JSON object, every default written out; spec_parse accepts it and gives the same
 * again. */
void resolved_to_json(const struct resolved *r, const struct schema *train, struct json_writer *w);

/* The signature that a version trained so will have. *out is the caller's (signature_free). */
int resolved_signature(struct signature **out, const struct resolved *r, const struct schema *train,
                       struct err *e);

bool augmentation_wanted(const struct augmentation_spec *a);
uint64_t augmentation_bytes(const struct resolved *r); /* what it takes while training */

/* The "training" part of it. */
void training_to_json(const struct resolved *r, struct json_writer *w);

void augmentation_to_json(const struct augmentation_spec *a,
                          struct json_writer *w); /* nothing when unwanted */

const char *task_name(enum task t);
const char *family_name(enum family f);
const char *loss_name(enum loss l);
const char *precision_name(enum precision p); /* "bf16" */
const char *activation_name(enum activation a);
const char *layer_kind_name(enum layer_kind k); /* "Dense" */
const char *step_op_name(enum step_op op);      /* "standardise" */

#endif
