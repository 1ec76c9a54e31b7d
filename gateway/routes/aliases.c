/* Aliases: listed, moved, given a canary, rolled back. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <string.h>
#include "base/num.h"
#include "gateway/routes/models.h"
#include "store/alias.h"

enum { MILLION = 1000000 };

static void alias_write(struct json_writer *w, const struct alias *a)
{
    jw_obj(w);
    jw_kstr(w, "object", "model.alias");
    jw_kstr(w, "alias", a->name);
    jw_kstr(w, "model", a->model);
    jw_kint(w, "version", a->version);
    jw_name(w, "previous_version");
    if (a->previous)
        jw_int(w, a->previous);
    else
        jw_null(w);
    jw_name(w, "canary");
    if (a->canary) {
        jw_obj(w);
        jw_kint(w, "version", a->canary);
        jw_knum(w, "weight", (double)a->canary_ppm / MILLION);
        jw_obj_end(w);
    } else
        jw_null(w);
    jw_kint_str(w, "etag", a->etag);
    api_write_time(w, "updated_at", a->updated_at_us);
    jw_obj_end(w);
}

int aliases_list(struct api_call *c, struct err *e)
{
    struct alias *items = NULL;
    int n = 0, rc = models__check_name(c, e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = alias_list(c->db, api_param(c, 0), c->arena, &items, &n, e);
    if ((rc = api_end(c, rc, e)) != 0) return api_not_found(rc, "model", e);
    struct json_writer *w = api_list_begin(c);
    for (int i = 0; i < n; i++) alias_write(w, &items[i]);
    api_list_end(c, n ? items[0].name : NULL, n ? items[n - 1].name : NULL, false);
    return 0;
}

struct move {
    struct api_call *c;
    struct alias_target to;
    int64_t etag; /* what the alias must have now; -1 for any */
    struct alias alias;
};

static int move_tx(struct db *db, void *arg, struct err *e)
{
    struct move *m = arg;
    return alias_set(db, api_param(m->c, 0), api_param(m->c, 1), &m->to, m->etag, &m->c->by, &m->alias, e);
}

static int roll_back_tx(struct db *db, void *arg, struct err *e)
{
    struct move *m = arg;
    return alias_roll_back(db, api_param(m->c, 0), api_param(m->c, 1), m->etag, &m->c->by, &m->alias, e);
}

/* If-Match: "3", quoted or not, makes a read-modify-write safe; If-None-Match: * only makes new ones. */
static int read_condition(struct api_call *c, int64_t *etag, struct err *e)
{
    const char *match = request_header(c->request, "if-match"),
               *none = request_header(c->request, "if-none-match");
    char digits[24];
    *etag = none != NULL ? 0 : -1;
    if (none != NULL && strcmp(none, "*") != 0)
        return err_set(e, ERR_INVALID, "If-None-Match", "the only value known is *");
    if (match == NULL || strcmp(match, "*") == 0) return 0;
    size_t len = strlen(match), quotes = len > 2 && match[0] == '"' && match[len - 1] == '"';
    if (len < sizeof(digits)) {
        snprintf(digits, sizeof(digits), "%.*s", (int)(len - 2 * quotes), match + quotes);
        if (num_parse_i64(digits, 1, INT64_MAX, etag)) return 0;
    }
    return err_set(e, ERR_INVALID, "If-Match", "the header must hold the ETag of an earlier answer");
}

/* {"version":2,"canary":{"version":3,"weight":0.1}}; no canary, or null, is none. */
static int read_target(struct api_call *c, struct alias_target *to, struct err *e)
{
    struct json_obj o, inner;
    const cJSON *canary = NULL;
    int rc = api_body(c, &o, e);
    if (rc == 0) rc = json_take_int(&o, "version", 1, INT64_MAX / 1024, &to->version, e);
    if (rc == 0) rc = json_opt_object(&o, "canary", &canary, e);
    if (rc == 0) rc = json_obj_close(&o, e);
    if (rc != 0 || canary == NULL) return rc;
    double weight = 0;
    rc = json_obj_open(&inner, canary, "canary", e);
    if (rc == 0) rc = json_take_int(&inner, "version", 1, INT64_MAX / 1024, &to->canary, e);
    if (rc == 0) rc = json_take_num(&inner, "weight", 0, 1, &weight, e);
    if (rc == 0) rc = json_obj_close(&inner, e);
    to->canary_ppm = (int64_t)(weight * MILLION + 0.5);
    if (rc == 0 && (to->canary_ppm < 1 || to->canary_ppm >= MILLION))
        rc = err_set(e, ERR_INVALID, "canary.weight",
                     "the weight is the canary's share of the calls: above 0, below 1");
    return rc;
}

/* What every gateway must hear of, and the caller. */
static int answer(struct api_call *c, const struct alias *a)
{
    struct changed what = {.kind = CHANGED_MODEL};
    char etag[32];
    snprintf(what.tenant_id, sizeof(what.tenant_id), "%s", c->who->tenant_id);
    snprintf(what.model, sizeof(what.model), "%s", api_param(c, 0));
    api_changed(c, &what);
    snprintf(etag, sizeof(etag), "\"%lld\"", (long long)a->etag);
    call_header(c->call, "ETag", etag);
    alias_write(api_reply(c, 200), a);
    return 0;
}

int aliases_put(struct api_call *c, struct err *e)
{
    struct move m = {.c = c};
    int rc = models__check_name(c, e);
    if (rc == 0 && !id_name_valid(api_param(c, 1)))
        rc = err_set(e, ERR_INVALID, "alias",
                     "an alias is 1 to 64 characters of a-z 0-9 . _ - and starts with a letter "
                     "or digit");
    if (rc == 0) rc = read_condition(c, &m.etag, e);
    if (rc == 0) rc = read_target(c, &m.to, e);
    if (rc == 0) rc = db_run(c->db, c->who->tenant_id, move_tx, &m, e);
    return rc != 0 ? models__not_found(rc, e) : answer(c, &m.alias);
}

int aliases_roll_back(struct api_call *c, struct err *e)
{
    struct move m = {.c = c};
    int rc = models__check_name(c, e);
    if (rc == 0) rc = read_condition(c, &m.etag, e);
    if (rc == 0) rc = db_run(c->db, c->who->tenant_id, roll_back_tx, &m, e);
    return rc != 0 ? models__not_found(rc, e) : answer(c, &m.alias);
}
