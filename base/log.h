/* One line per event on stderr: time, level, program, event, then key=value pairs in the format.
 *
 *     2026-01-31T09:15:02.123Z info  gateway listening address=127.0.0.1:8080 tls=yes
 *
 * Any thread may log; a line is one write(2). Never log a secret, a request body or a whole key. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* program is borrowed for the life of the process ("gateway"). */
void log_init(const char *program, enum log_level level);
int log_level_of(const char *name); /* "error" … "debug" → level, or -1 */

void log_line(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
