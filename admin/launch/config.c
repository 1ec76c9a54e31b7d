/* Writes the daemons' configuration files from what the launcher knows about the home. */
#include "admin/launch/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"

static int own_folder(char out[PATH_MAX], struct err *e)
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n <= 0) return err_errno(e, ERR_IO, "find the running program");
    out[n] = '\0';
    *strrchr(out, '/') = '\0';
    return 0;
}

int config_program(const char *name, char out[PATH_MAX], struct err *e)
{
    char folder[PATH_MAX];
    int rc = own_folder(folder, e);
    if (rc) return rc;
    if (snprintf(out, PATH_MAX, "%s/tenor-%s", folder, name) >= PATH_MAX || access(out, X_OK) != 0)
        return err_set(e, ERR_NOT_FOUND, NULL, "tenor-%s is not beside tenor in %s; build or install it",
                       name, folder);
    return 0;
}

int config_migrations(char out[PATH_MAX], struct err *e)
{
    static const char *const beside[] = {"/../../migrations", "/../share/tenor/migrations",
                                         "/../../../migrations"};
    const char *given = getenv("TENOR_MIGRATIONS");
    char folder[PATH_MAX], path[PATH_MAX + 32];
    int rc = own_folder(folder, e);
    if (rc) return rc;
    if (given && realpath(given, out)) return 0;
    for (size_t i = 0; !given && i < sizeof beside / sizeof *beside; i++) {
        snprintf(path, sizeof path, "%s%s", folder, beside[i]);
        if (realpath(path, out)) return 0;
    }
    return err_set(e, ERR_NOT_FOUND, "migrations", "the folder of migrations %s%s; set TENOR_MIGRATIONS",
                   given ? "is not there: " : "was not found near ", given ? given : folder);
}

int config_owner_conninfo(const struct home *h, char out[CONNINFO_MAX], struct err *e)
{
    int rc = postgres_conninfo(h, "tenor_root", out, e);
    char *db = rc == 0 ? strstr(out, "dbname=postgres") : NULL;
    if (!db) return rc;
    /* The owner's login is made for the maintenance database; the schema lives in `tenor`. */
    memmove(db + strlen("dbname=tenor"), db + strlen("dbname=postgres"),
            strlen(db + strlen("dbname=postgres")) + 1);
    memcpy(db, "dbname=tenor", strlen("dbname=tenor"));
    return 0;
}

/* "1:<64 hex>", made from a secret of the home on first use. */
static int ensure_pepper(const struct home *h, struct err *e)
{
    char path[PATH_MAX], hex[HOME_SECRET_HEX_LEN], line[HOME_SECRET_HEX_LEN + 8];
    home_path(h, "etc/pepper", path);
    if (access(path, F_OK) == 0) return 0;
    int rc = home_secret(h, "pepper-1", hex, e);
    if (rc) return rc;
    int n = snprintf(line, sizeof line, "1:%s\n", hex);
    return fs_write_atomic(path, line, (size_t)n, 0600, e);
}

/* What all three daemons need. */
static int add_shared(const struct home *h, const char *login, struct buf *text, struct err *e)
{
    char info[CONNINFO_MAX], url[CONNINFO_MAX], secret[HOME_SECRET_HEX_LEN];
    int rc = postgres_conninfo(h, login, info, e);
    if (rc || (rc = home_secret(h, "redis-password", secret, e))) return rc;
    redis_url(h, url);
    buf_printf(text,
               "# written by `tenor up`; changes are lost at the next start\npostgres-url = %s\nredis-url = "
               "%s\nredis-password = %s\n",
               info, url, secret);
    return 0;
}

/* The gateway writes blobs and the worker reads them: both need the root key. */
static int add_blob_store(const struct home *h, struct buf *text, struct err *e)
{
    char secret[HOME_SECRET_HEX_LEN];
    int rc = home_secret(h, "root.key", secret, e);
    if (rc || (rc = ensure_pepper(h, e))) return rc;
    buf_printf(text, "blob-dir = %s/blobs\nroot-key-file = %s/etc/root.key\n", h->root, h->root);
    return 0;
}

static int write_out(const struct home *h, const char *leaf, struct buf *text, struct err *e)
{
    char path[PATH_MAX];
    home_path(h, leaf, path);
    int rc = text->failed ? err_set(e, ERR_NOMEM, NULL, "out of memory")
                          : fs_write_atomic(path, text->data, text->len, 0600, e);
    buf_dispose(text);
    return rc;
}

int config_write_gateway(const struct home *h, const struct config_gateway *g, struct err *e)
{
    struct buf text = {0};
    int rc = add_shared(h, "tenor_gateway", &text, e);
    if (rc == 0) rc = add_blob_store(h, &text, e);
    if (rc) {
        buf_dispose(&text);
        return rc;
    }
    buf_printf(&text, "pepper-file = %s/etc/pepper\nlisten = %s\nops-listen = unix:%s/ops.sock\n", h->root,
               g->listen, h->sockets);
    if (g->tls_listen[0]) buf_printf(&text, "tls-listen = %s\n", g->tls_listen);
    if (g->tls_cert)
        buf_printf(&text, "tls-cert = %s\ntls-key = %s\n", g->tls_cert, g->tls_key ? g->tls_key : "");
    else
        buf_printf(&text, "tls-cert = %s/etc/tls.crt\ntls-key = %s/etc/tls.key\ntls-self-signed = true\n",
                   h->root, h->root);
    return write_out(h, "etc/gateway.conf", &text, e);
}

int config_write_scheduler(const struct home *h, int64_t lease_ms, struct err *e)
{
    struct buf text = {0};
    int rc = add_shared(h, "tenor_scheduler", &text, e);
    if (rc) {
        buf_dispose(&text);
        return rc;
    }
    buf_printf(&text, "blob-dir = %s/blobs\n", h->root);
    if (lease_ms) buf_printf(&text, "lease = %lldms\n", (long long)lease_ms);
    return write_out(h, "etc/scheduler.conf", &text, e);
}

int config_write_worker(const struct home *h, const struct config_worker *w, struct err *e)
{
    struct buf text = {0};
    char runner[PATH_MAX];
    int rc = config_program("runner", runner, e);
    if (rc == 0) rc = add_shared(h, "tenor_worker", &text, e);
    if (rc == 0) rc = add_blob_store(h, &text, e);
    if (rc) {
        buf_dispose(&text);
        return rc;
    }
    buf_printf(&text, "runner = %s\nwork-dir = %s/work\n", runner, h->root);
    if (w->job_slots) buf_printf(&text, "job-slots = %lld\n", (long long)w->job_slots);
    if (w->predict_threads) buf_printf(&text, "predict-threads = %lld\n", (long long)w->predict_threads);
    if (w->lease_ms) buf_printf(&text, "lease = %lldms\n", (long long)w->lease_ms);
    return write_out(h, "etc/worker.conf", &text, e);
}
