/* Any bytes as the rest of an array of numbers: each way that this CPU has must take the same numbers, bit
 * for bit, and stop at the same place. The first two bytes say how many to take and where the first may
 * begin. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/num_run.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NUMBERS_MAX = 255 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"avx2", "avx512"};
    double want[NUMBERS_MAX], got[NUMBERS_MAX];
    if (size < 2 || data[1] > size - 2) return 0;
    size_t most = data[0];
    char *text =
        malloc(size - 2 ? size - 2 : 1); /* of that size, so that a sanitizer sees a read beyond it */
    if (!text) return 0;
    memcpy(text, data + 2, size - 2);
    const struct num_run all = {text, text + data[1], text + size - 2};
    struct num_run expected = all;
    size_t n = num_run_find("portable")(&expected, want, most);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        num_run_way *way = num_run_find(names[i]);
        struct num_run r = all;
        if (way && (way(&r, got, most) != n || r.p != expected.p || memcmp(got, want, n * sizeof *got) != 0))
            abort();
    }
    free(text);
    return 0;
}
