/* Arithmetic without denormal numbers. A weight whose gradient stays 0 (a pixel that is always black) has an
 * optimiser state that shrinks for ever; once below 1e-38 each operation on it costs a hundred times as much,
 * for sums that no weight can feel. */
#ifndef TENSOR_FLUSH_H
#define TENSOR_FLUSH_H

#include <stdint.h>

/* From here on this thread takes denormal numbers for 0. Returns what flush_end restores. */
uint64_t flush_begin(void);
void flush_end(uint64_t before);

#endif
