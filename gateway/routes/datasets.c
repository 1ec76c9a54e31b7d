/* Datasets as they are listed, shown and deleted. Uploading is in datasets_upload.c. */
#include "gateway/routes/routes.h"

#include <string.h>
#include "store/dataset.h"

/* The columns stand inside the stored schema. */
static int columns_write(struct json_writer *w, const char *schema, struct err *e)
{
    cJSON *tree = NULL;
    int rc = json_parse(&tree, schema, strlen(schema), SIZE_MAX, e);
    if (rc != 0) return err_set(e, ERR_CORRUPT, NULL, "a dataset's schema cannot be read: %s", e->message);
    jw_name(w, "columns");
    jw_node(w, cJSON_GetObjectItemCaseSensitive(tree, "columns"));
    cJSON_Delete(tree);
    return 0;
}

int dataset__write(struct json_writer *w, const struct dataset *d, struct err *e)
{
    jw_obj(w);
    jw_kstr(w, "id", d->id);
    jw_kstr(w, "object", "dataset");
    jw_kstr(w, "name", d->name);
    jw_kstr(w, "format", d->format);
    jw_kstr(w, "status", "ready");
    jw_kint(w, "rows", d->rows);
    jw_kint(w, "bytes", d->bytes);
    int rc = columns_write(w, d->schema, e);
    if (rc != 0) return rc;
    api_write_time(w, "created_at", d->created_at_us);
    jw_obj_end(w);
    return 0;
}

int datasets_list(struct api_call *c, struct err *e)
{
    struct page page;
    struct dataset_list list = {0};
    int rc = api_page(c, "ds_", &page, e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = dataset_list(c->db, &page, c->arena, &list, e);
    if ((rc = api_end(c, rc, e)) != 0) return rc;
    struct json_writer *w = api_list_begin(c);
    for (int i = 0; i < list.n && rc == 0; i++) rc = dataset__write(w, &list.items[i], e);
    if (rc != 0) return rc;
    api_list_end(c, list.n ? list.items[0].id : NULL, list.n ? list.items[list.n - 1].id : NULL,
                 list.has_more);
    return 0;
}

int datasets_get(struct api_call *c, struct err *e)
{
    struct dataset d;
    int rc = api_param_id(c, 0, "ds_", "dataset", e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = dataset_find(c->db, api_param(c, 0), c->arena, &d, e);
    if ((rc = api_end(c, rc, e)) != 0) return api_not_found(rc, "dataset", e);
    return dataset__write(api_reply(c, 200), &d, e);
}

static int delete_tx(struct db *db, void *arg, struct err *e)
{
    const struct api_call *c = arg;
    return dataset_delete(db, api_param(c, 0), &c->by, e);
}

int datasets_delete(struct api_call *c, struct err *e)
{
    int rc = api_param_id(c, 0, "ds_", "dataset", e);
    if (rc != 0) return rc;
    rc = db_run(c->db, c->who->tenant_id, delete_tx, c, e);
    if (rc != 0) return api_not_found(rc, "dataset", e);
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    jw_kstr(w, "id", api_param(c, 0));
    jw_kstr(w, "object", "dataset");
    jw_kbool(w, "deleted", true);
    jw_obj_end(w);
    return 0;
}
