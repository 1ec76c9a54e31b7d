/* Deals rows to folds as one deals cards. */
#include "learn/split.h"

#include <string.h>

#include "base/mem.h"
#include "tensor/rng.h"

enum { FOLDS_STREAM = 0xF01D5 };

/* next[c]: how many cards were dealt before the first of class c. Each class goes on where the last one
 * ended, so that both the classes and the whole come out even. */
static void count_before(size_t *next, const struct split_request *q)
{
    size_t before = 0;
    for (size_t i = 0; i < q->n_rows; i++) next[q->classes[q->rows[i]]]++;
    for (size_t c = 0; c < q->n_classes; c++) {
        size_t own = next[c];
        next[c] = before;
        before += own;
    }
}

int split_folds(uint8_t **of, const struct split_request *q, int folds, struct err *e)
{
    struct rng_key key = {.seed = q->seed, .stream = FOLDS_STREAM};
    bool by_class = q->classes && q->stratify;
    uint32_t *order = mem_try_alloc(q->n_rows, sizeof *order);
    size_t *next = mem_try_alloc(by_class ? q->n_classes : 1, sizeof *next);
    *of = mem_try_alloc(q->n_rows, sizeof **of);
    int rc = order && next && *of ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory to split the rows");
    if (!rc) {
        for (size_t i = 0; i < q->n_rows; i++) order[i] = (uint32_t)i;
        rng_shuffle(&key, order, q->n_rows);
        if (by_class) count_before(next, q);
        for (size_t i = 0; i < q->n_rows; i++) {
            size_t *dealt = &next[by_class ? q->classes[q->rows[order[i]]] : 0];
            (*of)[order[i]] = (uint8_t)((*dealt)++ % (size_t)folds);
        }
    } else {
        mem_free(*of);
        *of = NULL;
    }
    mem_free(order);
    mem_free(next);
    return rc;
}

int split_fold(struct split *out, const struct split_request *q, const uint8_t *of, int fold,
               int32_t *lonely_class, struct err *e)
{
    *out = (struct split){0};
    *lonely_class = -1;
    out->train = mem_try_alloc(q->n_rows, 2 * sizeof *out->train);
    if (!out->train) return err_set(e, ERR_NOMEM, NULL, "no memory to split the rows");
    out->validation = out->train + q->n_rows;
    for (size_t i = 0; i < q->n_rows; i++)
        if (of[i] == fold)
            out->validation[out->n_validation++] = q->rows[i];
        else
            out->train[out->n_train++] = q->rows[i];
    int rc = q->classes ? split__find_lonely(out, q, lonely_class, e) : 0;
    if (rc) split_dispose(out);
    return rc;
}
