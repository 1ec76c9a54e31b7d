/* tenor-scheduler: options in, threads up, and a clean stop on SIGTERM or SIGINT. */
#include <signal.h>
#include <stdio.h>
#include "base/crypto.h"
#include "base/halt.h"
#include "base/log.h"
#include "base/option.h"
#include "scheduler/scheduler.h"

struct options {
    const char *log_level, *postgres_url, *redis_url, *redis_password, *blob_dir;
    struct scheduler_config config;
};

static int read_options(struct options *o, int argc, char **argv, struct err *e)
{
    struct scheduler_config *c = &o->config;
    const int64_t day_ms = 86400000;
    const struct option_row rows[] = {
        {"log-level", OPTION_STR, &o->log_level, "info", 0, 0, false, "error, warn, info or debug"},
        {"postgres-url", OPTION_STR, &o->postgres_url, NULL, 0, 0, true,
         "libpq conninfo or URI of the database"},
        {"redis-url", OPTION_STR, &o->redis_url, NULL, 0, 0, false, "unix:/path or redis://host:port"},
        {"redis-password", OPTION_STR, &o->redis_password, NULL, 0, 0, true, "password of Redis"},
        {"blob-dir", OPTION_STR, &o->blob_dir, NULL, 0, 0, false,
         "folder of blobs, for collecting unused ones"},
        {"blob-grace", OPTION_DURATION_MS, &c->blob_grace_s, "24h", 1000, day_ms, false,
         "how long a blob may stay unused before it is removed"},
        {"lease", OPTION_DURATION_MS, &c->lease_ms, "10s", 1000, day_ms, false,
         "how long a worker may be silent about a job"},
        {"sweep", OPTION_DURATION_MS, &c->sweep_ms, "5s", 100, day_ms, false, "how often rows are swept"},
        {"meter-interval", OPTION_DURATION_MS, &c->meter_ms, "1s", 50, day_ms, false,
         "how often usage is billed"},
        {"seal-interval", OPTION_DURATION_MS, &c->seal_ms, "500ms", 50, 1000, false,
         "how often audit rows are sealed"},
        {"cron-interval", OPTION_DURATION_MS, &c->cron_ms, "1m", 1000, day_ms, false,
         "how often housekeeping runs"},
        {"quantum", OPTION_DURATION_MS, &c->quantum_ms, "10s", 100, day_ms, false,
         "how long a training job holds its slot before it gives way to a tenant that is due first"},
    };
    option_parse("tenor-scheduler", "Decides which job runs where, bills usage and seals the audit trail",
                 rows, sizeof rows / sizeof *rows, argc, argv);
    c->postgres_url = o->postgres_url;
    c->blob_dir = o->blob_dir;
    c->blob_grace_s /= 1000;
    crypto_random(&c->seed, sizeof c->seed);
    if (log_level_of(o->log_level) < 0)
        return err_set(e, ERR_INVALID, "log-level", "unknown level %s", o->log_level);
    log_init("scheduler", (enum log_level)log_level_of(o->log_level));
    if (!o->postgres_url) return err_set(e, ERR_INVALID, "postgres-url", "--postgres-url is needed");
    if (!o->redis_url) return err_set(e, ERR_INVALID, "redis-url", "--redis-url is needed");
    return redis_address_parse(&c->redis, o->redis_url, o->redis_password, e);
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct err e = {0};
    halt_signal_block();
    crypto_init();
    if (read_options(&o, argc, argv, &e) != 0) {
        fprintf(stderr, "tenor-scheduler: %s\n", e.message);
        return 2;
    }
    struct scheduler *s;
    if (scheduler_create(&s, &o.config, &e) != 0) {
        fprintf(stderr, "tenor-scheduler: %s\n", e.message);
        return 1;
    }
    log_info("started", "lease_ms=%lld", (long long)o.config.lease_ms);
    int sig = halt_signal_wait();
    log_info("stopping", "signal=%s", sig == SIGTERM ? "TERM" : "INT");
    scheduler_free(s);
    log_info("stopped", "clean=yes");
    return 0;
}
