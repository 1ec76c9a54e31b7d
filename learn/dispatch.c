/* Hands a job to what does jobs of its type. */
#include "learn/dispatch.h"

#include <string.h>

#include "learn/assess.h"
#include "learn/cross.h"
#include "learn/tune.h"

int dispatch_run(struct train_result *out, const char *type, const struct train_request *request,
                 const struct train_callbacks *callbacks, struct err *e)
{
    if (strcmp(type, "train") == 0) return train_run(out, request, callbacks, e);
    if (strcmp(type, "tune") == 0) return tune_run(out, request, callbacks, e);
    if (strcmp(type, "evaluate") == 0)
        return cJSON_GetObjectItemCaseSensitive(request->spec, "base")
                   ? cross_run(out, request, callbacks, e)
                   : assess_run(out, request, callbacks, e);
    return err_set(e, ERR_UNSUPPORTED, "type", "jobs of the type \"%.32s\" are not offered here", type);
}
