/* What a model version takes and gives: named tensors with datatypes of the Open Inference Protocol; -1
 * stands for the rows.
 *
 *     {"inputs":[{"name":"input","datatype":"FP32","shape":[-1,28,28]}],
 *      "outputs":[{"name":"probabilities","datatype":"FP32","shape":[-1,10],"classes":["0",…,"9"]},
 *                 {"name":"label","datatype":"INT64","shape":[-1]}]}
 *
 * classes is optional, of outputs only: versions that were made before it have none.
 *
 * Immutable once made; any thread may read. */
#ifndef LEARN_SPEC_SIGNATURE_H
#define LEARN_SPEC_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>
#include <cjson/cJSON.h>
#include "base/err.h"
#include "base/json.h"

enum datatype {
    DATATYPE_BOOL,
    DATATYPE_UINT8,
    DATATYPE_UINT16,
    DATATYPE_UINT32,
    DATATYPE_UINT64,
    DATATYPE_INT8,
    DATATYPE_INT16,
    DATATYPE_INT32,
    DATATYPE_INT64,
    DATATYPE_FP32,
    DATATYPE_FP64,
    DATATYPE_BYTES,
    DATATYPE_COUNT
};

enum {
    SIGNATURE_MAX_RANK = 6,
    SIGNATURE_MAX_TENSORS = 4096,
    SIGNATURE_MAX_NAME = 128,
    SIGNATURE_MAX_CLASSES = 1000,
    SIGNATURE_MAX_CLASSES_BYTES = 64 * 1024 /* of their names as a JSON array */
};

/* The names of what a tensor's last dimension holds, in its order: of a classifier's probabilities. They are
 * quoted and escaped once, so that each answer only copies them. */
struct signature_classes {
    size_t n;        /* 0: they are not named */
    char *json;      /* owned: ["setosa","versicolor"] */
    size_t json_len; /* bytes */
    uint32_t *end; /* owned, [n]: where in json each name's closing quote is behind; a comma is between two */
};

struct signature_tensor {
    char *name; /* owned */
    enum datatype datatype;
    int rank;                          /* with the rows: ≥ 1 */
    int64_t shape[SIGNATURE_MAX_RANK]; /* shape[0] is -1 */
    struct signature_classes classes;
};

struct signature {
    size_t n_inputs, n_outputs;
    struct signature_tensor *inputs, *outputs; /* owned */
};

const char *datatype_name(enum datatype t); /* "FP32" */
int datatype_of(const char *name);          /* the datatype, or -1 */
size_t datatype_bytes(enum datatype t);     /* of one element; 0 for BYTES */

void signature_free(struct signature *s);
int64_t signature_width(const struct signature_tensor *t);              /* elements of one row */
int signature_input_find(const struct signature *s, const char *name);  /* index or -1 */
int signature_output_find(const struct signature *s, const char *name); /* index or -1 */

/* Names t's last dimension (n long) by texts or, where those are NULL, by integers' decimals. More than
 * SIGNATURE_MAX_CLASSES, or longer than SIGNATURE_MAX_CLASSES_BYTES: t is left without names, which is 0 too.
 * t has none yet. ERR_NOMEM. */
int signature_name_classes(struct signature_tensor *t, size_t n, const char *const *texts,
                           const int64_t *integers, struct err *e);

void signature_classes_dispose(struct signature_classes *c);

/* The name of class i as JSON, *len bytes with its quotes; borrowed. */
static inline const char *signature_class(const struct signature_classes *c, size_t i, size_t *len)
{
    size_t begin = i ? c->end[i - 1] + 1 : 1;
    *len = c->end[i] - begin;
    return c->json + begin;
}

void signature_to_json(const struct signature *s, struct json_writer *w);
/* An array of {name, datatype, shape}: the Open Inference Protocol's metadata of tensors, which has no
 * classes. */
void signature_tensors_to_json(const struct signature_tensor *list, size_t n, struct json_writer *w);
int signature_from_json(struct signature **out, const cJSON *node, const char *path, struct err *e);

#endif
