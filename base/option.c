/* Fills an option table's variables from flags, environment, config file and defaults, and prints its help.
 */
#include "base/option.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/num.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_LEN = 64, FILE_MAX_BYTES = 1 << 20 };

/* What a row was given, by whom; the text is owned by the keeper below. */
struct given {
    const char *text;
    char where[NAME_MAX_LEN + 32]; /* "--lease", "TENOR_LEASE", "lease in tenor.conf line 3" */
};

/* Every string that an out may point to lives as long as the process, as the table does. */
struct kept {
    struct kept *next;
    char text[];
};

static struct kept *keeper;

static const char *keep(const char *text, size_t len)
{
    struct kept *k = mem_alloc(1, sizeof *k + len + 1);
    memcpy(k->text, text, len);
    k->next = keeper;
    keeper = k;
    return k->text;
}

static void give(struct given *g, const char *text, size_t len, const char *where)
{
    g->text = keep(text, len);
    snprintf(g->where, sizeof g->where, "%s", where);
}

static void env_name(char out[NAME_MAX_LEN + 16], const char *name, const char *suffix)
{
    snprintf(out, NAME_MAX_LEN + 16, "TENOR_%.64s%s", name, suffix);
    for (char *p = out; *p; p++) *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
}

static size_t find_row(const struct option_row *rows, size_t n, const char *name, size_t len)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0) return i;
    return n;
}

/* A secret "x" may also be given as "x-file". Returns the row of x for that spelling, or n. */
static size_t find_secret_file(const struct option_row *rows, size_t n, const char *name, size_t len)
{
    static const char suffix[] = "-file";
    size_t cut = sizeof suffix - 1;
    if (len <= cut || memcmp(name + len - cut, suffix, cut) != 0) return n;
    size_t i = find_row(rows, n, name, len - cut);
    return i < n && rows[i].secret ? i : n;
}

/* The whole file without its trailing line ends. */
static int give_from_file(struct given *g, const char *path, const char *where, struct err *e)
{
    struct buf text = {0};
    int rc = fs_read_all(&text, path, FILE_MAX_BYTES, e);
    if (rc) {
        err_prefix(e, "%s", where);
    } else {
        while (text.len > 0 && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r'))
            text.len--;
        give(g, text.len ? text.data : "", text.len, where);
        if (text.data) explicit_bzero(text.data, text.cap);
    }
    buf_dispose(&text);
    return rc;
}

/* ---- the three sources, weakest first; a stronger one overwrites ---- */

static int take_config_line(const struct option_row *rows, size_t n, struct given *given, char *line,
                            const char *place, struct err *e)
{
    line += strspn(line, " \t");
    size_t len = strlen(line);
    while (len > 0 && strchr(" \t\r", line[len - 1])) line[--len] = '\0';
    if (len == 0 || line[0] == '#') return 0;
    char *equals = strchr(line, '=');
    if (!equals) return err_set(e, ERR_INVALID, NULL, "%s: expected 'name = value'", place);
    size_t name_len = (size_t)(equals - line);
    while (name_len > 0 && strchr(" \t", line[name_len - 1])) name_len--;
    const char *value = equals + 1 + strspn(equals + 1, " \t");
    char where[NAME_MAX_LEN + 32];
    snprintf(where, sizeof where, "%.40s: %.*s", place, (int)(name_len < 40 ? name_len : 40), line);
    size_t i = find_row(rows, n, line, name_len);
    if (i < n) {
        give(&given[i], value, strlen(value), where);
        return 0;
    }
    i = find_secret_file(rows, n, line, name_len);
    if (i < n) return give_from_file(&given[i], value, where, e);
    return err_set(e, ERR_INVALID, NULL, "%s: there is no option named '%.*s'", place, (int)name_len, line);
}

static int take_config(const struct option_row *rows, size_t n, struct given *given, const char *path,
                       struct err *e)
{
    struct buf text = {0};
    int rc = fs_read_all(&text, path, FILE_MAX_BYTES, e);
    if (rc) err_prefix(e, "--config");
    if (!rc && strlen(text.data) != text.len) rc = err_set(e, ERR_INVALID, NULL, "%s holds a NUL byte", path);
    char *line = text.data;
    for (int number = 1; !rc && line; number++) {
        char *end = strchr(line, '\n');
        if (end) *end = '\0';
        char place[512];
        snprintf(place, sizeof place, "%.480s line %d", path, number);
        rc = take_config_line(rows, n, given, line, place, e);
        line = end ? end + 1 : NULL;
    }
    if (text.data) explicit_bzero(text.data, text.cap);
    buf_dispose(&text);
    return rc;
}

/* An empty variable counts as unset: that is what compose files pass for a variable that nobody set. */
static int take_environment(const struct option_row *rows, size_t n, struct given *given, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        char name[NAME_MAX_LEN + 16];
        env_name(name, rows[i].name, "-file");
        const char *path = rows[i].secret ? getenv(name) : NULL;
        if (path && *path) {
            int rc = give_from_file(&given[i], path, name, e);
            if (rc) return rc;
        }
        env_name(name, rows[i].name, "");
        const char *text = getenv(name);
        if (text && *text) give(&given[i], text, strlen(text), name);
    }
    return 0;
}

/* One flag of argv: its row, its value. `value` is NULL for a bare boolean. */
struct flag {
    const char *name;
    size_t name_len;
    const char *value;
    int used; /* arguments */
};

static int read_flag(struct flag *f, bool takes_value, int argc, char **argv, int at, struct err *e)
{
    const char *equals = strchr(f->name, '=');
    f->used = 1;
    if (equals) {
        f->value = equals + 1;
    } else if (takes_value) {
        if (at + 1 >= argc) return err_set(e, ERR_INVALID, NULL, "%s needs a value", argv[at]);
        f->value = argv[at + 1];
        f->used = 2;
    }
    return 0;
}

static int take_flag(const struct option_row *rows, size_t n, struct given *given, int argc, char **argv,
                     int *at, struct err *e)
{
    const char *arg = argv[*at];
    if (strncmp(arg, "--", 2) != 0 || !arg[2])
        return err_set(e, ERR_INVALID, NULL, "'%s' was not expected: options are written --name value", arg);
    struct flag f = {.name = arg + 2, .name_len = strcspn(arg + 2, "=")};
    size_t i = find_row(rows, n, f.name, f.name_len);
    size_t secret = i < n ? n : find_secret_file(rows, n, f.name, f.name_len);
    bool is_config = i == n && f.name_len == 6 && memcmp(f.name, "config", 6) == 0;
    if (i == n && secret == n && !is_config)
        return err_set(e, ERR_INVALID, NULL, "there is no option --%.*s; --help lists them", (int)f.name_len,
                       f.name);
    int rc = read_flag(&f, i == n || rows[i].type != OPTION_BOOL, argc, argv, *at, e);
    if (rc) return rc;
    *at += f.used;
    char where[NAME_MAX_LEN + 16];
    snprintf(where, sizeof where, "--%.*s", (int)(f.name_len < 64 ? f.name_len : 64), f.name);
    if (secret < n) return give_from_file(&given[secret], f.value, where, e);
    if (i < n) give(&given[i], f.value ? f.value : "true", strlen(f.value ? f.value : "true"), where);
    return 0;
}

/* --config is looked for first, because flags are stronger than what it names. */
static const char *config_path(int argc, char **argv)
{
    const char *path = getenv("TENOR_CONFIG");
    if (path && !*path) path = NULL;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0) path = argv[i] + 9;
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) path = argv[i + 1];
    }
    return path;
}

/* ---- values ---- */

struct unit {
    const char *suffix;
    int64_t factor;
};

static const struct unit durations[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
static const struct unit sizes[] = {{"", 1}, {"k", 1024}, {"m", 1 << 20}, {"g", 1 << 30}, {"t", 1ll << 40}};

static bool parse_units(const char *text, const struct unit *units, size_t n, int64_t *out)
{
    size_t digits = strspn(text, "0123456789");
    char number[24];
    if (digits == 0 || digits >= sizeof number) return false;
    memcpy(number, text, digits);
    number[digits] = '\0';
    int64_t v;
    if (!num_parse_i64(number, 0, INT64_MAX, &v)) return false;
    if (v == 0 && !text[digits]) { /* nothing is nothing in every unit */
        *out = 0;
        return true;
    }
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(text + digits, units[i].suffix) == 0)
            return !__builtin_mul_overflow(v, units[i].factor, out);
    return false;
}

static bool parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, yes[i]) == 0) return *out = true, true;
        if (strcmp(text, no[i]) == 0) return *out = false, true;
    }
    return false;
}

static bool parse_number(const struct option_row *r, const char *text, int64_t *out)
{
    bool bounded = r->min != 0 || r->max != 0;
    int64_t min = bounded ? r->min : INT64_MIN, max = bounded ? r->max : INT64_MAX, v;
    bool ok = r->type == OPTION_INT ? num_parse_i64(text, INT64_MIN, INT64_MAX, &v)
              : r->type == OPTION_DURATION_MS
                  ? parse_units(text, durations, sizeof durations / sizeof *durations, &v)
                  : parse_units(text, sizes, sizeof sizes / sizeof *sizes, &v);
    if (!ok || v < min || v > max) return false;
    *out = v;
    return true;
}

static const char *expected(const struct option_row *r)
{
    switch (r->type) {
    case OPTION_STR:
        return "text";
    case OPTION_INT:
        return "a whole number";
    case OPTION_BOOL:
        return "true or false";
    case OPTION_DURATION_MS:
        return "a duration such as 250ms, 10s, 5m or 1h";
    case OPTION_BYTES:
        return "a size such as 4096, 64k, 16m or 1g";
    }
    return "";
}

/* A bound in the row's own unit, as somebody would write it. */
static void bound_text(char out[32], const struct option_row *r, int64_t v)
{
    const struct unit *units = r->type == OPTION_DURATION_MS ? durations : sizes;
    int n = r->type == OPTION_DURATION_MS ? 4 : r->type == OPTION_BYTES ? 5 : 1;
    const char *suffix = r->type == OPTION_DURATION_MS ? "ms" : "";
    for (int i = n - 1; i > 0; i--)
        if (v > 0 && v % units[i].factor == 0) {
            v /= units[i].factor;
            suffix = units[i].suffix;
            break;
        }
    snprintf(out, 32, "%lld%s", (long long)v, suffix);
}

static int apply(const struct option_row *r, const struct given *g, struct err *e)
{
    bool ok = true;
    if (r->type == OPTION_STR)
        *(const char **)r->out = g->text;
    else if (r->type == OPTION_BOOL)
        ok = parse_bool(g->text, r->out);
    else
        ok = parse_number(r, g->text, r->out);
    if (ok) return 0;
    char range[96] = "", low[32], high[32];
    if (r->type != OPTION_BOOL && (r->min != 0 || r->max != 0)) {
        bound_text(low, r, r->min);
        bound_text(high, r, r->max);
        snprintf(range, sizeof range, " from %s to %s", low, high);
    }
    return err_set(e, ERR_INVALID, r->name, "%s: expected %s%s, got '%.64s'", g->where, expected(r), range,
                   r->secret ? "(hidden)" : g->text);
}

int option_try_parse(const struct option_row *rows, size_t n, int argc, char **argv, struct err *e)
{
    struct given *given = mem_alloc(n, sizeof *given);
    for (size_t i = 0; i < n; i++)
        if (rows[i].fallback) give(&given[i], rows[i].fallback, strlen(rows[i].fallback), "default");
    const char *config = config_path(argc, argv);
    int rc = config ? take_config(rows, n, given, config, e) : 0;
    if (!rc) rc = take_environment(rows, n, given, e);
    for (int at = 1; !rc && at < argc;) rc = take_flag(rows, n, given, argc, argv, &at, e);
    for (size_t i = 0; !rc && i < n; i++)
        if (given[i].text) rc = apply(&rows[i], &given[i], e);
    mem_free(given);
    return rc;
}

/* ---- help ---- */

static const char *placeholder(enum option_type type)
{
    switch (type) {
    case OPTION_STR:
        return " TEXT";
    case OPTION_INT:
        return " N";
    case OPTION_BOOL:
        return "";
    case OPTION_DURATION_MS:
        return " TIME";
    case OPTION_BYTES:
        return " SIZE";
    }
    return "";
}

void option_print_help(FILE *out, const char *program, const char *summary, const struct option_row *rows,
                       size_t n)
{
    fprintf(out, "%s: %s\n\nusage: %s [options]\n\n", program, summary, program);
    for (size_t i = 0; i < n; i++) {
        const struct option_row *r = &rows[i];
        char left[NAME_MAX_LEN + 16], env[NAME_MAX_LEN + 16];
        snprintf(left, sizeof left, "--%.64s%s", r->name, placeholder(r->type));
        env_name(env, r->name, "");
        fprintf(out, "  %-26s %s", left, r->help);
        if (r->fallback && *r->fallback && !r->secret) fprintf(out, " (default %s)", r->fallback);
        fprintf(out, " [%s]\n", env);
        if (r->secret && find_row(rows, n, left + 2, strlen(left) - 2) == n) {
            snprintf(left, sizeof left, "--%.56s-file PATH", r->name);
            fprintf(out, "  %-26s the same, read from a file [%s_FILE]\n", left, env);
        }
    }
    fprintf(out, "  %-26s lines of 'name = value' with the names above [TENOR_CONFIG]\n", "--config PATH");
    fprintf(out, "  %-26s this text\n  %-26s the version\n\n", "--help", "--version");
    fprintf(out,
            "A flag wins over its environment variable, that over the config file, that over the default.\n");
}

void option_parse(const char *program, const char *summary, const struct option_row *rows, size_t n, int argc,
                  char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            option_print_help(stdout, program, summary, rows, n);
            exit(0);
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("%s %s\n", program, TENOR_VERSION);
            exit(0);
        }
    }
    struct err e = {0};
    if (option_try_parse(rows, n, argc, argv, &e) == 0) return;
    fprintf(stderr, "%s: %s\n", program, e.message);
    exit(2);
}
