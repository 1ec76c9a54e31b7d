/* Ids: a prefix that says what it is, and 26 characters (lower-case Crockford base 32) that sort by creation
 * time: 48 bits of wall milliseconds, 80 random bits, monotonic within a process. "job_01jd8x…". */
#ifndef BASE_IDS_H
#define BASE_IDS_H

#include <stdbool.h>

enum { ID_MAX = 40 }; /* the longest id with its NUL */

/* Prefixes in use: ten_ key_ ds_ job_ mdl_ ver_ evt_ aud_ led_ req_ blb_ inc_ (a process incarnation); "job"
 * stands for "job_" here and in id_valid. */
void id_new(char out[ID_MAX], const char *prefix);

/* Whether s is a well-formed id with that prefix. Says nothing about existence. */
bool id_valid(const char *s, const char *prefix);

/* 1–64 characters of [a-z0-9._-] that start with a letter or digit: names that tenants choose (models,
 * aliases). */
bool id_name_valid(const char *s);

#endif
