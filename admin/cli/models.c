/* tenor model … and tenor predict: the registry and a prediction from the shell. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/cli/call.h"
#include "admin/cli/client.h"
#include "admin/cli/command.h"
#include "admin/cli/output.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/num.h"

enum { BODY_MAX = 16 << 20 };

static int64_t opt_version;
static const char *opt_alias;
static bool opt_async;

static void print_models(const cJSON *list)
{
    const char *const headers[] = {"MODEL", "NEWEST", "LIVE", "CREATED"};
    struct table *t = table_create(headers, 4);
    const cJSON *m;
    cJSON_ArrayForEach(m, cJSON_GetObjectItemCaseSensitive(list, "data"))
    {
        char newest[OUTPUT_TEXT_MAX], live[OUTPUT_TEXT_MAX] = "", when[OUTPUT_TEXT_MAX];
        snprintf(newest, sizeof newest, "%.0f", output_number(m, "latest_version", 0));
        double v = output_number(cJSON_GetObjectItemCaseSensitive(m, "aliases"), "live", 0);
        if (v > 0) snprintf(live, sizeof live, "%.0f", v);
        output_when(when, output_number(m, "created_at", 0));
        const char *const cells[] = {output_text(m, "name"), newest, live, when};
        table_row(t, cells);
    }
    table_print(t);
}

static void print_versions(const cJSON *list)
{
    const char *const headers[] = {"VERSION", "STATUS", "SIZE", "TEST ACCURACY", "JOB", "CREATED"};
    struct table *t = table_create(headers, 6);
    const cJSON *v;
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(list, "data"))
    {
        char number[OUTPUT_TEXT_MAX], size[OUTPUT_TEXT_MAX], when[OUTPUT_TEXT_MAX],
            accuracy[OUTPUT_TEXT_MAX] = "";
        snprintf(number, sizeof number, "%.0f", output_number(v, "version", 0));
        output_bytes(size, output_number(v, "bytes", 0));
        output_when(when, output_number(v, "created_at", 0));
        const cJSON *test =
            cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(v, "metrics"), "test");
        double a = output_number(test, "accuracy", -1);
        if (a >= 0) snprintf(accuracy, sizeof accuracy, "%.4f", a);
        const char *const cells[] = {number,   output_text(v, "status"), size,
                                     accuracy, output_text(v, "job"),    when};
        table_row(t, cells);
    }
    table_print(t);
}

static int run_list(const struct command_args *args, struct err *e)
{
    (void)args;
    return call_print(print_models, e, "GET", "/v1/models?limit=100");
}

static int run_versions(const struct command_args *args, struct err *e)
{
    return call_print(print_versions, e, "GET", "/v1/models/%s/versions?limit=100", args->words[0]);
}

static bool all_numbers(const struct command_args *args)
{
    double ignored;
    for (size_t i = 1; i < args->len; i++) {
        const char *word = args->words[i];
        if (num_scan(word, word + strlen(word), &ignored) != strlen(word) || !*word) return false;
    }
    return true;
}

static void write_texts(const struct command_args *args, struct buf *body)
{
    struct json_writer w;
    jw_init(&w, body);
    jw_obj(&w);
    jw_name(&w, "instances");
    jw_arr(&w);
    for (size_t i = 1; i < args->len; i++) jw_str(&w, args->words[i]);
    jw_arr_end(&w);
    jw_obj_end(&w);
}

/* The body of a predict: a file, standard input ("-"), numbers given as arguments, which make one row, or
 * texts, each of which is a row. */
static int read_instances(const struct command_args *args, struct buf *body, struct err *e)
{
    const char *first = args->words[1];
    if (args->len == 2 && strcmp(first, "-") == 0) return fs_read_fd(body, 0, BODY_MAX, e);
    if (args->len == 2 && (first[0] == '{' || first[0] == '[')) {
        buf_printf(body, first[0] == '{' ? "%s" : "{\"instances\":%s}", first);
        return 0;
    }
    if (args->len == 2 && first[0] == '@') return fs_read_all(body, first + 1, BODY_MAX, e);
    if (!all_numbers(args)) {
        write_texts(args, body);
        return 0;
    }
    buf_str(body, "{\"instances\":[[");
    for (size_t i = 1; i < args->len; i++) buf_printf(body, "%s%s", i > 1 ? "," : "", args->words[i]);
    buf_str(body, "]]}");
    return 0;
}

static int run_predict(const struct command_args *args, struct err *e)
{
    struct buf body = {0}, path = {0};
    struct client *c = NULL;
    cJSON *answer = NULL;
    int rc = read_instances(args, &body, e);
    if (rc == 0) rc = client_open(&c, e);
    if (rc) goto out;
    buf_printf(&path, "/v1/models/%s", args->words[0]);
    if (opt_version)
        buf_printf(&path, "/versions/%lld", (long long)opt_version);
    else if (opt_alias)
        buf_printf(&path, "/labels/%s", opt_alias);
    buf_str(&path, ":predict");
    rc = opt_async ? client_defer(c, path.data, body.data, &answer, e)
                   : client_call(c, "POST", path.data, body.data, &answer, e);
    if (rc) goto out;
    if (opt_async && !command_shared.json)
        printf("%s\n", output_text(answer, "id"));
    else if (opt_async)
        output_json(answer);
    else
        output_json(command_shared.json ? answer : cJSON_GetObjectItemCaseSensitive(answer, "predictions"));
out:
    cJSON_Delete(answer);
    client_close(c);
    buf_dispose(&path);
    buf_dispose(&body);
    return rc;
}

static const struct option_row predict_rows[] = {
    {.name = "version",
     .type = OPTION_INT,
     .out = &opt_version,
     .min = 1,
     .max = 1000000000,
     .help = "version to ask (default: the alias live, else the newest)"},
    {.name = "alias", .type = OPTION_STR, .out = &opt_alias, .help = "alias to ask"},
    {.name = "async",
     .type = OPTION_BOOL,
     .out = &opt_async,
     .help = "print a job's id and do not wait: tenor job result has the answer later"},
};

const struct command model_commands[] = {
    {"predict", "<model> <row>", 2, 100000, COMMAND_TENANT | COMMAND_JSON, predict_rows,
     sizeof predict_rows / sizeof *predict_rows, "predict: numbers, texts, JSON instances, @file or -",
     run_predict},
    {"model list", "", 0, 0, COMMAND_TENANT | COMMAND_JSON, NULL, 0, "the models", run_list},
    {"model versions", "<model>", 1, 1, COMMAND_TENANT | COMMAND_JSON, NULL, 0, "a model's versions",
     run_versions},
    {0},
};
