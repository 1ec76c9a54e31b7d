/* Writes the route table as an OpenAPI 3.1 document and as a Markdown table. */
#include "gateway/openapi.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "gateway/shape.h"
#include "store/key.h"

/* ---- parameters ---- */

static const struct {
    const char *name, *type, *help;
} query_help[] = {
    {"after", "string", "the page that follows this id"},
    {"before", "string", "the page that ends before this id"},
    {"limit", "integer", "1 to 100, default 20"},
    {"name", "string", "the dataset's name; needed with a raw body"},
    {"format", "string", "csv, idx or npy; told from the first bytes when absent"},
    {"status", "string", "only jobs with this status"},
    {"model", "string", "only jobs of this model"},
    {"type", "string", "only entries of this type, such as job.created"},
    {"page", "string", "the next_page of the answer before"},
    {"start_time", "integer", "Unix seconds, inclusive"},
    {"end_time", "integer", "Unix seconds, exclusive; default now"},
    {"bucket_width", "string", "1h or 1d"},
};

static void parameter_write(struct json_writer *w, const char *name, const char *in, const char *type,
                            const char *help)
{
    jw_obj(w);
    jw_kstr(w, "name", name);
    jw_kstr(w, "in", in);
    jw_kbool(w, "required", strcmp(in, "path") == 0);
    if (help != NULL) jw_kstr(w, "description", help);
    jw_name(w, "schema");
    shape_type_write(w, type);
    jw_obj_end(w);
}

static void path_parameters_write(struct json_writer *w, const char *pattern)
{
    for (const char *p = strchr(pattern, '{'); p != NULL; p = strchr(p, '{')) {
        const char *end = strchr(++p, '}');
        char name[64];
        snprintf(name, sizeof(name), "%.*s", (int)(end - p), p);
        parameter_write(w, name, "path", "string", NULL);
    }
}

static void query_parameters_write(struct json_writer *w, const char *list)
{
    while (*list != '\0') {
        size_t len = strcspn(list, ",");
        for (size_t i = 0; i < sizeof(query_help) / sizeof(query_help[0]); i++)
            if (strlen(query_help[i].name) == len && memcmp(query_help[i].name, list, len) == 0)
                parameter_write(w, query_help[i].name, "query", query_help[i].type, query_help[i].help);
        list += len + (list[len] != '\0');
    }
}

/* ---- operations ---- */

static void content_write(struct json_writer *w, const char *media, const char *type)
{
    jw_name(w, "content");
    jw_obj(w);
    jw_name(w, media);
    jw_obj(w);
    jw_name(w, "schema");
    shape_type_write(w, type);
    jw_obj_end(w);
    jw_obj_end(w);
}

/* A list answer is the envelope around "[Shape]". */
static void list_write(struct json_writer *w, const char *type)
{
    jw_name(w, "content");
    jw_obj(w);
    jw_name(w, "application/json");
    jw_obj(w);
    jw_name(w, "schema");
    jw_obj(w);
    jw_kstr(w, "type", "object");
    jw_name(w, "properties");
    jw_obj(w);
    jw_name(w, "object");
    shape_type_write(w, "string");
    jw_name(w, "data");
    shape_type_write(w, type);
    jw_name(w, "first_id");
    shape_type_write(w, "string?");
    jw_name(w, "last_id");
    shape_type_write(w, "string?");
    jw_name(w, "has_more");
    shape_type_write(w, "boolean");
    jw_obj_end(w);
    jw_obj_end(w);
    jw_obj_end(w);
    jw_obj_end(w);
}

static void responses_write(struct json_writer *w, const struct route *r)
{
    char status[16];
    jw_name(w, "responses");
    jw_obj(w);
    snprintf(status, sizeof(status), "%d", r->success);
    jw_name(w, status);
    jw_obj(w);
    jw_kstr(w, "description", r->summary);
    if (r->response != NULL && r->response[0] == '[')
        list_write(w, r->response);
    else if (r->response != NULL)
        content_write(w, "application/json", r->response);
    jw_obj_end(w);
    jw_name(w, "default");
    jw_obj(w);
    jw_kstr(w, "description", "refused or failed");
    content_write(w, "application/json", r->dialect == DIALECT_TENOR ? "Error" : "PlainError");
    jw_obj_end(w);
    jw_obj_end(w);
}

static void body_write(struct json_writer *w, const struct route *r)
{
    if (r->request == NULL) return;
    jw_name(w, "requestBody");
    jw_obj(w);
    jw_kbool(w, "required", true);
    content_write(w, r->kind == ROUTE_BULK ? "multipart/form-data" : "application/json", r->request);
    jw_obj_end(w);
}

static void security_write(struct json_writer *w, const struct route *r)
{
    jw_name(w, "security");
    jw_arr(w);
    for (int i = 0; i < SCOPE_COUNT; i++) {
        if ((r->scopes & (1u << i)) == 0) continue;
        jw_obj(w);
        jw_name(w, "apiKey");
        jw_arr(w);
        jw_str(w, key_scope_name(i));
        jw_arr_end(w);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

static void operation_write(struct json_writer *w, const struct route *r)
{
    char method[16] = "";
    const char *name = http_method_name(r->method);
    for (size_t i = 0; name[i] != '\0' && i + 1 < sizeof(method); i++) method[i] = (char)tolower(name[i]);
    jw_name(w, method);
    jw_obj(w);
    jw_kstr(w, "summary", r->summary);
    jw_name(w, "parameters");
    jw_arr(w);
    path_parameters_write(w, r->pattern);
    query_parameters_write(w, r->query);
    if (r->idempotent_key)
        parameter_write(w, "Idempotency-Key", "header", "string",
                        "1–255 characters; replays the first answer");
    jw_arr_end(w);
    body_write(w, r);
    responses_write(w, r);
    security_write(w, r);
    jw_obj_end(w);
}

/* ---- the documents ---- */

static void paths_write(struct json_writer *w, const struct route *routes, size_t n)
{
    jw_name(w, "paths");
    jw_obj(w);
    for (size_t i = 0; i < n; i++) {
        bool first = routes[i].face == FACE_API;
        for (size_t k = 0; k < i && first; k++)
            if (routes[k].face == FACE_API && strcmp(routes[k].pattern, routes[i].pattern) == 0)
                first = false;
        if (!first) continue;
        jw_name(w, routes[i].pattern);
        jw_obj(w);
        for (size_t k = i; k < n; k++)
            if (routes[k].face == FACE_API && strcmp(routes[k].pattern, routes[i].pattern) == 0)
                operation_write(w, &routes[k]);
        jw_obj_end(w);
    }
    jw_obj_end(w);
}

void openapi_write(struct buf *out, const struct route *routes, size_t n)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    jw_kstr(&w, "openapi", "3.1.0");
    jw_name(&w, "info");
    jw_obj(&w);
    jw_kstr(&w, "title", "Tenor");
    jw_kstr(&w, "version", "1");
    jw_obj_end(&w);
    paths_write(&w, routes, n);
    jw_name(&w, "components");
    jw_obj(&w);
    jw_name(&w, "securitySchemes");
    jw_obj(&w);
    jw_name(&w, "apiKey");
    jw_obj(&w);
    jw_kstr(&w, "type", "http");
    jw_kstr(&w, "scheme", "bearer");
    jw_obj_end(&w);
    jw_obj_end(&w);
    jw_name(&w, "schemas");
    jw_obj(&w);
    for (size_t i = 0; i < shape_table_len; i++) {
        jw_name(&w, shape_table[i].name);
        shape_write(&w, &shape_table[i]);
    }
    jw_obj_end(&w);
    jw_obj_end(&w);
    jw_obj_end(&w);
}

static void query_markdown(struct buf *out, const char *list)
{
    for (const char *p = list; *p != '\0'; p++) {
        if (*p == ',')
            buf_str(out, ", ");
        else
            buf_char(out, *p);
    }
}

void openapi_markdown(struct buf *out, const struct route *routes, size_t n)
{
    buf_str(out, "| method and path | scope | query | body | answer | what it does |\n");
    buf_str(out, "| --- | --- | --- | --- | --- | --- |\n");
    for (size_t i = 0; i < n; i++) {
        const struct route *r = &routes[i];
        char scopes[256];
        buf_printf(out, "| `%s %s`%s | %s | ", http_method_name(r->method), r->pattern,
                   r->face == FACE_OPS ? " (ops)" : "",
                   r->scopes ? route_scopes_text(r->scopes, scopes, 256) : "none");
        query_markdown(out, r->query);
        buf_printf(out, " | %s | %d", r->request ? r->request : "", r->success);
        if (r->response != NULL && r->response[0] == '[')
            buf_printf(out, " list of %.*s", (int)strlen(r->response) - 2, r->response + 1);
        else if (r->response != NULL)
            buf_printf(out, " %s", r->response);
        buf_printf(out, " | %s |\n", r->summary);
    }
}
