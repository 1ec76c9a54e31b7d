/* Signatures for tests of the predict protocols. */
#ifndef TESTS_UNIT_GATEWAY_SIGNATURE_FIXTURE_H
#define TESTS_UNIT_GATEWAY_SIGNATURE_FIXTURE_H

#include "learn/spec/signature.h"

/* Two inputs, a number and a text, and one number as the answer. */
extern const char signature_fixture_table[];

/* The caller's (signature_free). Fails the test when the text is no signature. */
struct signature *signature_fixture(const char *json);

#endif
