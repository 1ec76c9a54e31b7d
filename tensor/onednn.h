/* oneDNN's f32 product, from libdnnl where that is installed: the library is tens of megabytes and not
 * needed, so it is loaded when it is first asked for and never linked. It allocates memory of its own in each
 * call. */
#ifndef TENSOR_ONEDNN_H
#define TENSOR_ONEDNN_H

#include <stdbool.h>
#include "tensor/backend.h"

/* Whether the library is here. The first call opens it: before a sandbox that forbids files. Any thread. */
bool onednn_load(void);

/* On the caller's thread alone. false when the library refuses or is out of memory; C is then untouched.
 * Needs onednn_load to have said true. */
bool onednn_gemm(const struct gemm *g);

#endif
