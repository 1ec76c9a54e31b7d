/* What the fuzz targets of the scanners share: scans the bytes whole and in pieces, compares, and reads the
 * schema back. */
#ifndef TESTS_FUZZ_FUZZ_SCAN_H
#define TESTS_FUZZ_FUZZ_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "learn/data/scan.h"

static inline int fuzz_scan_once(struct buf *out, const uint8_t *data, size_t size, size_t piece, int format,
                                 struct err *e)
{
    struct scan_options o = {.role = SCAN_FILE, .format = format, .max_plain_bytes = (uint64_t)1 << 22};
    struct scan *s = NULL;
    struct schema *schema = NULL;
    struct json_writer w;
    int rc = scan_create(&s, &o, e);
    for (size_t at = 0; at < size && !rc; at += piece)
        rc = scan_push(s, data + at, size - at < piece ? size - at : piece, e);
    if (!rc) rc = scan_finish(s, &schema, e);
    if (!rc) {
        jw_init(&w, out);
        schema_to_json(schema, &w);
    }
    schema_free(schema);
    scan_free(s);
    return rc;
}

static inline void fuzz_check(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

static inline void fuzz_scan(const uint8_t *data, size_t size, int format)
{
    struct buf whole = {0}, pieces = {0}, again = {0};
    struct err a = {0}, b = {0};
    struct schema *schema = NULL;
    struct json_writer w;
    cJSON *node = NULL;
    int rc = fuzz_scan_once(&whole, data, size, size + 1, format, &a);
    fuzz_check(rc == fuzz_scan_once(&pieces, data, size, 1 + size % 7, format, &b),
               "pieces change the outcome");
    fuzz_check(strcmp(a.message, b.message) == 0, "pieces change the message");
    if (!rc) {
        fuzz_check(strcmp(whole.data, pieces.data) == 0, "pieces change the schema");
        fuzz_check(json_parse(&node, whole.data, whole.len, 10000000, &a) == 0, "the schema is JSON");
        fuzz_check(schema_from_json(&schema, node, "", &a) == 0, "the schema reads back");
        jw_init(&w, &again);
        schema_to_json(schema, &w);
        fuzz_check(strcmp(whole.data, again.data) == 0, "the schema reads back the same");
    }
    cJSON_Delete(node);
    schema_free(schema);
    buf_dispose(&whole);
    buf_dispose(&pieces);
    buf_dispose(&again);
}

#endif
