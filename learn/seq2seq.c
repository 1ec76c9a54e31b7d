/* Writes an encoder and a decoder into one graph, and feeds it with pairs of texts. */
#include "learn/seq2seq.h"

#include <string.h>

#include "base/mem.h"
#include "learn/build.h"
#include "learn/family.h"
#include "learn/metrics.h"
#include "tensor/layer.h"

/* ---- the network ---- */

/* Probabilities of the next id at every step of b, and their loss. */
static int build_output(struct building *b, int64_t ids, int target, struct err *e)
{
    struct layer_dense d = layer_dense_defaults(ids, "softmax");
    int rc = layer_dense(b->g, "output", b->x, &d, &b->x, e);
    if (rc || (rc = graph_output(b->g, FAMILY_OUTPUT, b->x, e))) return rc;
    return layer_loss(b->g, FAMILY_LOSS, "sequence_crossentropy", b->x, target, e);
}

static int build(struct graph *g, const struct resolved *r, int64_t source_ids, int64_t target_ids,
                 struct err *e)
{
    struct shape in = shape_of(2, (int64_t[]){SHAPE_BATCH, r->source_text.length});
    struct shape out = shape_of(2, (int64_t[]){SHAPE_BATCH, r->target_text.length - 1});
    int source, previous, target, rc;
    if ((rc = graph_input(g, FAMILY_INPUT, DTYPE_I32, &in, &source, e)) ||
        (rc = graph_input(g, SEQ2SEQ_PREVIOUS, DTYPE_I32, &out, &previous, e)) ||
        (rc = graph_input(g, FAMILY_TARGET, DTYPE_I32, &out, &target, e)))
        return rc;
    struct building encoder = build_begin(g, source), decoder = build_begin(g, previous);
    encoder.ids = source_ids;
    if ((rc = build_layers(&encoder, r->layers, r->n_layers, e))) return rc;
    decoder.ids = target_ids;
    decoder.memory = encoder.x;
    decoder.memory_lengths = encoder.lengths;
    if ((rc = build_layers(&decoder, r->decoder, r->n_decoder, e)) ||
        (rc = build_output(&decoder, target_ids, target, e)))
        return rc;
    return graph_output(g, SEQ2SEQ_MEMORY, encoder.x, e);
}

int seq2seq_graph(struct graph **out, const struct resolved *r, int64_t source_ids, int64_t target_ids,
                  struct err *e)
{
    struct graph *g = NULL;
    int rc = graph_create(&g, e);
    *out = NULL;
    if (source_ids > r->source_text.max_ids) source_ids = r->source_text.max_ids;
    if (target_ids > r->target_text.max_ids) target_ids = r->target_text.max_ids;
    if (!rc) rc = build(g, r, source_ids, target_ids, e);
    if (rc)
        graph_free(g);
    else
        *out = g;
    return rc;
}

/* ---- rows ---- */

int64_t seq2seq_steps(const struct preprocess *p)
{
    return p->target.width - 1;
}

int32_t seq2seq_choose(const float *probabilities, int64_t ids)
{
    int32_t best = TEXT_ID_END;
    for (int32_t i = TEXT_ID_END; i < ids; i++)
        if (probabilities[i] > probabilities[best]) best = i;
    return best;
}

void seq2seq_rows(const struct preprocess *p, const struct table *table, const uint32_t *rows, size_t n,
                  int32_t *ids, int32_t *source, int32_t *previous, int32_t *target)
{
    size_t steps = (size_t)seq2seq_steps(p);
    for (size_t i = 0; i < n; i++) {
        preprocess_source_ids(p, table, rows[i], source + i * (size_t)p->width);
        preprocess_target_ids(p, table, rows[i], ids);
        memcpy(target + i * steps, ids + 1, steps * sizeof *ids);
        /* What is fed ends before the end: the decoder is never asked what comes behind it. */
        for (size_t t = 0; t < steps; t++)
            previous[i * steps + t] = ids[t + 1] == TEXT_ID_PADDING ? TEXT_ID_PADDING : ids[t];
    }
}

/* ---- the feed ---- */

static int fill(void *ctx, const uint32_t *rows, size_t n, void *const *to, struct err *e)
{
    const struct seq2seq_feed *f = ctx;
    (void)e;
    seq2seq_rows(f->preprocess, f->table, rows, n, f->ids, to[0], to[1], to[2]);
    return 0;
}

/* A row's share of tokens that were right. */
static double hits(void *ctx, const struct run *run, const uint32_t *rows, size_t n)
{
    const struct seq2seq_feed *f = ctx;
    struct view y = run_output(run, 0);
    int64_t steps = y.shape.dim[1], ids = y.shape.dim[2];
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const float *p = (const float *)y.data + (int64_t)i * steps * ids;
        int64_t tokens = 0, right = 0;
        preprocess_target_ids(f->preprocess, f->table, rows[i], f->ids);
        for (; tokens < steps && f->ids[tokens + 1] != TEXT_ID_PADDING; tokens++)
            right += seq2seq_choose(p + tokens * ids, ids) == f->ids[tokens + 1];
        sum += tokens ? (double)right / (double)tokens : 1;
    }
    return sum;
}

static int measure(void *ctx, const struct params *params, const uint32_t *rows, size_t n,
                   struct feed_scores *out, struct watch *watch, struct err *e)
{
    const struct seq2seq_feed *f = ctx;
    struct evaluation what = {.table = f->table, .rows = rows, .n_rows = n};
    int rc = evaluator_run(f->evaluator, params, &what, f->metrics, watch, e);
    if (rc) return rc;
    *out = (struct feed_scores){.loss = metrics_loss(f->metrics), .accuracy = metrics_accuracy(f->metrics)};
    return 0;
}

int seq2seq_feed_init(struct feed *out, struct seq2seq_feed *f, struct err *e)
{
    size_t steps = (size_t)seq2seq_steps(f->preprocess) * sizeof(int32_t);
    f->ids = mem_try_alloc((size_t)f->preprocess->target.width, sizeof *f->ids);
    *out = (struct feed){.ctx = f,
                         .n_inputs = 3,
                         .input = {{FAMILY_INPUT, (size_t)f->preprocess->width * sizeof(int32_t)},
                                   {SEQ2SEQ_PREVIOUS, steps},
                                   {FAMILY_TARGET, steps}},
                         .fill = fill,
                         .hits = hits,
                         .measure = measure};
    return f->ids ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for the batches");
}

void seq2seq_feed_dispose(struct seq2seq_feed *f)
{
    mem_free(f->ids);
    f->ids = NULL;
}

static int64_t cut_texts(const struct feature *f, const struct table *table, const struct table_column *c)
{
    const struct text_options *o = vocabulary_options(f->vocabulary);
    int64_t cut = 0;
    for (int64_t i = 0; i < table->rows; i++) {
        struct token_reader r;
        size_t len;
        const char *text = table_text(c, i, &len);
        int64_t n = o->marks ? 2 : 0;
        token_reader_init(&r, &o->tokenise, text, len);
        while (n <= o->length && token_reader_next(&r)) n++;
        cut += n > o->length;
    }
    return cut;
}

void seq2seq_warn_of_cuts(const struct seq2seq_feed *f, struct watch *watch)
{
    const struct feature *text[2] = {&f->preprocess->features[0], &f->preprocess->target};
    for (int i = 0; i < 2; i++) {
        int64_t cut = cut_texts(text[i], f->table, &f->table->columns[i]);
        if (cut)
            watch_message(
                watch, "warn",
                "%lld texts of \"%s\" are longer than the %lld ids of a row and are cut; give their "
                "tokenise step a greater length",
                (long long)cut, text[i]->name, (long long)text[i]->width);
    }
}
