/* Fills, extends and names struct err; every text is cut to fit at a UTF-8 boundary. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct {
    int code;
    const char *name;
} names[] = {
    {ERR_OK, "ok"},
    {ERR_NOMEM, "no_memory"},
    {ERR_INVALID, "invalid"},
    {ERR_NOT_FOUND, "not_found"},
    {ERR_CONFLICT, "conflict"},
    {ERR_UNAUTHORIZED, "unauthorized"},
    {ERR_FORBIDDEN, "forbidden"},
    {ERR_LIMIT, "limit"},
    {ERR_OVERLOAD, "overload"},
    {ERR_TOO_LARGE, "too_large"},
    {ERR_TIMEOUT, "timeout"},
    {ERR_IO, "io"},
    {ERR_UNAVAILABLE, "unavailable"},
    {ERR_CANCELLED, "cancelled"},
    {ERR_CORRUPT, "corrupt"},
    {ERR_STALE, "stale"},
    {ERR_UNSUPPORTED, "unsupported"},
    {ERR_INTERNAL, "internal"},
};

enum { NAME_COUNT = sizeof names / sizeof names[0] };

/* The longest start of s, at most max bytes, that does not end inside a UTF-8 sequence. */
static size_t utf8_cut(const char *s, size_t len, size_t max)
{
    if (len <= max) return len;
    while (max > 0 && ((unsigned char)s[max] & 0xC0) == 0x80) max--;
    return max;
}

static void copy_cut(char *out, size_t cap, const char *s)
{
    size_t n = utf8_cut(s, strlen(s), cap - 1);
    memcpy(out, s, n);
    out[n] = '\0';
}

/* Room for a full message plus what one prefix may add, so that the cut happens once and at a boundary. */
enum { SCRATCH_MAX = 1024 };

static void format_cut(char *out, size_t cap, const char *fmt, va_list args)
{
    char scratch[SCRATCH_MAX];
    int n = vsnprintf(scratch, sizeof scratch, fmt, args);
    if (n < 0) scratch[0] = '\0';
    if (n >= (int)sizeof scratch) { /* vsnprintf may have cut a sequence itself */
        size_t end = sizeof scratch - 1;
        while (end > 0 && ((unsigned char)scratch[end - 1] & 0xC0) == 0x80) end--;
        if (end > 0 && (unsigned char)scratch[end - 1] >= 0xC0) end--;
        scratch[end] = '\0';
    }
    copy_cut(out, cap, scratch);
}

void err_fill(struct err *e, int code, const char *field, const char *fmt, ...)
{
    if (!e) return;
    /* The arguments may point into *e, so it is written only when the new texts stand. */
    struct err fresh = {.code = code};
    copy_cut(fresh.field, sizeof fresh.field, field ? field : "");
    va_list args;
    va_start(args, fmt);
    format_cut(fresh.message, sizeof fresh.message, fmt, args);
    va_end(args);
    *e = fresh;
}

void err_fill_errno(struct err *e, int code, const char *fmt, ...)
{
    int saved = errno;
    if (!e) return;
    struct err fresh = {.code = code};
    char what[sizeof fresh.message];
    char reason[128];
    va_list args;
    va_start(args, fmt);
    format_cut(what, sizeof what, fmt, args);
    va_end(args);
    const char *text = strerror_r(saved, reason, sizeof reason);
    char both[sizeof what + sizeof reason];
    snprintf(both, sizeof both, "%s: %s", what, text);
    copy_cut(fresh.message, sizeof fresh.message, both);
    *e = fresh;
    errno = saved;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e) return ERR_INTERNAL;
    char prefix[sizeof e->message];
    va_list args;
    va_start(args, fmt);
    format_cut(prefix, sizeof prefix, fmt, args);
    va_end(args);
    char both[2 * sizeof e->message + 2];
    snprintf(both, sizeof both, "%s: %s", prefix, e->message);
    copy_cut(e->message, sizeof e->message, both);
    return e->code;
}

int err_under(struct err *e, const char *path)
{
    if (!e) return ERR_INTERNAL;
    if (!path || !path[0]) return e->code;
    char head[sizeof e->field];
    copy_cut(head, sizeof head, path);
    const char *dot = e->field[0] == '\0' || e->field[0] == '[' ? "" : ".";
    char both[2 * sizeof e->field + 1];
    snprintf(both, sizeof both, "%s%s%s", head, dot, e->field);
    copy_cut(e->field, sizeof e->field, both);
    return e->code;
}

void err_clear(struct err *e)
{
    if (e) memset(e, 0, sizeof *e);
}

const char *err_name(int code)
{
    for (size_t i = 0; i < NAME_COUNT; i++)
        if (names[i].code == code) return names[i].name;
    return "internal";
}

int err_code_of(const char *name)
{
    for (size_t i = 0; name && i < NAME_COUNT; i++)
        if (strcmp(names[i].name, name) == 0) return names[i].code;
    return ERR_INTERNAL;
}
