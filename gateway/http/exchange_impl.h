/* What a codec and the exchange know of each other. Routes never include this. Loop thread only.
 *
 *   codec ── exchange__create, __body_data, __body_end, __cancel, __detach ──▶ exchange
 *   codec ◀────────────── the function table below ─────────────────────────── exchange */
#ifndef GATEWAY_HTTP_EXCHANGE_IMPL_H
#define GATEWAY_HTTP_EXCHANGE_IMPL_H

#include "base/buf.h"
#include "gateway/http/exchange.h"
#include "gateway/http/server_impl.h"

enum { EXCHANGE_HEADERS_MAX = 24, EXCHANGE_HIGH_BYTES = 256 * 1024, EXCHANGE_LOW_BYTES = 64 * 1024 };

/* What a protocol does for an exchange. None of these calls back into the exchange before it returns. */
struct exchange_codec {
    void (*read_body)(struct exchange *x);          /* a consumer was chosen: deliver */
    void (*drop_body)(struct exchange *x);          /* deliver no more */
    void (*pause)(struct exchange *x, bool paused); /* stop or go on delivering */
    void (*head)(struct exchange *x, int status, const char *content_type, int64_t len); /* len -1: unknown */
    void (*data)(struct exchange *x, const void *data, size_t len);
    void (*end)(struct exchange *x, bool complete); /* the response is over; the codec forgets x */
    void (*reply)(struct exchange *x, int status, const char *content_type, const void *body,
                  size_t len); /* head, data and end at once */
    size_t (*pending)(const struct exchange *x);
};

enum body_mode { BODY_UNCHOSEN, BODY_COLLECT, BODY_STREAM };

struct exchange {
    struct request request;
    struct arena arena;
    struct server_loop *home;           /* borrowed */
    const struct exchange_codec *codec; /* NULL once the connection is lost */
    void *carrier;                      /* the codec's: borrowed */
    int tag;
    void *user;

    enum body_mode mode;
    int64_t limit, taken; /* bytes */
    struct buf body;      /* owned: BODY_COLLECT */
    int64_t collected;    /* bytes of it that the server has counted */
    exchange_body_fn on_body;
    struct exchange_sink sink;
    void *body_arg;
    bool body_over; /* the consumer was told, or will be by a deferred call */
    int body_rc;
    struct err body_err;

    exchange_fn on_cancel, on_drain;
    void *cancel_arg, *drain_arg;
    bool gone, started, finished, over_high;
    int holds; /* calls in progress or posted that still touch x: it is freed when finished and unheld */

    int status;                                      /* of the response; 0 until it has begun */
    struct http_field headers[EXCHANGE_HEADERS_MAX]; /* of the response; names borrowed, values in arena */
    size_t headers_len;
};

/* NULL when memory is out. The caller fills request and then gives x to its route. */
struct exchange *exchange__create(struct server_loop *home, const struct exchange_codec *codec,
                                  void *carrier);
void exchange__discard(struct exchange *x); /* one that no route has seen */

/* Bracket any use of x around a callback: between the two it is not freed. */
void exchange__hold(struct exchange *x);
void exchange__release(struct exchange *x);

/* data may lie in the body's room already. */
void exchange__body_data(struct exchange *x, const char *data, size_t len);
/* Where the next *len of a body's `left` bytes will stand; NULL: it is not collected, or there is no memory.
 */
char *exchange__body_room(struct exchange *x, int64_t left, size_t *len);
void exchange__body_end(struct exchange *x, int rc,
                        const struct err *e); /* ignored when the body is over already */
void exchange__cancel(struct exchange *x);    /* the client seems to have left */
void exchange__detach(
    struct exchange *x); /* the connection is lost: ends the body, cancels, forgets the codec */
void exchange__drained(struct exchange *x); /* pending fell below EXCHANGE_LOW_BYTES */

#endif
