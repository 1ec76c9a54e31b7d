/* tenor model alias, rollback and rollout: which version answers, what is on trial beside it, and how that
 * goes. */
#include <stdio.h>
#include <string.h>

#include "admin/cli/call.h"
#include "admin/cli/client.h"
#include "admin/cli/command.h"
#include "admin/cli/output.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/num.h"

static bool opt_cold;
static int64_t opt_canary, opt_shadow;
static const char *opt_weight, *opt_shadow_weight, *opt_tolerance, *opt_limits;

/* ---- an alias's body ---- */

static bool is_number(const char *text, size_t len, double *out)
{
    return len > 0 && num_scan(text, text + len, out) == len;
}

static int add_number(struct json_writer *w, const char *member, const char *option, const char *text,
                      struct err *e)
{
    double v;
    if (!is_number(text, strlen(text), &v))
        return err_set(e, ERR_INVALID, option, "--%s wants a number, not '%s'", option, text);
    jw_knum(w, member, v);
    return 0;
}

/* Another version beside the alias's own, with its share of the calls. */
static int add_trial(struct json_writer *w, const char *what, int64_t version, const char *option,
                     const char *weight, struct err *e)
{
    if (!weight)
        return err_set(e, ERR_INVALID, option, "--%s goes with --%s, its share of the calls: 0.1, for one",
                       what, option);
    jw_name(w, what);
    jw_obj(w);
    jw_kint(w, "version", version);
    return add_number(w, "weight", option, weight, e);
}

/* "error_rate=0.05,min_requests=50": the server knows the names. */
static int add_limits(struct json_writer *w, const char *text, struct err *e)
{
    jw_name(w, "rollback_on");
    jw_obj(w);
    while (*text) {
        char name[32];
        double v;
        size_t len = strcspn(text, ","), name_len = strcspn(text, "=,");
        if (name_len == len || name_len == 0 || name_len >= sizeof name ||
            !is_number(text + name_len + 1, len - name_len - 1, &v))
            return err_set(e, ERR_INVALID, "rollback-on",
                           "'%.*s' is no limit: write --rollback-on error_rate=0.05,latency_ms=50,"
                           "disagreement=0.02,min_requests=100,window_seconds=60, or some of these",
                           (int)len, text);
        memcpy(name, text, name_len);
        name[name_len] = '\0';
        jw_knum(w, name, v);
        text += len + (text[len] == ',');
    }
    jw_obj_end(w);
    return 0;
}

static int write_alias(struct buf *body, int64_t version, struct err *e)
{
    struct json_writer w;
    int rc = 0;
    jw_init(&w, body);
    jw_obj(&w);
    jw_kint(&w, "version", version);
    if (opt_canary) {
        rc = add_trial(&w, "canary", opt_canary, "weight", opt_weight, e);
        if (rc) return rc;
        jw_obj_end(&w);
    }
    if (opt_shadow) {
        rc = add_trial(&w, "shadow", opt_shadow, "shadow-weight", opt_shadow_weight, e);
        if (rc == 0 && opt_tolerance) rc = add_number(&w, "tolerance", "shadow-tolerance", opt_tolerance, e);
        if (rc) return rc;
        jw_obj_end(&w);
    }
    if (opt_limits && (rc = add_limits(&w, opt_limits, e))) return rc;
    if (opt_cold) jw_kbool(&w, "warm", false);
    jw_obj_end(&w);
    return 0;
}

static int run_alias(const struct command_args *args, struct err *e)
{
    int64_t version;
    struct buf path = {0}, body = {0};
    struct client *c = NULL;
    if (!num_parse_i64(args->words[2], 1, INT64_MAX, &version))
        return err_set(e, ERR_INVALID, "version", "'%s' is not a version number", args->words[2]);
    int rc = write_alias(&body, version, e);
    if (rc == 0) rc = client_open(&c, e);
    buf_printf(&path, "/v1/models/%s/aliases/%s", args->words[0], args->words[1]);
    if (rc == 0) rc = client_call(c, "PUT", path.data, body.data, NULL, e);
    if (rc == 0) printf("%s of %s is version %lld now\n", args->words[1], args->words[0], (long long)version);
    buf_dispose(&path);
    buf_dispose(&body);
    client_close(c);
    return rc;
}

/* ---- what is there ---- */

static int run_rollback(const struct command_args *args, struct err *e)
{
    struct client *c;
    struct buf path = {0};
    cJSON *alias = NULL;
    int rc = client_open(&c, e);
    if (rc) return rc;
    buf_printf(&path, "/v1/models/%s/aliases/%s/rollback", args->words[0], args->words[1]);
    rc = client_call(c, "POST", path.data, NULL, &alias, e);
    if (rc == 0)
        printf("%s of %s is version %.0f now\n", args->words[1], args->words[0],
               output_number(alias, "version", 0));
    buf_dispose(&path);
    cJSON_Delete(alias);
    client_close(c);
    return rc;
}

/* A count, or the share of another that it is. */
static void write_share(char out[OUTPUT_TEXT_MAX], double part, double whole)
{
    if (part > 0 && whole > 0)
        snprintf(out, OUTPUT_TEXT_MAX, "%.0f (%.2g %%)", part, 100 * part / whole);
    else
        snprintf(out, OUTPUT_TEXT_MAX, "%.0f", part);
}

static void write_latency(char out[OUTPUT_TEXT_MAX], double ms)
{
    if (ms < 0)
        snprintf(out, OUTPUT_TEXT_MAX, "-");
    else
        snprintf(out, OUTPUT_TEXT_MAX, "%.3g ms", ms);
}

static void print_arm(struct table *t, const cJSON *arm)
{
    char version[OUTPUT_TEXT_MAX], requests[OUTPUT_TEXT_MAX], errors[OUTPUT_TEXT_MAX], p50[OUTPUT_TEXT_MAX],
        p99[OUTPUT_TEXT_MAX], compared[OUTPUT_TEXT_MAX], different[OUTPUT_TEXT_MAX];
    double calls = output_number(arm, "requests", 0), both = output_number(arm, "compared", -1);
    snprintf(version, sizeof version, "%.0f", output_number(arm, "version", 0));
    snprintf(requests, sizeof requests, "%.0f", calls);
    snprintf(compared, sizeof compared, "%.0f", both);
    write_share(errors, output_number(arm, "errors", 0), calls);
    write_share(different, output_number(arm, "disagreements", 0), both);
    write_latency(p50, output_number(arm, "latency_p50_ms", -1));
    write_latency(p99, output_number(arm, "latency_p99_ms", -1));
    const char *const cells[] = {
        output_text(arm, "arm"),    version, requests, errors, p50, p99, both < 0 ? NULL : compared,
        both < 0 ? NULL : different};
    table_row(t, cells);
}

static void print_rollout(const cJSON *report)
{
    const char *const headers[] = {"ARM", "VERSION", "REQUESTS", "ERRORS",
                                   "P50", "P99",     "COMPARED", "DIFFERENT"};
    const cJSON *arm, *last = cJSON_GetObjectItemCaseSensitive(report, "last_rollback");
    struct table *t = table_create(headers, 8);
    cJSON_ArrayForEach(arm, cJSON_GetObjectItemCaseSensitive(report, "arms"))
    {
        print_arm(t, arm);
    }
    table_print(t);
    if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(report, "counted")))
        printf("nothing is on trial, so nothing is counted\n");
    if (cJSON_IsObject(last)) {
        char when[OUTPUT_TEXT_MAX];
        output_when(when, output_number(last, "time", 0));
        printf("last rollback: %s, version %.0f (%s), %s: %s\n", when, output_number(last, "version", 0),
               output_text(last, "arm"), output_text(last, "reason"), output_text(last, "message"));
    }
}

static int run_rollout(const struct command_args *args, struct err *e)
{
    return call_print(print_rollout, e, "GET", "/v1/models/%s/aliases/%s/rollout", args->words[0],
                      args->words[1]);
}

static const struct option_row alias_rows[] = {
    {.name = "canary",
     .type = OPTION_INT,
     .out = &opt_canary,
     .min = 1,
     .max = 1000000000,
     .help = "another version that gets a share of the calls"},
    {.name = "weight", .type = OPTION_STR, .out = &opt_weight, .help = "that share: above 0, below 1"},
    {.name = "shadow",
     .type = OPTION_INT,
     .out = &opt_shadow,
     .min = 1,
     .max = 1000000000,
     .help = "another version that answers too, and is only compared"},
    {.name = "shadow-weight",
     .type = OPTION_STR,
     .out = &opt_shadow_weight,
     .help = "the share of the calls that it gets: above 0, at most 1"},
    {.name = "shadow-tolerance",
     .type = OPTION_STR,
     .out = &opt_tolerance,
     .help = "numbers that differ by more are different (default: 0.001)"},
    {.name = "rollback-on",
     .type = OPTION_STR,
     .out = &opt_limits,
     .help = "when a trial ends by itself: error_rate=0.05,latency_ms=50,disagreement=0.02,min_requests=100,"
             "window_seconds=60"},
    {.name = "cold",
     .type = OPTION_BOOL,
     .out = &opt_cold,
     .help = "do not wait until a worker has loaded the version"},
};

const struct command alias_commands[] = {
    {"model alias", "<model> <alias> <version>", 3, 3, COMMAND_TENANT, alias_rows,
     sizeof alias_rows / sizeof *alias_rows, "point an alias (live) at a version", run_alias},
    {"model rollback", "<model> <alias>", 2, 2, COMMAND_TENANT, NULL, 0,
     "end a canary, or go back to the version before", run_rollback},
    {"model rollout", "<model> <alias>", 2, 2, COMMAND_TENANT | COMMAND_JSON, NULL, 0,
     "how the versions behind an alias have done", run_rollout},
    {0},
};
