/* The handlers that the route table names, one file per resource. Pool handlers: gateway/api_call.h; loop
 * handlers: gateway/route.h. */
#ifndef GATEWAY_ROUTES_ROUTES_H
#define GATEWAY_ROUTES_ROUTES_H

#include "gateway/api_call.h"
#include "gateway/route.h"

int datasets_create(struct api_call *c, struct err *e); /* datasets_upload.c */
int datasets_list(struct api_call *c, struct err *e);
int datasets_get(struct api_call *c, struct err *e);
int datasets_delete(struct api_call *c, struct err *e);

int jobs_create(struct api_call *c, struct err *e); /* jobs_submit.c */
int jobs_list(struct api_call *c, struct err *e);
int jobs_get(struct api_call *c, struct err *e);
int jobs_cancel(struct api_call *c, struct err *e);
int jobs_events(struct api_call *c, struct err *e);
int jobs_result(struct api_call *c, struct err *e); /* predict_jobs.c */
void predict_jobs_defer(struct exchange *x, struct predict_deferred *d);

int models_list(struct api_call *c, struct err *e);
int models_get(struct api_call *c, struct err *e);
int models_patch(struct api_call *c, struct err *e); /* models_settings.c */
int versions_delete(struct api_call *c, struct err *e);
int versions_list(struct api_call *c, struct err *e);
int versions_get(struct api_call *c, struct err *e);
int aliases_list(struct api_call *c, struct err *e);
int aliases_get(struct api_call *c, struct err *e);
int aliases_rollout(struct api_call *c, struct err *e); /* rollout.c */
int aliases_put(struct api_call *c, struct err *e);
int aliases_roll_back(struct api_call *c, struct err *e);

int usage_get(struct api_call *c, struct err *e);
int invoices_get(struct api_call *c, struct err *e);

int audit_get(struct api_call *c, struct err *e);
int audit_check(struct api_call *c, struct err *e);

int keys_create(struct api_call *c, struct err *e);
int keys_list(struct api_call *c, struct err *e);
int keys_delete(struct api_call *c, struct err *e);

int tenant_get(struct api_call *c, struct err *e);

int infer_metadata(struct api_call *c,
                   struct err *e); /* inference.c, as the rest of /v2/models and :predict */
void infer_run(struct exchange *x, const struct route_match *m, const struct principal *who);
void infer_ready(struct exchange *x, const struct route_match *m, const struct principal *who);
void infer_server(struct exchange *x, const struct route_match *m, const struct principal *who);
void tfs_run(struct exchange *x, const struct route_match *m, const struct principal *who);
void tfs_run_label(struct exchange *x, const struct route_match *m, const struct principal *who);
void tfs_classify(struct exchange *x, const struct route_match *m, const struct principal *who);
void tfs_classify_label(struct exchange *x, const struct route_match *m, const struct principal *who);
void tfs_regress(struct exchange *x, const struct route_match *m, const struct principal *who);
void tfs_regress_label(struct exchange *x, const struct route_match *m, const struct principal *who);
int tfs_metadata(struct api_call *c, struct err *e); /* tfs.c */
int tfs_metadata_label(struct api_call *c, struct err *e);
int tfs_status_label(struct api_call *c, struct err *e);

void health_live(struct exchange *x, const struct route_match *m, const struct principal *who);
void health_ready(struct exchange *x, const struct route_match *m, const struct principal *who);
void health_metrics(struct exchange *x, const struct route_match *m, const struct principal *who);
void openapi_get(struct exchange *x, const struct route_match *m, const struct principal *who);

/* Shared inside routes/. */
struct job;
struct dataset;
void job__write(struct json_writer *w, const struct job *j);
/* Why a queued job has not begun: in out, or NULL where it does not wait, or only for its turn. Asks Redis.
 */
enum { JOB_WAITING_MAX = 160 };
const char *job__waiting_reason(const struct api_call *c, const struct job *j, char out[JOB_WAITING_MAX]);
/* Tells the scheduler to look at a job. Its sweep finds the row anyway; this is faster. */
void job__hint(struct api_call *c, const struct job *job);
/* Whether the caller may see a job at all: a key for predictions alone sees those that are answered later, of
 * models that it may call. Else ERR_NOT_FOUND. */
int job__check_visible(const struct api_call *c, const struct job *j, struct err *e);
int dataset__write(struct json_writer *w, const struct dataset *d, struct err *e);

#endif
