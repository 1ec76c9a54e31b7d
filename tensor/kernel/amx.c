/* The tables of the products on tiles, and what those share: the tiles' configuration, blocks and tails. */
#include "tensor/kernel/amx.h"

#include <pthread.h>
#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "tensor/kernel/amx_tile.h"

/* Tiles 0–3 are C's, row by row, 4 and 5 A's, 6 and 7 B's, all of full size. Loading the configuration takes
 * as long as a small product, so it stays from one call to the next; another library on this thread may have
 * taken it away. */
void amx__configure(void)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } wanted = {.palette = 1,
                .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                .rows = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE}};
    uint8_t now[64];
    __asm__ volatile("sttilecfg %0" : "=m"(now));
    if (memcmp(now, &wanted, sizeof now) != 0) __asm__ volatile("ldtilecfg %0" ::"m"(wanted) : "memory");
}

void amx__finish_rows(const struct gemm_tail *tail, bool bias_too, int64_t i, int64_t rows, float *c,
                      int64_t n, int64_t ldc)
{
    struct gemm_tail t = *tail;
    if (!bias_too) t.bias = NULL;
    if (t.gate) t.gate += i * t.ldgate;
    if (t.bias || t.gate || t.act != ACT_LINEAR) kernels__avx512.bias_activate(&t, c, rows, n, ldc);
}

/* What CPUID says, and that the operating system saves the tiles' state (bits 17 and 18 of XCR0). */
static bool cpu_has_tiles(void)
{
    const unsigned need = 1u << 22 | 1u << 24; /* AMX-BF16, AMX-TILE */
    unsigned a, b, c, d, low, high;
    if (!kernels_find("avx512") || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & need) != need)
        return false;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return false; /* AVX512-BF16 */
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low >> 17 & 3) == 3;
}

static struct kernels rounded, split;
static bool usable;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static struct kernels table_of(const char *name, const struct amx_products *p)
{
    struct kernels k = kernels__avx512;
    k.name = name;
    k.packed_len = p->packed_len;
    k.pack = p->pack;
    k.gemm_packed = p->gemm_packed;
    k.gemm = p->gemm;
    k.gemm_lines = p->gemm_lines;
    return k;
}

static void init(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    if (!cpu_has_tiles() || syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0) return;
    rounded = table_of("amx", &amx__bf16);
    split = table_of("amx split", &amx__split);
    usable = true;
}

const struct kernels *amx_kernels(void)
{
    pthread_once(&once, init);
    return usable ? &rounded : NULL;
}

const struct kernels *amx_split_kernels(void)
{
    return amx_kernels() ? &split : NULL;
}

#else

const struct kernels *amx_kernels(void)
{
    return NULL;
}

const struct kernels *amx_split_kernels(void)
{
    return NULL;
}

#endif
