/* A model version's file: a safetensors file whose metadata says everything else.
 *
 *     tenor.format      "tenor.model.1"
 *     tenor.graph       the graph (tensor/graph.h), with the loss: enough to train on
 *     tenor.preprocess  fitted preprocessing and the classes (learn/preprocess.h)
 *     tenor.signature   what it takes and gives (learn/spec/signature.h)
 *     tenor.metrics     how good it was
 *     tenor.precision   "f32", "bf16" or "bf16x3": what its products are computed in; f32 where it is missing
 *     tenor.lineage     where it comes from, as the platform gave it, with the settled spec
 */
#ifndef LEARN_ARTIFACT_H
#define LEARN_ARTIFACT_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "learn/preprocess.h"
#include "learn/spec/signature.h"
#include "learn/spec/spec.h"
#include "tensor/graph.h"
#include "tensor/params.h"

struct artifact {
    struct graph *graph; /* all owned */
    struct params *params;
    struct preprocess *preprocess;
    struct signature *signature;
    char *metrics, *lineage;  /* JSON texts */
    enum precision precision; /* not AUTO */
};

/* Writes a's file to fd; *bytes gets its length. */
int artifact_write(const struct artifact *a, int fd, uint64_t *bytes, struct err *e);

/* Reads and checks a file: every part sound by itself and all of them fitting each other. ERR_CORRUPT
 * otherwise. limit_bytes (0: none) bounds the weights. bytes may be released afterwards. */
int artifact_read(struct artifact *a, const void *bytes, size_t len, size_t limit_bytes, struct err *e);
void artifact_dispose(struct artifact *a);

#endif
