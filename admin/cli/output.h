/* What commands print: tables with columns that line up, JSON, money and times as people read them. */
#ifndef ADMIN_CLI_OUTPUT_H
#define ADMIN_CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cjson/cJSON.h>

enum { TABLE_COLUMNS_MAX = 8, OUTPUT_TEXT_MAX = 64 };

/* Rows are gathered first: the widths come from them. A header in capitals, cells left-aligned. */
struct table;
struct table *table_create(const char *const *headers, size_t columns);
void table_row(struct table *t, const char *const *cells); /* copied; NULL prints "-" */
void table_print(struct table *t);                         /* to stdout, and frees */

/* The tree on one line: what a program reads. */
void output_json(const cJSON *node);

/* Values of an answer, with a fallback instead of NULL. The text is borrowed from the tree. */
const char *output_text(const cJSON *object, const char *name);
double output_number(const cJSON *object, const char *name, double fallback);
int64_t output_micros(const cJSON *object, const char *name); /* money travels as a string */

void output_money(char out[OUTPUT_TEXT_MAX], int64_t micros);     /* "1.234567" without needless zeros */
void output_when(char out[OUTPUT_TEXT_MAX], double unix_seconds); /* local "2026-01-31 09:15:02", "-" for 0 */
void output_duration(char out[OUTPUT_TEXT_MAX], double seconds);  /* "850 ms", "12.3 s", "4 m 05 s" */
void output_bytes(char out[OUTPUT_TEXT_MAX], double bytes);       /* "29.4 MiB" */

/* One line that is rewritten in place on a terminal, and not printed elsewhere. */
void output_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void output_progress_end(void); /* leaves the last line standing */
bool output_is_terminal(void);

#endif
