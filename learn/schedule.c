/* Works the learning rate of a step out, by Keras's formulas. */
#include "learn/schedule.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

static double exponential(const struct optimizer_spec *o, double step)
{
    double times = step / (double)o->schedule.decay_steps;
    return o->learning_rate * pow(o->schedule.decay_rate, o->schedule.staircase ? floor(times) : times);
}

static double cosine(const struct optimizer_spec *o, double step)
{
    double done = fmin(step / (double)o->schedule.decay_steps, 1), alpha = o->schedule.alpha;
    return o->learning_rate * ((1 - alpha) * 0.5 * (1 + cos(PI * done)) + alpha);
}

static double piecewise(const struct schedule_spec *s, int64_t step)
{
    int i = 0;
    while (i < s->n_boundaries && step > s->boundary[i]) i++;
    return s->value[i];
}

double schedule_rate(const struct optimizer_spec *o, int64_t step)
{
    const struct schedule_spec *s = &o->schedule;
    if (step < s->warmup_steps) return o->learning_rate * ((double)step + 1) / ((double)s->warmup_steps + 1);
    step -= s->warmup_steps;
    switch (s->kind) {
    case SCHEDULE_EXPONENTIAL:
        return exponential(o, (double)step);
    case SCHEDULE_COSINE:
        return cosine(o, (double)step);
    case SCHEDULE_PIECEWISE:
        return piecewise(s, step);
    case SCHEDULE_CONSTANT:
        break;
    }
    return o->learning_rate;
}
