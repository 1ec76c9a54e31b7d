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
    enum precision wanted = asked == PRECISION_AUTO ? PRECISION_BF16 : asked;
    int rc = backend_find(&b, precision_name(wanted), &why);
    if (rc == 0) *out = wanted;
    if (rc == 0 || asked == PRECISION_AUTO) return 0;
    return err_set(e, rc, "spec.training.precision", "%s", why.message);
}

const struct backend *precision_backend(enum precision p)
{
    const struct backend *b;
    struct err unused = {0};
    bool tiles = p == PRECISION_BF16 || p == PRECISION_BF16X3;
    return tiles && backend_find(&b, precision_name(p), &unused) == 0 ? b : backend_auto();
}
