/* Formats one event into one line and hands it to the kernel in one write. */
#include "base/log.h"
#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A pipe takes up to PIPE_BUF (4096) bytes in one piece; a longer line could be torn by another thread's. */
enum { LINE_MAX_BYTES = 2048 };

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *_Atomic log_program = "tenor";
static atomic_int log_threshold = LOG_INFO;

void log_init(const char *program, enum log_level level)
{
    atomic_store(&log_program, program);
    atomic_store(&log_threshold, (int)level);
}

int log_level_of(const char *name)
{
    for (int i = 0; name && i < (int)(sizeof level_names / sizeof level_names[0]); i++)
        if (strcmp(level_names[i], name) == 0) return i;
    return -1;
}

static void write_line(const char *line, size_t len)
{
    ssize_t n;
    do {
        n = write(STDERR_FILENO, line, len);
    } while (n < 0 && errno == EINTR);
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    if ((int)level > atomic_load_explicit(&log_threshold, memory_order_relaxed)) return;
    int saved = errno;
    char line[LINE_MAX_BYTES];
    char now[CLOCK_TEXT_MAX];
    clock_rfc3339(now, clock_wall_us());
    int n = snprintf(line, sizeof line, "%s %-5s %s %s ", now, level_names[level], atomic_load(&log_program),
                     event);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof line - 1 ? (size_t)n : sizeof line - 2;
    va_list args;
    va_start(args, fmt);
    n = vsnprintf(line + len, sizeof line - 1 - len, fmt, args);
    va_end(args);
    if (n > 0) len += (size_t)n < sizeof line - 1 - len ? (size_t)n : sizeof line - 2 - len;
    while (len > 0 && line[len - 1] == ' ') len--;
    for (size_t i = 0; i < len; i++) /* one event is one line, whatever a tenant put into a name */
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F) line[i] = ' ';
    line[len++] = '\n';
    write_line(line, len);
    errno = saved;
}
