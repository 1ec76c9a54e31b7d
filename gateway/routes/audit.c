/* The audit trail and the check of its chain. */
#include "gateway/routes/routes.h"

#include <string.h>
#include "store/audit.h"

static void entry_write(struct json_writer *w, const struct audit_entry *a)
{
    jw_obj(w);
    jw_kstr(w, "id", a->id);
    jw_kstr(w, "object", "audit.entry");
    jw_name(w, "seq");
    if (a->seq > 0)
        jw_int(w, a->seq);
    else
        jw_null(w);
    api_write_time(w, "effective_at", a->created_at_us);
    jw_kstr(w, "type", a->type);
    jw_name(w, "actor");
    jw_obj(w);
    jw_kstr(w, "type", a->actor_type);
    jw_kstr(w, "id", a->actor_id);
    jw_obj_end(w);
    api_write_opt(w, "object_id", a->object_id);
    api_write_raw(w, "data", a->data);
    api_write_opt(w, "hash", a->hash);
    jw_obj_end(w);
}

int audit_get(struct api_call *c, struct err *e)
{
    struct page page;
    struct audit_list list = {0};
    int rc = api_page(c, "aud_", &page, e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = audit_list(c->db, &page, request_query(c->request, "type"), c->arena, &list, e);
    if ((rc = api_end(c, rc, e)) != 0) return rc;
    struct json_writer *w = api_list_begin(c);
    for (int i = 0; i < list.n; i++) entry_write(w, &list.items[i]);
    api_list_end(c, list.n ? list.items[0].id : NULL, list.n ? list.items[list.n - 1].id : NULL,
                 list.has_more);
    return 0;
}

int audit_check(struct api_call *c, struct err *e)
{
    struct audit_verdict v;
    int rc = api_begin(c, e);
    if (rc == 0) rc = audit_verify(c->db, &v, e);
    if ((rc = api_end(c, rc, e)) != 0) return rc;
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    jw_kstr(w, "object", "audit.verification");
    jw_kbool(w, "verified", v.verified);
    jw_kint(w, "rows", v.rows);
    jw_kint(w, "unsealed", v.unsealed);
    api_write_opt(w, "first_bad", v.first_bad);
    jw_name(w, "first_bad_seq");
    if (v.verified)
        jw_null(w);
    else
        jw_int(w, v.first_bad_seq);
    api_write_opt(w, "reason", v.verified ? NULL : v.reason);
    jw_obj_end(w);
    return 0;
}
