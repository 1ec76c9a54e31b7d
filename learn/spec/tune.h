/* A tune job's spec: a training spec, the fields of it that vary, and how to search among their values. No
 * tensor core: the gateway makes the same trials as the runner, and refuses at submission the first that
 * cannot fit the dataset, by number and values.
 *
 *     JSON ──tune_parse──▶ struct tune_spec ──trial 1 … n──▶ a training spec each ──▶ struct resolved
 *
 * What a trial's values are depends on the seed and the trial's number alone. Plain data, immutable once
 * made; any thread may read. */
#ifndef LEARN_SPEC_TUNE_H
#define LEARN_SPEC_TUNE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cjson/cJSON.h>
#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "learn/spec/score.h"
#include "learn/spec/spec.h"

enum {
    TUNE_MAX_PARAMETERS = 16,
    TUNE_MAX_VALUES = 64,        /* of one parameter's list, and points of a range in a grid */
    TUNE_MAX_VALUE_BYTES = 4096, /* of one value as JSON: a value may be a whole architecture */
    TUNE_MAX_TRIALS = 256,
    TUNE_ETA = 3, /* halving keeps a third of the trials, and trains those three times as long */
    TUNE_MAX_RUNGS = 8
};

/* GRID: every combination. RANDOM: each trial draws its values. HALVING: as random, but all trials get a few
 * epochs first, and only the best third of them three times as many, until the last has had all. */
enum tune_method { TUNE_GRID, TUNE_RANDOM, TUNE_HALVING };

enum tune_range { RANGE_NONE, RANGE_UNIFORM, RANGE_LOG_UNIFORM, RANGE_INT, RANGE_LOG_INT };

struct tune_parameter {
    const char *path;      /* in the training spec: "training.optimizer.learning_rate"; the spec's arena */
    enum tune_range range; /* RANGE_NONE: one of the values */
    double min, max;       /* inclusive; LOG: above 0 */
    int64_t points;        /* of a range in a grid, evenly apart (in the logarithm for LOG) */
    size_t n_values;
    const cJSON **values; /* of the spec's tree */
};

struct tune_spec {
    struct arena arena;
    cJSON *tree; /* owned copy of what was given */
    char path[JSON_PATH_MAX];
    const cJSON *base; /* inside tree: the training spec, as given */
    size_t n_parameters;
    struct tune_parameter *parameters;
    enum tune_method method;
    int64_t trials;        /* 1 … TUNE_MAX_TRIALS; of a grid its combinations */
    int64_t *picks;        /* RANDOM, HALVING where every parameter is a list: the trials' combinations, all
                              different;        else NULL */
    enum score_kind score; /* SCORE_AUTO: by the task */
    uint64_t seed;
};

/* ERR_INVALID and ERR_UNSUPPORTED with the path of the field. path is where node stands ("spec"). */
int tune_parse(struct tune_spec **out, const cJSON *node, const char *path, struct err *e);
void tune_free(struct tune_spec *t);

/* With every default but those of the base written out; tune_parse gives the same again. */
void tune_to_json(const struct tune_spec *t, struct json_writer *w);

/* The training spec of a trial (from 1): the base with the trial's values. It always holds rows back for
 * validation: a fifth, where the base doesn't say. *out is the caller's (cJSON_Delete). */
int tune_trial_spec(cJSON **out, const struct tune_spec *t, int64_t trial, struct err *e);

/* {"training.optimizer.learning_rate":0.01,…} */
void tune_trial_values(const struct tune_spec *t, int64_t trial, struct json_writer *w);

/* tune_trial_spec, settled against the data. An error's message begins with the trial's number and values. */
int tune_trial_resolve(struct resolved **out, const struct tune_spec *t, int64_t trial,
                       const struct schema *train, const struct schema *test, struct err *e);

/* The rungs of successive halving: on rung i of tune_rungs the best rung[i].trials are trained until they
 * have had rung[i].epochs of `epochs`. One rung of all trials and all epochs for the other methods. */
struct tune_rung {
    int64_t trials, epochs;
};
int tune_rungs(const struct tune_spec *t, int64_t epochs, struct tune_rung rung[TUNE_MAX_RUNGS]);

/* Settles every trial (of a table of thousands of columns, the first ones): what the whole search needs,
 * seconds summed over the trials and memory of the largest (and of the paused ones beside it). score: the
 * settled one. ERR_INVALID for the first trial that cannot fit, or for a score that the task doesn't have. */
int tune_check(struct estimate *out, enum score_kind *score, const struct tune_spec *t,
               const struct schema *train, const struct schema *test, struct err *e);

const char *tune_method_name(enum tune_method m);

#endif
