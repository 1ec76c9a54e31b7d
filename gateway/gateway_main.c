/* tenor-gateway: options, signals, and the order in which things start and stop. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/crypto.h"
#include "base/log.h"
#include "base/option.h"
#include "gateway/gateway.h"
#include "gateway/http/tls.h"
#include "gateway/openapi.h"

enum { SELF_SIGNED_DAYS = 397 };

static struct gateway_options options;
static const char *log_level;
static int64_t drain_ms;
static bool print_routes, print_openapi, self_signed;

static const struct option_row rows[] = {
    {"log-level", OPTION_STR, &log_level, "info", 0, 0, false, "error, warn, info or debug"},
    {"listen", OPTION_STR, &options.listen, "127.0.0.1:8080", 0, 0, false,
     "address for plain HTTP, or empty for none"},
    {"tls-listen", OPTION_STR, &options.tls_listen, "", 0, 0, false, "address for HTTPS, or empty for none"},
    {"tls-cert", OPTION_STR, &options.tls_cert, "", 0, 0, false, "PEM file with the certificate chain"},
    {"tls-key", OPTION_STR, &options.tls_key, "", 0, 0, false, "PEM file with the certificate's key"},
    {"tls-self-signed", OPTION_BOOL, &self_signed, "no", 0, 0, false,
     "make --tls-cert and --tls-key when they are absent, for local use"},
    {"ops-listen", OPTION_STR, &options.ops_listen, "127.0.0.1:8081", 0, 0, false,
     "address for /livez, /readyz and /metrics"},
    {"loops", OPTION_INT, &options.loops, "0", 0, SERVER_LOOPS_MAX, false, "event loops; 0: one per CPU"},
    {"pool-threads", OPTION_INT, &options.pool_threads, "8", 1, 256, false,
     "threads for control-plane requests, each with a database connection"},
    {"bulk-threads", OPTION_INT, &options.bulk_threads, "4", 1, 64, false, "threads for uploads"},
    {"pool-queue", OPTION_INT, &options.pool_queue, "512", 4, 100000, false,
     "most requests that wait for a pool thread"},
    {"predict-timeout", OPTION_DURATION_MS, &options.predict_timeout_ms, "10s", 1, 60000, false,
     "deadline of a prediction that names none"},
    {"predict-body", OPTION_BYTES, &options.predict_body_bytes, "32m", 1024, 1LL << 30, false,
     "largest body of a prediction"},
    {"connections", OPTION_INT, &options.connections_max, "10000", 1, 1000000, false,
     "most client connections"},
    {"connections-per-address", OPTION_INT, &options.connections_per_peer, "256", 1, 1000000, false,
     "most connections from one address"},
    {"drain", OPTION_DURATION_MS, &drain_ms, "20s", 0, 3600000, false,
     "how long requests may finish at a stop"},
    {"postgres-url", OPTION_STR, &options.postgres_url, "", 0, 0, true,
     "libpq conninfo or URI of a tenor_gateway login"},
    {"redis-url", OPTION_STR, &options.redis_url, "redis://127.0.0.1:6379", 0, 0, false,
     "unix:/path or redis://host:port"},
    {"redis-password", OPTION_STR, &options.redis_password, "", 0, 0, true, "password of Redis"},
    {"blob-dir", OPTION_STR, &options.blob_dir, "blobs", 0, 0, false,
     "folder of datasets and model versions"},
    {"root-key-file", OPTION_STR, &options.root_key_file, "", 0, 0, false,
     "file with the root key, 64 hex digits"},
    {"pepper-file", OPTION_STR, &options.pepper_file, "", 0, 0, false,
     "file with lines `version:64 hex digits`"},
    {"print-routes", OPTION_BOOL, &print_routes, "no", 0, 0, false,
     "print the route table for docs/api.md and exit"},
    {"print-openapi", OPTION_BOOL, &print_openapi, "no", 0, 0, false, "print /openapi.json and exit"},
};

static int print_document(void)
{
    struct buf out = {0};
    if (print_routes)
        openapi_markdown(&out, route_table, route_table_len);
    else
        openapi_write(&out, route_table, route_table_len);
    bool ok = !out.failed && fwrite(out.data, 1, out.len, stdout) == out.len && fflush(stdout) == 0;
    buf_dispose(&out);
    return ok ? 0 : 1;
}

static int make_certificate(struct err *e)
{
    if (!self_signed || options.tls_listen[0] == '\0') return 0;
    if (options.tls_cert[0] == '\0' || options.tls_key[0] == '\0')
        return err_set(e, ERR_INVALID, "tls-cert",
                       "--tls-self-signed needs --tls-cert and --tls-key: where to put them");
    if (access(options.tls_cert, F_OK) == 0 || access(options.tls_key, F_OK) == 0) return 0;
    return tls_self_signed(options.tls_cert, options.tls_key, SELF_SIGNED_DAYS, e);
}

static int check_options(struct err *e)
{
    int level = log_level_of(log_level);
    if (level < 0) return err_set(e, ERR_INVALID, "log-level", "unknown log level %s", log_level);
    log_init("gateway", (enum log_level)level);
    if (options.postgres_url[0] == '\0')
        return err_set(e, ERR_INVALID, "postgres-url", "give --postgres-url or TENOR_POSTGRES_URL");
    if (options.root_key_file[0] == '\0' || options.pepper_file[0] == '\0')
        return err_set(e, ERR_INVALID, "root-key-file", "give --root-key-file and --pepper-file");
    return make_certificate(e);
}

static int serve(const sigset_t *stop, struct err *e)
{
    struct gateway *g;
    int sig = 0;
    int rc = gateway_create(&g, &options, e);
    if (rc != 0) return rc;
    rc = gateway_start(g, e);
    if (rc == 0) {
        sigwait(stop, &sig);
        log_info("stopping", "signal=%s", strsignal(sig));
        gateway_drain(g, (int)drain_ms);
    }
    gateway_free(g);
    if (rc == 0) log_info("stopped", "signal=%s", strsignal(sig));
    return rc;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    sigset_t stop;
    log_init("gateway", LOG_INFO);
    option_parse("tenor-gateway", "Tenor's gateway: HTTP for tenants, health and metrics for operators.",
                 rows, sizeof(rows) / sizeof(rows[0]), argc, argv);
    if (print_routes || print_openapi) return print_document();
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stop, NULL); /* every thread inherits this; only sigwait takes them */
    signal(SIGPIPE, SIG_IGN);
    crypto_init();
    int rc = check_options(&e);
    if (rc == 0) rc = serve(&stop, &e);
    if (rc == 0) return 0;
    if (e.field[0] != '\0')
        log_error("cannot_start", "option=%s reason=%s", e.field, e.message);
    else
        log_error("cannot_start", "reason=%s", e.message);
    return 1;
}
