/* The option table: one row makes a flag (--postgres-url), an environment name (TENOR_POSTGRES_URL), a line
 * of the sample config, of --help and of the docs. Precedence: flag, environment, config file (--config,
 * `name = value` lines), default.
 *
 * A secret's value is never printed. Every secret may also be given as a file (--postgres-password-file,
 * TENOR_POSTGRES_PASSWORD_FILE), whose trailing line ends are dropped; no row of its own is needed for that.
 * An empty environment variable counts as unset. A boolean flag stands alone (--tls) or takes a value
 * (--tls=false).
 * --config (TENOR_CONFIG), --help and --version belong to every table. Names in the config file that the
 * table does not have are refused. One thread, at the program's start. */
#ifndef BASE_OPTION_H
#define BASE_OPTION_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdio.h>
#include "base/err.h"

#define TENOR_VERSION "0.1.0"

enum option_type { OPTION_STR, OPTION_INT, OPTION_BOOL, OPTION_DURATION_MS, OPTION_BYTES };

struct option_row {
    const char *name;      /* "postgres-url" */
    enum option_type type; /* DURATION accepts 250ms, 10s, 5m, 1h; BYTES accepts 64k, 16m, 1g */
    void *out;             /* const char ** (owned by the table's life), int64_t * or bool *, by type */
    const char *fallback;  /* default as text; NULL leaves *out as it is */
    int64_t min, max;      /* for numbers; 0,0 for no bounds */
    bool secret;
    const char *help; /* one line, without a full stop */
};

/* Parses argv and the environment into rows' outs. Positional arguments are refused. Handles --help and
 * --version by printing to stdout and exiting 0; on a bad value prints one line to stderr and exits 2. */
void option_parse(const char *program, const char *summary, const struct option_row *rows, size_t n, int argc,
                  char **argv);

/* As above without exiting: for tests. */
int option_try_parse(const struct option_row *rows, size_t n, int argc, char **argv, struct err *e);

void option_print_help(FILE *out, const char *program, const char *summary, const struct option_row *rows,
                       size_t n);

#endif
