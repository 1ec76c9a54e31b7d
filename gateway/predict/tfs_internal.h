/* What TensorFlow Serving's verbs share: tfs.c (:predict) and tfs_examples.c (:classify, :regress). */
#ifndef GATEWAY_PREDICT_TFS_INTERNAL_H
#define GATEWAY_PREDICT_TFS_INTERNAL_H

#include "gateway/predict/infer.h"
#include "gateway/predict/json_reader.h"
#include "gateway/predict/tensor_json.h"

enum { TFS_NAME_MAX = 256 };

/* A reader of one input's values; path (borrowed) is for its errors. */
struct tensor_reader tfs__reader(struct infer *r, struct json_reader *json, size_t input, const char *path);
/* ERR_INVALID at path when the model has no input of that name. */
int tfs__find_input(const struct infer *r, const char *path, const char *name, size_t *out, struct err *e);
/* Reads the value of "signature_name": a model has one signature, so there is one right answer. */
int tfs__signature_name(struct json_reader *json, struct err *e);

#endif
