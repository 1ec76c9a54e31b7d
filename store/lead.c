/* Here a scheduler becomes, stays and stops being the leader. */
#include "store/lead.h"

#define LEAD_LOCK "5283640211"

/* One statement in a transaction of its own; session locks outlive it. */
static int ask(struct db *db, const char *sql, bool *answer, struct err *e)
{
    int rc = db_begin_system(db, e);
    if (rc) return rc;
    struct db_rows *r;
    rc = db_query_text(db, sql, &r, e);
    if (!rc) {
        *answer = db_bool(r, 0, 0);
        db_rows_free(r);
        return db_commit(db, e);
    }
    db_rollback(db);
    return rc;
}

int lead_check(struct db *db, struct lead *l, bool *leads, struct err *e)
{
    *leads = false;
    bool got = false;
    /* The lock is re-entrant: who holds it on this connection only makes sure that the connection lives. */
    bool ours = l->held && l->generation == db_generation(db);
    int rc = ask(db, ours ? "SELECT true" : "SELECT pg_try_advisory_lock(" LEAD_LOCK ")", &got, e);
    if (rc) {
        l->held = false;
        return rc;
    }
    /* Asking may have reconnected: then "SELECT true" proves nothing. */
    if (ours && l->generation != db_generation(db)) {
        l->held = false;
        return lead_check(db, l, leads, e);
    }
    l->held = got;
    l->generation = db_generation(db);
    *leads = got;
    return 0;
}

void lead_drop(struct db *db, struct lead *l)
{
    bool released;
    if (l->held && l->generation == db_generation(db))
        ask(db, "SELECT pg_advisory_unlock(" LEAD_LOCK ")", &released, NULL);
    l->held = false;
}
