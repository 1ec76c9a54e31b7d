/* Figures of what decoders say: token by token, and text by text. */
#include <math.h>

#include "learn/metrics.h"
#include "learn/seq2seq.h"
#include "learn/spec/text.h"

int metrics_init_texts(struct metrics *m)
{
    *m = (struct metrics){.texts = true};
    return 0;
}

void metrics_add_texts(struct metrics *m, const float *probabilities, const int32_t *truth, size_t rows,
                       size_t steps, size_t ids)
{
    for (size_t i = 0; i < rows; i++) {
        const float *p = probabilities + i * steps * ids;
        const int32_t *t = truth + i * steps;
        int64_t tokens = 0, hits = 0;
        double loss = 0;
        for (size_t k = 0; k < steps && t[k] != TEXT_ID_PADDING; k++, tokens++) {
            hits += seq2seq_choose(p + k * ids, (int64_t)ids) == t[k];
            loss -= log(fmax((double)p[k * ids + (size_t)t[k]], 1e-15));
        }
        m->tokens += tokens;
        m->hits += hits;
        m->exact += hits == tokens;
        m->token_loss += loss;
        m->loss_sum += tokens ? loss / (double)tokens : 0;
    }
    m->rows += (int64_t)rows;
}

double metrics_exact_match(const struct metrics *m)
{
    if (!m->texts) return NAN;
    return m->rows ? (double)m->exact / (double)m->rows : 0;
}

void metrics__texts_to_json(const struct metrics *m, struct json_writer *w)
{
    jw_knum(w, "accuracy", metrics_accuracy(m));
    jw_knum(w, "exact_match", metrics_exact_match(m));
    jw_knum(w, "perplexity", metrics_perplexity(m));
    jw_kint(w, "tokens", m->tokens);
}
