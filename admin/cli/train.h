/* Following a job from the client's side: used by `tenor train`, `tenor job watch` and the demo. */
#ifndef ADMIN_CLI_TRAIN_H
#define ADMIN_CLI_TRAIN_H

#include <cjson/cJSON.h>
#include "admin/cli/client.h"
#include "base/err.h"

/* Submits body to /v1/jobs; *id is copied into out (ID_MAX bytes). */
int train_submit(struct client *c, const char *body, char *out, struct err *e);

/* Polls the job until it ends, with a live line on a terminal and a line per epoch elsewhere. *job is the
 * ended job (cJSON_Delete). A job that did not succeed is ERR_CONFLICT with the job's own words. */
int train_watch(struct client *c, const char *id, cJSON **job, struct err *e);

#endif
