/* Following a job from the client's side: used by `tenor train`, `tenor job watch` and the demo. */
#ifndef ADMIN_CLI_TRAIN_H
#define ADMIN_CLI_TRAIN_H

#include <stdbool.h>
#include <cjson/cJSON.h>
#include "admin/cli/client.h"
#include "base/err.h"

/* Submits body to /v1/jobs; *id is copied into out (ID_MAX bytes). */
int train_submit(struct client *c, const char *body, char *out, struct err *e);

/* Polls the job until it ends, with a live line on a terminal and a line per epoch elsewhere. *job is the
 * ended job (cJSON_Delete). A job that did not succeed is ERR_CONFLICT with the job's own words. */
int train_watch(struct client *c, const char *id, cJSON **job, struct err *e);

/* A job in words: its state, what it made and what that is worth. */
void train_print(const cJSON *job);

/* Submits, prints the id, and unless detach follows the job to its end and prints that. */
int train_run(struct client *c, const char *body, bool detach, struct err *e);

/* A file with a spec, or with a whole job: its fields go into job. */
int train_read_spec(cJSON *job, const char *file, struct err *e);

#endif
