/* The learning rate of each step. */
#ifndef LEARN_SCHEDULE_H
#define LEARN_SCHEDULE_H

#include <stdint.h>
#include "learn/spec/spec.h"

/* step counts from 0 over the whole training. Settled specs only (decay_steps above 0 where it is used). */
double schedule_rate(const struct optimizer_spec *o, int64_t step);

#endif
