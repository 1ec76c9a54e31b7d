/* An evaluate job's spec, which is one of two:
 *
 *     {"version":3} | {"alias":"live"} | {}          an existing version, scored on the job's dataset
 *     {"base":{…training spec…},"folds":5,…}         k-fold cross-validation of a training spec
 *
 * No tensor core. Plain data, immutable once made; any thread may read. */
#ifndef LEARN_SPEC_REVIEW_H
#define LEARN_SPEC_REVIEW_H

#include <stdint.h>
#include <stdbool.h>
#include <cjson/cJSON.h>
#include "base/err.h"
#include "base/json.h"
#include "learn/spec/signature.h"
#include "learn/spec/spec.h"

enum { REVIEW_MAX_FOLDS = 50 };

struct review_spec {
    cJSON *tree; /* owned copy of what was given */
    char path[JSON_PATH_MAX];
    int64_t version;   /* 0: not given */
    const char *alias; /* inside tree, or NULL */
    const cJSON *base; /* inside tree; NULL: an existing version is scored */
    int64_t folds;
    bool stratified; /* folds hold each class in proportion; classification only */
    uint64_t seed;   /* of the shuffle that makes the folds */
};

/* ERR_INVALID with the path of the field. */
int review_parse(struct review_spec **out, const cJSON *node, const char *path, struct err *e);
void review_free(struct review_spec *s);

/* Cross-validation alone: with every default but those of the base written out; review_parse gives the same
 * again. */
void review_to_json(const struct review_spec *s, struct json_writer *w);

/* Cross-validation: the base as each fold trains it. *out is the caller's (cJSON_Delete). */
int review_base(cJSON **out, const struct review_spec *s, struct err *e);

/* Cross-validation: the base, settled for the rows that one fold leaves to train with. Nothing is held back
 * of those unless the base asks for it or stops early by a "val_" figure. The estimate is of all folds. */
int review_resolve(struct resolved **out, const struct review_spec *s, const struct schema *data,
                   struct err *e);

/* An existing version on a dataset: whether it has the columns that the version takes and predicts, by what
 * the version was made of: a train job's spec, or a tune job's. ERR_INVALID, field "dataset". */
int review_columns(const cJSON *made_of, const struct schema *data, struct err *e);

/* An existing version on a dataset: what the run needs. model_bytes: what a worker needs to serve it. */
int review_estimate(struct estimate *out, const struct schema *data, uint64_t artifact_bytes,
                    uint64_t model_bytes, struct err *e);

#endif
