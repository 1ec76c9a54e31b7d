/* The HTTP API's client that the tenant's commands use, over libcurl. One thread. Waits and tries again when
 * the platform says so (429 and 503 with Retry-After), and repeats a POST only under its Idempotency-Key. */
#ifndef ADMIN_CLI_CLIENT_H
#define ADMIN_CLI_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cjson/cJSON.h>
#include "base/err.h"

struct client;

/* url and key NULL: TENOR_URL and TENOR_API_KEY as parsed into command_shared, else the local platform's
 * address. */
int client_open(struct client **out, struct err *e);
int client_open_as(struct client **out, const char *url, const char *key, struct err *e);
void client_close(struct client *c);

/* One call. body: JSON text or NULL. *out: the answer (cJSON_Delete); NULL is fine. An error envelope becomes
 * e, with its param as the field. */
int client_call(struct client *c, const char *method, const char *path, const char *body, cJSON **out,
                struct err *e);

/* A POST that asks to be answered later (Prefer: respond-async): *out is the job. */
int client_defer(struct client *c, const char *path, const char *body, cJSON **out, struct err *e);

struct client_file {
    const char *part; /* "file", "features", "labels" */
    const char *path;
};

/* Streams files as multipart/form-data to path; on_progress (may be NULL) sees bytes sent and in all. */
int client_upload(struct client *c, const char *path, const char *name, const struct client_file *files,
                  size_t files_len, void (*on_progress)(int64_t sent, int64_t total), cJSON **out,
                  struct err *e);

#endif
