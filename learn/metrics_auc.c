/* The area under the ROC curve, by ranks: what the Mann-Whitney statistic says of the kept scores. */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "learn/metrics.h"

struct scored {
    float score;
    bool positive;
};

enum { MOST_CLASSES = 100 };
static const size_t MOST_BYTES = (size_t)64 << 20;

int metrics_keep_scores(struct metrics *m, size_t rows, struct err *e)
{
    if (m->n_classes > MOST_CLASSES || rows > MOST_BYTES / sizeof *m->scores / m->n_classes) return 0;
    m->scores = mem_try_alloc(rows + 1, m->n_classes * sizeof *m->scores);
    m->truths = mem_try_alloc(rows + 1, sizeof *m->truths);
    m->ranking = mem_try_alloc(rows + 1, sizeof *m->ranking);
    if (!m->scores || !m->truths || !m->ranking)
        return err_set(e, ERR_NOMEM, NULL, "no memory for the scores");
    m->room = rows;
    return 0;
}

static int by_score(const void *a, const void *b)
{
    float x = ((const struct scored *)a)->score, y = ((const struct scored *)b)->score;
    return (x > y) - (x < y);
}

/* Of class c against the rest; NaN without rows on both sides. */
static double area(const struct metrics *m, size_t c)
{
    struct scored *list = m->ranking;
    double positives = 0, ranks = 0, n = (double)m->kept;
    for (size_t i = 0; i < m->kept; i++) {
        list[i] = (struct scored){m->scores[i * m->n_classes + c], m->truths[i] == (int32_t)c};
        positives += list[i].positive;
    }
    if (positives == 0 || positives == n) return NAN;
    qsort(list, m->kept, sizeof *list, by_score);
    for (size_t i = 0, end; i < m->kept; i = end) {
        double in_tie = 0;
        for (end = i; end < m->kept && list[end].score == list[i].score; end++) in_tie += list[end].positive;
        ranks += in_tie * ((double)i + (double)end + 1) / 2; /* equal scores share their mean rank */
        if (end == i) return NAN;                            /* a NaN equals nothing */
    }
    return (ranks - positives * (positives + 1) / 2) / (positives * (n - positives));
}

double metrics_auc(const struct metrics *m)
{
    double sum = 0, n = 0;
    if (m->kept == 0 || (int64_t)m->kept != m->rows) return NAN;
    for (size_t c = m->n_classes == 2 ? 1 : 0; c < m->n_classes; c++) {
        double a = area(m, c);
        if (isnan(a)) continue;
        sum += a;
        n++;
    }
    return n > 0 ? sum / n : (double)NAN;
}
