/* Opens the client, calls, prints, closes. */
#include "admin/cli/call.h"

#include <stdarg.h>
#include "admin/cli/client.h"
#include "admin/cli/command.h"
#include "admin/cli/output.h"
#include "base/buf.h"

int call_print(void (*print)(const cJSON *answer), struct err *e, const char *method, const char *fmt, ...)
{
    struct client *c;
    struct buf path = {0};
    cJSON *answer = NULL;
    va_list args;
    int rc = client_open(&c, e);
    if (rc) return rc;
    va_start(args, fmt);
    buf_vprintf(&path, fmt, args);
    va_end(args);
    rc = path.failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the request")
                     : client_call(c, method, path.data, NULL, &answer, e);
    if (rc == 0 && command_shared.json)
        output_json(answer);
    else if (rc == 0)
        print(answer);
    buf_dispose(&path);
    cJSON_Delete(answer);
    client_close(c);
    return rc;
}
