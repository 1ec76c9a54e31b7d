/* Finds the command that argv names, takes its options and arguments apart, runs it and reports how it ended.
 */
#include "admin/cli/command.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"

enum { ROWS_MAX = 48 };

struct command_shared command_shared;
volatile int command_interrupted;

static const struct option_row row_home = {.name = "home",
                                           .type = OPTION_STR,
                                           .out = &command_shared.home,
                                           .help = "folder of the local platform (default ./var)"};
static const struct option_row database_rows[] = {
    {.name = "postgres-url",
     .type = OPTION_STR,
     .out = &command_shared.postgres_url,
     .secret = true,
     .help = "the platform's Postgres, as its owner or as an operator (default: the local platform's)"},
    {.name = "redis-url",
     .type = OPTION_STR,
     .out = &command_shared.redis_url,
     .help =
         "the platform's Redis, to make a revocation take effect at once (default: the local platform's)"},
    {.name = "redis-password",
     .type = OPTION_STR,
     .out = &command_shared.redis_password,
     .secret = true,
     .help = "its password"},
};
static const struct option_row tenant_rows[] = {
    {.name = "url",
     .type = OPTION_STR,
     .out = &command_shared.url,
     .help = "the gateway (default: the local platform's)"},
    {.name = "api-key",
     .type = OPTION_STR,
     .out = &command_shared.api_key,
     .secret = true,
     .help = "the tenant's API key; better given as TENOR_API_KEY"},
    {.name = "ca",
     .type = OPTION_STR,
     .out = &command_shared.ca,
     .help = "certificate that an https gateway is checked against (default: the local platform's, or the "
             "system's)"},
};
static const struct option_row row_json = {.name = "json",
                                           .type = OPTION_BOOL,
                                           .out = &command_shared.json,
                                           .help = "print the server's answer as JSON"};

static const struct command *const groups[] = {
    platform_commands, operator_commands, tenant_commands, plan_commands,  key_commands,
    dataset_commands,  job_commands,      search_commands, model_commands, alias_commands,
    settings_commands, billing_commands,  demo_commands};
enum { GROUPS = sizeof groups / sizeof *groups };

static size_t gather_rows(const struct command *c, struct option_row rows[ROWS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < c->rows_len && n < ROWS_MAX - 8; i++) rows[n++] = c->rows[i];
    if (c->options & COMMAND_JSON) rows[n++] = row_json;
    if (c->options & COMMAND_DATABASE)
        for (size_t i = 0; i < sizeof database_rows / sizeof *database_rows; i++)
            rows[n++] = database_rows[i];
    if (c->options & COMMAND_TENANT)
        for (size_t i = 0; i < sizeof tenant_rows / sizeof *tenant_rows; i++) rows[n++] = tenant_rows[i];
    if (c->options) rows[n++] = row_home;
    return n;
}

/* The row whose name is argv's first words; *taken says how many words that was. */
static const struct command *find_command(int argc, char **argv, int *taken)
{
    char name[64];
    for (*taken = 2; *taken >= 1; (*taken)--) {
        if (argc <= *taken) continue;
        snprintf(name, sizeof name, "%s%s%s", argv[1], *taken == 2 ? " " : "", *taken == 2 ? argv[2] : "");
        for (size_t g = 0; g < GROUPS; g++)
            for (const struct command *c = groups[g]; c->name; c++)
                if (strcmp(c->name, name) == 0) return c;
    }
    return NULL;
}

static void print_overview(FILE *out, const char *group)
{
    fprintf(out, "tenor: run, operate and use a Tenor platform\n\n");
    for (size_t g = 0; g < GROUPS; g++) {
        for (const struct command *c = groups[g]; c->name; c++) {
            char left[80];
            if (group && (strncmp(c->name, group, strlen(group)) != 0 || c->name[strlen(group)] != ' '))
                continue;
            snprintf(left, sizeof left, "%s %s", c->name, c->words);
            fprintf(out, "  tenor %-38s %s\n", left, c->help);
        }
        if (!group) fputc('\n', out);
    }
    fprintf(out, "`tenor <command> --help` tells a command's options.\n");
}

static bool is_group(const char *word)
{
    for (size_t g = 0; g < GROUPS; g++)
        for (const struct command *c = groups[g]; c->name; c++)
            if (strncmp(c->name, word, strlen(word)) == 0 && c->name[strlen(word)] == ' ') return true;
    return false;
}

static const struct option_row *row_of_flag(const struct option_row *rows, size_t n, const char *flag)
{
    const char *name = flag + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    for (size_t i = 0; i < n; i++)
        if (strlen(rows[i].name) == len && strncmp(rows[i].name, name, len) == 0) return &rows[i];
    return NULL;
}

struct split {
    char **flags; /* flags[0] is the program's name */
    const char **words;
    int flags_len;
    size_t words_len;
};

/* Options may stand before, between and after the arguments; behind "--" everything is an argument. */
static void split_arguments(struct split *s, const struct option_row *rows, size_t n, int argc, char **argv,
                            int from)
{
    s->flags[s->flags_len++] = argv[0];
    for (int i = from; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            while (++i < argc) s->words[s->words_len++] = argv[i];
            return;
        }
        if (strncmp(argv[i], "--", 2) != 0) {
            s->words[s->words_len++] = argv[i];
            continue;
        }
        const struct option_row *row = row_of_flag(rows, n, argv[i]);
        s->flags[s->flags_len++] = argv[i];
        bool takes_value = row && row->type != OPTION_BOOL && !strchr(argv[i], '=');
        if (takes_value && i + 1 < argc) s->flags[s->flags_len++] = argv[++i];
    }
}

static int misuse(const struct command *c, const char *what)
{
    fprintf(stderr, "tenor %s: %s\nusage: tenor %s %s [--options]; `tenor %s --help` lists them\n", c->name,
            what, c->name, c->words, c->name);
    return 2;
}

static void on_interrupt(int number)
{
    (void)number;
    if (command_interrupted) _Exit(130);
    command_interrupted = 1;
}

static int run_command(const struct command *c, int argc, char **argv, int taken)
{
    struct option_row rows[ROWS_MAX];
    size_t n = gather_rows(c, rows);
    for (int i = taken + 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) continue;
        char title[160];
        snprintf(title, sizeof title, "tenor %s %s", c->name, c->words);
        option_print_help(stdout, title, c->help, rows, n);
        return 0;
    }
    struct split s = {.flags = mem_alloc((size_t)argc + 1, sizeof(char *)),
                      .words = mem_alloc((size_t)argc + 1, sizeof(char *))};
    split_arguments(&s, rows, n, argc, argv, taken + 1);
    struct err e = {0};
    int status = 0;
    if (option_try_parse(rows, n, s.flags_len, s.flags, &e)) {
        status = misuse(c, e.message);
    } else if (s.words_len < c->min_words || s.words_len > c->max_words) {
        status = misuse(c, s.words_len < c->min_words ? "an argument is missing" : "too many arguments");
    } else if (c->run(&(struct command_args){.words = s.words, .len = s.words_len}, &e)) {
        if (e.message[0])
            fprintf(stderr, "tenor %s: %s%s%s%s\n", c->name, e.message, e.field[0] ? " (" : "", e.field,
                    e.field[0] ? ")" : "");
        status = command_interrupted ? 130 : 1;
    }
    mem_free(s.flags);
    mem_free(s.words);
    return status;
}

int command_main(int argc, char **argv)
{
    log_init("tenor", LOG_WARN);
    crypto_init();
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = on_interrupt}, NULL);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_interrupt}, NULL);
    int taken;
    const struct command *c = find_command(argc, argv, &taken);
    if (c) return run_command(c, argc, argv, taken);
    bool asked = argc < 2 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
                 strcmp(argv[1], "-h") == 0;
    if (asked || is_group(argv[1])) {
        print_overview(stdout, asked ? NULL : argv[1]);
        return argc < 2 ? 2 : 0;
    }
    fprintf(stderr, "tenor: there is no command '%s%s%s'; `tenor help` lists them\n", argv[1],
            argc > 2 ? " " : "", argc > 2 ? argv[2] : "");
    return 2;
}
