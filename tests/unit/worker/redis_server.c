/* The queue tests' private Redis, for the tests of this folder. */
#include "tests/unit/queue/redis_fixture.c"
