/* Walks a multipart body through a window of fixed size, looking for the delimiter between parts. */
#include "gateway/http/multipart.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "gateway/http/body_reader.h"
#include "gateway/http/multipart_impl.h"

enum {
    WINDOW_BYTES = 64 * 1024,
    PART_HEAD_MAX = 8 * 1024,
    EPILOGUE_MAX = 1024,
    DELIMITER_MAX = 4 + MULTIPART_BOUNDARY_MAX
};

enum place {
    AT_DELIMITER, /* the next bytes are (or must be) a delimiter */
    IN_PART,      /* the next bytes are a part's content, or the delimiter that ends it */
    AT_END,       /* the closing delimiter was read */
};

struct multipart {
    multipart_pull pull;
    void *source; /* borrowed */
    enum place place;
    size_t parts, parts_max;
    char delimiter[DELIMITER_MAX + 1]; /* "\r\n--boundary" */
    size_t delimiter_len;
    bool source_ended;
    int failed; /* an error repeats */
    struct err err;
    size_t pos, len; /* what of the window is unread */
    size_t known;    /* bytes from pos on that are known to be content */
    char window[WINDOW_BYTES];
};

static int fail(struct multipart *m, struct err *e, int rc, const char *what)
{
    m->failed = err_set(&m->err, rc, "body", "malformed multipart body: %s", what);
    if (e) *e = m->err;
    return rc;
}

int multipart_create(struct multipart **out, const char *content_type, size_t parts_max, multipart_pull pull,
                     void *source, struct err *e)
{
    *out = NULL;
    char boundary[MULTIPART_BOUNDARY_MAX + 1];
    int rc = multipart__boundary(boundary, content_type, e);
    if (rc) return rc;
    struct multipart *m = mem_try_alloc(1, sizeof *m);
    if (!m) return err_set(e, ERR_NOMEM, NULL, "no memory for a multipart body");
    m->pull = pull;
    m->source = source;
    m->parts_max = parts_max;
    m->delimiter_len = (size_t)snprintf(m->delimiter, sizeof m->delimiter, "\r\n--%s", boundary);
    /* The first delimiter has no line end before it: lend it one, so that all are alike. */
    memcpy(m->window, "\r\n", 2);
    m->len = 2;
    *out = m;
    return 0;
}

void multipart_free(struct multipart *m)
{
    mem_free(m);
}

static size_t unread(const struct multipart *m)
{
    return m->len - m->pos;
}

static const char *at(const struct multipart *m)
{
    return m->window + m->pos;
}

/* Brings at least one more byte into the window, or finds the source's end. */
static int fill(struct multipart *m, struct err *e)
{
    if (m->pos > 0) {
        memmove(m->window, at(m), unread(m));
        m->len -= m->pos;
        m->pos = 0;
    }
    assert(m->len < WINDOW_BYTES);
    ssize_t n = m->pull(m->source, m->window + m->len, WINDOW_BYTES - m->len, &m->err);
    if (n < 0) {
        m->failed = (int)n;
        if (e) *e = m->err;
        return m->failed;
    }
    m->source_ended = n == 0;
    m->len += (size_t)n;
    return 0;
}

/* Until the window holds want unread bytes, or the source has ended. */
static int need(struct multipart *m, size_t want, struct err *e)
{
    while (unread(m) < want && !m->source_ended) {
        int rc = fill(m, e);
        if (rc) return rc;
    }
    return 0;
}

/* Behind the closing delimiter: nothing but blanks and line ends, to the end of the body. */
static int read_epilogue(struct multipart *m, struct err *e)
{
    size_t seen = 0;
    for (;;) {
        for (; m->pos < m->len; m->pos++, seen++) {
            if (!strchr(" \t\r\n", m->window[m->pos]) || !m->window[m->pos] || seen == EPILOGUE_MAX)
                return fail(m, e, ERR_INVALID, "something follows the closing boundary");
        }
        if (m->source_ended) return 0;
        int rc = fill(m, e);
        if (rc) return rc;
    }
}

/* Reads the lines up to the empty one. */
static int read_head(struct multipart *m, struct multipart_part *part, struct err *e)
{
    size_t scanned = 0;
    for (;;) {
        char *end = memmem(at(m) + scanned, unread(m) - scanned, "\r\n\r\n", 4);
        if (end) {
            size_t len = (size_t)(end - at(m)) + 2;
            int rc = multipart__head(part, m->window + m->pos, len, &m->err);
            m->pos += len + 2;
            m->failed = rc;
            if (rc && e) *e = m->err;
            return rc;
        }
        if (unread(m) > PART_HEAD_MAX)
            return fail(m, e, ERR_INVALID, "the headers of a part are larger than 8 KiB");
        if (m->source_ended) return fail(m, e, ERR_INVALID, "the body ends inside the headers of a part");
        scanned = unread(m) > 3 ? unread(m) - 3 : 0;
        int rc = fill(m, e);
        if (rc) return rc;
    }
}

static int skip_part(struct multipart *m, struct err *e)
{
    char dropped[4096];
    ssize_t n;
    while ((n = multipart_read(m, dropped, sizeof dropped, e)) > 0) {
    }
    return (int)n;
}

int multipart_next(struct multipart *m, struct multipart_part *part, struct err *e)
{
    int rc = m->place == IN_PART ? skip_part(m, e) : 0;
    if (!rc && m->failed && e) *e = m->err;
    if (rc || m->failed) return m->failed;
    if (m->place == AT_END) return 0;
    rc = need(m, m->delimiter_len + 2, e);
    if (rc) return rc;
    if (unread(m) < m->delimiter_len + 2 || memcmp(at(m), m->delimiter, m->delimiter_len) != 0)
        return fail(m, e, ERR_INVALID,
                    "the body does not begin with the boundary that the Content-Type names");
    m->pos += m->delimiter_len + 2;
    if (!memcmp(at(m) - 2, "--", 2)) {
        m->place = AT_END;
        return read_epilogue(m, e);
    }
    if (memcmp(at(m) - 2, "\r\n", 2) != 0)
        return fail(m, e, ERR_INVALID, "a boundary is not alone on its line");
    if (m->parts++ == m->parts_max) return fail(m, e, ERR_INVALID, "too many parts");
    rc = need(m, 2, e);
    if (!rc) rc = read_head(m, part, e);
    if (rc) return rc;
    m->place = IN_PART;
    m->known = 0;
    return 1;
}

/* Finds how much of the window is content for certain. Nothing is known at a delimiter, which then begins at
 * pos. */
static int look_ahead(struct multipart *m, struct err *e)
{
    for (;;) {
        const char *found = memmem(at(m), unread(m), m->delimiter, m->delimiter_len);
        if (found) {
            m->known = (size_t)(found - at(m));
            return 0;
        }
        size_t tail = m->delimiter_len - 1; /* it may be the beginning of a delimiter */
        if (unread(m) > tail) {
            m->known = unread(m) - tail;
            return 0;
        }
        if (m->source_ended)
            return fail(m, e, ERR_INVALID, "the body ends inside a part, before the closing boundary");
        int rc = fill(m, e);
        if (rc) return rc;
    }
}

ssize_t multipart_read(struct multipart *m, void *buf, size_t cap, struct err *e)
{
    if (m->failed) {
        if (e) *e = m->err;
        return m->failed;
    }
    if (m->place != IN_PART) return 0;
    if (m->known == 0) {
        int rc = look_ahead(m, e);
        if (rc) return rc;
        if (m->known == 0) {
            m->place = AT_DELIMITER;
            return 0;
        }
    }
    size_t n = m->known < cap ? m->known : cap;
    memcpy(buf, at(m), n);
    m->pos += n;
    m->known -= n;
    return (ssize_t)n;
}

ssize_t multipart_read_all(struct multipart *m, char *buf, size_t cap, struct err *e)
{
    size_t len = 0;
    char beyond;
    for (;;) {
        bool full = len == cap - 1;
        ssize_t n = multipart_read(m, full ? &beyond : buf + len, full ? 1 : cap - 1 - len, e);
        if (n < 0) return n;
        if (n == 0) break;
        if (full) return err_set(e, ERR_TOO_LARGE, "body", "a form value is longer than %zu bytes", cap - 1);
        len += (size_t)n;
    }
    buf[len] = '\0';
    return (ssize_t)len;
}

ssize_t multipart_pull_body(void *body_reader, void *buf, size_t cap, struct err *e)
{
    return body_read(body_reader, buf, cap, e);
}
