/* tenor train and tenor job …: submit, follow with a live line, list, show, cancel, events. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/cli/call.h"
#include "admin/cli/client.h"
#include "admin/cli/command.h"
#include "admin/cli/metrics.h"
#include "admin/cli/output.h"
#include "admin/cli/train.h"
#include "admin/cli/trials.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/ids.h"
#include "base/json.h"

enum { POLL_MS = 250, SPEC_MAX = 1 << 20 };

static const char *opt_model, *opt_test, *opt_target, *opt_family, *opt_spec;
static int64_t opt_epochs, opt_max_seconds, opt_priority, opt_threads;
static bool opt_detach;

int train_submit(struct client *c, const char *body, char *out, struct err *e)
{
    cJSON *job = NULL;
    int rc = client_call(c, "POST", "/v1/jobs", body, &job, e);
    if (rc == 0) snprintf(out, ID_MAX, "%s", output_text(job, "id"));
    cJSON_Delete(job);
    return rc;
}

/* " trial 2/9": which of several trainings it is. */
static void describe_part(struct buf *text, const cJSON *progress)
{
    static const char *const parts[] = {"trial", "fold"};
    for (size_t i = 0; i < 2; i++) {
        const cJSON *part = cJSON_GetObjectItemCaseSensitive(progress, parts[i]);
        if (cJSON_IsObject(part))
            buf_printf(text, " %s %.0f/%.0f", parts[i], output_number(part, "number", 0),
                       output_number(part, "of", 0));
    }
}

/* "epoch 3/10  loss 0.4123  accuracy 0.8511  val_loss …": whatever metrics the runner reports, in its order.
 */
static void describe(const cJSON *job, char *out, size_t cap)
{
    const cJSON *progress = cJSON_GetObjectItemCaseSensitive(job, "progress");
    const char *status = output_text(job, "status");
    struct buf text = {0};
    buf_printf(&text, "%-9s", status);
    if (cJSON_IsObject(progress)) {
        double epochs = output_number(progress, "epochs", 0), steps = output_number(progress, "steps", 0);
        double epoch = output_number(progress, "epoch", 0), step = output_number(progress, "step", 0);
        double share =
            epochs > 0 ? ((epoch > 0 ? epoch - 1 : 0) + (steps > 0 ? step / steps : 0)) / epochs : 0;
        if (strcmp(status, "succeeded") == 0) share = 1; /* the last report may be older than the end */
        int filled = (int)(share * 20 + 0.5);
        buf_str(&text, " ");
        for (int i = 0; i < 20; i++) buf_str(&text, i < filled ? "█" : "░");
        describe_part(&text, progress);
        buf_printf(&text, " epoch %.0f/%.0f", epoch, epochs);
        const cJSON *m;
        cJSON_ArrayForEach(m, cJSON_GetObjectItemCaseSensitive(progress, "metrics"))
        {
            if (cJSON_IsNumber(m)) buf_printf(&text, "  %s %.4f", m->string, m->valuedouble);
        }
        char eta[OUTPUT_TEXT_MAX];
        output_duration(eta, output_number(progress, "eta_seconds", -1));
        if (eta[0] != '-') buf_printf(&text, "  %s left", eta);
    }
    snprintf(out, cap, "%s", text.data ? text.data : "");
    buf_dispose(&text);
}

static bool has_ended(const char *status)
{
    static const char *const ends[] = {"succeeded", "failed", "cancelled", "dead"};
    for (size_t i = 0; i < 4; i++)
        if (strcmp(status, ends[i]) == 0) return true;
    return false;
}

/* Off a terminal the same line once an epoch and at each change of state: logs stay readable. */
static void show(const cJSON *job, double *last_epoch, char *last_status)
{
    double epoch = output_number(cJSON_GetObjectItemCaseSensitive(job, "progress"), "epoch", 0);
    const char *status = output_text(job, "status");
    if (!command_shared.json) { /* there, nothing but the answer may be printed */
        char line[512];
        describe(job, line, sizeof line);
        output_progress("%s", line);
        if (!output_is_terminal() && (epoch > *last_epoch || strcmp(status, last_status) != 0)) {
            printf("  %s\n", line);
            fflush(stdout);
        }
    }
    *last_epoch = epoch;
    snprintf(last_status, OUTPUT_TEXT_MAX, "%s", status);
}

static int ended_well(const cJSON *job, struct err *e)
{
    const char *status = output_text(job, "status");
    if (strcmp(status, "succeeded") == 0) return 0;
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(job, "error");
    const char *message = output_text(error, "message");
    return err_set(e, ERR_CONFLICT, output_text(error, "param"), "the job %s%s%s", status,
                   message[0] ? ": " : "", message);
}

int train_watch(struct client *c, const char *id, cJSON **out, struct err *e)
{
    char path[ID_MAX + 16], status[OUTPUT_TEXT_MAX] = "";
    double epoch = -1;
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    for (;;) {
        cJSON *job = NULL;
        int rc = client_call(c, "GET", path, NULL, &job, e);
        if (rc) return rc;
        show(job, &epoch, status);
        if (has_ended(status)) {
            output_progress_end();
            *out = job;
            return ended_well(job, e);
        }
        cJSON_Delete(job);
        poll(NULL, 0, POLL_MS);
        if (command_interrupted) {
            output_progress_end();
            return err_set(e, ERR_CANCELLED, NULL,
                           "stopped watching; the job goes on. `tenor job watch %s` follows it again", id);
        }
    }
}

void train_print(const cJSON *job)
{
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(job, "result");
    char cost[OUTPUT_TEXT_MAX], took[OUTPUT_TEXT_MAX];
    output_money(cost, output_micros(job, "cost_micros"));
    double started = output_number(job, "started_at", 0), finished = output_number(job, "finished_at", 0);
    output_duration(took, started > 0 && finished > 0 ? finished - started : -1);
    if (finished > 0 && finished == started) strcpy(took, "under 1 s"); /* times are whole seconds */
    printf("%s  %s  model %s", output_text(job, "id"), output_text(job, "status"), output_text(job, "model"));
    if (output_number(result, "version", 0) > 0) printf(" version %.0f", output_number(result, "version", 0));
    printf("  took %s  cost %s\n", took, cost);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(job, "error");
    if (cJSON_IsObject(error))
        printf("  error: %s %s\n", output_text(error, "message"), output_text(error, "param"));
    const cJSON *metrics = cJSON_GetObjectItemCaseSensitive(result, "metrics");
    metrics_print(metrics);
    trials_print(metrics);
}

/* A spec file holds the spec, or a whole job whose fields the options then complete. */
int train_read_spec(cJSON *job, const char *file, struct err *e)
{
    struct buf text = {0};
    cJSON *root = NULL;
    int rc = fs_read_all(&text, file, SPEC_MAX, e);
    if (rc == 0) rc = json_parse(&root, text.data ? text.data : "", text.len, 200000, e);
    if (rc) err_prefix(e, "%s", file);
    buf_dispose(&text);
    if (rc) return rc;
    if (!cJSON_GetObjectItemCaseSensitive(root, "spec")) {
        cJSON_AddItemToObject(job, "spec", root);
        return 0;
    }
    for (cJSON *item = root->child, *next; item; item = next) {
        next = item->next;
        cJSON_DetachItemViaPointer(root, item);
        cJSON_AddItemToObject(job, item->string, item);
    }
    cJSON_Delete(root);
    return 0;
}

static cJSON *child_object(cJSON *parent, const char *name)
{
    cJSON *o = cJSON_GetObjectItemCaseSensitive(parent, name);
    return o ? o : cJSON_AddObjectToObject(parent, name);
}

static void put_text(cJSON *object, const char *name, const char *value)
{
    if (!value) return;
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    cJSON_AddStringToObject(object, name, value);
}

static int build_job(const char *dataset, char **body, struct err *e)
{
    cJSON *job = cJSON_CreateObject();
    int rc = opt_spec ? train_read_spec(job, opt_spec, e) : 0;
    if (rc == 0) {
        put_text(job, "type", "train");
        put_text(job, "dataset", dataset);
        put_text(job, "model", opt_model);
        put_text(job, "test_dataset", opt_test);
        if (opt_max_seconds) cJSON_AddNumberToObject(job, "max_seconds", (double)opt_max_seconds);
        if (opt_priority) cJSON_AddNumberToObject(job, "priority", (double)opt_priority);
        if (opt_threads) cJSON_AddNumberToObject(job, "threads", (double)opt_threads);
        cJSON *spec = child_object(job, "spec");
        put_text(spec, "target", opt_target);
        put_text(spec, "family", opt_family);
        if (opt_epochs) {
            cJSON *training = child_object(spec, "training");
            cJSON_DeleteItemFromObjectCaseSensitive(training, "epochs");
            cJSON_AddNumberToObject(training, "epochs", (double)opt_epochs);
        }
        *body = cJSON_PrintUnformatted(job);
    }
    cJSON_Delete(job);
    return rc;
}

int train_run(struct client *c, const char *body, bool detach, struct err *e)
{
    char id[ID_MAX];
    cJSON *job = NULL;
    int rc = train_submit(c, body, id, e);
    if (rc) return rc;
    if (detach || !command_shared.json) printf("%s\n", id);
    if (detach) return 0;
    rc = train_watch(c, id, &job, e);
    if (job && command_shared.json)
        output_json(job);
    else if (job && rc == 0)
        train_print(job);
    cJSON_Delete(job);
    return rc;
}

static int run_train(const struct command_args *args, struct err *e)
{
    struct client *c;
    char *body = NULL;
    int rc = client_open(&c, e);
    if (rc) return rc;
    rc = build_job(args->words[0], &body, e);
    if (rc == 0) rc = train_run(c, body, opt_detach, e);
    cJSON_free(body);
    client_close(c);
    return rc;
}

static void print_jobs(const cJSON *list)
{
    const char *const headers[] = {"ID", "TYPE", "STATUS", "MODEL", "CREATED", "COST"};
    struct table *t = table_create(headers, 6);
    const cJSON *j;
    cJSON_ArrayForEach(j, cJSON_GetObjectItemCaseSensitive(list, "data"))
    {
        char when[OUTPUT_TEXT_MAX], cost[OUTPUT_TEXT_MAX];
        output_when(when, output_number(j, "created_at", 0));
        output_money(cost, output_micros(j, "cost_micros"));
        const char *const cells[] = {output_text(j, "id"),
                                     output_text(j, "type"),
                                     output_text(j, "status"),
                                     output_text(j, "model"),
                                     when,
                                     cost};
        table_row(t, cells);
    }
    table_print(t);
}

static void print_events(const cJSON *list)
{
    const cJSON *ev;
    cJSON_ArrayForEach(ev, cJSON_GetObjectItemCaseSensitive(list, "data"))
    {
        char when[OUTPUT_TEXT_MAX];
        output_when(when, output_number(ev, "created_at", 0));
        printf("%s  %-5s  %s", when, output_text(ev, "level"), output_text(ev, "message"));
        metrics_print_line(
            cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(ev, "data"), "metrics"));
        putchar('\n');
    }
}

static int run_list(const struct command_args *args, struct err *e)
{
    (void)args;
    return call_print(print_jobs, e, "GET", "/v1/jobs?limit=50");
}

static int run_show(const struct command_args *args, struct err *e)
{
    return call_print(train_print, e, "GET", "/v1/jobs/%s", args->words[0]);
}

/* The answer of TensorFlow Serving's :predict, without its wrapping, as tenor predict prints it. */
static void print_result(const cJSON *answer)
{
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(answer, "predictions");
    output_json(rows ? rows : answer);
}

static int run_result(const struct command_args *args, struct err *e)
{
    return call_print(print_result, e, "GET", "/v1/jobs/%s/result", args->words[0]);
}

static int run_cancel(const struct command_args *args, struct err *e)
{
    return call_print(train_print, e, "POST", "/v1/jobs/%s/cancel", args->words[0]);
}

/* Adds the events behind `after` to list; a long job has many pages of them. */
static int gather_events(struct client *c, const char *id, cJSON *list, struct err *e)
{
    char path[2 * ID_MAX + 48], after[ID_MAX] = "";
    for (;;) {
        cJSON *page = NULL;
        snprintf(path, sizeof path, "/v1/jobs/%.39s/events?limit=100%s%s", id, after[0] ? "&after=" : "",
                 after);
        int rc = client_call(c, "GET", path, NULL, &page, e);
        if (rc) return rc;
        cJSON *data = cJSON_GetObjectItemCaseSensitive(page, "data"),
              *to = cJSON_GetObjectItemCaseSensitive(list, "data");
        while (cJSON_GetArraySize(data) > 0) cJSON_AddItemToArray(to, cJSON_DetachItemFromArray(data, 0));
        bool more = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(page, "has_more"));
        snprintf(after, sizeof after, "%s", output_text(page, "last_id"));
        cJSON_Delete(page);
        if (!more) return 0;
    }
}

static int run_events(const struct command_args *args, struct err *e)
{
    struct client *c;
    int rc = client_open(&c, e);
    if (rc) return rc;
    cJSON *list = cJSON_CreateObject();
    cJSON_AddStringToObject(list, "object", "list");
    cJSON_AddArrayToObject(list, "data");
    rc = gather_events(c, args->words[0], list, e);
    if (rc == 0 && command_shared.json)
        output_json(list);
    else if (rc == 0)
        print_events(list);
    cJSON_Delete(list);
    client_close(c);
    return rc;
}

static int run_watch(const struct command_args *args, struct err *e)
{
    struct client *c;
    cJSON *job = NULL;
    int rc = client_open(&c, e);
    if (rc) return rc;
    rc = train_watch(c, args->words[0], &job, e);
    if (job && command_shared.json)
        output_json(job);
    else if (job && rc == 0)
        train_print(job);
    cJSON_Delete(job);
    client_close(c);
    return rc;
}

static const struct option_row train_rows[] = {
    {.name = "model",
     .type = OPTION_STR,
     .out = &opt_model,
     .help = "name of the model that gets the new version"},
    {.name = "target", .type = OPTION_STR, .out = &opt_target, .help = "column to predict (a CSV needs it)"},
    {.name = "family",
     .type = OPTION_STR,
     .out = &opt_family,
     .help = "linear_regression, logistic_regression or mlp"},
    {.name = "test",
     .type = OPTION_STR,
     .out = &opt_test,
     .help = "dataset that the finished version is tested on"},
    {.name = "spec",
     .type = OPTION_STR,
     .out = &opt_spec,
     .help = "JSON file with the spec, or with a whole job"},
    {.name = "epochs",
     .type = OPTION_INT,
     .out = &opt_epochs,
     .min = 1,
     .max = 100000,
     .help = "passes over the data"},
    {.name = "max-seconds",
     .type = OPTION_INT,
     .out = &opt_max_seconds,
     .min = 1,
     .max = 604800,
     .help = "time limit; also what is held on the account while it runs"},
    {.name = "priority",
     .type = OPTION_INT,
     .out = &opt_priority,
     .min = -10,
     .max = 10,
     .help = "among your own jobs"},
    {.name = "threads",
     .type = OPTION_INT,
     .out = &opt_threads,
     .min = 1,
     .max = 1024,
     .help = "of the training; each is paid for; default 1"},
    {.name = "detach", .type = OPTION_BOOL, .out = &opt_detach, .help = "print the job's id and do not wait"},
};

const struct command job_commands[] = {
    {"train", "<dataset>", 1, 1, COMMAND_TENANT | COMMAND_JSON, train_rows,
     sizeof train_rows / sizeof *train_rows, "train a new version of a model and follow it", run_train},
    {"job list", "", 0, 0, COMMAND_TENANT | COMMAND_JSON, NULL, 0, "the newest jobs", run_list},
    {"job show", "<job>", 1, 1, COMMAND_TENANT | COMMAND_JSON, NULL, 0, "one job, its result or its error",
     run_show},
    {"job watch", "<job>", 1, 1, COMMAND_TENANT | COMMAND_JSON, NULL, 0, "follow a job until it ends",
     run_watch},
    {"job events", "<job>", 1, 1, COMMAND_TENANT | COMMAND_JSON, NULL, 0, "everything that happened to a job",
     run_events},
    {"job result", "<job>", 1, 1, COMMAND_TENANT | COMMAND_JSON, NULL, 0,
     "what tenor predict --async has found", run_result},
    {"job cancel", "<job>", 1, 1, COMMAND_TENANT | COMMAND_JSON, NULL, 0, "stop a job", run_cancel},
    {0},
};
