/* Reads an upload once, as it arrives, in any pieces, in constant memory (< 20 MiB whatever its size), and
 * ends with its schema or with the first thing that is wrong: which line, which column, what was expected.
 *
 *     scan_create ─▶ scan_push, scan_push, … ─▶ scan_finish ─▶ schema
 *
 * CSV (RFC 4180, UTF-8, with a header), IDX, .npy (little-endian, C order); each of them gzipped or not, seen
 * by its first bytes. One thread at a time; never blocks, but a MiB of CSV costs 6 to 80 ms
 * of CPU (short cells cost most): push from a pool thread, not from an event loop. */
#ifndef LEARN_DATA_SCAN_H
#define LEARN_DATA_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "learn/data/schema.h"

/* What the upload is meant as. */
enum scan_role {
    SCAN_FILE,     /* the only file: a CSV is a table, anything else features */
    SCAN_FEATURES, /* IDX or npy */
    SCAN_LABELS,   /* IDX or npy with one number (or one vector) a row */
};

struct scan_options {
    enum scan_role role;
    int format;               /* enum schema_format, or -1: told by the first bytes */
    uint64_t max_plain_bytes; /* after gunzip; 0: 16 GiB */
    int64_t max_rows;         /* 0: 100 million */
};

struct scan;

int scan_create(struct scan **out, const struct scan_options *o, struct err *e);

/* Once it has failed, every further call fails alike. ERR_INVALID for malformed input, ERR_TOO_LARGE over a
 * limit. */
int scan_push(struct scan *s, const void *data, size_t len, struct err *e);

/* The upload is complete. *out is the caller's. ERR_INVALID for one that ends too early, with what came and
 * what was expected, and for one without a row. */
int scan_finish(struct scan *s, struct schema **out, struct err *e);
void scan_free(struct scan *s); /* NULL is fine */

/* The part's role in dataset_parts: "table", "features" or "labels". */
const char *scan_part(const struct schema *s, enum scan_role role);

#endif
