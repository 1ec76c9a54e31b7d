/* UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef LEARN_DATA_UTF8_H
#define LEARN_DATA_UTF8_H

#include <stddef.h>
#include <stdbool.h>

/* Bytes of the character of two bytes or more that begins at s, or 0 when none does. len ≥ 1. */
size_t utf8_sequence(const char *s, size_t len);

bool utf8_valid(const char *s, size_t len);

#endif
