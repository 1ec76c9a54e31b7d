/* Products on the tile registers (AMX) of a CPU that has them: f32 in, f32 out, sums in f32. The operands
 * become bf16 while they are packed, in one of two ways:
 *
 *   amx_kernels         rounded to bf16 (to nearest, ties to even)
 *   amx_split_kernels   each value split into the nearest bf16 and what is left of it, in bf16 too; the
 *                       products of two left-overs are dropped, all others summed: an error of 2^-18 to 2^-16
 *                       of each product, three times the work
 *
 * Each element of C is one chain of sums over k in blocks that depend on k alone, so a row's bits depend
 * neither on where it lies nor on the other rows. Products too small to repay the packing are the f32
 * kernels'; which they are is decided by k and n, never by the number of rows. NaN and infinities go through,
 * but that split infinities of both operands give NaN where they meet; subnormals count as 0. */
#ifndef TENSOR_KERNEL_AMX_H
#define TENSOR_KERNEL_AMX_H

#include "tensor/kernel.h"

/* The AVX-512 table with such products; NULL where the CPU or the kernel lacks AMX. The first call asks the
 * kernel for leave to use tiles, for the whole process: make it before a system call filter is in place. Any
 * thread. */
const struct kernels *amx_kernels(void);
const struct kernels *amx_split_kernels(void);

#endif
