/* UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef LEARN_DATA_UTF8_H
#define LEARN_DATA_UTF8_H

#include <stddef.h>
#include <stdbool.h>

bool utf8_valid(const char *s, size_t len);

#endif
