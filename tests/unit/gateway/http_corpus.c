/* Reads the framing corpus: lines of name, status and escaped bytes. */
#include "tests/unit/gateway/http_corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/mem.h"

static const char PATH[] = "tests/unit/gateway/http_corpus.txt";

static void die(const char *what, const char *line)
{
    fprintf(stderr, "%s: %s: %.80s\n", PATH, what, line);
    abort();
}

/* Decodes the escapes of [at, end) into out. */
static void unescape(struct buf *out, const char *at, const char *end);

/* "\R(count,text)": returns what follows it. */
static const char *repeat(struct buf *out, const char *at, const char *end)
{
    char *comma;
    long count = strtol(at, &comma, 10);
    const char *text = comma + 1, *close = text;
    for (int depth = 1; close < end; close++) {
        if (*close == '(') depth++;
        if (*close == ')' && --depth == 0) break;
    }
    if (*comma != ',' || close >= end) die("a malformed repetition", at);
    for (long i = 0; i < count; i++) unescape(out, text, close);
    return close + 1;
}

static void unescape(struct buf *out, const char *at, const char *end)
{
    while (at < end) {
        if (*at != '\\') {
            buf_char(out, *at++);
            continue;
        }
        char kind = at[1];
        at += 2;
        if (kind == 'x') {
            char hex[3] = {at[0], at[1], 0};
            buf_char(out, (char)strtol(hex, NULL, 16));
            at += 2;
        } else if (kind == 'R') {
            at = repeat(out, at + 1, end);
        } else {
            buf_char(out, kind == 'r' ? '\r' : kind == 'n' ? '\n' : kind == 't' ? '\t' : '\\');
        }
    }
}

static void add_case(struct http_corpus *c, char *line)
{
    char *status = strchr(line, '\t');
    char *bytes = status ? strchr(status + 1, '\t') : NULL;
    if (!bytes || c->len == HTTP_CASES_MAX) die("a malformed line, or too many", line);
    *status++ = '\0';
    *bytes++ = '\0';
    struct http_case *h = &c->cases[c->len++];
    struct buf out = {0};
    unescape(&out, bytes, bytes + strlen(bytes));
    h->name = mem_strdup(line);
    h->in_body = !strncmp(status, "body-", 5);
    h->status = atoi(h->in_body ? status + 5 : status);
    h->len = out.len;
    h->bytes = buf_steal(&out);
}

void http_corpus_load(struct http_corpus *c)
{
    memset(c, 0, sizeof *c);
    FILE *f = fopen(PATH, "r");
    if (!f) die("cannot be opened (run from the repository's root)", "");
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    while (f && (len = getline(&line, &cap, f)) > 0) {
        line[len - 1] = '\0';
        if (line[0] != '#' && line[0]) add_case(c, line);
    }
    free(line);
    fclose(f);
}

void http_corpus_dispose(struct http_corpus *c)
{
    for (size_t i = 0; i < c->len; i++) {
        mem_free(c->cases[i].name);
        mem_free(c->cases[i].bytes);
    }
}
