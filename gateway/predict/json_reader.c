/* The token reader: blanks, names, numbers, strings with their escapes, and skipping. */
#include "gateway/predict/json_reader.h"

#include <stdint.h>
#include <string.h>
#include "base/json.h"
#include "base/num.h"
#include "gateway/http/utf8.h"

void json_reader_init(struct json_reader *r, const char *text, size_t len)
{
    *r = (struct json_reader){.start = text, .p = text, .end = text + len};
}

int json_fail(const struct json_reader *r, struct err *e, const char *what)
{
    return err_set(e, ERR_INVALID, NULL, "malformed JSON: %s at byte %zu", what, (size_t)(r->p - r->start));
}

static void skip_blanks(struct json_reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\r' || *r->p == '\t')) r->p++;
}

char json_peek(struct json_reader *r)
{
    skip_blanks(r);
    return r->p < r->end ? *r->p : '\0';
}

bool json_take(struct json_reader *r, char c)
{
    if (json_peek(r) != c || r->p == r->end) return false;
    r->p++;
    return true;
}

int json_end(struct json_reader *r, struct err *e)
{
    skip_blanks(r);
    return r->p == r->end ? 0 : json_fail(r, e, "something follows the end of the value");
}

/* ---- objects and arrays
 * ------------------------------------------------------------------------------------------ */

int json_open(struct json_reader *r, char bracket, const char *what, struct err *e)
{
    if (json_take(r, bracket)) return 0;
    if (r->p == r->end) return json_fail(r, e, "the text ends too early");
    return err_set(e, ERR_INVALID, NULL, "%s must be an %s (at byte %zu)", what,
                   bracket == '{' ? "object" : "array", (size_t)(r->p - r->start));
}

/* The comma between things, or the closing bracket: 1 go on, 0 closed. */
static int step(struct json_reader *r, bool *first, char close, struct err *e)
{
    if (json_take(r, close)) return 0;
    if (!*first && !json_take(r, ',')) return json_fail(r, e, "a comma or a closing bracket is missing");
    *first = false;
    return 1;
}

int json_member(struct json_reader *r, bool *first, char *name, size_t cap, struct err *e)
{
    int rc = step(r, first, '}', e);
    if (rc != 1) return rc;
    rc = json_read_text(r, name, cap, e);
    if (rc) return rc;
    return json_take(r, ':') ? 1 : json_fail(r, e, "a colon is missing");
}

int json_element(struct json_reader *r, bool *first, struct err *e)
{
    return step(r, first, ']', e);
}

/* ---- scalars
 * ------------------------------------------------------------------------------------------------------ */

int json_read_number(struct json_reader *r, double *out, struct err *e)
{
    skip_blanks(r);
    size_t n = num_scan(r->p, r->end, out);
    if (!n) return json_fail(r, e, "a number was expected");
    r->p += n;
    return 0;
}

static bool take_word(struct json_reader *r, const char *word)
{
    size_t len = strlen(word);
    skip_blanks(r);
    if ((size_t)(r->end - r->p) < len || memcmp(r->p, word, len) != 0) return false;
    r->p += len;
    return true;
}

int json_read_bool(struct json_reader *r, bool *out, struct err *e)
{
    *out = take_word(r, "true");
    return *out || take_word(r, "false") ? 0 : json_fail(r, e, "true or false was expected");
}

bool json_take_null(struct json_reader *r)
{
    return take_word(r, "null");
}

/* ---- strings
 * ------------------------------------------------------------------------------------------------------ */

static int hex4(struct json_reader *r, uint32_t *out)
{
    if (r->end - r->p < 4) return -1;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = *r->p++;
        int digit = c >= '0' && c <= '9'                 ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                         : -1;
        if (digit < 0) return -1;
        *out = *out << 4 | (uint32_t)digit;
    }
    return 0;
}

static void put_utf8(struct buf *out, uint32_t c)
{
    char b[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; c >>= 6) b[i] = (char)(0x80 | (c & 0x3F));
    b[0] = (char)(lead[n] | c);
    buf_append(out, b, n);
}

/* \uXXXX, with its second half where it needs one. The backslash and the u are taken. */
static int read_unicode(struct json_reader *r, struct buf *out, struct err *e)
{
    uint32_t c, low;
    if (hex4(r, &c)) return json_fail(r, e, "\\u needs four hex digits");
    if (c >= 0xD800 && c < 0xDC00) {
        if (r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
            return json_fail(r, e, "half a surrogate pair");
        r->p += 2;
        if (hex4(r, &low) || low < 0xDC00 || low > 0xDFFF) return json_fail(r, e, "half a surrogate pair");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    } else if (c >= 0xDC00 && c < 0xE000)
        return json_fail(r, e, "half a surrogate pair");
    put_utf8(out, c);
    return 0;
}

static int read_escape(struct json_reader *r, struct buf *out, struct err *e)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->p == r->end) return json_fail(r, e, "the text ends inside a string");
    char c = *r->p++;
    if (c == 'u') return read_unicode(r, out, e);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at) return json_fail(r, e, "an unknown escape");
    buf_char(out, to[at - from]);
    return 0;
}

int json_read_string(struct json_reader *r, struct buf *out, struct err *e)
{
    if (!json_take(r, '"')) return json_fail(r, e, "a string was expected");
    for (;;) {
        const char *from = r->p, *rest = from + json_plain_run(from, (size_t)(r->end - from));
        r->p = rest;
        while (r->p < r->end && *r->p != '"' && *r->p != '\\' && (unsigned char)*r->p >= 0x20) r->p++;
        if (!utf8_valid(rest, (size_t)(r->p - rest))) return json_fail(r, e, "a string is not valid UTF-8");
        buf_append(out, from, (size_t)(r->p - from));
        if (r->p == r->end) return json_fail(r, e, "the text ends inside a string");
        char c = *r->p++;
        if (c == '"') break;
        if (c != '\\') return json_fail(r, e, "a control character inside a string");
        int rc = read_escape(r, out, e);
        if (rc) return rc;
    }
    return out->failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the request") : 0;
}

/* Most names are plain ASCII without escapes: they are copied straight out of the text. False: not this one.
 */
static bool read_plain(struct json_reader *r, char *out, size_t cap)
{
    if (json_peek(r) != '"') return false;
    const char *from = r->p + 1;
    size_t len = json_plain_run(from, (size_t)(r->end - from));
    const char *at = from + len;
    if (at == r->end || *at != '"' || len >= cap) return false;
    memcpy(out, from, len);
    out[len] = '\0';
    r->p = at + 1;
    return true;
}

int json_read_text(struct json_reader *r, char *out, size_t cap, struct err *e)
{
    if (read_plain(r, out, cap)) return 0;
    struct buf text = {.limit = cap + 16};
    int rc = json_read_string(r, &text, e);
    if (rc == ERR_NOMEM || (rc == 0 && text.len >= cap)) rc = json_fail(r, e, "a name that is too long");
    if (rc == 0 && text.len && memchr(text.data, 0, text.len))
        rc = json_fail(r, e, "a NUL character in a name");
    if (rc == 0) {
        if (text.len) memcpy(out, text.data, text.len);
        out[text.len] = '\0';
    }
    buf_dispose(&text);
    return rc;
}

/* ---- skipping
 * ----------------------------------------------------------------------------------------------------- */

static int skip_string(struct json_reader *r, struct err *e)
{
    struct buf nowhere = {0};
    int rc = json_read_string(r, &nowhere, e);
    buf_dispose(&nowhere);
    return rc;
}

static int skip_scalar(struct json_reader *r, struct err *e)
{
    double number;
    char c = json_peek(r);
    if (c == '"') return skip_string(r, e);
    if (c == '-' || (c >= '0' && c <= '9')) return json_read_number(r, &number, e);
    return take_word(r, "null") || take_word(r, "true") || take_word(r, "false")
               ? 0
               : json_fail(r, e, "a value was expected");
}

int json_skip(struct json_reader *r, struct err *e)
{
    char close[JSON_READER_DEPTH_MAX] = ""; /* of the brackets that are open */
    bool first[JSON_READER_DEPTH_MAX];
    int depth = 0, rc;
    do {
        char c = json_peek(r);
        if (c == '[' || c == '{') {
            if (depth == JSON_READER_DEPTH_MAX) return json_fail(r, e, "nesting deeper than 32");
            r->p++;
            close[depth] = c == '[' ? ']' : '}';
            first[depth++] = true;
        } else if ((rc = skip_scalar(r, e)))
            return rc;
        /* Behind a value: up to the next one, closing what ends here. */
        while (depth) {
            rc = step(r, &first[depth - 1], close[depth - 1], e);
            if (rc < 0) return rc;
            if (rc == 1) break;
            depth--;
        }
        if (depth && close[depth - 1] == '}') {
            if ((rc = skip_string(r, e))) return rc;
            if (!json_take(r, ':')) return json_fail(r, e, "a colon is missing");
        }
    } while (depth);
    return 0;
}
