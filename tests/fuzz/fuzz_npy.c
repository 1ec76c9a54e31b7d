/* Any bytes as a npy upload: a sound schema or an error, the same whole and in pieces. */
#include "tests/fuzz/fuzz_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_scan(data, size, SCHEMA_NPY);
    return 0;
}
