/* Writes JSON into a buffer, with the commas, quotes and escapes that it needs. */
#include "base/json.h"
#include "base/json_scan.h"
#include "base/num.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { DEPTH_MAX = 32 };

void jw_init(struct json_writer *w, struct buf *out)
{
    *w = (struct json_writer){.out = out};
}

/* Before each value or name: a comma when something stands before it on this level. */
static void separate(struct json_writer *w)
{
    if (w->after_name) {
        w->after_name = false;
        return;
    }
    if (w->depth == 0) return;
    uint32_t bit = 1u << (w->depth - 1);
    if (w->open & bit) buf_char(w->out, ',');
    w->open |= bit;
}

static void open_level(struct json_writer *w, char c)
{
    separate(w);
    assert(w->depth < DEPTH_MAX);
    buf_char(w->out, c);
    w->open &= ~(1u << w->depth);
    w->depth++;
}

static void close_level(struct json_writer *w, char c)
{
    assert(w->depth > 0 && !w->after_name);
    w->depth--;
    buf_char(w->out, c);
}

void jw_obj(struct json_writer *w)
{
    open_level(w, '{');
}

void jw_obj_end(struct json_writer *w)
{
    close_level(w, '}');
}

void jw_arr(struct json_writer *w)
{
    open_level(w, '[');
}

void jw_arr_end(struct json_writer *w)
{
    close_level(w, ']');
}

static void write_escape(struct buf *out, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        char pair[2] = {'\\', to[known - from]};
        buf_append(out, pair, 2);
    } else {
        buf_printf(out, "\\u%04x", c);
    }
}

/* Bytes that are no UTF-8 (a log line of a program, say) become U+FFFD, so that what is written is always
 * JSON. */
static void write_quoted(struct buf *out, const char *s, size_t len)
{
    buf_char(out, '"');
    size_t plain = 0; /* start of the run that needs no change */
    for (size_t i = 0; i < len;) {
        i += json_plain_run(s + i, len - i);
        if (i == len) break;
        unsigned char c = (unsigned char)s[i];
        size_t n = c < 0x80 ? 1 : json__utf8_len(s + i, s + len);
        if (n > 0 && c >= 0x20 && c != '"' && c != '\\') {
            i += n;
            continue;
        }
        buf_append(out, s + plain, i - plain);
        if (n == 0)
            buf_str(out, "\xEF\xBF\xBD");
        else
            write_escape(out, c);
        plain = ++i;
    }
    buf_append(out, s + plain, len - plain);
    buf_char(out, '"');
}

void jw_name(struct json_writer *w, const char *name)
{
    assert(w->depth > 0 && !w->after_name);
    separate(w);
    write_quoted(w->out, name, strlen(name));
    buf_char(w->out, ':');
    w->after_name = true;
}

void jw_strn(struct json_writer *w, const char *s, size_t len)
{
    separate(w);
    write_quoted(w->out, s, len);
}

void jw_str(struct json_writer *w, const char *s)
{
    if (s)
        jw_strn(w, s, strlen(s));
    else
        jw_null(w);
}

/* Digits of v, most negative value included. */
static void write_int(struct buf *out, int64_t v)
{
    char text[24], *p = text + sizeof text;
    uint64_t size = v < 0 ? -(uint64_t)v : (uint64_t)v;
    do {
        *--p = (char)('0' + size % 10);
        size /= 10;
    } while (size > 0);
    if (v < 0) *--p = '-';
    buf_append(out, p, (size_t)(text + sizeof text - p));
}

void jw_int(struct json_writer *w, int64_t v)
{
    separate(w);
    write_int(w->out, v);
}

void jw_num(struct json_writer *w, double v)
{
    if (!isfinite(v)) {
        jw_null(w);
        return;
    }
    separate(w);
    char text[NUM_TEXT_MAX];
    buf_append(w->out, text, num_format_f64(text, v));
}

void jw_f32(struct json_writer *w, float v)
{
    if (!isfinite(v)) {
        jw_null(w);
        return;
    }
    separate(w);
    char text[NUM_TEXT_MAX];
    buf_append(w->out, text, num_format_f32(text, v));
}

void jw_bool(struct json_writer *w, bool v)
{
    separate(w);
    buf_str(w->out, v ? "true" : "false");
}

void jw_null(struct json_writer *w)
{
    separate(w);
    buf_append(w->out, "null", 4);
}

void jw_raw(struct json_writer *w, const char *json, size_t len)
{
    separate(w);
    buf_append(w->out, json, len);
}

void jw_node(struct json_writer *w, const cJSON *node)
{
    if (!node || cJSON_IsNull(node)) {
        jw_null(w);
    } else if (cJSON_IsObject(node)) {
        jw_obj(w);
        for (const cJSON *c = node->child; c; c = c->next) {
            jw_name(w, c->string);
            jw_node(w, c);
        }
        jw_obj_end(w);
    } else if (cJSON_IsArray(node)) {
        jw_arr(w);
        for (const cJSON *c = node->child; c; c = c->next) jw_node(w, c);
        jw_arr_end(w);
    } else if (cJSON_IsString(node)) {
        jw_str(w, node->valuestring);
    } else if (cJSON_IsNumber(node)) {
        jw_num(w, node->valuedouble);
    } else {
        jw_bool(w, cJSON_IsTrue(node));
    }
}

void jw_kstr(struct json_writer *w, const char *name, const char *v)
{
    jw_name(w, name);
    jw_str(w, v);
}

void jw_kint(struct json_writer *w, const char *name, int64_t v)
{
    jw_name(w, name);
    jw_int(w, v);
}

void jw_knum(struct json_writer *w, const char *name, double v)
{
    jw_name(w, name);
    jw_num(w, v);
}

void jw_kbool(struct json_writer *w, const char *name, bool v)
{
    jw_name(w, name);
    jw_bool(w, v);
}

void jw_kint_str(struct json_writer *w, const char *name, int64_t v)
{
    jw_name(w, name);
    separate(w);
    buf_char(w->out, '"');
    write_int(w->out, v);
    buf_char(w->out, '"');
}
