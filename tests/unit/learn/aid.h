/* What the tests of learn share: datasets from texts and bytes, and whole training runs in memory. */
#ifndef TESTS_UNIT_LEARN_AID_H
#define TESTS_UNIT_LEARN_AID_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/buf.h"
#include "base/err.h"
#include "learn/data/scan.h"
#include "learn/data/schema.h"
#include "learn/spec/spec.h"
#include "learn/train.h"

/* Scans bytes in pieces of the given size (0: all at once). 0 or ERR_*; the schema is the caller's. */
int aid_scan(struct schema **out, const void *data, size_t len, size_t piece, enum scan_role role,
             struct err *e);

struct schema *aid_csv(const char *text);      /* fails the test when the text is refused */
char *aid_schema_json(const struct schema *s); /* mem_free */
cJSON *aid_json(const char *text);             /* cJSON_Delete; fails the test when it is no JSON */
int aid_memfd(const void *data, size_t len);   /* a readable descriptor, at its start */

/* An IDX file of bytes. */
void aid_idx(struct buf *out, int rank, const uint32_t *dim, const uint8_t *data, size_t len);

/* The spec settled against a schema. */
int aid_settle(struct resolved **out, const char *text, const struct schema *train, struct err *e);
int aid_settle_tested(struct resolved **out, const char *text, const struct schema *train,
                      const struct schema *test, struct err *e); /* and a test dataset's; NULL: none */

/* A training run over CSV texts, or over IDX files. */
struct aid_run {
    const char *type;        /* of the job; NULL: train */
    const struct buf *model; /* of an evaluate job: the version's artifact */
    const char *spec;
    const char *csv, *test_csv;          /* test_csv: NULL for none */
    const struct buf *features, *labels; /* instead of csv */
    const struct buf *test_features, *test_labels;
    struct train_callbacks callbacks;
    const struct buf *resume; /* a checkpoint's bytes; NULL for none */
    double seconds, used_seconds;
    size_t fail_at; /* the nth allocation of the run itself fails; 0: none */
    size_t memory_bytes;
    int threads;
};

struct aid_result {
    struct train_result result;
    struct buf artifact;
    cJSON *metrics;
};

int aid_train(struct aid_result *out, const struct aid_run *run, struct err *e);
void aid_result_dispose(struct aid_result *r);

/* A number in the result's metrics by dotted path ("coefficients.x"); NaN when absent. */
double aid_metric(const struct aid_result *r, const char *path);

/* A repeatable stream of numbers: uniform in [0, 1), and normal. */
struct aid_random {
    uint64_t state;
};
double aid_uniform(struct aid_random *r);
double aid_normal(struct aid_random *r);

/* Rows "a,b,c,d,species" of three kinds of flower that overlap a little. */
void aid_flowers(struct buf *out, size_t rows, uint64_t seed);

#endif
