/* The loader thread of the predict engine: brings models in, makes room for them, tells everyone where they
 * are. Inside worker/ only. */
#ifndef WORKER_ENGINE_LOADER_H
#define WORKER_ENGINE_LOADER_H

#include "worker/engine.h"
#include "worker/model_cache.h"

struct loader;

/* config and cache are borrowed until loader_free. */
int engine__loader_create(struct loader **out, const struct engine_config *config, struct model_cache *cache,
                          struct err *e);
int engine__loader_start(struct loader *l, struct err *e);
void engine__loader_free(
    struct loader *l); /* stops after the load in progress, withdraws every announcement, joins */

/* Any thread, none blocks. A load that waits already, or failed within the last seconds, is not queued again.
 */
void engine__loader_load(struct loader *l, const char *tenant_id, const char *version_id);
/* As a load, but no model leaves for it that was used within HEARTBEAT_IDLE_MS. */
void engine__loader_replicate(struct loader *l, const char *tenant_id, const char *version_id);
void engine__loader_unload(struct loader *l, const char *version_id);
/* Somebody believes that this worker holds the version; unless it does by now, says again that it does not.
 */
void engine__loader_disown(struct loader *l, const char *version_id);
void engine__loader_republish(struct loader *l); /* announces all that is resident again */
void engine__loader_withdraw(struct loader *l);  /* announces nothing any more, loads nothing any more */

/* As engine_load_failed_ms. */
int64_t engine__loader_failed_ms(struct loader *l, const char *tenant_id, const char *version_id,
                                 struct err *why);

struct loader_counts {
    int64_t loads, load_failures, evictions;
};
void engine__loader_counts(struct loader *l, struct loader_counts *out);

#endif
