/* Parts of spec_parse that have files of their own. Inside learn/spec. */
#ifndef LEARN_SPEC_PARSE_H
#define LEARN_SPEC_PARSE_H

#include "learn/spec/spec.h"

/* The architecture: our list of layers, a Sequential model of Keras as an object, or the same as a text. */
int spec__parse_layers(struct spec *s, const cJSON *node, const char *path, struct err *e);

int spec__parse_training(struct spec *s, const cJSON *node, const char *path, struct err *e);

struct training_spec spec__training_defaults(void);

/* The optimiser and its learning rate. */
void spec__optimizer_defaults(struct optimizer_spec *o, const char *name);
int spec__parse_optimizer(struct spec *s, struct json_obj *up, struct err *e);

/* What may happen to images; member "augmentation" of the training part. */
int spec__parse_augmentation(struct spec *s, struct json_obj *up, struct err *e);

#endif
