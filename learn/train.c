/* Carries one training run through, step by step. */
#include "learn/train.h"

#include "learn/training.h"

static int run(struct training *t, struct training_data *d, struct train_result *out, struct err *e)
{
    const struct train_request *q = t->request;
    int rc;
    if ((rc = training_schemas(d, q, e)) || (rc = training_resolve(t, e)) ||
        (rc = training_read(d, t->resolved, q, t->watch, e)) || (rc = training_prepare(t, e)) ||
        (rc = training_fit(t, e)) || (rc = training_evaluate(t, e)))
        return rc;
    return training_write(t, out, e);
}

int train_run(struct train_result *out, const struct train_request *request,
              const struct train_callbacks *callbacks, struct err *e)
{
    struct watch watch;
    struct training_data data = {0};
    struct training t = {.request = request, .spec_json = request->spec, .data = &data, .watch = &watch};
    *out = (struct train_result){0};
    watch_init(&watch, callbacks, request->seconds, request->used_seconds);
    int rc = run(&t, &data, out, e);
    training_dispose(&t);
    training_data_dispose(&data);
    if (rc) train_result_dispose(out);
    return rc;
}

void train_result_dispose(struct train_result *r)
{
    buf_dispose(&r->metrics);
    buf_dispose(&r->signature);
    *r = (struct train_result){0};
}
