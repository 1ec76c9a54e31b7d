/* The loop's half of a body_reader. Loop thread only. */
#ifndef GATEWAY_HTTP_BODY_QUEUE_H
#define GATEWAY_HTTP_BODY_QUEUE_H

#include <stdbool.h>
#include "gateway/http/body_reader.h"
#include "gateway/http/exchange.h"

/* Starts to consume x's body (exchange_stream) into a new reader. x must outlive it. NULL when memory is out:
 * then x's body was not touched. */
struct body_reader *body_reader__open(struct exchange *x, int64_t limit_bytes);

/* Once no thread reads any more. */
void body_reader__close(struct body_reader *r);

#endif
