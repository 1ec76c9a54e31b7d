/* tenor bootstrap and tenor tenant …: tenants are made, listed, suspended and put on plans. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "admin/cli/command.h"
#include "admin/cli/operator.h"
#include "admin/cli/output.h"
#include "admin/launch/platform.h"
#include "base/clock.h"
#include "store/overview.h"

enum { LIST_MAX = 200, ARENA_MAX = 16 << 20 };

static const char *opt_plan;

int operator_tenant(struct db *db, const char *name, struct tenant *out, struct err *e)
{
    int rc = db_begin_system(db, e);
    if (rc) return rc;
    rc = id_valid(name, "ten_") ? tenant_find(db, name, out, e) : tenant_find_name(db, name, out, e);
    db_rollback(db);
    return rc == ERR_NOT_FOUND
               ? err_set(e, rc, "tenant", "there is no tenant '%s'; `tenor tenant list` shows them", name)
               : rc;
}

struct tenant_work {
    const struct keyring *keys;
    const char *name;
    struct tenant out;
};

static int create_tenant(struct db *db, void *arg, struct err *e)
{
    struct tenant_work *w = arg;
    struct actor by = operator_actor();
    return tenant_create(db, w->keys, w->name, opt_plan ? opt_plan : "standard", &by, &w->out, e);
}

int operator_bootstrap(const char *name, char tenant_id[ID_MAX], char secret[KEY_TEXT_MAX], struct err *e)
{
    struct db *db = NULL;
    struct keyring k;
    struct tenant_work w = {.keys = &k, .name = name};
    int rc = operator_keyring(&k, e);
    if (rc || (rc = operator_open("tenor_admin", &db, e))) return rc;
    rc = db_run(db, NULL, create_tenant, &w, e);
    if (rc == 0) rc = operator_make_key(db, &k, &w.out, "bootstrap", secret, e);
    if (rc == 0) memcpy(tenant_id, w.out.id, ID_MAX);
    keyring_wipe(&k);
    db_free(db);
    return rc;
}

static int run_bootstrap(const struct command_args *args, struct err *e)
{
    char id[ID_MAX], secret[KEY_TEXT_MAX], fresh[STORE_NAME_MAX];
    snprintf(fresh, sizeof fresh, "tenant-%" PRIx64, (uint64_t)clock_wall_us() / 1000);
    const char *name = args->len ? args->words[0] : fresh;
    int rc = operator_bootstrap(name, id, secret, e);
    if (rc) return rc;
    struct home h;
    struct platform_addresses at = {.url = ""};
    if (home_find(&h, command_shared.home, NULL) == 0) platform_addresses(&h, &at, NULL);
    fprintf(stderr, "tenant %s (%s); its key is shown this once\n", name, id);
    if (at.url[0]) printf("export TENOR_URL=%s\n", at.url);
    printf("export TENOR_API_KEY=%s\n", secret);
    return 0;
}

static int run_tenant_create(const struct command_args *args, struct err *e)
{
    struct db *db = NULL;
    struct keyring k;
    struct tenant_work w = {.keys = &k, .name = args->words[0]};
    int rc = operator_keyring(&k, e);
    if (rc || (rc = operator_open("tenor_admin", &db, e))) return rc;
    if ((rc = db_run(db, NULL, create_tenant, &w, e)) == 0)
        printf("%s  %s  plan %s\n", w.out.id, w.out.name, w.out.plan.name);
    keyring_wipe(&k);
    db_free(db);
    return rc;
}

static void print_tenants(const struct overview_tenant *items, int n)
{
    const char *const headers[] = {"ID",     "NAME",    "PLAN",   "STATE",
                                   "QUEUED", "RUNNING", "MODELS", "THIS MONTH"};
    struct table *t = table_create(headers, 8);
    for (int i = 0; i < n; i++) {
        char queued[OUTPUT_TEXT_MAX], running[OUTPUT_TEXT_MAX], models[OUTPUT_TEXT_MAX],
            billed[OUTPUT_TEXT_MAX];
        snprintf(queued, sizeof queued, "%" PRId64, items[i].queued);
        snprintf(running, sizeof running, "%" PRId64, items[i].running);
        snprintf(models, sizeof models, "%" PRId64, items[i].models);
        output_money(billed, items[i].billed_month_micros);
        const char *const cells[] = {
            items[i].id, items[i].name, items[i].plan, items[i].suspended ? "suspended" : "active",
            queued,      running,       models,        billed};
        table_row(t, cells);
    }
    table_print(t);
}

static int run_tenant_list(const struct command_args *args, struct err *e)
{
    (void)args;
    struct db *db = NULL;
    struct arena a;
    struct overview_tenant *items;
    int n;
    bool more;
    int rc = operator_open("tenor_admin", &db, e);
    if (rc) return rc;
    arena_init(&a, ARENA_MAX);
    if ((rc = db_begin_system(db, e)) == 0 &&
        (rc = overview_tenants(db, &(struct page){.limit = LIST_MAX}, &a, &items, &n, &more, e)) == 0) {
        print_tenants(items, n);
        if (more) printf("(the newest %d)\n", LIST_MAX);
    }
    db_rollback(db);
    arena_dispose(&a);
    db_free(db);
    return rc;
}

struct change_work {
    struct tenant tenant;
    const char *plan;
    bool suspended;
};

static int set_suspended(struct db *db, void *arg, struct err *e)
{
    struct change_work *w = arg;
    struct actor by = operator_actor();
    return tenant_suspend(db, w->tenant.id, w->suspended, &by, e);
}

static int set_plan(struct db *db, void *arg, struct err *e)
{
    struct change_work *w = arg;
    struct actor by = operator_actor();
    return tenant_set_plan(db, w->tenant.id, w->plan, &by, e);
}

static int change_tenant(const char *name, struct change_work *w, db_fn fn, const char *done, struct err *e)
{
    struct db *db = NULL;
    int rc = operator_open("tenor_admin", &db, e);
    if (rc) return rc;
    if ((rc = operator_tenant(db, name, &w->tenant, e)) == 0) rc = db_run(db, NULL, fn, w, e);
    db_free(db);
    if (rc) return rc;
    struct changed c = {.kind = CHANGED_TENANT};
    memcpy(c.tenant_id, w->tenant.id, sizeof c.tenant_id);
    operator_announce(&c);
    printf("%s  %s\n", w->tenant.name, done);
    return 0;
}

static int run_suspend(const struct command_args *args, struct err *e)
{
    return change_tenant(args->words[0], &(struct change_work){.suspended = true}, set_suspended,
                         "suspended: its keys are refused", e);
}

static int run_resume(const struct command_args *args, struct err *e)
{
    return change_tenant(args->words[0], &(struct change_work){.suspended = false}, set_suspended, "active",
                         e);
}

static int run_set_plan(const struct command_args *args, struct err *e)
{
    return change_tenant(args->words[0], &(struct change_work){.plan = args->words[1]}, set_plan,
                         "plan changed", e);
}

static const struct option_row tenant_rows[] = {
    OPERATOR_SECRET_ROWS,
    {.name = "plan", .type = OPTION_STR, .out = &opt_plan, .help = "its plan (default standard)"},
};
const struct command tenant_commands[] = {
    {"bootstrap", "[name]", 0, 1, COMMAND_DATABASE, tenant_rows, 3,
     "make a tenant with a key; prints shell exports", run_bootstrap},
    {"tenant create", "<name>", 1, 1, COMMAND_DATABASE, tenant_rows, 3, "make a tenant", run_tenant_create},
    {"tenant list", "", 0, 0, COMMAND_DATABASE, NULL, 0, "tenants, what they run and owe", run_tenant_list},
    {"tenant suspend", "<tenant>", 1, 1, COMMAND_DATABASE, NULL, 0, "refuse a tenant's keys, hold its jobs",
     run_suspend},
    {"tenant resume", "<tenant>", 1, 1, COMMAND_DATABASE, NULL, 0, "undo suspend", run_resume},
    {"tenant plan", "<tenant> <plan>", 2, 2, COMMAND_DATABASE, NULL, 0, "put a tenant on another plan",
     run_set_plan},
    {0},
};
