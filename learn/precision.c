/* Picks the precision of a run, and the backend of a precision. */
#include "learn/precision.h"

static bool pays(const struct resolved *r)
{
    return r->family != FAMILY_LINEAR_REGRESSION && r->family != FAMILY_LOGISTIC_REGRESSION &&
           r->task == TASK_CLASSIFICATION && r->estimate.flops_per_row >= PRECISION_FLOPS;
}

int precision_settle(enum precision *out, const struct resolved *r, struct err *e)
{
    const struct backend *b;
    struct err why = {0};
    enum precision asked = r->training.precision;
    *out = PRECISION_F32;
    if (asked == PRECISION_F32 || (asked == PRECISION_AUTO && !pays(r))) return 0;
    int rc = backend_find(&b, "bf16", &why);
    if (rc == 0) *out = PRECISION_BF16;
    if (rc == 0 || asked == PRECISION_AUTO) return 0;
    return err_set(e, rc, "spec.training.precision", "%s", why.message);
}

const struct backend *precision_backend(enum precision p)
{
    const struct backend *b;
    struct err unused = {0};
    return p == PRECISION_BF16 && backend_find(&b, "bf16", &unused) == 0 ? b : backend_auto();
}
