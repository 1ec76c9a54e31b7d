/* Chooses the kernels by what the CPU has. */
#include "tensor/kernel.h"

#include <string.h>

const struct kernels *kernels_find(const char *name)
{
#ifdef __x86_64__
    if (strcmp(name, "avx512") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
                   ? &kernels__avx512
                   : NULL;
    if (strcmp(name, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kernels__avx2 : NULL;
#endif
    return strcmp(name, "portable") == 0 ? &kernels__portable : NULL;
}

const struct kernels *kernels_best(void)
{
    const struct kernels *k = kernels_find("avx512");
    if (!k) k = kernels_find("avx2");
    return k ? k : &kernels__portable;
}
