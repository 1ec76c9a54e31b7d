/* The backends' table, and the known-answer product that each must pass before its first use. */
#include "tensor/backend.h"

#include <cblas.h>
#include <pthread.h>
#include <string.h>
#include "tensor/kernel.h"

static void gemm_openblas(const struct backend *b, const struct gemm *g, const struct gemm_tail *tail)
{
    cblas_sgemm(CblasRowMajor, g->trans_a ? CblasTrans : CblasNoTrans, g->trans_b ? CblasTrans : CblasNoTrans,
                (int)g->m, (int)g->n, (int)g->k, 1.0f, g->a, (int)g->lda, g->b, (int)g->ldb, g->beta, g->c,
                (int)g->ldc);
    if (tail) b->kernels->bias_activate(tail, g->c, g->m, g->n, g->ldc);
}

static void gemm_kernels(const struct backend *b, const struct gemm *g, const struct gemm_tail *tail)
{
    b->kernels->gemm(g, tail);
}

enum { NATIVE, OPENBLAS, PORTABLE, N_BACKENDS };

static struct backend table[N_BACKENDS] = {
    [NATIVE] = {.name = "native", .gemm = gemm_kernels},
    [OPENBLAS] = {.name = "openblas", .gemm = gemm_openblas},
    [PORTABLE] = {.name = "portable", .kernels = &kernels__portable, .gemm = gemm_kernels},
};
static bool answers_right[N_BACKENDS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Small whole numbers: every order of summation gives the same float, so the answer must be exact. */
static bool known_answer(const struct backend *b)
{
    enum { M = 19, N = 37, K = 23 };
    float a[M * K], w[K * N], c[M * N];
    for (int i = 0; i < M * K; i++) a[i] = (float)(i * 7 % 13 - 6);
    for (int i = 0; i < K * N; i++) w[i] = (float)(i * 5 % 11 - 5);
    for (int i = 0; i < M * N; i++) c[i] = -1.0f;
    b->gemm(b, &(struct gemm){.m = M, .n = N, .k = K, .a = a, .lda = K, .b = w, .ldb = N, .c = c, .ldc = N},
            NULL);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            float sum = 0;
            for (int k = 0; k < K; k++) sum += a[i * K + k] * w[k * N + j];
            if (c[i * N + j] != sum) return false;
        }
    return true;
}

static void init_all(void)
{
    openblas_set_num_threads(1);
    table[NATIVE].kernels = table[OPENBLAS].kernels = kernels_best();
    for (int i = 0; i < N_BACKENDS; i++) answers_right[i] = known_answer(&table[i]);
}

const char *const *backend_names(void)
{
    static const char *const names[] = {"auto", "native", "openblas", "portable", NULL};
    return names;
}

const struct backend *backend_auto(void)
{
    pthread_once(&once, init_all);
    for (int i = 0; i < N_BACKENDS; i++)
        if (answers_right[i]) return &table[i];
    return &table[PORTABLE];
}

int backend_find(const struct backend **out, const char *name, struct err *e)
{
    const struct backend *best = backend_auto();
    if (strcmp(name, "auto") == 0) {
        *out = best;
        return 0;
    }
    for (int i = 0; i < N_BACKENDS; i++) {
        if (strcmp(table[i].name, name) != 0) continue;
        if (!answers_right[i])
            return err_set(e, ERR_INTERNAL, "backend", "the backend '%s' multiplies wrongly on this CPU",
                           name);
        *out = &table[i];
        return 0;
    }
    return err_set(e, ERR_INVALID, "backend",
                   "unknown backend '%.40s'; expected auto, native, openblas or portable", name);
}
