/* The `tenor` command: a table of rows, each a verb with its options, its help and the function that does it.
 *
 *     tenor <group> <verb> [arguments] [--options]      `tenor help`, `tenor <group> <verb> --help`
 *
 * Every row's options live in static storage of its file: a process runs one command. */
#ifndef ADMIN_CLI_COMMAND_H
#define ADMIN_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "base/option.h"

enum command_options {
    COMMAND_LOCAL = 1,    /* --home: works on a local platform */
    COMMAND_DATABASE = 2, /* --home, --postgres-url: an operator's command */
    COMMAND_TENANT = 4,   /* --home, --url, --api-key, --ca: calls the HTTP API */
    COMMAND_JSON = 8,     /* --json: the server's answer as it is, for programs */
};

struct command_args {
    const char *const *words; /* the positional arguments; borrowed */
    size_t len;
};

struct command {
    const char *name;  /* "tenant create" */
    const char *words; /* "<name>", "" for none */
    size_t min_words, max_words;
    unsigned options;              /* COMMAND_* */
    const struct option_row *rows; /* its own options; may be NULL */
    size_t rows_len;
    const char *help;
    int (*run)(const struct command_args *args, struct err *e);
};

/* A file's part of the table, ended by a row without a name. */
extern const struct command platform_commands[], operator_commands[], tenant_commands[], key_commands[],
    plan_commands[], dataset_commands[], job_commands[], search_commands[], model_commands[],
    alias_commands[], settings_commands[], billing_commands[], demo_commands[];

/* The shared options' values, filled before run is called. NULL (false) when not given. */
struct command_shared {
    const char *home, *postgres_url, *redis_url, *redis_password, *url, *api_key, *ca;
    bool json;
};
extern struct command_shared command_shared;

/* Set by SIGINT and SIGTERM: long commands look at it and leave cleanly. */
extern volatile int command_interrupted;

/* Finds the row for argv, parses, runs. The exit status: 0, 1 for a failure (printed), 2 for a misuse
 * (printed). */
int command_main(int argc, char **argv);

#endif
