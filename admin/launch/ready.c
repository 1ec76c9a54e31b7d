/* Asks the gateway's ops socket and Redis until the platform serves, or says which daemon failed and why. */
#include "admin/launch/ready.h"

#include <curl/curl.h>
#include <poll.h>
#include <string.h>

#include "admin/launch/process.h"
#include "admin/launch/servers.h"
#include "base/clock.h"
#include "base/mem.h"
#include "queue/heartbeat.h"
#include "queue/redis.h"

enum { PATIENCE_MS = 30000, AGAIN_MS = 25 };

static size_t ignore_body(char *data, size_t size, size_t n, void *arg)
{
    (void)data, (void)arg;
    return size * n;
}

bool ready_gateway(const struct home *h)
{
    char socket[PATH_MAX];
    long status = 0;
    home_socket(h, "ops.sock", socket);
    CURL *curl = curl_easy_init();
    if (!curl) return false;
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket);
    curl_easy_setopt(curl, CURLOPT_URL, "http://localhost/readyz");
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore_body);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 2000L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    if (curl_easy_perform(curl) == CURLE_OK) curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    return status == 200;
}

static bool worker_beats(struct redis *r)
{
    struct heartbeat *beats = NULL;
    size_t n = 0;
    bool alive = heartbeat_list(r, &beats, &n, NULL) == 0 && n > 0;
    mem_free(beats);
    return alive;
}

static int check_alive(const struct home *h, struct err *e)
{
    static const char *const daemons[] = {"gateway", "scheduler", "worker"};
    for (size_t i = 0; i < 3; i++) {
        if (process_find(h, daemons[i]) > 0) continue;
        char tail[300];
        process_log_tail(h, daemons[i], tail, sizeof tail);
        return err_set(e, ERR_UNAVAILABLE, NULL, "the %s ended while it was starting: %s", daemons[i], tail);
    }
    return 0;
}

int ready_wait(const struct home *h, struct err *e)
{
    char url[CONNINFO_MAX], secret[HOME_SECRET_HEX_LEN];
    struct redis_address at;
    redis_url(h, url);
    int rc = home_secret(h, "redis-password", secret, e);
    if (rc || (rc = redis_address_parse(&at, url, secret, e))) return rc;
    struct redis *r = redis_create(&at, 2000);
    int64_t deadline = clock_mono_ms() + PATIENCE_MS;
    bool gateway = false, worker = false;
    while (rc == 0 && !(gateway && worker)) {
        if ((rc = check_alive(h, e))) break;
        gateway = gateway || ready_gateway(h);
        worker = worker || worker_beats(r);
        if (gateway && worker) break;
        if (clock_mono_ms() > deadline) {
            const char *name = gateway ? "worker" : "gateway";
            char tail[300];
            process_log_tail(h, name, tail, sizeof tail);
            rc = err_set(e, ERR_TIMEOUT, NULL, "the %s was not ready within %d s; its log ends: %s", name,
                         PATIENCE_MS / 1000, tail);
        }
        poll(NULL, 0, AGAIN_MS);
    }
    redis_free(r);
    return rc;
}
