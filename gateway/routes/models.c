/* Models and their versions. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <string.h>
#include "base/num.h"
#include "gateway/routes/models.h"
#include "store/model.h"
#include "store/version.h"

enum { STATUSES_MAX = 100 };

/* ---- TensorFlow Serving's view: every version that is served is loaded when it is called ---- */

static void one_status(struct json_writer *w, const struct version *v)
{
    char text[24];
    struct err why = {0};
    int rc = version_require_served(v, &why);
    snprintf(text, sizeof(text), "%lld", (long long)v->number);
    jw_obj(w);
    jw_kstr(w, "version", text);
    jw_kstr(w, "state", rc == 0 ? "AVAILABLE" : "END");
    jw_name(w, "status");
    jw_obj(w);
    jw_kstr(w, "error_code", rc == 0 ? "OK" : "UNAVAILABLE");
    jw_kstr(w, "error_message", why.message);
    jw_obj_end(w);
    jw_obj_end(w);
}

static void status_write(struct json_writer *w, const struct version *items, int n)
{
    jw_name(w, "model_version_status");
    jw_arr(w);
    for (int i = 0; i < n; i++) one_status(w, &items[i]);
    jw_arr_end(w);
}

/* ---- conditions ---- */

int models__if_match(struct api_call *c, int64_t *etag, struct err *e)
{
    const char *match = request_header(c->request, "if-match");
    char digits[24];
    *etag = -1;
    if (match == NULL || strcmp(match, "*") == 0) return 0;
    size_t len = strlen(match), quotes = len > 2 && match[0] == '"' && match[len - 1] == '"';
    if (len < sizeof(digits)) {
        snprintf(digits, sizeof(digits), "%.*s", (int)(len - 2 * quotes), match + quotes);
        if (num_parse_i64(digits, 1, INT64_MAX, etag)) return 0;
    }
    return err_set(e, ERR_INVALID, "If-Match", "the header must hold the ETag of an earlier answer");
}

void models__tell_etag(struct api_call *c, int64_t etag)
{
    char text[32];
    snprintf(text, sizeof(text), "\"%lld\"", (long long)etag);
    call_header(c->call, "ETag", text);
}

/* ---- models ---- */

void models__members(struct json_writer *w, const struct model *m)
{
    jw_kstr(w, "id", m->id);
    jw_kstr(w, "object", "model");
    jw_kstr(w, "name", m->name);
    api_write_time(w, "created_at", m->created_at_us);
    jw_name(w, "latest_version");
    if (m->latest_version > 0)
        jw_int(w, m->latest_version);
    else
        jw_null(w);
    jw_name(w, "aliases");
    jw_obj(w);
    for (int i = 0; i < m->n_aliases; i++) jw_kint(w, m->aliases[i].name, m->aliases[i].version);
    jw_obj_end(w);
    model_settings_write(w, &m->settings);
    jw_kint_str(w, "etag", m->etag);
}

/* A name of another form is as absent as an unknown one, and so is a model outside the key's allow-list. */
int models__check_name(struct api_call *c, struct err *e)
{
    if (id_name_valid(api_param(c, 0)) && principal_may_call(c->who, api_param(c, 0))) return 0;
    return err_set(e, ERR_NOT_FOUND, "model", "there is no such model");
}

/* The nouns of a version's path. */
int models__not_found(int rc, struct err *e)
{
    char noun[16];
    snprintf(noun, sizeof(noun), "%.15s", e->field[0] != '\0' ? e->field : "model");
    return api_not_found(rc, noun, e);
}

int models_list(struct api_call *c, struct err *e)
{
    struct page page;
    struct model_list list = {0};
    int rc = api_page(c, "mdl_", &page, e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = model_list(c->db, &page, c->arena, &list, e);
    if ((rc = api_end(c, rc, e)) != 0) return rc;
    struct json_writer *w = api_list_begin(c);
    for (int i = 0; i < list.n; i++) {
        if (!principal_may_call(c->who, list.items[i].name))
            continue; /* to this key there is no such model */
        jw_obj(w);
        models__members(w, &list.items[i]);
        jw_obj_end(w);
    }
    api_list_end(c, list.n ? list.items[0].id : NULL, list.n ? list.items[list.n - 1].id : NULL,
                 list.has_more);
    return 0;
}

int models_get(struct api_call *c, struct err *e)
{
    struct model m;
    struct version_list versions = {0};
    struct page newest = {.limit = STATUSES_MAX};
    int rc = models__check_name(c, e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = model_find(c->db, api_param(c, 0), c->arena, &m, e);
    if (rc == 0) rc = version_list(c->db, api_param(c, 0), &newest, c->arena, &versions, e);
    if ((rc = api_end(c, rc, e)) != 0) return api_not_found(rc, "model", e);
    models__tell_etag(c, m.etag);
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    models__members(w, &m);
    status_write(w, versions.items, versions.n);
    jw_obj_end(w);
    return 0;
}

/* ---- versions ---- */

static void version_members(struct json_writer *w, const struct version *v)
{
    jw_kstr(w, "id", v->id);
    jw_kstr(w, "object", "model.version");
    jw_kstr(w, "model", v->model);
    jw_kint(w, "version", v->number);
    jw_kstr(w, "status", "ready");
    jw_kbool(w, "served", v->served);
    jw_kint(w, "bytes", v->bytes);
    jw_kstr(w, "sha256", v->sha256);
    api_write_raw(w, "metrics", v->metrics);
    api_write_raw(w, "signature", v->signature);
    api_write_opt(w, "job", v->job_id);
    api_write_time(w, "created_at", v->created_at_us);
}

int versions_list(struct api_call *c, struct err *e)
{
    struct page page;
    struct version_list list = {0};
    int rc = models__check_name(c, e);
    if (rc == 0) rc = api_page(c, "ver_", &page, e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = version_list(c->db, api_param(c, 0), &page, c->arena, &list, e);
    if ((rc = api_end(c, rc, e)) != 0) return api_not_found(rc, "model", e);
    struct json_writer *w = api_list_begin(c);
    for (int i = 0; i < list.n; i++) {
        jw_obj(w);
        version_members(w, &list.items[i]);
        jw_obj_end(w);
    }
    api_list_end(c, list.n ? list.items[0].id : NULL, list.n ? list.items[list.n - 1].id : NULL,
                 list.has_more);
    return 0;
}

int versions_get(struct api_call *c, struct err *e)
{
    struct version v;
    int64_t number;
    int rc = models__check_name(c, e);
    if (rc != 0) return rc;
    if (!num_parse_i64(api_param(c, 1), 1, INT64_MAX, &number))
        return err_set(e, ERR_NOT_FOUND, "version", "there is no such version");
    rc = api_begin(c, e);
    if (rc == 0) rc = version_find(c->db, api_param(c, 0), number, NULL, c->arena, &v, e);
    if ((rc = api_end(c, rc, e)) != 0) return models__not_found(rc, e);
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    version_members(w, &v);
    status_write(w, &v, 1);
    jw_obj_end(w);
    return 0;
}
