/* What travels through inboxes: little-endian records of a type byte, a version byte and length-checked
 * fields. No I/O here.
 *
 *   gateway loop ──PREDICT, PREDICT_CANCEL──▶ worker ──PREDICT_REPLY──▶ gateway loop     (over links,
 * queue/link.h) gateway ──HINT {job}, PLACE {version}──▶ scheduler scheduler ──JOB_RUN, JOB_YIELD,
 * MODEL_LOAD, MODEL_UNLOAD, MODEL_REPLICATE──▶ worker ──JOB_ENDED──▶ scheduler gateway, scheduler
 * ──JOB_CANCEL──▶ worker
 *
 * Decoding never copies: texts of fixed size are copied into the struct, tensors and their bytes point into
 * the record, which must outlive the message. A record with trailing bytes, an unknown version, an id that is
 * not one, or a tensor whose bytes do not fit its shape is refused with ERR_CORRUPT. */
#ifndef QUEUE_MESSAGE_H
#define QUEUE_MESSAGE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/ids.h"

enum message_type {
    MESSAGE_PREDICT = 1,
    MESSAGE_PREDICT_REPLY = 2,
    MESSAGE_JOB_RUN = 3,
    MESSAGE_JOB_CANCEL = 4,
    MESSAGE_JOB_ENDED = 5,
    MESSAGE_HINT = 6,
    MESSAGE_PLACE = 7,
    MESSAGE_MODEL_LOAD = 8,
    MESSAGE_MODEL_UNLOAD = 9,
    MESSAGE_JOB_YIELD = 10,
    MESSAGE_PREDICT_CANCEL = 11,
    MESSAGE_MODEL_REPLICATE = 12, /* as MODEL_LOAD, but nothing that is warm may leave for it */
};

enum {
    MESSAGE_VERSION = 4,
    MESSAGE_TENSORS_MAX = 4096,
    MESSAGE_DIMS_MAX = 8,
    MESSAGE_ROWS_MAX = 65536,            /* rows of one predict request */
    MESSAGE_BATCH_ROWS_MAX = 4096,       /* what a model's setting max_batch_rows may say */
    MESSAGE_QUEUE_DELAY_MAX_US = 100000, /* and max_queue_delay_us */
};

/* The Open Inference Protocol's datatypes. The numbers are the wire's: never change one. */
enum message_dtype {
    MESSAGE_BOOL = 1,
    MESSAGE_UINT8,
    MESSAGE_UINT16,
    MESSAGE_UINT32,
    MESSAGE_UINT64,
    MESSAGE_INT8,
    MESSAGE_INT16,
    MESSAGE_INT32,
    MESSAGE_INT64,
    MESSAGE_FP32,
    MESSAGE_FP64,
    MESSAGE_BYTES,
};
size_t message_dtype_size(enum message_dtype t); /* of an element: 1 … 8; 0 for BYTES */

/* Row-major, little-endian; BYTES elements are a u32 length and that many bytes, one after another. */
struct message_tensor {
    enum message_dtype dtype;
    int ndim;
    int64_t dims[MESSAGE_DIMS_MAX]; /* ≥ 0; dims[0] is rows */
    const void *data;               /* borrowed; any alignment */
    size_t data_len;
};

struct message_predict {
    uint64_t request_id; /* unique on its link */
    char tenant_id[ID_MAX];
    char version_id[ID_MAX];
    int64_t deadline_us;         /* Redis's clock (queue/redis_clock.h) */
    uint32_t rows;               /* each input's dims[0] */
    uint32_t max_batch_rows;     /* the model's setting: rows that it may share a batch with; 0: none */
    uint32_t max_queue_delay_us; /* how long it may wait in the worker for company; 0: not at all */
};

struct message_predict_reply {
    uint64_t request_id;
    int code; /* 0, or ERR_*; ERR_STALE: this worker does not hold the version (any more), ask another */
    char field[96]; /* as struct err */
    char message[416];
    uint32_t queue_us;   /* waiting in the worker */
    uint32_t compute_us; /* its share, by rows, of the batches that it was in */
    uint32_t batch_rows; /* in whose company it ran */
};

struct message {
    enum message_type type;
    union {
        struct message_predict predict; /* PREDICT; PREDICT_CANCEL: its request_id alone */
        struct message_predict_reply reply;
        struct {
            char job_id[ID_MAX], tenant_id[ID_MAX];
            int64_t fence;
        } job; /* JOB_RUN, JOB_CANCEL, JOB_YIELD, JOB_ENDED; HINT (fence 0) */
        struct {
            char version_id[ID_MAX], tenant_id[ID_MAX];
            uint64_t bytes; /* artifact bytes as far as known, else 0 */
        } model;            /* PLACE, MODEL_LOAD, MODEL_UNLOAD, MODEL_REPLICATE */
    };
    size_t tensors_len; /* PREDICT: inputs, PREDICT_REPLY with code 0: outputs; in signature order */
    struct message_tensor *tensors; /* borrowed from whoever filled it (message_decode: from its `tensors`) */
};

/* Appends the record. out->failed tells of memory; everything else is the caller's duty (assert). */
void message_encode(struct buf *out, const struct message *m);

/* A tensor whose bytes a record leaves out: they belong behind what stands at out's first `at` bytes. */
struct message_gap {
    size_t at, tensor;
};
/* As message_encode, but leaves out the bytes of the first gaps_max tensors that are at least `least` bytes
 * long: how many these are. */
size_t message_encode_around(struct buf *out, const struct message *m, size_t least, struct message_gap *gaps,
                             size_t gaps_max);

/* Makes an encoded PREDICT another request, for another version. */
void message_readdress(struct buf *predict, uint64_t request_id, const char *version_id);

/* tensors is room for the record's tensors (at most MESSAGE_TENSORS_MAX); cap may be 0 where none are
 * expected. */
int message_decode(struct message *out, struct message_tensor *tensors, size_t cap, const void *data,
                   size_t len, struct err *e);

/* Elements of a tensor; false on overflow. Whether data_len fits dtype and dims (for BYTES: walks the
 * elements). */
bool message_tensor_elements(const struct message_tensor *t, size_t *out);
bool message_tensor_fits(const struct message_tensor *t);

#endif
