/* A request body read by a pool thread as if it were a file, while its loop feeds it.
 *
 *   socket ─▶ loop ── put ──▶ bounded queue (≤ 256 KiB) ── body_read ──▶ pool thread
 *               ▲── the loop stops reading the socket while the queue is full; the reader wakes it when half
 * is free
 *
 * body_read and body_reader_* below may be called from one pool thread at a time. The loop's half is in
 * body_queue. */
#ifndef GATEWAY_HTTP_BODY_READER_H
#define GATEWAY_HTTP_BODY_READER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct body_reader;

/* Blocks until there are bytes. Returns 1 … cap, 0 at the end of a complete body, or a negative ERR_* with e
 * filled: ERR_IO truncated upload or client gone, ERR_TOO_LARGE over the total limit, ERR_INVALID malformed
 * chunk, ERR_TIMEOUT the client is too slow. An error or the end repeats on every later call. */
ssize_t body_read(struct body_reader *r, void *buf, size_t cap, struct err *e);

int64_t body_reader_total(const struct body_reader *r); /* bytes returned so far */

#endif
