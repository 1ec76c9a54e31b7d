/* Unpacks a gzip stream (one member or several) piece by piece, with a limit on what may come out. */
#ifndef LEARN_DATA_GUNZIP_H
#define LEARN_DATA_GUNZIP_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"

struct gunzip;

typedef int (*gunzip_fn)(void *ctx, const unsigned char *data, size_t len, struct err *e);

int gunzip_create(struct gunzip **out, gunzip_fn fn, void *ctx, struct err *e);
int gunzip_push(struct gunzip *g, const unsigned char *data, size_t len,
                struct err *e);                     /* passes fn's failure on */
int gunzip_finish(struct gunzip *g, struct err *e); /* ERR_INVALID when the stream is cut short */
void gunzip_free(struct gunzip *g);

#endif
