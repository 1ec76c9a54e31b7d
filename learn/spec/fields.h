/* Reading and writing the fields of one layer, as its entry in the table of layers lists them. Inside
 * learn/spec. */
#ifndef LEARN_SPEC_FIELDS_H
#define LEARN_SPEC_FIELDS_H

#include "learn/spec/layers.h"

/* Reads every field of l's class out of o. keras: fields that only Keras writes are let through. ERR_INVALID
 * and ERR_UNSUPPORTED with the path. */
int fields_read(struct layer_spec *l, struct json_obj *o, bool keras, struct err *e);

/* Reads one FIELD_SHAPE; batch: the list begins with the batch's null. */
int fields_read_shape(struct layer_spec *l, struct json_obj *o, const struct layer_field *f, bool batch,
                      struct err *e);

/* Writes every field that has a choice, names and values, into an open object. */
void fields_write(const struct layer_spec *l, struct json_writer *w);

/* Keras's way from a class to a name: "MaxPooling2D" → "max_pooling2d". */
void fields_snake_case(char *out, size_t cap, const char *camel);

#endif
