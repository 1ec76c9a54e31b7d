/* One question about everything of a tenant that takes room. */
#include "store/storage_internal.h"

int storage__find(struct db *db, struct storage *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    struct db_rows *r;
    int rc = db_exec(db,
                     "SELECT p.max_storage_bytes, (SELECT coalesce(sum(bytes), 0)::bigint FROM ("
                     "SELECT bytes FROM datasets WHERE tenant_id = $1 AND deleted_at IS NULL UNION ALL "
                     "SELECT bytes FROM model_versions WHERE tenant_id = $1 AND deleted_at IS NULL UNION ALL "
                     "SELECT b.bytes FROM predict_jobs j JOIN blobs b ON b.tenant_id = j.tenant_id "
                     "AND b.sha256 IN (j.input_sha256, j.output_sha256) WHERE j.tenant_id = $1) x) "
                     "FROM tenants t JOIN plans p ON p.name = t.plan WHERE t.id = $1",
                     &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) != 1)
        rc = err_set(e, ERR_NOT_FOUND, "tenant", "there is no such tenant");
    else
        *out = (struct storage){.allowed_bytes = db_int(r, 0, 0), .used_bytes = db_int(r, 0, 1)};
    db_rows_free(r);
    return rc;
}
