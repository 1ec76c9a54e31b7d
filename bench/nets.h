/* The networks that the benchmarks train and run, and one side's share of measuring them: what train/train.c
 * and infer/infer.c have in common.
 *
 *     mlp          784-128-128-10, ReLU
 *     cnn          Keras's MNIST example: Conv 32-pool-Conv 64-pool-Dense 128-10
 *     lstm         two LSTM layers of 128 over the 28 rows of an image
 *     transformer  2 encoder blocks (128 wide, 4 heads, 512 inside, norm after) over 64 tokens of 8,000
 *
 * bench/torch_nets.py builds the same in PyTorch. */
#ifndef BENCH_NETS_H
#define BENCH_NETS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "tensor/backend.h"
#include "tensor/graph.h"
#include "tensor/params.h"

enum { NET_DATA_ROWS = 8192 }; /* rows of each data file */

struct net {
    const char *name;
    const char *x_file, *label_file; /* in the data folder: f32 or i32 numbers, row after row */
    int64_t row;                     /* numbers of an x row; 4 bytes each */
    int64_t classes;
    int (*build)(struct graph *g, int *y, struct err *e);
};

const struct net *net_find(const char *name); /* NULL when there is none */

/* Input "x", output "probabilities", and, with loss, input "label" i32 and the loss. */
int net_graph(struct graph **out, const struct net *n, bool loss, struct err *e);

/* A data file, mapped; NET_DATA_ROWS rows of row · 4 bytes. ERR_IO; ERR_CORRUPT for another size. */
int net_data(const void **out, const char *folder, const char *file, int64_t row, struct err *e);

/* Writes the weights as a safetensors file, for the other side. */
int net_save(const struct params *p, const char *path, struct err *e);

/* Seconds, of the wall's clock and of this process's CPUs. */
struct net_time {
    double wall, cpu;
};
struct net_time net_now(void);

/* The next line of standard input, "steps 100": its word and its number. False at the end of the input or for
 * a line of another form. */
enum { NET_WORD_MAX = 32 };
bool net_command(char word[NET_WORD_MAX], long *number);

/* "f32": the automatic backend; else the backend of that name. ERR_UNSUPPORTED for one that this build does
 * not know or this CPU does not have. */
int net_backend(const struct backend **out, const char *precision, struct err *e);

/* Ends a side that could not do its work: says so on standard output, as JSON, when the configuration is
 * unsupported (0), and on standard error otherwise (1). Returns the exit status. */
int net_refused(const char *program, bool unsupported, const struct err *e);

#endif
