/* tenor-worker: one process that answers predictions (engine) and trains (supervisor), and tells once a
 * second that it lives. */
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/crypto.h"
#include "base/halt.h"
#include "base/log.h"
#include "base/option.h"
#include "queue/heartbeat.h"
#include "queue/redis.h"
#include "store/blob.h"
#include "store/keyring.h"
#include "worker/engine.h"
#include "worker/fetch.h"
#include "worker/supervisor.h"

enum { REDIS_TIMEOUT_MS = 1000, NUDGE_MS = 100 };

struct options {
    const char *log_level, *postgres_url, *redis_url, *redis_password, *blob_dir, *root_key_file, *runner,
        *work_dir, *predict_listen, *predict_advertise;
    int64_t job_slots, job_memory, predict_threads, model_memory, lease_ms, drain_ms, checkpoint_ms;
};

struct worker {
    struct options options;
    char inc[ID_MAX];
    struct redis_address redis;
    struct keyring keyring;
    struct blob_store *blobs;
    struct fetch *fetch;
    struct supervisor *supervisor;
    struct engine *engine;
    char advertised[NI_MAXHOST];
    struct halt beat_halt;
    pthread_t beat_thread;
    bool beating;
};

/* ---- options ---- */

/* In a container without a limit of its own this is the host's. */
static int64_t machine_bytes(void)
{
    return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

static void parse(struct options *o, int argc, char **argv)
{
    const int64_t day_ms = 86400000;
    const struct option_row rows[] = {
        {"log-level", OPTION_STR, &o->log_level, "info", 0, 0, false, "error, warn, info or debug"},
        {"postgres-url", OPTION_STR, &o->postgres_url, NULL, 0, 0, true,
         "libpq conninfo or URI of the database"},
        {"redis-url", OPTION_STR, &o->redis_url, NULL, 0, 0, false, "unix:/path or redis://host:port"},
        {"redis-password", OPTION_STR, &o->redis_password, NULL, 0, 0, true, "password of Redis"},
        {"blob-dir", OPTION_STR, &o->blob_dir, NULL, 0, 0, false, "folder of encrypted blobs"},
        {"root-key-file", OPTION_STR, &o->root_key_file, NULL, 0, 0, false, "file with 64 hex digits"},
        {"runner", OPTION_STR, &o->runner, NULL, 0, 0, false,
         "path of tenor-runner; by default beside this program"},
        {"work-dir", OPTION_STR, &o->work_dir, "/tmp/tenor-worker", 0, 0, false,
         "writable folder; nothing secret in it"},
        {"job-slots", OPTION_INT, &o->job_slots, "1", 1, HEARTBEAT_JOBS_MAX, false,
         "training threads at a time; a job of two threads takes two"},
        {"job-memory", OPTION_BYTES, &o->job_memory, "0", 0, INT64_MAX, false,
         "memory of all training jobs together; 0: half of the machine's"},
        {"predict-threads", OPTION_INT, &o->predict_threads, "1", 1, 256, false,
         "threads that compute predictions"},
        {"predict-listen", OPTION_STR, &o->predict_listen, "unix:@tenor", 0, 0, false,
         "where predictions come in: unix:@name or unix:/folder on one machine, or a numeric host:port, of "
         "which each "
         "predict thread takes the next"},
        {"predict-advertise", OPTION_STR, &o->predict_advertise, "", 0, 0, false,
         "name or address by which gateways reach a host:port; by default this machine's name"},
        {"model-memory", OPTION_BYTES, &o->model_memory, "1g", 1 << 20, INT64_MAX, false,
         "memory of loaded models"},
        {"lease", OPTION_DURATION_MS, &o->lease_ms, "10s", 1000, day_ms, false, "as the scheduler's"},
        {"checkpoint-interval", OPTION_DURATION_MS, &o->checkpoint_ms, "60s", 100, day_ms, false,
         "how often a training job lays down what it would go on from after a crash"},
        {"drain", OPTION_DURATION_MS, &o->drain_ms, "10s", 0, day_ms, false,
         "how long a stop waits for its models to be up elsewhere, and for running jobs before it has them "
         "yield"},
    };
    option_parse("tenor-worker", "Trains models and answers predictions", rows, sizeof rows / sizeof *rows,
                 argc, argv);
    if (o->job_memory == 0) o->job_memory = machine_bytes() / 2;
}

static int check(const struct options *o, struct err *e)
{
    const struct {
        const char *name, *value;
    } needed[] = {{"postgres-url", o->postgres_url},
                  {"redis-url", o->redis_url},
                  {"blob-dir", o->blob_dir},
                  {"root-key-file", o->root_key_file}};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (!needed[i].value)
            return err_set(e, ERR_INVALID, needed[i].name, "--%s is needed", needed[i].name);
    }
    if (log_level_of(o->log_level) < 0)
        return err_set(e, ERR_INVALID, "log-level", "unknown level %s", o->log_level);
    if (access(o->runner, X_OK) != 0) return err_errno(e, ERR_INVALID, "--runner %s", o->runner);
    return 0;
}

/* The folder of this program, with /tenor-runner. */
static const char *runner_beside(void)
{
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
    if (!slash) return "tenor-runner";
    memcpy(slash, "/tenor-runner", sizeof "/tenor-runner");
    return path;
}

/* ---- the inbox's other messages ---- */

static void on_message(void *arg, const struct message *m)
{
    struct worker *w = arg;
    switch (m->type) {
    case MESSAGE_JOB_RUN:
        supervisor_run(w->supervisor, m->job.tenant_id, m->job.job_id, m->job.fence);
        return;
    case MESSAGE_JOB_YIELD:
        supervisor_yield(w->supervisor, m->job.job_id, m->job.fence);
        return;
    case MESSAGE_JOB_CANCEL:
        supervisor_cancel(w->supervisor, m->job.job_id, m->job.fence);
        return;
    default:
        log_warn("message_unexpected", "type=%d", (int)m->type);
    }
}

static int fetch(void *arg, const char *tenant_id, const char *version_id, struct buf *out, struct err *e)
{
    const struct worker *w = arg;
    return fetch_version(w->fetch, tenant_id, version_id, out, e);
}

/* ---- heartbeat ---- */

static void beat_once(struct worker *w, struct redis *redis, bool *in_trouble)
{
    struct heartbeat h = {0};
    struct err e = {0};
    bool was_gone = false;
    memcpy(h.inc, w->inc, sizeof h.inc);
    supervisor_describe(w->supervisor, &h);
    engine_describe(w->engine, &h);
    int rc = heartbeat_publish(redis, &h, &was_gone, &e);
    if (rc != 0 && !*in_trouble) log_warn("heartbeat_failed", "message=\"%s\"", e.message);
    if (rc == 0 && *in_trouble) log_info("heartbeat_recovered", "worker=%s", w->inc);
    if (rc == 0 && was_gone) engine_republish(w->engine);
    *in_trouble = rc != 0;
}

static void *beat(void *arg)
{
    struct worker *w = arg;
    struct redis *redis = redis_create(&w->redis, REDIS_TIMEOUT_MS);
    bool in_trouble = false;
    int64_t due_ms = clock_mono_ms();
    do {
        beat_once(w, redis, &in_trouble);
        due_ms += HEARTBEAT_EVERY_MS;
        int64_t now_ms = clock_mono_ms();
        if (due_ms < now_ms) due_ms = now_ms + (in_trouble ? NUDGE_MS : 0);
    } while (!halt_wait(&w->beat_halt, due_ms - clock_mono_ms()));
    struct err e = {0};
    if (heartbeat_remove(redis, w->inc, &e) != 0) log_warn("heartbeat_left", "message=\"%s\"", e.message);
    redis_free(redis);
    return NULL;
}

/* ---- life ---- */

/* The numeric address of the host name that gateways are told, once: loops never look names up. */
static int resolve_advertised(const char *name, char out[NI_MAXHOST], struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    char host[256];
    if (!name[0] && gethostname(host, sizeof host) != 0) return err_errno(e, ERR_IO, "this machine's name");
    if (name[0]) snprintf(host, sizeof host, "%s", name);
    host[sizeof host - 1] = '\0';
    int rc = getaddrinfo(host, NULL, &hints, &found);
    if (rc == 0)
        rc = getnameinfo(found->ai_addr, found->ai_addrlen, out, NI_MAXHOST, NULL, 0, NI_NUMERICHOST);
    if (found) freeaddrinfo(found);
    if (rc == 0) return 0;
    return err_set(e, ERR_INVALID, "predict-advertise", "--predict-advertise: no address of \"%s\" (%s)",
                   host, gai_strerror(rc));
}

static int settle_port(struct worker *w, struct engine_config *config, struct err *e)
{
    config->listen = w->options.predict_listen;
    if (strncmp(config->listen, "unix:", 5) == 0) return 0;
    config->advertise = w->advertised;
    return resolve_advertised(w->options.predict_advertise, w->advertised, e);
}

static int start_engine(struct worker *w, struct err *e)
{
    struct engine_config config = {.redis = &w->redis,
                                   .predict_threads = (int)w->options.predict_threads,
                                   .model_bytes_max = w->options.model_memory,
                                   .fetch = fetch,
                                   .on_message = on_message,
                                   .arg = w};
    memcpy(config.inc, w->inc, sizeof config.inc);
    int rc = settle_port(w, &config, e);
    if (rc == 0) rc = engine_create(&w->engine, &config, e);
    return rc == 0 ? engine_start(w->engine, e) : rc;
}

static int start_supervisor(struct worker *w, struct err *e)
{
    struct supervisor_config config = {.postgres_url = w->options.postgres_url,
                                       .redis = &w->redis,
                                       .blobs = w->blobs,
                                       .engine = &w->engine,
                                       .runner = w->options.runner,
                                       .work_dir = w->options.work_dir,
                                       .slots = (int)w->options.job_slots,
                                       .job_memory_bytes = w->options.job_memory,
                                       .lease_ms = w->options.lease_ms,
                                       .checkpoint_ms = w->options.checkpoint_ms};
    memcpy(config.inc, w->inc, sizeof config.inc);
    return supervisor_create(&w->supervisor, &config, e);
}

static int start(struct worker *w, struct err *e)
{
    int rc = redis_address_parse(&w->redis, w->options.redis_url, w->options.redis_password, e);
    if (rc == 0) rc = keyring_load(&w->keyring, w->options.root_key_file, NULL, e);
    if (rc == 0) rc = blob_store_open(&w->blobs, w->options.blob_dir, &w->keyring, e);
    if (rc == 0) rc = fetch_create(&w->fetch, w->options.postgres_url, w->blobs, e);
    if (rc == 0) rc = start_supervisor(w, e);
    if (rc == 0) rc = start_engine(w, e);
    if (rc == 0 && pthread_create(&w->beat_thread, NULL, beat, w) != 0) {
        rc = err_set(e, ERR_NOMEM, NULL, "the heartbeat's thread could not be started");
    }
    w->beating = rc == 0;
    return rc;
}

/* Not ready, then finish, then gone: jobs and predictions are let run out side by side as far as the bound
 * allows. */
static void stop(struct worker *w)
{
    if (w->beating) {
        supervisor_close(w->supervisor);
        halt_nudge(&w->beat_halt); /* so that everybody knows at once */
        int64_t until_ms = clock_mono_ms() + w->options.drain_ms;
        if (engine_hand_over(w->engine, (int)w->options.drain_ms) != 0)
            log_warn("models_not_handed_over", "reason=drain");
        int64_t rest_ms = until_ms - clock_mono_ms();
        supervisor_drain(w->supervisor, rest_ms > 0 ? rest_ms : 0);
        if (engine_drain(w->engine, (int)w->options.drain_ms) != 0)
            log_warn("predictions_dropped", "reason=drain");
        halt_request(&w->beat_halt);
        pthread_join(w->beat_thread, NULL);
    } else if (w->supervisor) {
        supervisor_drain(w->supervisor, 0); /* what runs may be asking the engine */
    }
    engine_free(w->engine);
    supervisor_free(w->supervisor);
    fetch_free(w->fetch);
    blob_store_free(w->blobs);
    keyring_wipe(&w->keyring);
}

int main(int argc, char **argv)
{
    static struct worker w;
    struct err e = {0};
    halt_signal_block();
    crypto_init();
    w.options.runner = runner_beside();
    parse(&w.options, argc, argv);
    int rc = check(&w.options, &e);
    if (rc == 0) {
        log_init("worker", (enum log_level)log_level_of(w.options.log_level));
        id_new(w.inc, "inc");
        halt_init(&w.beat_halt);
        rc = start(&w, &e);
    }
    if (rc != 0) {
        fprintf(stderr, "tenor-worker: %s\n", e.message);
        if (w.inc[0]) stop(&w);
        return rc == ERR_INVALID ? 2 : 1;
    }
    log_info("started", "worker=%s slots=%lld", w.inc, (long long)w.options.job_slots);
    int sig = halt_signal_wait();
    log_info("stopping", "signal=%s", sig == SIGTERM ? "TERM" : "INT");
    stop(&w);
    log_info("stopped", "clean=yes");
    return 0;
}
