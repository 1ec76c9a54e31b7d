/* The backends' table, and the known-answer product that each must pass before its first use. */
#include "tensor/backend.h"

#include <cblas.h>
#include <pthread.h>
#include <string.h>
#include "tensor/kernel.h"
#include "tensor/kernel/amx.h"
#include "tensor/onednn.h"

static void gemm_openblas(const struct backend *b, const struct gemm *g, const struct gemm_tail *tail)
{
    cblas_sgemm(CblasRowMajor, g->trans_a ? CblasTrans : CblasNoTrans, g->trans_b ? CblasTrans : CblasNoTrans,
                (int)g->m, (int)g->n, (int)g->k, 1.0f, g->a, (int)g->lda, g->b, (int)g->ldb, g->beta, g->c,
                (int)g->ldc);
    if (tail) b->kernels->bias_activate(tail, g->c, g->m, g->n, g->ldc);
}

/* What the library refuses, such as a product of nothing, is ours. */
static void gemm_onednn(const struct backend *b, const struct gemm *g, const struct gemm_tail *tail)
{
    if (g->m < 1 || g->n < 1 || g->k < 1 || !onednn_gemm(g))
        b->kernels->gemm(g, tail);
    else if (tail)
        b->kernels->bias_activate(tail, g->c, g->m, g->n, g->ldc);
}

static void gemm_kernels(const struct backend *b, const struct gemm *g, const struct gemm_tail *tail)
{
    b->kernels->gemm(g, tail);
}

/* Splitting a B that f32 reads where it lies takes as long as f32's products of so many rows. Inference,
 * where a row must not depend on the others, goes to the kernels. */
static void gemm_split(const struct backend *b, const struct gemm *g, const struct gemm_tail *tail)
{
    enum { FEW_ROWS = 24 };
    bool few = !g->trans_b && g->m < FEW_ROWS;
    (few ? kernels_best() : b->kernels)->gemm(g, tail);
}

/* "auto" is the first that works and multiplies in f32. oneDNN is no candidate: its library is only loaded
 * for who asks for it. */
enum { NATIVE, OPENBLAS, BF16, BF16X3, PORTABLE, ONEDNN, N_BACKENDS };

static struct backend table[N_BACKENDS] = {
    [NATIVE] = {.name = "native", .gemm = gemm_kernels, .own = true},
    [OPENBLAS] = {.name = "openblas", .gemm = gemm_openblas},
    [BF16] = {.name = "bf16", .gemm = gemm_kernels, .own = true, .tiles = true, .rounds = true},
    [BF16X3] = {.name = "bf16x3", .gemm = gemm_split, .own = true, .tiles = true},
    [PORTABLE] = {.name = "portable", .kernels = &kernels__portable, .gemm = gemm_kernels, .own = true},
    [ONEDNN] = {.name = "onednn", .gemm = gemm_onednn},
};
static bool answers_right[N_BACKENDS];
static const char *names[N_BACKENDS + 2] = {"auto"};
static pthread_once_t usual = PTHREAD_ONCE_INIT, onednn = PTHREAD_ONCE_INIT;

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

static void init_usual(void)
{
    openblas_set_num_threads(1);
    table[NATIVE].kernels = table[OPENBLAS].kernels = kernels_best();
    table[BF16].kernels = amx_kernels();
    table[BF16X3].kernels = amx_split_kernels();
    for (int i = 0; i < ONEDNN; i++) answers_right[i] = table[i].kernels && known_answer(&table[i]);
}

static void init_onednn(void)
{
    if (onednn_load()) table[ONEDNN].kernels = kernels_best();
    answers_right[ONEDNN] = table[ONEDNN].kernels && known_answer(&table[ONEDNN]);
}

static void init_names(void)
{
    pthread_once(&usual, init_usual);
    pthread_once(&onednn, init_onednn);
    for (int i = 0, n = 1; i < N_BACKENDS; i++)
        if (answers_right[i]) names[n++] = table[i].name;
}

const char *const *backend_names(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_names);
    return names;
}

const struct backend *backend_auto(void)
{
    pthread_once(&usual, init_usual);
    for (int i = 0; i < ONEDNN; i++)
        if (answers_right[i] && !table[i].tiles) return &table[i];
    return &table[PORTABLE];
}

static int refuse(const struct backend *b, struct err *e)
{
    if (b->kernels)
        return err_set(e, ERR_INTERNAL, "backend", "the backend '%s' multiplies wrongly on this CPU",
                       b->name);
    if (b == &table[ONEDNN])
        return err_set(e, ERR_UNSUPPORTED, "backend", "the library libdnnl is not installed");
    return err_set(
        e, ERR_UNSUPPORTED, "backend",
        "%s needs a CPU with AMX and AVX-512 (Intel Xeon, 4th generation or later) and Linux 5.16 or "
        "later, and this machine is not such; use f32 or auto",
        b->name);
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
        if (i == ONEDNN) pthread_once(&onednn, init_onednn);
        if (!answers_right[i]) return refuse(&table[i], e);
        *out = &table[i];
        return 0;
    }
    return err_set(
        e, ERR_INVALID, "backend",
        "unknown backend '%.40s'; expected auto, native, openblas, onednn, bf16, bf16x3 or portable", name);
}
