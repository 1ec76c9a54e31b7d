/* tenor tune, tenor evaluate and tenor job trials. */
#include <stdio.h>
#include <string.h>

#include "admin/cli/client.h"
#include "admin/cli/command.h"
#include "admin/cli/output.h"
#include "admin/cli/train.h"
#include "admin/cli/trials.h"
#include "base/buf.h"

static const char *opt_model, *opt_test, *opt_spec, *opt_method, *opt_metric, *opt_alias;
static int64_t opt_trials, opt_folds, opt_version, opt_max_seconds;
static bool opt_detach;

static void put_text(cJSON *object, const char *name, const char *value)
{
    if (!value) return;
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    cJSON_AddStringToObject(object, name, value);
}

static void put_number(cJSON *object, const char *name, int64_t value)
{
    if (!value) return;
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    cJSON_AddNumberToObject(object, name, (double)value);
}

static cJSON *spec_of(cJSON *job)
{
    cJSON *spec = cJSON_GetObjectItemCaseSensitive(job, "spec");
    return spec ? spec : cJSON_AddObjectToObject(job, "spec");
}

/* A training spec is what is to be cross-validated. */
static void put_under_base(cJSON *job)
{
    cJSON *spec = spec_of(job);
    if (cJSON_GetObjectItemCaseSensitive(spec, "base")) return;
    cJSON_DetachItemViaPointer(job, spec);
    cJSON_AddItemToObject(spec_of(job), "base", spec);
}

static int build(cJSON *job, const char *type, const char *dataset, struct err *e)
{
    int rc = opt_spec ? train_read_spec(job, opt_spec, e) : 0;
    if (rc) return rc;
    put_text(job, "type", type);
    put_text(job, "dataset", dataset);
    put_text(job, "model", opt_model);
    put_text(job, "test_dataset", opt_test);
    put_number(job, "max_seconds", opt_max_seconds);
    return 0;
}

static int submit(cJSON *job, struct err *e)
{
    struct client *c;
    int rc = client_open(&c, e);
    if (rc) return rc;
    char *body = cJSON_PrintUnformatted(job);
    rc = body ? train_run(c, body, opt_detach, e) : err_set(e, ERR_NOMEM, NULL, "out of memory");
    cJSON_free(body);
    client_close(c);
    return rc;
}

static int run_tune(const struct command_args *args, struct err *e)
{
    cJSON *job = cJSON_CreateObject();
    int rc = opt_spec ? build(job, "tune", args->words[0], e)
                      : err_set(e, ERR_INVALID, "--spec", "a search needs a file that says what to try");
    if (rc == 0) {
        cJSON *spec = spec_of(job);
        put_text(spec, "method", opt_method);
        put_text(spec, "metric", opt_metric);
        put_number(spec, "trials", opt_trials);
        rc = submit(job, e);
    }
    cJSON_Delete(job);
    return rc;
}

static int run_evaluate(const struct command_args *args, struct err *e)
{
    cJSON *job = cJSON_CreateObject();
    int rc = build(job, "evaluate", args->words[0], e);
    if (rc == 0 && (opt_spec || opt_folds)) put_under_base(job);
    if (rc == 0) {
        put_number(spec_of(job), "folds", opt_folds);
        put_number(spec_of(job), "version", opt_version);
        put_text(spec_of(job), "alias", opt_alias);
        rc = submit(job, e);
    }
    cJSON_Delete(job);
    return rc;
}

static int run_trials(const struct command_args *args, struct err *e)
{
    struct client *c;
    struct buf path = {0};
    cJSON *job = NULL;
    int rc = client_open(&c, e);
    if (rc) return rc;
    buf_printf(&path, "/v1/jobs/%s", args->words[0]);
    rc = client_call(c, "GET", path.data, NULL, &job, e);
    const cJSON *metrics =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(job, "result"), "metrics");
    if (rc == 0 && command_shared.json)
        output_json(cJSON_GetObjectItemCaseSensitive(metrics, "tune"));
    else if (rc == 0)
        trials_print(metrics);
    buf_dispose(&path);
    cJSON_Delete(job);
    client_close(c);
    return rc;
}

#define MODEL_ROW(text)                                                                                      \
    {                                                                                                        \
        .name = "model", .type = OPTION_STR, .out = &opt_model, .help = (text)                               \
    }
#define SPEC_ROW(text)                                                                                       \
    {                                                                                                        \
        .name = "spec", .type = OPTION_STR, .out = &opt_spec, .help = (text)                                 \
    }
#define SECONDS_ROW                                                                                          \
    {                                                                                                        \
        .name = "max-seconds", .type = OPTION_INT, .out = &opt_max_seconds, .min = 1, .max = 604800,         \
        .help = "time limit; also what is held on the account while it runs"                                 \
    }
#define DETACH_ROW                                                                                           \
    {                                                                                                        \
        .name = "detach", .type = OPTION_BOOL, .out = &opt_detach,                                           \
        .help = "print the job's id and do not wait"                                                         \
    }

static const struct option_row tune_rows[] = {
    MODEL_ROW("name of the model that gets the best trial as its new version"),
    SPEC_ROW("JSON file: base, parameters, and what else the search is to be"),
    {.name = "method", .type = OPTION_STR, .out = &opt_method, .help = "grid, random or halving"},
    {.name = "metric", .type = OPTION_STR, .out = &opt_metric, .help = "of the validation rows: accuracy, …"},
    {.name = "trials", .type = OPTION_INT, .out = &opt_trials, .min = 1, .max = 256, .help = "how many"},
    {.name = "test",
     .type = OPTION_STR,
     .out = &opt_test,
     .help = "dataset that the best trial alone is tested on"},
    SECONDS_ROW,
    DETACH_ROW,
};

static const struct option_row evaluate_rows[] = {
    MODEL_ROW("name of the model that is scored"),
    {.name = "version",
     .type = OPTION_INT,
     .out = &opt_version,
     .min = 1,
     .max = INT32_MAX,
     .help = "which of its versions; without it the one that answers requests"},
    {.name = "alias", .type = OPTION_STR, .out = &opt_alias, .help = "the version that has this alias"},
    SPEC_ROW("cross-validate this training spec instead"),
    {.name = "folds", .type = OPTION_INT, .out = &opt_folds, .min = 2, .max = 50, .help = "in so many folds"},
    SECONDS_ROW,
    DETACH_ROW,
};

const struct command search_commands[] = {
    {"tune", "<dataset>", 1, 1, COMMAND_TENANT | COMMAND_JSON, tune_rows,
     sizeof tune_rows / sizeof *tune_rows, "search for the best of many trainings and follow it", run_tune},
    {"evaluate", "<dataset>", 1, 1, COMMAND_TENANT | COMMAND_JSON, evaluate_rows,
     sizeof evaluate_rows / sizeof *evaluate_rows, "score a version, or cross-validate a spec, on a dataset",
     run_evaluate},
    {"job trials", "<job>", 1, 1, COMMAND_TENANT | COMMAND_JSON, NULL, 0, "the trials of a search",
     run_trials},
    {0},
};
