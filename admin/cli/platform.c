/* tenor up, down, status, logs, stop, start: the local platform from the shell. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/cli/command.h"
#include "admin/cli/output.h"
#include "admin/launch/platform.h"
#include "admin/launch/process.h"
#include "admin/launch/ready.h"

static struct platform_options options;

static void on_step(const char *what)
{
    fprintf(stderr, "%s\n", what);
}

static int run_up(const struct command_args *args, struct err *e)
{
    (void)args;
    struct home h;
    struct platform_addresses at;
    options.on_step = on_step;
    int rc = home_find(&h, command_shared.home, e);
    if (rc || (rc = platform_up(&h, &options, &at, e))) return rc;
    printf("Tenor is up in %s\n  API      %s\n", h.root, at.url);
    if (at.tls_url[0]) printf("  API/TLS  %s\n", at.tls_url);
    printf(
        "  next     eval \"$(tenor bootstrap)\" makes a tenant and its key; `tenor down` stops everything\n");
    return 0;
}

static int run_down(const struct command_args *args, struct err *e)
{
    (void)args;
    struct home h;
    int killed, rc = home_find(&h, command_shared.home, e);
    if (rc || (rc = platform_down(&h, &killed, e))) return rc;
    printf("Tenor is down in %s%s\n", h.root,
           killed ? " (some processes had to be killed; see their logs)" : "");
    return 0;
}

static int run_status(const struct command_args *args, struct err *e)
{
    (void)args;
    struct home h;
    struct platform_addresses at;
    int rc = home_find(&h, command_shared.home, e);
    if (rc || (rc = platform_addresses(&h, &at, e))) return rc;
    const char *const headers[] = {"PROCESS", "PID", "STATE", "UP FOR"};
    struct table *t = table_create(headers, 4);
    const char *name;
    for (int i = 0; (name = platform_process(i)); i++) {
        pid_t pid = process_find(&h, name);
        char number[OUTPUT_TEXT_MAX] = "", age[OUTPUT_TEXT_MAX] = "";
        bool ready = pid > 0 && (strcmp(name, "gateway") != 0 || ready_gateway(&h));
        if (pid > 0) {
            snprintf(number, sizeof number, "%d", (int)pid);
            output_duration(age, (double)process_age_ms(pid) / 1000);
        }
        const char *const cells[] = {name, number,
                                     pid <= 0 ? "stopped"
                                     : ready  ? "running"
                                              : "not ready",
                                     age};
        table_row(t, cells);
    }
    table_print(t);
    printf("\nhome  %s\nAPI   %s %s\n", h.root, at.url, at.tls_url);
    return platform_runs(&h)
               ? 0
               : err_set(e, ERR_UNAVAILABLE, NULL, "not everything runs; `tenor up` starts what is missing");
}

/* One process at a time, as an operator would restart it. */
static int run_stop(const struct command_args *args, struct err *e)
{
    struct home h;
    int rc = home_find(&h, command_shared.home, e);
    if (rc || (rc = platform_stop_one(&h, args->words[0], e))) return rc;
    printf("stopped %s\n", args->words[0]);
    return 0;
}

static int run_logs(const struct command_args *args, struct err *e)
{
    struct home h;
    int rc = home_find(&h, command_shared.home, e);
    if (rc) return rc;
    static char text[16384];
    const char *name;
    for (int i = 0; (name = platform_process(i)); i++) {
        if (args->len && strcmp(args->words[0], name) != 0) continue;
        process_log_tail(&h, name, text, args->len ? sizeof text : 2048);
        printf("== %s/log/%s.log\n%s\n", h.root, name, text);
    }
    return 0;
}

static const struct option_row up_rows[] = {
    {.name = "listen",
     .type = OPTION_STR,
     .out = &options.listen,
     .fallback = "127.0.0.1:8080",
     .help = "address of the HTTP API; port 0 picks a free one"},
    {.name = "tls-listen",
     .type = OPTION_STR,
     .out = &options.tls_listen,
     .fallback = "127.0.0.1:8443",
     .help = "address of the API over TLS; empty for none"},
    {.name = "tls-cert",
     .type = OPTION_STR,
     .out = &options.tls_cert,
     .help = "certificate chain (default: self-signed, for local use)"},
    {.name = "tls-key", .type = OPTION_STR, .out = &options.tls_key, .help = "its private key"},
    {.name = "job-slots",
     .type = OPTION_INT,
     .out = &options.job_slots,
     .min = 0,
     .max = 256,
     .help = "training jobs at a time"},
    {.name = "predict-threads",
     .type = OPTION_INT,
     .out = &options.predict_threads,
     .min = 0,
     .max = 256,
     .help = "threads that predict"},
    {.name = "lease",
     .type = OPTION_DURATION_MS,
     .out = &options.lease_ms,
     .min = 0,
     .max = 3600000,
     .help = "how long a silent worker keeps its jobs"},
};

const struct command platform_commands[] = {
    {"up", "", 0, 0, COMMAND_LOCAL, up_rows, sizeof up_rows / sizeof *up_rows,
     "start the local platform, or what of it is missing", run_up},
    {"down", "", 0, 0, COMMAND_LOCAL, NULL, 0, "stop the local platform", run_down},
    {"status", "", 0, 0, COMMAND_LOCAL, NULL, 0, "what runs, and where", run_status},
    {"stop", "<process>", 1, 1, COMMAND_LOCAL, NULL, 0, "stop one process; `tenor up` starts it again",
     run_stop},
    {"logs", "[process]", 0, 1, COMMAND_LOCAL, NULL, 0, "the ends of the logs", run_logs},
    {0},
};
