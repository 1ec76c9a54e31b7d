/* tenor usage, tenor invoice and tenor audit …: what was used, what it costs, and the proof. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "admin/cli/billing.h"
#include "admin/cli/call.h"
#include "admin/cli/client.h"
#include "admin/cli/command.h"
#include "admin/cli/output.h"

static int64_t opt_hours;
static const char *opt_month;

void billing_month_now(char out[8])
{
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(out, 8, "%Y-%m", &tm);
}

void billing_print_usage(const cJSON *page)
{
    const char *const headers[] = {"FROM", "MODEL", "VERSION", "REQUESTS", "ROWS", "TRAINING", "AMOUNT"};
    struct table *t = table_create(headers, 7);
    const cJSON *bucket, *r;
    cJSON_ArrayForEach(bucket, cJSON_GetObjectItemCaseSensitive(page, "data"))
    {
        cJSON_ArrayForEach(r, cJSON_GetObjectItemCaseSensitive(bucket, "results"))
        {
            char when[OUTPUT_TEXT_MAX], requests[OUTPUT_TEXT_MAX], rows[OUTPUT_TEXT_MAX],
                train[OUTPUT_TEXT_MAX], amount[OUTPUT_TEXT_MAX], version[OUTPUT_TEXT_MAX];
            output_when(when, output_number(bucket, "start_time", 0));
            snprintf(version, sizeof version, "%.0f", output_number(r, "version", 0));
            snprintf(requests, sizeof requests, "%.0f", output_number(r, "requests", 0));
            snprintf(rows, sizeof rows, "%.0f", output_number(r, "rows", 0));
            output_duration(train, output_number(r, "train_seconds", 0));
            output_money(amount, output_micros(r, "amount_micros"));
            const char *const cells[] = {when,  output_text(r, "model"), version, requests, rows, train,
                                         amount};
            table_row(t, cells);
        }
    }
    table_print(t);
}

void billing_print_invoice(const cJSON *invoice)
{
    const char *const headers[] = {"LINE", "MODEL", "QUANTITY", "PRICE", "AMOUNT"};
    struct table *t = table_create(headers, 5);
    const cJSON *line;
    char amount[OUTPUT_TEXT_MAX];
    cJSON_ArrayForEach(line, cJSON_GetObjectItemCaseSensitive(invoice, "lines"))
    {
        /* A prediction's price is for 1,000 rows, its quantity is in rows. */
        bool train = strcmp(output_text(line, "kind"), "train") == 0;
        char money[OUTPUT_TEXT_MAX], price[2 * OUTPUT_TEXT_MAX], quantity[OUTPUT_TEXT_MAX];
        output_money(money, output_micros(line, "unit_price_micros"));
        output_money(amount, output_micros(line, "amount_micros"));
        snprintf(quantity, sizeof quantity, "%.10g %s", output_number(line, "quantity", 0),
                 train ? "seconds" : "rows");
        snprintf(price, sizeof price, "%s per %s", money, output_text(line, "unit"));
        const char *const cells[] = {output_text(line, "kind"), output_text(line, "model"), quantity, price,
                                     amount};
        table_row(t, cells);
    }
    table_print(t);
    output_money(amount, output_micros(invoice, "total_micros"));
    printf("total %s %s for %s\n", amount, output_text(invoice, "currency"), output_text(invoice, "month"));
}

void billing_print_audit(const cJSON *list)
{
    const char *const headers[] = {"SEQ", "AT", "WHAT", "WHO", "ON", "HASH"};
    struct table *t = table_create(headers, 6);
    const cJSON *row;
    cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(list, "data"))
    {
        char seq[OUTPUT_TEXT_MAX] = "", when[OUTPUT_TEXT_MAX], hash[13];
        if (output_number(row, "seq", 0) > 0) snprintf(seq, sizeof seq, "%.0f", output_number(row, "seq", 0));
        output_when(when, output_number(row, "effective_at", 0));
        snprintf(hash, sizeof hash, "%.12s", output_text(row, "hash"));
        const cJSON *actor = cJSON_GetObjectItemCaseSensitive(row, "actor");
        const char *const cells[] = {
            seq, when, output_text(row, "type"), output_text(actor, "id"), output_text(row, "object_id"),
            hash};
        table_row(t, cells);
    }
    table_print(t);
}

static int run_usage(const struct command_args *args, struct err *e)
{
    (void)args;
    long long now = (long long)time(NULL);
    return call_print(billing_print_usage, e, "GET",
                      "/v1/usage?start_time=%lld&end_time=%lld&bucket_width=1h&limit=%lld",
                      now - opt_hours * 3600, now + 1, (long long)opt_hours + 2);
}

static int run_invoice(const struct command_args *args, struct err *e)
{
    (void)args;
    char month[8];
    billing_month_now(month);
    return call_print(billing_print_invoice, e, "GET", "/v1/invoices/%s", opt_month ? opt_month : month);
}

static int run_audit(const struct command_args *args, struct err *e)
{
    (void)args;
    return call_print(billing_print_audit, e, "GET", "/v1/audit?limit=100");
}

static int run_verify(const struct command_args *args, struct err *e)
{
    (void)args;
    struct client *c;
    cJSON *answer = NULL;
    int rc = client_open(&c, e);
    if (rc) return rc;
    rc = client_call(c, "GET", "/v1/audit/verify", NULL, &answer, e);
    if (rc == 0) {
        bool good = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "verified"));
        if (command_shared.json)
            output_json(answer);
        else if (good)
            printf("verified: %.0f rows, the chain holds\n", output_number(answer, "rows", 0));
        if (!good)
            rc = err_set(e, ERR_CORRUPT, NULL, "the audit chain is broken at row %s",
                         output_text(answer, "first_bad"));
    }
    cJSON_Delete(answer);
    client_close(c);
    return rc;
}

static const struct option_row usage_rows[] = {
    {.name = "hours",
     .type = OPTION_INT,
     .out = &opt_hours,
     .fallback = "24",
     .min = 1,
     .max = 742,
     .help = "how far back"},
};
static const struct option_row invoice_rows[] = {
    {.name = "month", .type = OPTION_STR, .out = &opt_month, .help = "YYYY-MM (default: this month)"},
};

const struct command billing_commands[] = {
    {"usage", "", 0, 0, COMMAND_TENANT | COMMAND_JSON, usage_rows, 1, "predictions and training by hour",
     run_usage},
    {"invoice", "", 0, 0, COMMAND_TENANT | COMMAND_JSON, invoice_rows, 1, "a month's invoice", run_invoice},
    {"audit list", "", 0, 0, COMMAND_TENANT | COMMAND_JSON, NULL, 0, "the newest audit rows", run_audit},
    {"audit verify", "", 0, 0, COMMAND_TENANT | COMMAND_JSON, NULL, 0, "check the chain of audit rows",
     run_verify},
    {0},
};
