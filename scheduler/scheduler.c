/* The policy loop: who leads, what is due, and the order of one round. */
#include "scheduler/scheduler_state.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/inbox.h"
#include "scheduler/cron.h"
#include "scheduler/meter.h"
#include "scheduler/rollout.h"

enum {
    LEAD_EVERY_MS = 1000,
    STANDBY_MS = 500,
    FLEET_EVERY_MS = 500,
    REAP_EVERY_MS = 1000,
    REPLICATE_EVERY_MS = 1000,
    POP_BLOCK_MS = 200,
    POP_MAX = 256,
    REDIS_TIMEOUT_MS = 2000,
};

int scheduler__step(struct scheduler *s, struct policy_event *ev)
{
    struct err e = {0};
    ev->now_ms = clock_mono_ms();
    int rc = policy_step(s->policy, ev, &s->actions, &e);
    if (rc != 0) log_warn("policy_refused", "event=%d message=\"%s\"", (int)ev->type, e.message);
    return rc;
}

void scheduler__id(char out[ID_MAX], const char *id)
{
    size_t len = strlen(id);
    if (len >= ID_MAX) len = 0;
    memmove(out, id, len);
    memset(out + len, 0, ID_MAX - len);
}

/* ---- leading ---- */

static void forget_all(struct scheduler *s)
{
    running_clear(s);
    fleet_clear(s);
    policy_free(s->policy);
    s->policy = NULL;
    replicas_free(s->replicas);
    s->replicas = NULL;
}

static void follow(struct scheduler *s)
{
    if (atomic_exchange(&s->leading, false)) log_warn("leadership_lost", "state=standby");
    forget_all(s);
}

static int take_over(struct scheduler *s, struct err *e)
{
    struct policy_config config = policy_config_default;
    config.quantum_ms = s->config.quantum_ms;
    config.seed = s->config.seed;
    forget_all(s);
    int rc = policy_create(&s->policy, &config, e);
    if (rc == 0) rc = replicas_create(&s->replicas, &replica_config_default, e);
    if (rc != 0) return rc;
    s->fleet_due_ms = s->reap_due_ms = s->sweep_due_ms = s->replicate_due_ms = 0;
    atomic_store(&s->leading, true);
    log_info("leading", "state=leader");
    return 0;
}

/* Whether this process leads, asked of Postgres once a second. */
static bool leads(struct scheduler *s)
{
    int64_t now_ms = clock_mono_ms();
    bool was = atomic_load(&s->leading);
    if (was && now_ms < s->lead_due_ms) return true;
    s->lead_due_ms = now_ms + LEAD_EVERY_MS;
    bool is = false;
    struct err e = {0};
    int rc = lead_check(s->db, &s->lead, &is, &e);
    if (rc != 0) log_warn("leadership_unknown", "message=\"%s\"", e.message);
    if (is && !was) is = take_over(s, &e) == 0;
    if (!is) follow(s);
    return is;
}

/* ---- one round ---- */

/* Runs fn when it is due and plans its next turn; what goes wrong is logged and tried again then. */
static bool turn(struct scheduler *s, int64_t *due_ms, int64_t every_ms, const char *name,
                 int (*fn)(struct scheduler *, struct err *))
{
    if (clock_mono_ms() < *due_ms) return true;
    *due_ms = clock_mono_ms() + every_ms;
    struct err e = {0};
    int rc = fn(s, &e);
    if (rc != 0) log_warn("turn_failed", "turn=%s error=%s message=\"%s\"", name, err_name(rc), e.message);
    return rc == 0;
}

static void read_inbox(struct scheduler *s)
{
    struct inbox_batch batch = {0};
    struct err e = {0};
    int rc = inbox_pop(s->redis, INBOX_SCHEDULER, POP_MAX, POP_BLOCK_MS, &batch, &e);
    if (rc != 0) {
        if (s->redis_ok) log_warn("redis_lost", "message=\"%s\"", e.message);
        s->redis_ok = false;
        int ms = redis_backoff_ms(s->redis);
        halt_wait(&s->halt, ms < POP_BLOCK_MS ? POP_BLOCK_MS : ms);
        return;
    }
    if (!s->redis_ok) s->fleet_due_ms = 0;
    s->redis_ok = true;
    for (size_t i = 0; i < batch.len; i++) {
        struct inbox_record r = inbox_batch_get(&batch, i);
        intake_record(s, r.data, r.len);
    }
    inbox_batch_dispose(&batch);
}

static void round_once(struct scheduler *s)
{
    read_inbox(s);
    if (s->redis_ok) turn(s, &s->fleet_due_ms, FLEET_EVERY_MS, "fleet", fleet_poll);
    turn(s, &s->reap_due_ms, REAP_EVERY_MS, "reap", sweep_reap);
    /* Running jobs can be told from lost ones only when the fleet is known. */
    if (s->fleet_known) turn(s, &s->sweep_due_ms, s->config.sweep_ms, "sweep", sweep_all);
    if (s->redis_ok && s->fleet_known)
        turn(s, &s->replicate_due_ms, REPLICATE_EVERY_MS, "replicate", replicate_hot);
    if (s->redis_ok && s->fleet_known) dispatch_fill(s);
}

static void *loop(void *arg)
{
    struct scheduler *s = arg;
    while (!halt_requested(&s->halt)) {
        if (leads(s)) {
            round_once(s);
        } else {
            halt_wait(&s->halt, STANDBY_MS);
        }
    }
    atomic_store(&s->leading, false);
    lead_drop(s->db, &s->lead);
    return NULL;
}

/* ---- life ---- */

static int start_chores(struct scheduler *s, struct err *e)
{
    struct chore_config common = {.postgres_url = s->config.postgres_url,
                                  .redis = &s->config.redis,
                                  .halt = &s->halt,
                                  .leading = &s->leading};
    struct chore_config meter = common, sealer = common, cron = common, rollout = common;
    meter.name = "meter";
    meter.every_ms = s->config.meter_ms;
    meter.work = meter_work;
    meter.arg = meter_create();
    sealer.name = "sealer";
    sealer.redis = NULL;
    sealer.every_ms = s->config.seal_ms;
    sealer.work = cron_seal;
    cron.name = "cron";
    cron.redis = NULL;
    cron.every_ms = s->config.cron_ms;
    cron.work = cron_work;
    cron.arg = &s->config;
    rollout.name = "rollout";
    rollout.every_ms = ROLLOUT_EVERY_MS;
    rollout.work = rollout_work;
    rollout.arg = rollout_watch_create();
    s->meter_state = meter.arg;
    s->rollout_state = rollout.arg;
    int rc = chore_start(&s->meter, &meter, e);
    if (rc == 0) rc = chore_start(&s->sealer, &sealer, e);
    if (rc == 0) rc = chore_start(&s->cron, &cron, e);
    if (rc == 0) rc = chore_start(&s->rollout, &rollout, e);
    return rc;
}

int scheduler_create(struct scheduler **out, const struct scheduler_config *config, struct err *e)
{
    *out = NULL;
    struct scheduler *s = mem_alloc(1, sizeof *s);
    s->config = *config;
    halt_init(&s->halt);
    atomic_init(&s->leading, false);
    arena_init(&s->arena, SIZE_MAX);
    struct db_options o = {.conninfo = config->postgres_url, .program = "tenor-scheduler"};
    int rc = db_open_lazy(&s->db, &o, e);
    if (rc != 0) goto fail;
    s->redis = redis_create(&s->config.redis, REDIS_TIMEOUT_MS);
    rc = start_chores(s, e);
    if (rc != 0) goto fail;
    if (pthread_create(&s->thread, NULL, loop, s) != 0) {
        rc = err_set(e, ERR_NOMEM, NULL, "the policy loop's thread could not be started");
        goto fail;
    }
    s->started = true;
    *out = s;
    return 0;
fail:
    scheduler_free(s);
    return rc;
}

void scheduler_free(struct scheduler *s)
{
    if (!s) return;
    halt_request(&s->halt);
    if (s->started) pthread_join(s->thread, NULL);
    chore_free(s->meter);
    chore_free(s->sealer);
    chore_free(s->cron);
    chore_free(s->rollout);
    meter_free(s->meter_state);
    rollout_watch_free(s->rollout_state);
    forget_all(s);
    policy_actions_dispose(&s->actions);
    redis_free(s->redis);
    db_free(s->db);
    arena_dispose(&s->arena);
    halt_dispose(&s->halt);
    mem_free(s);
}
