/* API keys: made (never stronger than the key that makes them), listed, revoked at once. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "store/key.h"

enum { MODELS_MAX = 64 };

static const char *status_of(const struct api_key *k)
{
    if (k->revoked_at_us != 0) return "revoked";
    return k->expires_at_us != 0 && k->expires_at_us <= clock_wall_us() ? "expired" : "active";
}

/* The members of a key; the caller opens and closes the object. */
static void key_members(struct json_writer *w, const struct api_key *k)
{
    jw_kstr(w, "id", k->id);
    jw_kstr(w, "object", "api_key");
    jw_kstr(w, "name", k->name);
    jw_name(w, "scopes");
    jw_arr(w);
    for (int i = 0; i < SCOPE_COUNT; i++)
        if (k->scopes & (1u << i)) jw_str(w, key_scope_name(i));
    jw_arr_end(w);
    jw_name(w, "models");
    if (k->models == NULL) {
        jw_null(w);
    } else {
        jw_arr(w);
        for (int i = 0; i < k->n_models; i++) jw_str(w, k->models[i]);
        jw_arr_end(w);
    }
    jw_kstr(w, "status", status_of(k));
    api_write_time(w, "created_at", k->created_at_us);
    api_write_time(w, "expires_at", k->expires_at_us);
    api_write_time(w, "revoked_at", k->revoked_at_us);
}

int keys_list(struct api_call *c, struct err *e)
{
    struct page page;
    struct key_list list = {0};
    int rc = api_page(c, "key_", &page, e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = key_list(c->db, &page, c->arena, &list, e);
    if ((rc = api_end(c, rc, e)) != 0) return rc;
    struct json_writer *w = api_list_begin(c);
    for (int i = 0; i < list.n; i++) {
        jw_obj(w);
        key_members(w, &list.items[i]);
        jw_obj_end(w);
    }
    api_list_end(c, list.n ? list.items[0].id : NULL, list.n ? list.items[list.n - 1].id : NULL,
                 list.has_more);
    return 0;
}

/* ---- making one ---- */

struct making {
    struct api_call *c;
    const char *idempotency_key; /* or NULL */
    struct key_new in;
    const char *models[MODELS_MAX];
    struct idem idem;
    struct api_key key;
    char secret[KEY_TEXT_MAX];
};

static int read_scopes(struct making *m, const cJSON *array, struct err *e)
{
    int i = 0;
    for (const cJSON *item = array->child; item != NULL; item = item->next, i++) {
        char path[JSON_PATH_MAX];
        json_path_index(path, "scopes", (size_t)i);
        unsigned bit = cJSON_IsString(item) ? key_scope_of(item->valuestring) : 0;
        if (bit == 0)
            return err_set(e, ERR_INVALID, path, "this is no scope; /openapi.json and docs/api.md list them");
        if ((m->c->who->scopes & bit) == 0)
            return err_set(e, ERR_FORBIDDEN, path,
                           "the key that asks lacks the scope %s, so it cannot give it", item->valuestring);
        m->in.scopes |= bit;
    }
    return 0;
}

static int read_models(struct making *m, const cJSON *array, struct err *e)
{
    int i = 0;
    for (const cJSON *item = array->child; item != NULL; item = item->next, i++) {
        char path[JSON_PATH_MAX];
        json_path_index(path, "models", (size_t)i);
        if (!cJSON_IsString(item) || !id_name_valid(item->valuestring))
            return err_set(e, ERR_INVALID, path, "a model's name was expected");
        if (!principal_may_call(m->c->who, item->valuestring))
            return err_set(e, ERR_FORBIDDEN, path, "the key that asks may not call %s, so it cannot allow it",
                           item->valuestring);
        m->models[i] = item->valuestring;
    }
    m->in.models = m->models;
    m->in.n_models = i;
    return 0;
}

/* expires_at_us 0: none was asked for. A key that ends passes its end on. */
static int limit_life(struct making *m, int64_t expires_at_us, struct err *e)
{
    int64_t own_us = m->c->who->expires_at_us;
    if (own_us != 0 && expires_at_us > own_us)
        return err_set(e, ERR_FORBIDDEN, "expires_at",
                       "the key that asks expires before that, so it cannot give it");
    m->in.expires_at_us = own_us != 0 && expires_at_us == 0 ? own_us : expires_at_us;
    return 0;
}

static int read_request(struct making *m, struct err *e)
{
    struct json_obj o;
    const cJSON *scopes, *models = NULL;
    int64_t expires_at = 0, now = clock_wall_us() / 1000000;
    int rc;
    if ((rc = api_body(m->c, &o, e)) || (rc = json_take_str(&o, "name", 1, 64, &m->in.name, e)) ||
        (rc = json_take_array(&o, "scopes", 1, SCOPE_COUNT, &scopes, e)) ||
        (rc = json_opt_array(&o, "models", 1, MODELS_MAX, &models, e)) ||
        (rc = json_opt_int(&o, "expires_at", now + 1, now + 3650LL * 86400, &expires_at, e)) ||
        (rc = json_obj_close(&o, e)) || (rc = read_scopes(m, scopes, e)))
        return rc;
    if (!id_name_valid(m->in.name))
        return err_set(e, ERR_INVALID, "name",
                       "a key's name is 1 to 64 characters of a-z 0-9 . _ - and starts with a "
                       "letter or digit");
    if ((rc = limit_life(m, expires_at * 1000000, e))) return rc;
    if (models != NULL) return read_models(m, models, e);
    m->in.models = m->c->who->models; /* whoever is bound to some models passes the bond on */
    m->in.n_models = m->c->who->n_models;
    return 0;
}

/* secret NULL: as it is stored for replays, since the secret is kept nowhere. */
static void made_write(struct api_call *c, const struct api_key *k, const char *secret)
{
    struct json_writer *w = api_reply(c, 201);
    jw_obj(w);
    key_members(w, k);
    jw_kstr(w, "secret", secret);
    jw_obj_end(w);
}

static int make_tx(struct db *db, void *arg, struct err *e)
{
    struct making *m = arg;
    struct api_call *c = m->c;
    int rc = api_idem_take(c, m->idempotency_key, c->call->body, c->call->body_len, &m->idem, e);
    if (rc != 0 || m->idem.outcome == IDEM_REPLAY) return rc;
    rc = key_create(db, &c->g->keyring, &m->in, &c->by, c->arena, &m->key, m->secret, e);
    if (rc != 0) return rc;
    made_write(c, &m->key, NULL);
    return api_idem_finish(c, m->idempotency_key, &m->idem, e);
}

int keys_create(struct api_call *c, struct err *e)
{
    struct making m = {.c = c};
    int rc = api_idempotency_key(c, &m.idempotency_key, e);
    if (rc == 0) rc = read_request(&m, e);
    if (rc == 0) rc = db_run(c->db, c->who->tenant_id, make_tx, &m, e);
    if (rc == 0 && m.idem.outcome == IDEM_REPLAY)
        api_replay(c, &m.idem);
    else if (rc == 0)
        made_write(c, &m.key, m.secret);
    if (rc == 0) call_header(c->call, "Cache-Control", "no-store");
    explicit_bzero(m.secret, sizeof(m.secret));
    return rc;
}

/* ---- revoking one ---- */

static int revoke_tx(struct db *db, void *arg, struct err *e)
{
    const struct api_call *c = arg;
    return key_revoke(db, api_param(c, 0), &c->by, NULL, e);
}

int keys_delete(struct api_call *c, struct err *e)
{
    int rc = api_param_id(c, 0, "key_", "key", e);
    if (rc == 0) rc = db_run(c->db, c->who->tenant_id, revoke_tx, c, e);
    if (rc != 0) return api_not_found(rc, "key", e);
    struct changed what = {.kind = CHANGED_KEY};
    snprintf(what.key_id, sizeof(what.key_id), "%s", api_param(c, 0));
    api_changed(c, &what);
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    jw_kstr(w, "id", api_param(c, 0));
    jw_kstr(w, "object", "api_key");
    jw_kbool(w, "deleted", true);
    jw_obj_end(w);
    return 0;
}
