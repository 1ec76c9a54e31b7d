/* Images and labels of an IDX pair (…-images-idx3-ubyte.gz, …-labels-idx1-ubyte.gz), and a picture of one in
 * the terminal. */
#ifndef ADMIN_CLI_IMAGES_H
#define ADMIN_CLI_IMAGES_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct images {
    size_t count, rows, columns;
    uint8_t *pixels; /* [count, rows, columns], owned */
    uint8_t *labels; /* [count], owned */
};

int images_load(struct images *out, const char *images_path, const char *labels_path, struct err *e);
void images_dispose(struct images *i);

/* Prints up to `n` images side by side, two pixel rows per line: shades on a terminal, characters elsewhere.
 * captions: n texts of at most 28 characters, printed below. */
void images_print(const struct images *i, const size_t *which, const char *const *captions, size_t n);

#endif
