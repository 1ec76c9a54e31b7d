/* Numbers as text: a scanner that never looks past its end, and the shortest text that reads back as the same
 * value. */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

enum { NUM_TEXT_MAX = 32 };

/* Reads one JSON-grammar number (no leading '+', no hex, no inf/nan) from [p, end). Returns the bytes read, 0
 * if there is no number there. Correctly rounded. Overflow gives ±HUGE_VAL and still counts as read. */
size_t num_scan(const char *p, const char *end, double *out);

/* 10^0 … 10^22: the powers of ten that are exact doubles. */
enum { NUM_POW10_MAX = 22 };
extern const double num_pow10[NUM_POW10_MAX + 1];

/* digits × 10^exponent, correctly rounded; false where one operation does not do (num_scan reads any text).
 */
bool num_scale(double *out, uint64_t digits, int64_t exponent);

/* Writes v's shortest round-trip text without a NUL; returns its length (≤ NUM_TEXT_MAX). Finite values only.
 */
size_t num_format_f64(char out[NUM_TEXT_MAX], double v);
size_t num_format_f32(char out[NUM_TEXT_MAX], float v);

/* Writes v without a NUL; returns its length. */
size_t num_format_i64(char out[NUM_TEXT_MAX], int64_t v);

/* Whole-string decimal integer within [min, max]; false otherwise. */
bool num_parse_i64(const char *s, int64_t min, int64_t max, int64_t *out);

/* The value of an IEEE 754 half-precision number. */
float num_from_half(uint16_t half);

#endif
