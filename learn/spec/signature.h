/* What a model version takes and gives: named tensors with datatypes of the Open Inference Protocol; -1
 * stands for the rows.
 *
 *     {"inputs":[{"name":"input","datatype":"FP32","shape":[-1,28,28]}],
 *      "outputs":[{"name":"probabilities","datatype":"FP32","shape":[-1,10]},{"name":"label","datatype":"INT64","shape":[-1]}]}
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

enum { SIGNATURE_MAX_RANK = 6, SIGNATURE_MAX_TENSORS = 4096, SIGNATURE_MAX_NAME = 128 };

struct signature_tensor {
    char *name; /* owned */
    enum datatype datatype;
    int rank;                          /* with the rows: ≥ 1 */
    int64_t shape[SIGNATURE_MAX_RANK]; /* shape[0] is -1 */
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

void signature_to_json(const struct signature *s, struct json_writer *w);
int signature_from_json(struct signature **out, const cJSON *node, const char *path, struct err *e);

#endif
