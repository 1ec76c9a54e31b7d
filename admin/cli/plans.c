/* tenor plan …: an operator sees and sets the prices, quotas and weight that tenants on a plan share. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "admin/cli/command.h"
#include "admin/cli/operator.h"
#include "admin/cli/output.h"
#include "base/num.h"
#include "store/plan.h"

enum { PLANS_MAX = 200 };

/* Every number of a plan, by the name that people type. */
static const struct plan_field {
    const char *name;
    size_t offset;
    bool money; /* millionths of the currency */
    const char *says;
} fields[] = {
    {"weight", offsetof(struct plan, weight), false, "share of the platform"},
    {"train-second-micros", offsetof(struct plan, train_second_micros), true,
     "price of a second of training"},
    {"predict-krows-micros", offsetof(struct plan, predict_krows_micros), true,
     "price of 1,000 predicted rows"},
    {"max-hold-micros", offsetof(struct plan, max_hold_micros), true, "most that a job may cost"},
    {"month-budget-micros", offsetof(struct plan, month_budget_micros), true,
     "most per month; 0 for no limit"},
    {"max-queued-jobs", offsetof(struct plan, max_queued_jobs), false, "jobs that wait"},
    {"max-running-jobs", offsetof(struct plan, max_running_jobs), false, "jobs that run"},
    {"max-job-seconds", offsetof(struct plan, max_job_seconds), false, "time limit of a job"},
    {"max-job-memory-bytes", offsetof(struct plan, max_job_memory_bytes), false, "memory of a job"},
    {"max-datasets", offsetof(struct plan, max_datasets), false, "datasets"},
    {"max-dataset-bytes", offsetof(struct plan, max_dataset_bytes), false, "one dataset, as uploaded"},
    {"max-storage-bytes", offsetof(struct plan, max_storage_bytes), false, "everything stored"},
    {"max-models", offsetof(struct plan, max_models), false, "models"},
    {"max-keys", offsetof(struct plan, max_keys), false, "live API keys"},
    {"requests-per-second", offsetof(struct plan, requests_per_second), false, "rate of requests"},
    {"request-burst", offsetof(struct plan, request_burst), false, "requests at once"},
    {"max-inflight-requests", offsetof(struct plan, max_inflight_requests), false, "predictions under way"},
    {"max-request-rows", offsetof(struct plan, max_request_rows), false, "rows of one prediction"},
};
enum { FIELDS = sizeof fields / sizeof *fields };

static int64_t *field_of(struct plan *p, const struct plan_field *f)
{
    return (int64_t *)(void *)((char *)p + f->offset);
}

static void print_plan(struct plan *p)
{
    const char *const headers[] = {"FIELD", "VALUE", "IS"};
    struct table *t = table_create(headers, 3);
    printf("plan %s, in %s\n\n", p->name, p->currency);
    for (size_t i = 0; i < FIELDS; i++) {
        char value[2 * OUTPUT_TEXT_MAX], money[OUTPUT_TEXT_MAX];
        int64_t v = *field_of(p, &fields[i]);
        output_money(money, v);
        snprintf(value, sizeof value, fields[i].money ? "%" PRId64 " (%s)" : "%" PRId64, v, money);
        const char *const cells[] = {fields[i].name, value, fields[i].says};
        table_row(t, cells);
    }
    table_print(t);
}

/* "name=value" into p. */
static int set_field(struct plan *p, const char *word, struct err *e)
{
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    for (size_t i = 0; i < FIELDS; i++) {
        if (strlen(fields[i].name) != len || strncmp(fields[i].name, word, len) != 0) continue;
        if (equals && num_parse_i64(equals + 1, 0, INT64_MAX, field_of(p, &fields[i]))) return 0;
        return err_set(e, ERR_INVALID, fields[i].name, "'%s' should be %s=<whole number>", word,
                       fields[i].name);
    }
    return err_set(e, ERR_INVALID, "plan",
                   "a plan has no field '%.*s'; `tenor plan show standard` lists them", (int)len, word);
}

static int run_list(const struct command_args *args, struct err *e)
{
    (void)args;
    static struct plan plans[PLANS_MAX];
    struct db *db = NULL;
    int n = 0, rc = operator_open("tenor_admin", &db, e);
    if (rc) return rc;
    if ((rc = db_begin_system(db, e)) == 0) rc = plan_list(db, plans, PLANS_MAX, &n, e);
    const char *const headers[] = {"PLAN", "WEIGHT", "TRAINING SECOND", "1,000 ROWS", "REQUESTS/S"};
    struct table *t = rc ? NULL : table_create(headers, 5);
    for (int i = 0; t && i < n; i++) {
        char weight[OUTPUT_TEXT_MAX], second[OUTPUT_TEXT_MAX], rows[OUTPUT_TEXT_MAX], rate[OUTPUT_TEXT_MAX];
        snprintf(weight, sizeof weight, "%" PRId64, plans[i].weight);
        snprintf(rate, sizeof rate, "%" PRId64, plans[i].requests_per_second);
        output_money(second, plans[i].train_second_micros);
        output_money(rows, plans[i].predict_krows_micros);
        const char *const cells[] = {plans[i].name, weight, second, rows, rate};
        table_row(t, cells);
    }
    if (t) table_print(t);
    db_rollback(db);
    db_free(db);
    return rc;
}

static int run_show(const struct command_args *args, struct err *e)
{
    struct plan p;
    struct db *db = NULL;
    int rc = operator_open("tenor_admin", &db, e);
    if (rc) return rc;
    if ((rc = db_begin_system(db, e)) == 0) rc = plan_find(db, args->words[0], &p, e);
    if (rc == 0) print_plan(&p);
    db_rollback(db);
    db_free(db);
    return rc;
}

static int change_plan(struct db *db, void *arg, struct err *e)
{
    const struct command_args *args = arg;
    struct plan p;
    int rc = plan_find(db, args->words[0], &p, e);
    if (rc == ERR_NOT_FOUND) {
        plan_init(&p, args->words[0]);
        err_clear(e);
        rc = 0;
    }
    for (size_t i = 1; rc == 0 && i < args->len; i++) rc = set_field(&p, args->words[i], e);
    struct actor by = operator_actor();
    return rc ? rc : plan_put(db, &p, &by, e);
}

static int run_set(const struct command_args *args, struct err *e)
{
    struct db *db = NULL;
    struct command_args copy = *args;
    int rc = operator_open("tenor_admin", &db, e);
    if (rc) return rc;
    rc = db_run(db, NULL, change_plan, &copy, e);
    db_free(db);
    if (rc == 0) printf("plan %s is set; gateways follow within seconds\n", args->words[0]);
    return rc;
}

const struct command plan_commands[] = {
    {"plan list", "", 0, 0, COMMAND_DATABASE, NULL, 0, "the plans and their prices", run_list},
    {"plan show", "<plan>", 1, 1, COMMAND_DATABASE, NULL, 0, "all prices and quotas of a plan", run_show},
    {"plan set", "<plan> <field>=<number>…", 2, 64, COMMAND_DATABASE, NULL, 0,
     "change a plan, or make one from standard", run_set},
    {0},
};
