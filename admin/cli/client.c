/* Calls the gateway with libcurl, turns error envelopes into struct err, and repeats what may be repeated. */
#include "admin/cli/client.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/cli/command.h"
#include "admin/launch/home.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/ids.h"
#include "base/json.h"
#include "base/mem.h"

enum { ATTEMPTS = 8, WAIT_MAX_MS = 10000, ANSWER_MAX = 64 << 20, TOKENS_MAX = 4 << 20 };

struct client {
    CURL *curl;
    char *url; /* without a slash at its end */
    char *ca;
    struct curl_slist *auth;
    struct buf answer;
    long retry_after_s;
    void (*on_progress)(int64_t sent, int64_t total);
};

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct client *c = arg;
    buf_append(&c->answer, data, size * n);
    return c->answer.failed ? 0 : size * n;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    struct client *c = arg;
    if (size * n > 12 && strncasecmp(line, "retry-after:", 12) == 0)
        c->retry_after_s = strtol(line + 12, NULL, 10);
    return size * n;
}

static int on_transfer(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    (void)down_total, (void)down;
    const struct client *c = arg;
    if (c->on_progress && up_total > 0) c->on_progress(up, up_total);
    return command_interrupted;
}

/* What `tenor up` wrote down about the local platform: its address, and the certificate that it signed
 * itself. */
static char *local_text(const char *name, bool contents)
{
    struct home h;
    char path[PATH_MAX];
    if (home_find(&h, command_shared.home, NULL)) return NULL;
    home_path(&h, name, path);
    if (!contents) return access(path, R_OK) == 0 ? mem_strdup(path) : NULL;
    struct buf text = {0};
    char *found = NULL;
    if (fs_read_all(&text, path, 1024, NULL) == 0 && text.len)
        found = mem_strndup(text.data, strcspn(text.data, "\n"));
    buf_dispose(&text);
    return found;
}

int client_open_as(struct client **out, const char *url, const char *key, struct err *e)
{
    struct client *c = mem_alloc(1, sizeof *c);
    c->url = url ? mem_strdup(url) : local_text("etc/url", true);
    c->ca = command_shared.ca ? mem_strdup(command_shared.ca) : local_text("etc/tls.crt", false);
    c->answer.limit = ANSWER_MAX;
    int rc = 0;
    if (!c->url)
        rc = err_set(e, ERR_INVALID, "url",
                     "which platform? Give --url or TENOR_URL, or start a local one with `tenor up`");
    else if (!key || !*key)
        rc = err_set(e, ERR_UNAUTHORIZED, "api-key",
                     "an API key is needed: set TENOR_API_KEY (`tenor bootstrap` makes one)");
    else if (!(c->curl = curl_easy_init()))
        rc = err_set(e, ERR_NOMEM, NULL, "no memory for an HTTP client");
    if (rc) {
        client_close(c);
        return rc;
    }
    for (size_t n = strlen(c->url); n && c->url[n - 1] == '/'; n--) c->url[n - 1] = '\0';
    struct buf header = {0};
    buf_printf(&header, "Authorization: Bearer %s", key);
    c->auth = curl_slist_append(NULL, header.data);
    c->auth = curl_slist_append(c->auth, "Expect:");
    buf_dispose(&header);
    *out = c;
    return 0;
}

int client_open(struct client **out, struct err *e)
{
    return client_open_as(out, command_shared.url, command_shared.api_key, e);
}

void client_close(struct client *c)
{
    if (!c) return;
    if (c->curl) curl_easy_cleanup(c->curl);
    curl_slist_free_all(c->auth);
    buf_dispose(&c->answer);
    mem_free(c->url);
    mem_free(c->ca);
    mem_free(c);
}

static void set_up(struct client *c, const char *path, struct curl_slist *headers)
{
    struct buf url = {0};
    buf_printf(&url, "%s%s", c->url, path);
    curl_easy_reset(c->curl);
    curl_easy_setopt(c->curl, CURLOPT_URL, url.data);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, on_transfer);
    curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, c);
    curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, 5L);
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
    if (c->ca) curl_easy_setopt(c->curl, CURLOPT_CAINFO, c->ca);
    buf_dispose(&url);
}

/* The three error shapes of docs/architecture.md: our envelope, and the one-string form of the inference
 * protocols. */
static int error_of(const struct client *c, long status, struct err *e)
{
    cJSON *root = NULL;
    const char *message = NULL, *param = NULL, *code = NULL;
    if (json_parse(&root, c->answer.data ? c->answer.data : "", c->answer.len, TOKENS_MAX, NULL) == 0) {
        const cJSON *error = cJSON_GetObjectItemCaseSensitive(root, "error");
        message = cJSON_GetStringValue(
            cJSON_IsObject(error) ? cJSON_GetObjectItemCaseSensitive(error, "message") : error);
        param = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "param"));
        code = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "code"));
    }
    int kind = code            ? err_code_of(code)
               : status == 404 ? ERR_NOT_FOUND
               : status < 500  ? ERR_INVALID
                               : ERR_UNAVAILABLE;
    int rc = message ? err_set(e, kind, param, "%s", message)
                     : err_set(e, kind, NULL, "the gateway answered with status %ld", status);
    cJSON_Delete(root);
    return rc;
}

/* What may be gone a moment later; a certificate or an address that is wrong stays wrong. */
static bool is_passing(CURLcode code)
{
    return code == CURLE_COULDNT_CONNECT || code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR ||
           code == CURLE_GOT_NOTHING || code == CURLE_PARTIAL_FILE || code == CURLE_OPERATION_TIMEDOUT;
}

static bool worth_repeating(struct client *c, CURLcode code, long status, bool repeatable, int attempt)
{
    if (attempt + 1 >= ATTEMPTS || command_interrupted || !repeatable) return false;
    bool refused = code == CURLE_OK && (status == 429 || status == 503);
    if (!refused && !is_passing(code)) return false;
    if (code == CURLE_COULDNT_CONNECT && attempt >= 3) return false;
    long wait_ms = refused && c->retry_after_s > 0 ? c->retry_after_s * 1000 : 100L << attempt;
    poll(NULL, 0, (int)(wait_ms > WAIT_MAX_MS ? WAIT_MAX_MS : wait_ms));
    return !command_interrupted;
}

static int perform(struct client *c, bool repeatable, cJSON **out, struct err *e)
{
    long status = 0;
    CURLcode code;
    int attempt = 0;
    do {
        buf_clear(&c->answer);
        c->retry_after_s = 0;
        code = curl_easy_perform(c->curl);
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    } while (worth_repeating(c, code, status, repeatable, attempt++));
    if (code == CURLE_ABORTED_BY_CALLBACK) return err_set(e, ERR_CANCELLED, NULL, "interrupted");
    /* A refusal may arrive while the body is still being sent: the answer matters more than the broken pipe.
     */
    if (code == CURLE_SSL_CACERT_BADFILE)
        return err_set(e, ERR_INVALID, "ca", "%s cannot be read as certificates",
                       c->ca ? c->ca : "the system's store");
    if (code != CURLE_OK && !(status >= 400 && c->answer.len))
        return err_set(e, ERR_UNAVAILABLE, NULL, "%s: %s", c->url, curl_easy_strerror(code));
    if (status < 200 || status >= 300) return error_of(c, status, e);
    if (!out) return 0;
    return json_parse(out, c->answer.data ? c->answer.data : "", c->answer.len, TOKENS_MAX, e);
}

static struct curl_slist *with_headers(const struct client *c, const char *type)
{
    struct curl_slist *list = NULL;
    for (const struct curl_slist *a = c->auth; a; a = a->next) list = curl_slist_append(list, a->data);
    char line[128], id[ID_MAX];
    id_new(id, "idem_");
    snprintf(line, sizeof line, "Idempotency-Key: %s", id);
    list = curl_slist_append(list, line);
    return type ? curl_slist_append(list, type) : list;
}

static int call(struct client *c, const char *method, const char *path, const char *body, bool creates,
                const char *extra, cJSON **out, struct err *e)
{
    struct curl_slist *headers = creates ? with_headers(c, "Content-Type: application/json") : NULL;
    if (!headers && body) {
        for (const struct curl_slist *a = c->auth; a; a = a->next)
            headers = curl_slist_append(headers, a->data);
        headers = curl_slist_append(headers, "Content-Type: application/json");
    }
    if (extra) headers = curl_slist_append(headers, extra);
    set_up(c, path, headers ? headers : c->auth);
    if (strcmp(method, "GET") != 0) {
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body ? body : "");
        curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
    }
    int rc = perform(c, true, out, e);
    curl_slist_free_all(headers);
    return rc;
}

int client_call(struct client *c, const char *method, const char *path, const char *body, cJSON **out,
                struct err *e)
{
    bool creates = strcmp(method, "POST") == 0 && !strstr(path, ":predict") && !strstr(path, "/infer");
    return call(c, method, path, body, creates, NULL, out, e);
}

int client_defer(struct client *c, const char *path, const char *body, cJSON **out, struct err *e)
{
    return call(c, "POST", path, body, true, "Prefer: respond-async", out, e);
}

int client_upload(struct client *c, const char *path, const char *name, const struct client_file *files,
                  size_t files_len, void (*on_progress)(int64_t sent, int64_t total), cJSON **out,
                  struct err *e)
{
    struct curl_slist *headers = with_headers(c, NULL);
    set_up(c, path, headers);
    curl_mime *mime = curl_mime_init(c->curl);
    curl_mimepart *part = curl_mime_addpart(mime);
    curl_mime_name(part, "name");
    curl_mime_data(part, name, CURL_ZERO_TERMINATED);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < files_len; i++) {
        part = curl_mime_addpart(mime);
        curl_mime_name(part, files[i].part);
        if (access(files[i].path, R_OK) != 0 || curl_mime_filedata(part, files[i].path) != CURLE_OK)
            rc = err_errno(e, ERR_NOT_FOUND, "open %s", files[i].path);
    }
    curl_easy_setopt(c->curl, CURLOPT_MIMEPOST, mime);
    c->on_progress = on_progress;
    if (rc == 0) rc = perform(c, true, out, e);
    c->on_progress = NULL;
    curl_mime_free(mime);
    curl_slist_free_all(headers);
    return rc;
}
