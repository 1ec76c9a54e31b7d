/* Time. Monotonic for durations and deadlines inside a process; wall for what people read. Postgres judges
 * leases. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

int64_t clock_mono_ns(void);
int64_t clock_mono_us(void);
int64_t clock_mono_ms(void);
int64_t
clock_coarse_ms(void);       /* clock_mono_ms() as of the kernel's last tick: up to 10 ms behind, and cheap */
int64_t clock_wall_us(void); /* since the Unix epoch */

enum { CLOCK_TEXT_MAX = 32 };
void clock_rfc3339(char out[CLOCK_TEXT_MAX], int64_t wall_us);   /* "2026-01-31T09:15:02.123Z" */
void clock_http_date(char out[CLOCK_TEXT_MAX], int64_t wall_us); /* "Sat, 31 Jan 2026 09:15:02 GMT" */

#endif
