/* Chooses the kernels by what the CPU has. */
#include "tensor/kernel.h"

#include <string.h>

static const char *const levels[] = {"portable", "avx2", "avx512"};
enum { LEVELS = sizeof levels / sizeof *levels };
static int most = LEVELS - 1; /* of levels: written before anybody else reads it */

static int level_of(const char *name)
{
    for (int i = 0; i < LEVELS; i++)
        if (strcmp(name, levels[i]) == 0) return i;
    return LEVELS;
}

bool kernels_limit(const char *name)
{
    int level = level_of(name);
    if (level == LEVELS) return false;
    most = level;
    return true;
}

const struct kernels *kernels_find(const char *name)
{
    if (level_of(name) > most) return NULL;
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
