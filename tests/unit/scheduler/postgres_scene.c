/* The store tests' tenants and jobs, for the tests of this folder. */
#include "tests/unit/store/scene.c"
