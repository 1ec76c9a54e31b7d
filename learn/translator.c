/* Runs an encoder once and its decoder step by step. */
#include "learn/translator.h"

#include <string.h>

#include "base/mem.h"
#include "learn/family.h"
#include "learn/seq2seq.h"
#include "tensor/graph_part.h"
#include "tensor/plan.h"
#include "tensor/run.h"

struct translator {
    struct plan *encoder, *decoder;
    /* Where the decoder's plan takes each of its inputs; -1: it needs it not. */
    int at_memory, at_source, at_previous;
    int64_t max_rows, source_ids, steps, ids; /* ids: of the target */
};

struct translator_run {
    const struct translator *t;
    struct run *encoder, *decoder;
    int32_t *previous; /* [max_rows, steps]: start, then what has been said */
    bool *ended;       /* [max_rows] */
};

/* ---- the two parts ---- */

static const struct value *input_of(const struct graph *g, const char *name)
{
    int i = graph_input_find(g, name);
    return i < 0 ? NULL : graph_value(g, graph_input_value(g, i));
}

static const struct value *output_of(const struct graph *g, const char *name)
{
    int i = graph_output_find(g, name);
    return i < 0 ? NULL : graph_value(g, graph_output_value(g, i));
}

static bool is_ids(const struct value *v, int64_t steps)
{
    return v && v->dtype == DTYPE_I32 && v->shape.rank == 2 && shape_batched(&v->shape) &&
           v->shape.dim[1] == steps;
}

bool translator_fits(const struct graph *g, const struct preprocess *p)
{
    const struct value *y = output_of(g, FAMILY_OUTPUT), *memory = output_of(g, SEQ2SEQ_MEMORY);
    if (!y || !memory || graph_output_count(g) != 2 || !is_ids(input_of(g, FAMILY_INPUT), p->width) ||
        !is_ids(input_of(g, SEQ2SEQ_PREVIOUS), seq2seq_steps(p)))
        return false;
    return y->kind == VALUE_NODE && memory->kind == VALUE_NODE && y != memory && y->dtype == DTYPE_F32 &&
           memory->dtype == DTYPE_F32 && shape_batched(&y->shape) && shape_batched(&memory->shape) &&
           y->shape.rank == 3 && y->shape.dim[1] == seq2seq_steps(p) &&
           y->shape.dim[2] == vocabulary_size(p->target.vocabulary);
}

/* A plan for the part of g that makes `output` from the graph's inputs and `cut`, with its weights loaded. */
static int compile(struct plan **out, const struct graph *g, const struct params *params, int cut,
                   const char *name, int output, const struct plan_options *o, struct err *e)
{
    struct graph *part = NULL;
    struct params *own = NULL;
    int rc = graph_part(&part, g, cut, name, output, e);
    if (rc == ERR_INVALID)
        return err_set(e, ERR_CORRUPT, NULL, "the version's encoder and decoder cannot be told apart");
    if (rc == 0 && (rc = params_create(&own, part, e)) == 0 && (rc = plan_create(out, part, o, e)) == 0) {
        for (int i = 0; i < own->n; i++) {
            const struct params_entry *to = &own->entry[i];
            const struct params_entry *from = &params->entry[params_find(params, to->name)];
            memcpy(own->data + to->offset, params->data + from->offset, to->count * sizeof(float));
        }
        rc = plan_load(*out, own, e);
    }
    params_free(own);
    graph_free(part);
    return rc;
}

static int connect(struct translator *t, const char *memory, struct err *e)
{
    t->at_memory = plan_input_find(t->decoder, memory);
    t->at_source = plan_input_find(t->decoder, FAMILY_INPUT);
    t->at_previous = plan_input_find(t->decoder, SEQ2SEQ_PREVIOUS);
    int known = (t->at_memory >= 0) + (t->at_source >= 0) + (t->at_previous >= 0);
    if (plan_input_count(t->encoder) == 1 && plan_input_find(t->encoder, FAMILY_INPUT) == 0 &&
        plan_input_count(t->decoder) == known)
        return 0;
    return err_set(e, ERR_CORRUPT, NULL, "the version's encoder or decoder takes what it cannot have");
}

int translator_create(struct translator **out, const struct graph *g, const struct params *params,
                      const struct preprocess *p, int64_t max_rows, const struct backend *backend,
                      struct err *e)
{
    struct translator *t = mem_alloc(1, sizeof *t);
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = max_rows, .backend = backend};
    int memory = graph_output_value(g, graph_output_find(g, SEQ2SEQ_MEMORY));
    int y = graph_output_value(g, graph_output_find(g, FAMILY_OUTPUT)), rc;
    *out = NULL;
    t->max_rows = max_rows;
    t->source_ids = p->width;
    t->steps = seq2seq_steps(p);
    t->ids = vocabulary_size(p->target.vocabulary);
    if ((rc = compile(&t->encoder, g, params, -1, SEQ2SEQ_MEMORY, memory, &o, e)) ||
        (rc = compile(&t->decoder, g, params, memory, FAMILY_OUTPUT, y, &o, e)) ||
        (rc = connect(t, graph_value(g, memory)->name, e)))
        translator_free(t);
    else
        *out = t;
    return rc;
}

void translator_free(struct translator *t)
{
    if (!t) return;
    plan_free(t->encoder);
    plan_free(t->decoder);
    mem_free(t);
}

size_t translator_bytes(const struct translator *t)
{
    return sizeof *t + plan_bytes(t->encoder)->packed + plan_bytes(t->decoder)->packed;
}

size_t translator_run_bytes(const struct translator *t)
{
    return sizeof(struct translator_run) + plan_bytes(t->encoder)->arena + plan_bytes(t->decoder)->arena +
           (size_t)t->max_rows * ((size_t)t->steps * sizeof(int32_t) + sizeof(bool));
}

int64_t translator_steps(const struct translator *t)
{
    return t->steps;
}

/* ---- saying ---- */

int translator_run_create(struct translator_run **out, const struct translator *t, struct err *e)
{
    struct translator_run *r = mem_alloc(1, sizeof *r);
    int rc;
    *out = NULL;
    r->t = t;
    r->previous = mem_try_alloc((size_t)t->max_rows, (size_t)t->steps * sizeof *r->previous);
    r->ended = mem_try_alloc((size_t)t->max_rows, sizeof *r->ended);
    if (!r->previous || !r->ended)
        rc = err_set(e, ERR_NOMEM, NULL, "no memory for %lld rows of texts", (long long)t->max_rows);
    else if ((rc = run_create(&r->encoder, t->encoder, NULL, e)) == 0)
        rc = run_create(&r->decoder, t->decoder, NULL, e);
    if (rc)
        translator_run_free(r);
    else
        *out = r;
    return rc;
}

void translator_run_free(struct translator_run *r)
{
    if (!r) return;
    run_free(r->encoder);
    run_free(r->decoder);
    mem_free(r->previous);
    mem_free(r->ended);
    mem_free(r);
}

/* Takes step `at` of every row that has not ended. Returns how many rows go on. */
static int64_t take_step(struct translator_run *r, const float *probabilities, int64_t at, int64_t rows,
                         int32_t *out)
{
    const struct translator *t = r->t;
    int64_t going = 0;
    for (int64_t i = 0; i < rows; i++) {
        if (r->ended[i]) continue;
        int32_t id = seq2seq_choose(probabilities + (i * t->steps + at) * t->ids, t->ids);
        out[i * t->steps + at] = id;
        r->ended[i] = id == TEXT_ID_END;
        if (at + 1 < t->steps && !r->ended[i]) r->previous[i * t->steps + at + 1] = id;
        going += !r->ended[i];
    }
    return going;
}

int translator_say(struct translator_run *r, const int32_t *source, int64_t rows, int32_t *out, struct err *e)
{
    const struct translator *t = r->t;
    const void *from = source, *feeds[3] = {0};
    size_t ids = (size_t)(rows * t->steps);
    int rc = run_forward(r->encoder, &from, rows, e);
    if (rc) return rc;
    if (t->at_memory >= 0) feeds[t->at_memory] = run_output(r->encoder, 0).data;
    if (t->at_source >= 0) feeds[t->at_source] = source;
    if (t->at_previous >= 0) feeds[t->at_previous] = r->previous;
    memset(out, 0, ids * sizeof *out); /* TEXT_ID_PADDING */
    memset(r->previous, 0, ids * sizeof *r->previous);
    memset(r->ended, 0, (size_t)rows * sizeof *r->ended);
    for (int64_t i = 0; i < rows; i++) r->previous[i * t->steps] = TEXT_ID_START;
    for (int64_t at = 0, going = rows; at < t->steps && going; at++) {
        if ((rc = run_forward(r->decoder, feeds, rows, e))) return rc;
        going = take_step(r, run_output(r->decoder, 0).data, at, rows, out);
    }
    return 0;
}
