/* The turn of a chore's thread: wait, look whether we lead, work, and complain once per trouble. */
#include "scheduler/chore.h"

#include <pthread.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"

enum { REDIS_TIMEOUT_MS = 2000 };

struct chore {
    struct chore_config config;
    pthread_t thread;
    struct db *db;
    struct redis *redis;
};

static void *turns(void *arg)
{
    struct chore *c = arg;
    bool in_trouble = false;
    while (!halt_wait(c->config.halt, c->config.every_ms)) {
        if (!atomic_load(c->config.leading)) continue;
        struct err e = {0};
        int rc = c->config.work(c->config.arg, c->db, c->redis, &e);
        if (rc != 0 && !in_trouble) {
            log_warn("chore_failed", "chore=%s error=%s message=\"%s\"", c->config.name, err_name(rc),
                     e.message);
        } else if (rc == 0 && in_trouble) {
            log_info("chore_recovered", "chore=%s", c->config.name);
        }
        in_trouble = rc != 0;
    }
    return NULL;
}

int chore_start(struct chore **out, const struct chore_config *config, struct err *e)
{
    *out = NULL;
    struct chore *c = mem_alloc(1, sizeof *c);
    c->config = *config;
    struct db_options o = {.conninfo = config->postgres_url, .program = "tenor-scheduler"};
    int rc = db_open_lazy(&c->db, &o, e);
    if (rc != 0) goto fail;
    if (config->redis) c->redis = redis_create(config->redis, REDIS_TIMEOUT_MS);
    if (pthread_create(&c->thread, NULL, turns, c) != 0) {
        rc = err_set(e, ERR_NOMEM, NULL, "the thread of %s could not be started", config->name);
        goto fail;
    }
    *out = c;
    return 0;
fail:
    redis_free(c->redis);
    db_free(c->db);
    mem_free(c);
    return rc;
}

void chore_free(struct chore *c)
{
    if (!c) return;
    pthread_join(c->thread, NULL);
    redis_free(c->redis);
    db_free(c->db);
    mem_free(c);
}
