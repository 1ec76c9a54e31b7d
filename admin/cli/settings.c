/* tenor model show, set and delete: how a model's calls are batched, which of its versions are served, and
 * which are no longer there at all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/cli/client.h"
#include "admin/cli/command.h"
#include "admin/cli/output.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/num.h"

static const char *opt_rows, *opt_delay, *opt_serve;

/* What the API says about the model; its batching and policy alone where no JSON is asked for. */
static void print_model(const cJSON *m)
{
    if (command_shared.json) {
        output_json(m);
        return;
    }
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    jw_obj(&w);
    jw_kstr(&w, "model", output_text(m, "name"));
    jw_name(&w, "batching");
    jw_node(&w, cJSON_GetObjectItemCaseSensitive(m, "batching"));
    jw_name(&w, "version_policy");
    jw_node(&w, cJSON_GetObjectItemCaseSensitive(m, "version_policy"));
    jw_obj_end(&w);
    buf_char(&b, '\n');
    if (!b.failed) fwrite(b.data, 1, b.len, stdout);
    buf_dispose(&b);
}

static int call(const char *method, const struct buf *path, const struct buf *body, cJSON **answer,
                struct err *e)
{
    struct client *c;
    if (path->failed || (body && body->failed))
        return err_set(e, ERR_NOMEM, NULL, "no memory for the request");
    int rc = client_open(&c, e);
    if (rc) return rc;
    rc = client_call(c, method, path->data, body ? body->data : NULL, answer, e);
    client_close(c);
    return rc;
}

static int run_show(const struct command_args *args, struct err *e)
{
    struct buf path = {0};
    cJSON *model = NULL;
    buf_printf(&path, "/v1/models/%s", args->words[0]);
    int rc = call("GET", &path, NULL, &model, e);
    if (rc == 0) print_model(model);
    cJSON_Delete(model);
    buf_dispose(&path);
    return rc;
}

/* ---- setting ---- */

/* text: a whole number, or "none" for null; NULL leaves the member out. */
static int write_number(struct json_writer *w, const char *member, const char *option, const char *text,
                        struct err *e)
{
    int64_t n;
    if (!text) return 0;
    jw_name(w, member);
    if (strcmp(text, "none") == 0) {
        jw_null(w);
        return 0;
    }
    if (!num_parse_i64(text, 0, INT32_MAX, &n))
        return err_set(e, ERR_INVALID, option, "--%s takes a whole number, or none; not \"%s\"", option,
                       text);
    jw_int(w, n);
    return 0;
}

static int write_versions(struct json_writer *w, const char *text, struct err *e)
{
    char word[24];
    jw_name(w, "specific");
    jw_obj(w);
    jw_name(w, "versions");
    jw_arr(w);
    while (*text) {
        size_t len = strcspn(text, ",");
        int64_t n;
        snprintf(word, sizeof word, "%.*s", len < sizeof word ? (int)len : 0, text);
        if (!num_parse_i64(word, 1, INT32_MAX, &n))
            return err_set(e, ERR_INVALID, "serve", "--serve takes all, latest:N or versions as 1,3,5");
        jw_int(w, n);
        text += len + (text[len] == ',');
    }
    jw_arr_end(w);
    jw_obj_end(w);
    return 0;
}

static int write_policy(struct json_writer *w, const char *text, struct err *e)
{
    static const char latest[] = "latest:";
    int64_t n;
    int rc = 0;
    jw_name(w, "version_policy");
    jw_obj(w);
    if (strcmp(text, "all") == 0) {
        jw_name(w, "all");
        jw_obj(w);
        jw_obj_end(w);
    } else if (strncmp(text, latest, sizeof latest - 1) == 0 &&
               num_parse_i64(text + sizeof latest - 1, 1, INT32_MAX, &n)) {
        jw_name(w, "latest");
        jw_obj(w);
        jw_kint(w, "num_versions", n);
        jw_obj_end(w);
    } else
        rc = write_versions(w, text, e);
    if (rc == 0) jw_obj_end(w);
    return rc;
}

static int write_settings(struct buf *body, struct err *e)
{
    struct json_writer w;
    int rc = 0;
    if (!opt_rows && !opt_delay && !opt_serve)
        return err_set(e, ERR_INVALID, NULL,
                       "nothing to set: give --max-batch-rows, --max-queue-delay-us or --serve");
    jw_init(&w, body);
    jw_obj(&w);
    if (opt_rows || opt_delay) {
        jw_name(&w, "batching");
        jw_obj(&w);
        rc = write_number(&w, "max_batch_rows", "max-batch-rows", opt_rows, e);
        if (rc == 0) rc = write_number(&w, "max_queue_delay_us", "max-queue-delay-us", opt_delay, e);
        if (rc) return rc;
        jw_obj_end(&w);
    }
    if (opt_serve && (rc = write_policy(&w, opt_serve, e))) return rc;
    jw_obj_end(&w);
    return 0;
}

static int run_set(const struct command_args *args, struct err *e)
{
    struct buf path = {0}, body = {0};
    cJSON *model = NULL;
    buf_printf(&path, "/v1/models/%s", args->words[0]);
    int rc = write_settings(&body, e);
    if (rc == 0) rc = call("PATCH", &path, &body, &model, e);
    if (rc == 0) print_model(model);
    cJSON_Delete(model);
    buf_dispose(&path);
    buf_dispose(&body);
    return rc;
}

/* ---- deleting ---- */

static int run_delete(const struct command_args *args, struct err *e)
{
    struct buf path = {0};
    int64_t n;
    if (!num_parse_i64(args->words[1], 1, INT32_MAX, &n))
        return err_set(e, ERR_INVALID, "version", "\"%s\" is not a version number", args->words[1]);
    buf_printf(&path, "/v1/models/%s/versions/%lld", args->words[0], (long long)n);
    int rc = call("DELETE", &path, NULL, NULL, e);
    if (rc == 0) printf("version %lld of %s is deleted\n", (long long)n, args->words[0]);
    buf_dispose(&path);
    return rc;
}

static const struct option_row set_rows[] = {
    {.name = "max-batch-rows",
     .type = OPTION_STR,
     .out = &opt_rows,
     .help = "rows of one batch at most, 1 to 4096; none: as many as a worker computes at once"},
    {.name = "max-queue-delay-us",
     .type = OPTION_STR,
     .out = &opt_delay,
     .help = "how long a call may wait for company, 0 to 100000; none: not at all"},
    {.name = "serve",
     .type = OPTION_STR,
     .out = &opt_serve,
     .help = "which versions answer: all, latest:N, or numbers as 1,3,5"},
};

const struct command settings_commands[] = {
    {"model show", "<model>", 1, 1, COMMAND_TENANT | COMMAND_JSON, NULL, 0,
     "how a model's calls are batched and which versions are served", run_show},
    {"model set", "<model>", 1, 1, COMMAND_TENANT | COMMAND_JSON, set_rows,
     sizeof set_rows / sizeof *set_rows, "change that", run_set},
    {"model delete", "<model> <version>", 2, 2, COMMAND_TENANT, NULL, 0,
     "delete a version that no alias and no job needs", run_delete},
    {0},
};
