/* Shuffles the rows and holds some back. */
#include "learn/split.h"

#include <string.h>

#include "base/mem.h"
#include "tensor/rng.h"

enum { SPLIT_STREAM = 0x51517 }; /* keeps these draws apart from those of weights and dropout */

/* How many rows of each class to hold back: shares by largest remainder, leaving at least one of each to
 * train with. */
static void quotas(const size_t *count, size_t n_classes, size_t n_rows, size_t wanted, size_t *quota)
{
    size_t given = 0;
    for (size_t c = 0; c < n_classes; c++) {
        quota[c] = (size_t)((double)count[c] * (double)wanted / (double)n_rows);
        given += quota[c];
    }
    while (given < wanted) {
        size_t best = n_classes;
        double lack = -1;
        for (size_t c = 0; c < n_classes; c++) {
            double d = (double)count[c] * (double)wanted / (double)n_rows - (double)quota[c];
            if (quota[c] + 1 < count[c] && d > lack) {
                lack = d;
                best = c;
            }
        }
        if (best == n_classes) return;
        quota[best]++;
        given++;
    }
}

static int stratified(struct split *out, const struct split_request *q, const uint32_t *order, size_t wanted,
                      struct err *e)
{
    size_t *count = mem_try_alloc(2 * q->n_classes, sizeof *count);
    if (!count) return err_set(e, ERR_NOMEM, NULL, "no memory to split the rows");
    size_t *quota = count + q->n_classes;
    for (size_t i = 0; i < q->n_rows; i++) count[q->classes[order[i]]]++;
    quotas(count, q->n_classes, q->n_rows, wanted, quota);
    for (size_t i = 0; i < q->n_rows; i++) {
        size_t *left = &quota[q->classes[order[i]]];
        if (*left) {
            (*left)--;
            out->validation[out->n_validation++] = order[i];
        } else {
            out->train[out->n_train++] = order[i];
        }
    }
    mem_free(count);
    return 0;
}

int split__find_lonely(const struct split *s, const struct split_request *q, int32_t *lonely, struct err *e)
{
    bool *seen = mem_try_alloc(q->n_classes, sizeof *seen);
    if (!seen) return err_set(e, ERR_NOMEM, NULL, "no memory to split the rows");
    for (size_t i = 0; i < s->n_train; i++) seen[q->classes[s->train[i]]] = true;
    for (size_t i = 0; i < s->n_validation && *lonely < 0; i++)
        if (!seen[q->classes[s->validation[i]]]) *lonely = q->classes[s->validation[i]];
    mem_free(seen);
    return *lonely < 0 ? 0
                       : err_set(e, ERR_INVALID, "training.validation_split",
                                 "a class is in the validation part alone");
}

int split_make(struct split *out, const struct split_request *q, int32_t *lonely_class, struct err *e)
{
    struct rng_key key = {.seed = q->seed, .stream = SPLIT_STREAM};
    size_t wanted = (size_t)((double)q->n_rows * q->validation);
    int rc = 0;
    *out = (struct split){0};
    *lonely_class = -1;
    if (q->validation > 0 && wanted == 0) wanted = 1;
    if (q->n_rows == 0 || wanted >= q->n_rows)
        return err_set(e, ERR_INVALID, "training.validation_split",
                       "%zu rows with a target are too few to hold %zu back", q->n_rows, wanted);
    /* train and validation, each with room for all, and the shuffled order behind them */
    out->train = mem_try_alloc(q->n_rows, 3 * sizeof *out->train);
    if (!out->train) return err_set(e, ERR_NOMEM, NULL, "no memory to split the rows");
    out->validation = out->train + q->n_rows;
    uint32_t *order = out->validation + q->n_rows;
    memcpy(order, q->rows, q->n_rows * sizeof *order);
    rng_shuffle(&key, order, q->n_rows);
    if (q->classes && q->stratify) {
        rc = stratified(out, q, order, wanted, e);
    } else {
        memcpy(out->validation, order, wanted * sizeof *order);
        memcpy(out->train, order + wanted, (q->n_rows - wanted) * sizeof *order);
        out->n_validation = wanted;
        out->n_train = q->n_rows - wanted;
    }
    if (!rc && q->classes) rc = split__find_lonely(out, q, lonely_class, e);
    if (rc) split_dispose(out);
    return rc;
}

void split_dispose(struct split *s)
{
    mem_free(s->train);
    *s = (struct split){0};
}
