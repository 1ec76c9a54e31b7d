/* What a tensor is: an element type, a shape, and a view of memory. Plain data; any thread. */
#ifndef TENSOR_TENSOR_H
#define TENSOR_TENSOR_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

enum dtype { DTYPE_F32, DTYPE_I32, DTYPE_COUNT };

size_t dtype_bytes(enum dtype t);
const char *dtype_name(enum dtype t); /* "f32", "i32" */
int dtype_of(const char *name);       /* the dtype, or -1 */

enum { TENSOR_MAX_RANK = 6, SHAPE_TEXT_MAX = 96 };

/* Row-major. dim[0] may be SHAPE_BATCH: the number of rows, known only when a run is fed. Rank 0 is a scalar.
 */
enum { SHAPE_BATCH = -1 };
#define SHAPE_MAX_COUNT ((size_t)1 << 40) /* most elements of one tensor */

struct shape {
    int rank;
    int64_t dim[TENSOR_MAX_RANK];
};

struct shape shape_of(int rank, const int64_t *dim);
bool shape_equal(const struct shape *a, const struct shape *b);
bool shape_batched(const struct shape *s);                          /* dim[0] is SHAPE_BATCH */
struct shape shape_with_batch(const struct shape *s, int64_t rows); /* SHAPE_BATCH replaced by rows */

/* Elements with the batch dimension taken as rows. False over SHAPE_MAX_COUNT. */
bool shape_count(const struct shape *s, int64_t rows, size_t *out);

/* Elements of one row: the product of all dimensions behind the first when batched, of all dimensions
 * otherwise. For shapes that a graph has accepted (it refuses those that overflow). */
size_t shape_row_count(const struct shape *s);

/* "[batch, 784]" into out; returns out. */
char *shape_text(char out[SHAPE_TEXT_MAX], const struct shape *s);

/* Memory with a concrete shape (no SHAPE_BATCH). data is borrowed. */
struct view {
    enum dtype dtype;
    struct shape shape;
    void *data;
};

size_t view_count(const struct view *v); /* elements */

#endif
