/* The framing corpus of http_corpus.txt, read into memory. */
#ifndef TESTS_UNIT_GATEWAY_HTTP_CORPUS_H
#define TESTS_UNIT_GATEWAY_HTTP_CORPUS_H

#include <stddef.h>
#include <stdbool.h>

enum { HTTP_CASES_MAX = 256 };

struct http_case {
    char *name;   /* owned */
    int status;   /* of the refusal; 0: the bytes must be accepted */
    bool in_body; /* the refusal comes from the body, so the route sees the request first */
    char *bytes;  /* owned */
    size_t len;
};

struct http_corpus {
    struct http_case cases[HTTP_CASES_MAX];
    size_t len;
};

/* Dies with a message when the file is missing or malformed. The path is relative to the repository's root.
 */
void http_corpus_load(struct http_corpus *c);
void http_corpus_dispose(struct http_corpus *c);

#endif
