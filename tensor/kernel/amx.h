/* Products in bf16 on the tile registers (AMX) of a CPU that has them: f32 in, f32 out, sums in f32; the
 * operands are rounded to bf16 (to nearest, ties to even) while they are packed.
 *
 * Each element of C is one chain of sums over k in blocks that depend on k alone, so a row's bits depend
 * neither on where it lies nor on the other rows. Products too small to repay the rounding are the f32
 * kernels'; which they are is decided by k and n, never by the number of rows. NaN and infinities go through;
 * subnormals count as 0. */
#ifndef TENSOR_KERNEL_AMX_H
#define TENSOR_KERNEL_AMX_H

#include "tensor/kernel.h"

/* The AVX-512 table with such products; NULL where the CPU or the kernel lacks AMX. The first call asks the
 * kernel for leave to use tiles, for the whole process: make it before a system call filter is in place. Any
 * thread. */
const struct kernels *amx_kernels(void);

#endif
