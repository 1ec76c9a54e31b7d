/* The store tests' private Postgres, for the tests of this folder. */
#include "tests/unit/store/pg_fixture.c"
