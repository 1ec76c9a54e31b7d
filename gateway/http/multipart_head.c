/* Understands the texts around a multipart body: the boundary in the Content-Type, and the headers of a part.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "gateway/http/header_params.h"
#include "gateway/http/multipart_impl.h"
#include "gateway/http/utf8.h"

enum { PART_HEADERS_MAX = 16, LINE_VALUE_MAX = 1024 };

static int malformed(struct err *e, const char *what)
{
    return err_set(e, ERR_INVALID, "body", "malformed multipart body: %s", what);
}

/* ---- the boundary
 * -------------------------------------------------------------------------------------------- */

static bool is_boundary(const char *text)
{
    static const char allowed[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'()+_,-./:=? ";
    size_t len = strlen(text);
    return len > 0 && strspn(text, allowed) == len && text[len - 1] != ' ';
}

int multipart__boundary(char out[MULTIPART_BOUNDARY_MAX + 1], const char *content_type, struct err *e)
{
    static const char type[] = "multipart/form-data";
    size_t len = sizeof type - 1;
    if (!content_type || strncasecmp(content_type, type, len) != 0 || !strchr("; \t", content_type[len]))
        return err_set(e, ERR_UNSUPPORTED, "content-type",
                       "expected Content-Type: multipart/form-data; boundary=…");
    char name[PARAM_NAME_MAX], value[LINE_VALUE_MAX];
    int found = 0, more;
    const char *at = content_type + len;
    while ((more = header_param_next(&at, name, value, sizeof value)) == 1) {
        if (strcmp(name, "boundary") != 0) continue;
        if (strlen(value) > MULTIPART_BOUNDARY_MAX || !is_boundary(value)) more = -1;
        if (more < 0) break;
        snprintf(out, MULTIPART_BOUNDARY_MAX + 1, "%.*s", MULTIPART_BOUNDARY_MAX, value);
        found++;
    }
    if (more < 0 || found != 1)
        return err_set(e, ERR_INVALID, "content-type",
                       "the Content-Type needs one boundary of 1 to %d characters of RFC 2046's set",
                       MULTIPART_BOUNDARY_MAX);
    return 0;
}

/* ---- a part's headers
 * ---------------------------------------------------------------------------------------- */

static bool is_clean_text(const char *text)
{
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) return false;
    }
    return utf8_valid(text, strlen(text));
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + ('a' - 'A') : c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* filename*=UTF-8''na%C3%AFve.csv, in place. */
static bool decode_extended(char *value)
{
    if (strncasecmp(value, "utf-8'", 6) != 0) return false;
    char *in = strchr(value + 6, '\''), *out = value;
    if (!in) return false;
    for (in++; *in; in++) {
        int high = *in == '%' ? hex_digit(in[1]) : -1, low = high < 0 ? -1 : hex_digit(in[2]);
        if (*in == '%' && low < 0) return false;
        *out++ = *in == '%' ? (char)(high * 16 + low) : *in;
        if (*in == '%') in += 2;
        if (out[-1] == '\0') return false;
    }
    *out = '\0';
    return true;
}

/* Folders are the client's business: only the last component is kept. */
static bool keep_filename(struct multipart_part *part, const char *value)
{
    const char *last = value;
    for (const char *c = value; *c; c++) {
        if (*c == '/' || *c == '\\') last = c + 1;
    }
    part->has_filename = true;
    if (!is_clean_text(last)) return false;
    return snprintf(part->filename, sizeof part->filename, "%s", last) < (int)sizeof part->filename;
}

static int on_disposition(struct multipart_part *part, const char *value, struct err *e)
{
    static const char word[] = "form-data";
    size_t len = sizeof word - 1;
    if (strncasecmp(value, word, len) != 0 || !strchr("; \t", value[len]))
        return malformed(e, "a part's Content-Disposition must be form-data");
    char name[PARAM_NAME_MAX], text[LINE_VALUE_MAX];
    const char *at = value + len;
    bool extended = false;
    int more;
    while ((more = header_param_next(&at, name, text, sizeof text)) == 1) {
        if (!strcmp(name, "name")) {
            if (part->name[0]) return malformed(e, "a part has two names");
            if (!*text || !is_clean_text(text) || strlen(text) >= sizeof part->name)
                return malformed(
                    e, "a part's name must have 1 to 255 bytes of UTF-8 without control characters");
            snprintf(part->name, sizeof part->name, "%.*s", MULTIPART_NAME_MAX - 1, text);
        } else if (!strcmp(name, "filename*")) {
            if (extended || !decode_extended(text) || !keep_filename(part, text))
                return malformed(e, "a part's filename* is not percent-encoded UTF-8");
            extended = true;
        } else if (!strcmp(name, "filename") && !extended) {
            if (part->has_filename) return malformed(e, "a part has two file names");
            if (!keep_filename(part, text))
                return malformed(e, "a part's file name is too long or not clean UTF-8");
        }
    }
    if (more < 0) return malformed(e, "a part's Content-Disposition cannot be read");
    return 0;
}

static int on_type(struct multipart_part *part, const char *value, struct err *e)
{
    if (part->content_type[0]) return malformed(e, "a part has two Content-Types");
    if (!*value || strlen(value) >= sizeof part->content_type)
        return malformed(e, "a part's Content-Type is empty or too long");
    snprintf(part->content_type, sizeof part->content_type, "%.*s", MULTIPART_TYPE_MAX - 1, value);
    return 0;
}

static int on_transfer_encoding(const char *value, struct err *e)
{
    if (!strcasecmp(value, "binary") || !strcasecmp(value, "8bit") || !strcasecmp(value, "7bit")) return 0;
    return malformed(e, "a part must be sent as it is, without a Content-Transfer-Encoding");
}

static int on_line(struct multipart_part *part, char *line, bool *disposed, struct err *e)
{
    char *colon = strchr(line, ':');
    if (!colon || colon == line || strchr(" \t", line[0]) || strchr(" \t", colon[-1]))
        return malformed(e, "a part has a header line that is folded or has no name and colon");
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    size_t len = strlen(value);
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t')) value[--len] = '\0';
    for (const char *c = value; *c; c++) {
        if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
            return malformed(e, "a part's header has a control character");
    }
    if (!strcasecmp(line, "content-disposition")) {
        if (*disposed) return malformed(e, "a part has two Content-Dispositions");
        *disposed = true;
        return on_disposition(part, value, e);
    }
    if (!strcasecmp(line, "content-type")) return on_type(part, value, e);
    if (!strcasecmp(line, "content-transfer-encoding")) return on_transfer_encoding(value, e);
    return 0;
}

int multipart__head(struct multipart_part *part, char *lines, size_t len, struct err *e)
{
    memset(part, 0, sizeof *part);
    if (memchr(lines, '\0', len)) return malformed(e, "a part's header has a NUL byte");
    bool disposed = false;
    size_t count = 0;
    for (char *line = lines, *end = lines + len; line < end;) {
        char *stop = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (!stop) return malformed(e, "a part's header line does not end with CRLF");
        *stop = '\0';
        if (++count > PART_HEADERS_MAX) return malformed(e, "a part has too many headers");
        int rc = on_line(part, line, &disposed, e);
        if (rc) return rc;
        line = stop + 2;
    }
    if (!part->name[0]) return malformed(e, "a part has no Content-Disposition: form-data with a name");
    return 0;
}
