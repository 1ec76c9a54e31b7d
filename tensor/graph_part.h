/* Takes a part of a graph out: what computes some of its values from others. A model that is trained as one
 * may so be run in pieces, such as an encoder once and a decoder many times. */
#ifndef TENSOR_GRAPH_PART_H
#define TENSOR_GRAPH_PART_H

#include "base/err.h"
#include "tensor/graph.h"

/* A graph of its own with the one output `name`: value `output` of g and what it is made of, back to value
 * `cut` (-1: none), which becomes an input under its own name, and to g's inputs. Parameters keep their
 * names; only those that are needed are there. ERR_INVALID when output is an input or a parameter itself, or
 * when another result of the node that computes `cut` is needed. */
int graph_part(struct graph **out, const struct graph *g, int cut, const char *name, int output,
               struct err *e);

#endif
