/* The numbers of a JSON array, many at a time. Reading a long array costs most where each number's place is
 * known only once the one before it was read; here vector compares find 64 bytes' numbers first:
 *
 *      text   0.25,-1,17.5]     a bit for each byte of a kind: digits, points, commas, …
 *      found  ^    ^  ^          where each number's digits begin and end, and where its point is
 *      read   0.25 -1 17.5       two or four at once, from the bytes around their points
 *
 * Numbers of more than 7 digits before the point or 8 behind it are read one by one from such a block, up to
 * 19 digits; anything else, an exponent for one, goes through num_scan. */
#ifndef BASE_NUM_RUN_H
#define BASE_NUM_RUN_H

#include <stddef.h>

/* The text lies from start to end, and p in it: on entry where a number (or the blanks before one) may begin,
 * behind a '[' or a comma. Bytes before p are never judged, but may be read. */
struct num_run {
    const char *start, *p, *end; /* borrowed */
};

/* Takes up to `most` numbers from p on: how many; p is then on the comma or the bracket behind the last one.
 * It stops before the first value that is no number by num_scan's grammar, or has neither a comma nor a ']'
 * behind it: 0, and p as it was, when that is the first. Values are num_scan's, bit for bit. Any thread. */
size_t num_run_take(struct num_run *r, double *out, size_t most);

/* The same by a named way, "avx512", "avx2" or "portable"; NULL where the CPU lacks it. */
typedef size_t num_run_way(struct num_run *r, double *out, size_t most);
num_run_way *num_run_find(const char *name);

#endif
