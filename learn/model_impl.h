/* What model.c and model_stage.c share: a loaded version and its sessions. */
#ifndef LEARN_MODEL_IMPL_H
#define LEARN_MODEL_IMPL_H

#include "base/buf.h"
#include "learn/artifact.h"
#include "learn/model.h"

struct model {
    struct artifact artifact;      /* params are given up once the plan has packed them */
    struct plan *plan;             /* NULL with a translator */
    struct translator *translator; /* texts from texts; else NULL */
    int64_t run_rows;              /* computed at once */
    size_t bytes;
};

struct model_session {
    const struct model *model;
    struct run *run;                  /* or */
    struct translator_run *translate; /* of such models */
    int32_t *said;                    /* [run_rows, translator_steps] ids */
    int64_t max_rows, rows;           /* staged */
    float *input;                     /* [max_rows, preprocess width]: staged rows, preprocessed */
    float *raw;                       /* [raw_width]: one row of raw numbers, for conversion */
    int64_t raw_width;
    float *output;     /* [max_rows, probabilities or targets] */
    int64_t *integers; /* [max_rows] labels; NULL for texts and regression */
    struct buf texts;  /* labels encoded one after the other */
    size_t *text_end;  /* [max_rows]: where each one ends; NULL for integers and regression */
    size_t bytes;
};

static inline const struct preprocess *preprocess_of(const struct model *m)
{
    return m->artifact.preprocess;
}

#endif
