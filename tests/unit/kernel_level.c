/* With TENOR_TEST_KERNELS=avx2 or portable a test program runs as on a CPU that has no more: no AVX-512, no
 * tiles. OpenBLAS is told by OPENBLAS_CORETYPE. Linked into the programs of the folders that compute. */
#include <stdio.h>
#include <stdlib.h>

#include "tensor/kernel.h"

__attribute__((constructor)) static void limit_kernels(void)
{
    const char *level = getenv("TENOR_TEST_KERNELS");
    if (!level || !level[0]) return;
    if (kernels_limit(level) && kernels_find(level)) return;
    fprintf(stderr, "TENOR_TEST_KERNELS=%s: this CPU has no such kernels\n", level);
    exit(2);
}
