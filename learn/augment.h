/* Images as they might as well have been: cropped, shifted, mirrored, noisy, anew in each epoch.
 *
 *     crop a window ▸ stretch it to the image's size ▸ shift ▸ mirror ▸ add noise
 *
 * What happens to a row follows from the seed, the epoch and the row's number alone: the same in any order,
 * on any thread, and after a resumption. Any thread. */
#ifndef LEARN_AUGMENT_H
#define LEARN_AUGMENT_H

#include <stdint.h>
#include <stdbool.h>
#include "learn/spec/spec.h"

struct augment {
    struct augmentation_spec spec;
    int64_t height, width, channels; /* of an image, channels last */
    uint64_t seed;
};

/* For a spec that wants it (augmentation_wanted). */
struct augment augment_of(const struct resolved *r);

/* What the numbers of a row say. */
struct augment_draw {
    double top, left; /* of the window, in pixels of the image */
    double high, wide;
    int64_t down, right; /* the shift; the border's pixels fill what it leaves */
    bool mirror, upside_down;
};

struct augment_draw augment_draw(const struct augment *a, int64_t epoch, uint32_t row);

/* One preprocessed image, height·width·channels floats, in place. scratch: as many floats. */
void augment_image(const struct augment *a, int64_t epoch, uint32_t row, float *image, float *scratch);

#endif
