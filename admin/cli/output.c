/* Prints tables, JSON, money, times and a progress line the same way for every command. */
#include "admin/cli/output.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

enum { PROGRESS_EVERY_MS = 50 };

struct table {
    size_t columns, rows, cap;
    size_t width[TABLE_COLUMNS_MAX];
    char **cells; /* rows × columns, owned */
};

/* Characters, not bytes: continuation bytes of UTF-8 take no room. */
static size_t shown_width(const char *s)
{
    size_t n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

struct table *table_create(const char *const *headers, size_t columns)
{
    struct table *t = mem_alloc(1, sizeof *t);
    t->columns = columns > TABLE_COLUMNS_MAX ? TABLE_COLUMNS_MAX : columns;
    table_row(t, headers);
    return t;
}

void table_row(struct table *t, const char *const *cells)
{
    if (t->rows == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        char **grown = mem_alloc(cap * t->columns, sizeof *grown);
        if (t->cells) memcpy(grown, t->cells, t->rows * t->columns * sizeof *grown);
        mem_free(t->cells);
        t->cells = grown;
        t->cap = cap;
    }
    for (size_t i = 0; i < t->columns; i++) {
        char *cell = mem_strdup(cells[i] && cells[i][0] ? cells[i] : "-");
        size_t width = shown_width(cell);
        if (width > t->width[i]) t->width[i] = width;
        t->cells[t->rows * t->columns + i] = cell;
    }
    t->rows++;
}

void table_print(struct table *t)
{
    for (size_t r = 0; r < t->rows; r++) {
        for (size_t i = 0; i < t->columns; i++) {
            char *cell = t->cells[r * t->columns + i];
            int pad = i + 1 < t->columns ? (int)(t->width[i] - shown_width(cell)) + 2 : 0;
            printf("%s%*s", cell, pad, "");
            mem_free(cell);
        }
        putchar('\n');
    }
    if (t->rows == 1) puts("(none)");
    mem_free(t->cells);
    mem_free(t);
}

void output_json(const cJSON *node)
{
    struct buf text = {0};
    struct json_writer w;
    jw_init(&w, &text);
    jw_node(&w, node);
    puts(text.data ? text.data : "");
    buf_dispose(&text);
}

const char *output_text(const cJSON *object, const char *name)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return s ? s : "";
}

double output_number(const cJSON *object, const char *name, double fallback)
{
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(n) ? n->valuedouble : fallback;
}

int64_t output_micros(const cJSON *object, const char *name)
{
    return strtoll(output_text(object, name), NULL, 10);
}

void output_money(char out[OUTPUT_TEXT_MAX], int64_t micros)
{
    uint64_t size = micros < 0 ? (uint64_t)0 - (uint64_t)micros : (uint64_t)micros;
    int n = snprintf(out, OUTPUT_TEXT_MAX, "%s%" PRIu64 ".%06" PRIu64, micros < 0 ? "-" : "", size / 1000000,
                     size % 1000000);
    while (n > 3 && out[n - 1] == '0' && out[n - 3] != '.') out[--n] = '\0';
}

void output_when(char out[OUTPUT_TEXT_MAX], double unix_seconds)
{
    time_t t = (time_t)unix_seconds;
    struct tm tm;
    if (t <= 0 || !localtime_r(&t, &tm) || !strftime(out, OUTPUT_TEXT_MAX, "%Y-%m-%d %H:%M:%S", &tm))
        strcpy(out, "-");
}

void output_duration(char out[OUTPUT_TEXT_MAX], double seconds)
{
    if (!(seconds >= 0)) {
        strcpy(out, "-");
    } else if (seconds < 1) {
        snprintf(out, OUTPUT_TEXT_MAX, "%.0f ms", seconds * 1000);
    } else if (seconds < 60) {
        snprintf(out, OUTPUT_TEXT_MAX, "%.1f s", seconds);
    } else if (seconds < 5400) {
        snprintf(out, OUTPUT_TEXT_MAX, "%d m %02d s", (int)(seconds / 60), (int)fmod(seconds, 60));
    } else {
        snprintf(out, OUTPUT_TEXT_MAX, "%.0f h %02d m", floor(seconds / 3600),
                 (int)(fmod(seconds, 3600) / 60));
    }
}

void output_bytes(char out[OUTPUT_TEXT_MAX], double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    for (; bytes >= 1024 && unit < 4; unit++) bytes /= 1024;
    snprintf(out, OUTPUT_TEXT_MAX, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

bool output_is_terminal(void)
{
    return isatty(STDOUT_FILENO);
}

/* The newest line, and whether it stands on the terminal: a line that comes too soon after another one waits.
 */
static struct {
    char text[512];
    bool shown;
    int64_t drawn_ms;
} progress;

static void draw_progress(void)
{
    struct winsize size;
    int columns = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 10 ? size.ws_col - 1 : 100;
    /* Cut by characters: a line that wraps could not be rewritten in place. */
    size_t end = 0;
    for (int shown = 0; progress.text[end] && shown < columns; end++)
        shown += ((unsigned char)progress.text[end + 1] & 0xC0) != 0x80;
    printf("\r\033[K%.*s", (int)end, progress.text);
    fflush(stdout);
    progress.shown = true;
    progress.drawn_ms = clock_mono_ms();
}

void output_progress(const char *fmt, ...)
{
    if (!output_is_terminal()) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(progress.text, sizeof progress.text, fmt, ap);
    va_end(ap);
    progress.shown = false;
    if (clock_mono_ms() - progress.drawn_ms >= PROGRESS_EVERY_MS) draw_progress();
}

void output_progress_end(void)
{
    if (!output_is_terminal()) return;
    if (!progress.shown) draw_progress();
    putchar('\n');
    progress.shown = true;
}
