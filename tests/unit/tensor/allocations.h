/* Counts allocations, of the calling thread and of all. */
#ifndef TESTS_UNIT_TENSOR_ALLOCATIONS_H
#define TESTS_UNIT_TENSOR_ALLOCATIONS_H

#include <stddef.h>
#include <stdbool.h>

bool allocations_are_counted(void); /* not under a sanitizer, which has its own allocator */
size_t allocations_so_far(void);
size_t allocations_of_all_threads(void);

#endif
