/* Tensor values as JSON arrays: read straight into tensor bytes, written straight from them. */
#ifndef GATEWAY_PREDICT_TENSOR_JSON_H
#define GATEWAY_PREDICT_TENSOR_JSON_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/buf.h"
#include "base/err.h"
#include "gateway/predict/json_reader.h"
#include "learn/spec/signature.h"
#include "queue/message.h"

enum { TENSOR_PATH_MAX = 64 };

/* Reads values of one input. The numbers are appended to out in the form of the signature's datatype; a
 * `declared` integer type bounds them as well. JSON null is a missing value: NaN, or the empty text. */
struct tensor_reader {
    struct json_reader *json;            /* borrowed */
    const struct signature_tensor *spec; /* borrowed */
    enum datatype declared;              /* what the client says it sends; else spec->datatype */
    bool base64_objects;                 /* {"b64":"…"} stands for bytes */
    struct buf *out;                     /* borrowed */
    const char *path;                    /* for errors: "inputs[0].data"; borrowed */
    int64_t index[SIGNATURE_MAX_RANK];   /* where the reader stands below path */
    int depth;
};

/* Both rows and nesting: dims[level…] of the signature, level 0 being the rows (rows < 0: any number of them,
 * up to MESSAGE_ROWS_MAX; *rows_read says how many). tensor_read_row reads one row without the outer array.
 * Errors name the element and say what was expected and found. */
int tensor_read_rows(struct tensor_reader *t, int64_t rows, int64_t *rows_read, struct err *e);
int tensor_read_row(struct tensor_reader *t, struct err *e);
int tensor_read_flat(struct tensor_reader *t, int64_t rows,
                     struct err *e); /* rows × width scalars in one array */

/* Whether the client's datatype may stand for the signature's: itself, or any number for FP32. */
bool tensor_datatype_fits(enum datatype declared, enum datatype wanted);
/* How values of an input are stored by the readers above: always the signature's datatype. */

/* ---- writing. The tensor's bytes fit its dims (message_decode has checked). */
struct tensor_cursor {
    const struct message_tensor *tensor; /* borrowed */
    const char *p;
};
void tensor_cursor_init(struct tensor_cursor *c, const struct message_tensor *t);
void tensor_write_row(struct tensor_cursor *c, struct buf *out);  /* the next row, nested as dims[1…] */
void tensor_write_rows(struct tensor_cursor *c, struct buf *out); /* all of them, in an array */
void tensor_write_flat(struct tensor_cursor *c, struct buf *out); /* all elements in one array */

#endif
