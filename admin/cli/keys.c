/* tenor key …: an operator makes, lists and revokes tenants' API keys. */
#include <stdio.h>
#include <string.h>

#include "admin/cli/command.h"
#include "admin/cli/operator.h"
#include "admin/cli/output.h"
#include "base/clock.h"

enum { LIST_MAX = 200, ARENA_MAX = 16 << 20 };

static const char *opt_scopes, *opt_key_name;
static int64_t opt_expires_days;

struct key_work {
    const struct keyring *keys;
    const char *tenant, *name;
    struct arena arena;
    struct key_new in;
    struct api_key out;
    char secret[KEY_TEXT_MAX];
};

static int create_key(struct db *db, void *arg, struct err *e)
{
    struct key_work *w = arg;
    struct actor by = operator_actor();
    return key_create(db, w->keys, &w->in, &by, &w->arena, &w->out, w->secret, e);
}

static int scopes_of(const char *text, unsigned *out, struct err *e)
{
    *out = 0;
    if (!text) *out = SCOPE_ALL;
    for (const char *p = text; p && *p;) {
        char word[32];
        size_t len = strcspn(p, ",");
        snprintf(word, sizeof word, "%.*s", (int)(len < 31 ? len : 31), p);
        unsigned bit = key_scope_of(word);
        if (!bit)
            return err_set(e, ERR_INVALID, "scopes",
                           "there is no scope '%s'; scopes look like jobs:read,predict", word);
        *out |= bit;
        p += len + (p[len] == ',');
    }
    return *out ? 0 : err_set(e, ERR_INVALID, "scopes", "at least one scope is needed");
}

int operator_make_key(struct db *db, const struct keyring *k, const struct tenant *t, const char *name,
                      char secret[KEY_TEXT_MAX], struct err *e)
{
    struct key_work w = {.keys = k, .in = {.name = name}};
    arena_init(&w.arena, ARENA_MAX);
    if (opt_expires_days) w.in.expires_at_us = clock_wall_us() + opt_expires_days * 86400 * INT64_C(1000000);
    int rc = scopes_of(opt_scopes, &w.in.scopes, e);
    if (rc == 0) rc = db_run(db, t->id, create_key, &w, e);
    if (rc == 0) memcpy(secret, w.secret, KEY_TEXT_MAX);
    arena_dispose(&w.arena);
    return rc;
}

static int run_key_create(const struct command_args *args, struct err *e)
{
    struct db *db = NULL;
    struct keyring k;
    struct tenant t;
    char secret[KEY_TEXT_MAX];
    int rc = operator_keyring(&k, e);
    if (rc || (rc = operator_open("tenor_admin", &db, e))) return rc;
    rc = operator_tenant(db, args->words[0], &t, e);
    if (rc == 0) rc = operator_make_key(db, &k, &t, opt_key_name, secret, e);
    if (rc == 0) printf("%s\n", secret);
    keyring_wipe(&k);
    db_free(db);
    return rc;
}

struct revoke_work {
    struct tenant tenant;
    const char *key_id;
    bool was_live;
};

static int revoke_key(struct db *db, void *arg, struct err *e)
{
    struct revoke_work *w = arg;
    struct actor by = operator_actor();
    return key_revoke(db, w->key_id, &by, &w->was_live, e);
}

static int run_key_revoke(const struct command_args *args, struct err *e)
{
    struct db *db = NULL;
    struct revoke_work w = {.key_id = args->words[1]};
    int rc = operator_open("tenor_admin", &db, e);
    if (rc) return rc;
    if ((rc = operator_tenant(db, args->words[0], &w.tenant, e)) == 0)
        rc = db_run(db, w.tenant.id, revoke_key, &w, e);
    db_free(db);
    if (rc == ERR_NOT_FOUND && !e->field[0])
        err_set(e, rc, "key", "tenant %s has no key %s", args->words[0], w.key_id);
    if (rc) return rc;
    struct changed c = {.kind = CHANGED_KEY};
    snprintf(c.key_id, sizeof c.key_id, "%s", w.key_id);
    operator_announce(&c);
    printf("%s %s\n", w.key_id, w.was_live ? "revoked" : "was revoked already");
    return 0;
}

static void print_keys(const struct key_list *list)
{
    const char *const headers[] = {"ID", "NAME", "STATE", "CREATED", "EXPIRES", "SCOPES"};
    struct table *t = table_create(headers, 6);
    for (int i = 0; i < list->n; i++) {
        const struct api_key *k = &list->items[i];
        char created[OUTPUT_TEXT_MAX], expires[OUTPUT_TEXT_MAX], scopes[256] = "";
        output_when(created, (double)k->created_at_us / 1e6);
        output_when(expires, (double)k->expires_at_us / 1e6);
        for (int s = 0; s < SCOPE_COUNT; s++)
            if (k->scopes >> s & 1)
                snprintf(scopes + strlen(scopes), sizeof scopes - strlen(scopes), "%s%s",
                         scopes[0] ? "," : "", key_scope_name(s));
        bool expired = k->expires_at_us && k->expires_at_us < clock_wall_us();
        const char *state = k->revoked_at_us ? "revoked" : expired ? "expired" : "live";
        const char *const cells[] = {k->id,   k->name, state,
                                     created, expires, k->scopes == SCOPE_ALL ? "all" : scopes};
        table_row(t, cells);
    }
    table_print(t);
}

static int run_key_list(const struct command_args *args, struct err *e)
{
    struct db *db = NULL;
    struct tenant t;
    struct arena a;
    struct key_list list;
    int rc = operator_open("tenor_admin", &db, e);
    if (rc) return rc;
    arena_init(&a, ARENA_MAX);
    if ((rc = operator_tenant(db, args->words[0], &t, e)) == 0 && (rc = db_begin(db, t.id, e)) == 0 &&
        (rc = key_list(db, &(struct page){.limit = LIST_MAX}, &a, &list, e)) == 0)
        print_keys(&list);
    db_rollback(db);
    arena_dispose(&a);
    db_free(db);
    return rc;
}

static const struct option_row key_rows[] = {
    OPERATOR_SECRET_ROWS,
    {.name = "name",
     .type = OPTION_STR,
     .out = &opt_key_name,
     .fallback = "default",
     .help = "the principal; two live keys each, for rotation"},
    {.name = "scopes", .type = OPTION_STR, .out = &opt_scopes, .help = "comma-separated (default: all)"},
    {.name = "expires-days",
     .type = OPTION_INT,
     .out = &opt_expires_days,
     .min = 1,
     .max = 36500,
     .help = "days until it expires"},
};

const struct command key_commands[] = {
    {"key create", "<tenant>", 1, 1, COMMAND_DATABASE, key_rows, sizeof key_rows / sizeof *key_rows,
     "make an API key; prints it once", run_key_create},
    {"key list", "<tenant>", 1, 1, COMMAND_DATABASE, NULL, 0, "a tenant's keys", run_key_list},
    {"key revoke", "<tenant> <key>", 2, 2, COMMAND_DATABASE, NULL, 0, "revoke a key at once", run_key_revoke},
    {0},
};
