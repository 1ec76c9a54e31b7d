/* The common part of a decoded predict request. */
#include "gateway/predict/infer.h"

#include <string.h>
#include "base/mem.h"

bool infer_init(struct infer *r, const struct signature *s)
{
    memset(r, 0, sizeof *r);
    r->signature = s;
    r->inputs = mem_try_alloc(s->n_inputs, sizeof *r->inputs);
    r->outputs = mem_try_alloc(s->n_outputs, sizeof *r->outputs);
    if (!r->inputs || !r->outputs) return false;
    for (size_t i = 0; i < s->n_outputs; i++) r->outputs[i].index = i;
    r->outputs_len = s->n_outputs;
    return true;
}

void infer_dispose(struct infer *r)
{
    for (size_t i = 0; r->inputs && i < r->signature->n_inputs; i++) buf_dispose(&r->inputs[i].owned);
    mem_free(r->inputs);
    mem_free(r->outputs);
    buf_dispose(&r->id);
    memset(r, 0, sizeof *r);
}

const struct infer_protocol *infer_protocol_find(const char *name)
{
    static const struct infer_protocol *const all[] = {&oip_protocol, &tfs_protocol, &tfs_classify_protocol,
                                                       &tfs_regress_protocol};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}

int infer_check_complete(const struct infer *r, struct err *e)
{
    for (size_t i = 0; i < r->signature->n_inputs; i++)
        if (!r->inputs[i].given)
            return err_set(e, ERR_INVALID, "inputs", "the input \"%s\" is missing",
                           r->signature->inputs[i].name);
    return 0;
}
