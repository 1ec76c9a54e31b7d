/* What the vector ways of num_run share: which of 64 bytes belong to numbers, by integer operations on masks
 * with a bit for each byte. Inside base/ only. */
#ifndef BASE_NUM_RUN_IMPL_H
#define BASE_NUM_RUN_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/num_run.h"

enum {
    NUM_BLOCK_BYTES = 64,
    NUM_BEFORE_BYTES = 32, /* of the text before a block, and behind it: what loads may touch */
    NUM_BEHIND_BYTES = 8,
    NUM_BLOCKS_MAX = 16, /* that are taken apart before their numbers are read */
};

/* The bytes of each kind. */
struct num_kinds {
    uint64_t digit, zero, point, minus, comma, bracket, blank;
};

/* The numbers that lie whole in a block, with the comma or bracket behind them, up to the first bracket or
 * the first one that is not plain: -?(0|[1-9][0-9]*)(\.[0-9]+)?. A bit for each number, in their order; bits
 * above the last separator mean nothing. */
struct num_block {
    const char *p;      /* borrowed: the 64 bytes */
    uint64_t digit;     /* of any number */
    uint64_t first;     /* at its first digit */
    uint64_t point;     /* at its point; at its end when it has none */
    uint64_t end;       /* behind its last digit */
    uint64_t separator; /* the comma or bracket behind it */
    uint64_t negative;  /* at its first digit, if it is */
    bool any_long;      /* some number here has more than 7 digits before its point or 8 behind it */
};

/* Why no block is to follow: the run ends in this one, or its next number must be read another way. */
enum num_stop { NUM_GOES_ON, NUM_ENDS, NUM_STUCK };

/* Where each run of `run` bits that begins at a bit of `from` ends; a bit of `from` outside of runs stays.
 * Bits of `from` in runs must be their first. */
static inline uint64_t num__past(uint64_t run, uint64_t from)
{
    return ((run + (from & run)) | from) & ~run;
}

/* The place of the highest bit; 0 when there is none. */
static inline size_t num__last(uint64_t bits)
{
    return 63 - (size_t)__builtin_clzll(bits | 1);
}

/* Whether eight digits or more begin a number, or nine or more stand anywhere. */
static inline bool num__has_long(uint64_t digit, uint64_t first)
{
    uint64_t eight = digit & digit << 1;
    eight &= eight << 2;
    eight &= eight << 4;
    return (eight >> 7 & first) | (eight & eight << 1);
}

/* Each wrong bit lies within its number or on what follows it, so that the numbers before the lowest one are
 * right. What the block's end cuts off may look wrong: nothing that ends in the block depends on it. */
static inline enum num_stop num__find(struct num_block *b, const char *p, struct num_kinds k)
{
    uint64_t separator = k.comma | k.bracket;
    uint64_t inside = ~(separator | k.blank);
    uint64_t start = num__past(k.blank, separator << 1 | 1); /* where numbers must begin */
    uint64_t end = ~inside & inside << 1;
    uint64_t negative = k.minus << 1;
    uint64_t first = (start & ~k.minus) | negative;
    uint64_t fraction_end = num__past(k.digit, k.point << 1);
    uint64_t wrong = inside & ~(k.digit | k.point | k.minus);
    wrong |= k.minus & ~start;
    wrong |= first & (~k.digit | (k.zero & k.digit >> 1)); /* no digit, or 0 and another one */
    wrong |= k.point & (~(k.digit >> 1) | fraction_end);   /* no digit behind it, or a second one */
    wrong |= num__past(k.blank, end) & ~separator;
    *b = (struct num_block){.p = p,
                            .digit = k.digit,
                            .first = first,
                            .point = k.point | (end & ~fraction_end),
                            .end = end,
                            .separator = separator,
                            .negative = negative,
                            .any_long = num__has_long(k.digit, first)};
    uint64_t last = wrong | k.bracket;
    if ((last & -last) - 1 >= separator) return separator ? NUM_GOES_ON : NUM_STUCK;
    uint64_t reached = separator & (k.bracket ^ (k.bracket - 1));
    b->separator = reached & ((wrong & -wrong) - 1);
    return b->separator == reached ? NUM_ENDS : NUM_STUCK;
}

/* A short number's 16 bytes: seven for the digits before its point, one for the point, eight for those behind
 * it, zeros where it has fewer. They stand for upper·10^7 + lower = M = value·10^8, two integers below 10^8.
 *
 * 10^-8 = high + low·(1 ± 2^-53). For M < 10^15, fma(M, high, M·low) is the correctly rounded M / 10^8: its
 * relative error before that rounding is below 2^-105, while a quotient that is not half-way between two
 * doubles is at least 1 / (2^54 · 5^8) > 2^-73 of itself away from such a point, and none is on it: the odd
 * part of the point times 10^8 has more bits than M. A division would wait as long as for all the rest. */
static const double num__scale_high = 1e-8, num__scale_low = -0x1.03023df2d4c94p-82;

/* Takes up to `most` numbers from p on, NUM_BEFORE_BYTES or more behind r->start, as long as whole blocks are
 * there; r->p is then on the separator behind the last one. *stuck when what follows must be read another
 * way. */
typedef size_t num_take_blocks(struct num_run *r, const char *p, double *out, size_t most, bool *stuck);
num_take_blocks num__take_blocks_avx2, num__take_blocks_avx512;

/* The first `most` numbers of any block, one by one: how many, up to one of more than 19 digits. For CPUs
 * with AVX2. */
size_t num__read_each(struct num_block b, double *out, size_t most);

#endif
