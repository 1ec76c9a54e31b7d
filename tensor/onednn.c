/* Opens libdnnl and calls its GEMM, whose interface is the same in oneDNN 2 and 3. */
#include "tensor/onednn.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

typedef int (*sgemm_fn)(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                        const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                        int64_t ldc);
typedef void (*set_threads_fn)(int n);

static sgemm_fn sgemm;
static set_threads_fn set_threads; /* of the calling thread; NULL when the library is built without OpenMP */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
    static const char *const names[] = {"libdnnl.so.3", "libdnnl.so.2"};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
    /* POSIX's way around C's rule that objects and functions do not mix. */
    *(void **)&set_threads = dlsym(library, "omp_set_num_threads");
    *(void **)&sgemm = dlsym(library, "dnnl_sgemm");
}

bool onednn_load(void)
{
    pthread_once(&once, load);
    return sgemm != NULL;
}

bool onednn_gemm(const struct gemm *g)
{
    if (set_threads) set_threads(1);
    return sgemm(g->trans_a ? 'T' : 'N', g->trans_b ? 'T' : 'N', g->m, g->n, g->k, 1.0f, g->a, g->lda, g->b,
                 g->ldb, g->beta, g->c, g->ldc) == 0;
}
