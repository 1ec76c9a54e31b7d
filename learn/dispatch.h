/* What a runner does, by the type of its job. */
#ifndef LEARN_DISPATCH_H
#define LEARN_DISPATCH_H

#include "learn/train.h"

/* type: "train" (learn/train.h), "tune" (learn/tune.h) or "evaluate" (learn/cross.h, learn/assess.h), each
 * with its own kind of request->spec. An evaluate job writes no artifact: artifact_bytes stays 0, and the
 * signature empty. ERR_UNSUPPORTED for another type; else as train_run. */
int dispatch_run(struct train_result *out, const char *type, const struct train_request *request,
                 const struct train_callbacks *callbacks, struct err *e);

#endif
