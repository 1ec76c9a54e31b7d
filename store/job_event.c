/* Here job events are appended under the job's row lock, and listed oldest first. */
#include "store/job_event.h"
#include "store/job_internal.h"

#include <string.h>
#include "store/page.h"

int job_event__insert(struct db *db, const char *tenant_id, const char *job_id, int64_t seq,
                      const char *level, const char *type, const char *message, const char *data,
                      struct err *e)
{
    char id[ID_MAX];
    id_new(id, "evt_");
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_str(&a, job_id);
    db_arg_int(&a, seq);
    db_arg_str(&a, id);
    db_arg_str(&a, level);
    db_arg_str(&a, type);
    db_arg_str(&a, message ? message : "");
    db_arg_str(&a, data);
    return db_exec(db,
                   "INSERT INTO job_events (tenant_id, job_id, seq, id, level, type, message, data) VALUES "
                   "($1, $2, $3, $4, $5, $6, $7, $8)",
                   &a, NULL, e);
}

static int read_event(void *item, struct arena *a, const struct db_rows *r, int row, struct err *e)
{
    struct job_event *out = item;
    db_copy(out->id, sizeof out->id, r, row, 0);
    out->seq = db_int(r, row, 1);
    out->created_at_us = db_int(r, row, 2);
    db_copy(out->level, sizeof out->level, r, row, 3);
    db_copy(out->type, sizeof out->type, r, row, 4);
    int rc = db_arena_text(&out->message, a, r, row, 5, e);
    return rc ? rc : db_arena_text(&out->data, a, r, row, 6, e);
}

/* Events are ordered by number, not by id: where the cursor's event stands must be looked up. seq is left
 * alone without a cursor. */
static int find_start(struct db *db, const char *job_id, const struct page_cut *c, int64_t *seq,
                      struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, job_id);
    db_arg_str(&a, c->cursor);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "SELECT (SELECT e.seq FROM job_events e WHERE e.tenant_id = $1 AND e.job_id = $2 AND e.id = $3) "
        "FROM jobs j WHERE j.tenant_id = $1 AND j.id = $2",
        &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_NOT_FOUND, "job", "there is no such job");
    else if (c->cursor && db_is_null(r, 0, 0))
        rc = err_set(e, ERR_INVALID, c->reversed ? "before" : "after", "the job has no such event");
    else if (c->cursor)
        *seq = db_int(r, 0, 0);
    db_rows_free(r);
    return rc;
}

int job_event_list(struct db *db, const char *job_id, const struct page *p, struct arena *ar,
                   struct job_event_list *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    struct page_cut c;
    int64_t seq = 0;
    int rc = page__cut(&c, p, "evt_", e);
    if (!rc) rc = find_start(db, job_id, &c, &seq, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, job_id);
    db_arg_int(&a, seq);
    db_arg_int(&a, c.limit + 1);
    struct db_rows *r;
#define EVENT_LIST                                                                                           \
    "SELECT id, seq, us(created_at), level, type, message, data FROM job_events WHERE tenant_id = $1 AND "   \
    "job_id = $2 "
    rc = c.reversed ? db_exec(db, EVENT_LIST "AND seq < $3 ORDER BY seq DESC LIMIT $4", &a, &r, e)
                    : db_exec(db, EVENT_LIST "AND seq > $3 ORDER BY seq ASC LIMIT $4", &a, &r, e);
    if (rc) return rc;
    struct page_items got;
    rc = page__read(&got, &c, r, ar, sizeof *out->items, read_event, e);
    *out = (struct job_event_list){got.items, got.n, got.has_more};
    return rc;
}
