/* tenor dataset …: upload with a progress line, list, show, delete. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "admin/cli/call.h"
#include "admin/cli/client.h"
#include "admin/cli/command.h"
#include "admin/cli/output.h"
#include "base/buf.h"

static const char *opt_name, *opt_labels;

static void on_progress(int64_t sent, int64_t total)
{
    char done[OUTPUT_TEXT_MAX], all[OUTPUT_TEXT_MAX];
    output_bytes(done, (double)sent);
    output_bytes(all, (double)total);
    output_progress("uploading  %s of %s  %3.0f %%", done, all, 100.0 * (double)sent / (double)total);
}

/* "path/to/Iris Data.csv" → "iris-data": a name that the platform accepts. */
static void name_of_file(const char *path, char out[65])
{
    const char *slash = strrchr(path, '/');
    const char *leaf = slash ? slash + 1 : path;
    size_t n = 0;
    for (; *leaf && *leaf != '.' && n < 64; leaf++) {
        char ch = *leaf >= 'A' && *leaf <= 'Z' ? (char)(*leaf + 32) : *leaf;
        bool fine = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '_';
        if (fine || n) out[n++] = fine ? ch : '-';
    }
    while (n && out[n - 1] == '-') n--;
    out[n] = '\0';
    if (!n) strcpy(out, "dataset");
}

static int run_upload(const struct command_args *args, struct err *e)
{
    struct client *c;
    int rc = client_open(&c, e);
    if (rc) return rc;
    char name[65];
    if (opt_name)
        snprintf(name, sizeof name, "%.64s", opt_name);
    else
        name_of_file(args->words[0], name);
    struct client_file files[2] = {{.part = opt_labels ? "features" : "file", .path = args->words[0]},
                                   {.part = "labels", .path = opt_labels}};
    cJSON *dataset = NULL;
    rc = client_upload(c, "/v1/datasets", name, files, opt_labels ? 2 : 1, on_progress, &dataset, e);
    output_progress_end();
    if (rc == 0 && command_shared.json) {
        output_json(dataset);
    } else if (rc == 0) {
        const cJSON *columns = cJSON_GetObjectItemCaseSensitive(dataset, "columns");
        printf("%s  %s, %.0f rows, %d columns\n", output_text(dataset, "id"), output_text(dataset, "name"),
               output_number(dataset, "rows", 0), cJSON_GetArraySize(columns));
    }
    cJSON_Delete(dataset);
    client_close(c);
    return rc;
}

static void print_list(const cJSON *list)
{
    const char *const headers[] = {"ID", "NAME", "FORMAT", "ROWS", "SIZE", "CREATED"};
    struct table *t = table_create(headers, 6);
    const cJSON *d;
    cJSON_ArrayForEach(d, cJSON_GetObjectItemCaseSensitive(list, "data"))
    {
        char rows[OUTPUT_TEXT_MAX], size[OUTPUT_TEXT_MAX], when[OUTPUT_TEXT_MAX];
        snprintf(rows, sizeof rows, "%.0f", output_number(d, "rows", 0));
        output_bytes(size, output_number(d, "bytes", 0));
        output_when(when, output_number(d, "created_at", 0));
        const char *const cells[] = {
            output_text(d, "id"), output_text(d, "name"), output_text(d, "format"), rows, size, when};
        table_row(t, cells);
    }
    table_print(t);
}

static int run_list(const struct command_args *args, struct err *e)
{
    (void)args;
    return call_print(print_list, e, "GET", "/v1/datasets?limit=100");
}

static void print_columns(const cJSON *dataset)
{
    const char *const headers[] = {"COLUMN", "TYPE", "MISSING", "MIN", "MAX", "MEAN", "CATEGORIES"};
    struct table *t = table_create(headers, 7);
    const cJSON *col;
    cJSON_ArrayForEach(col, cJSON_GetObjectItemCaseSensitive(dataset, "columns"))
    {
        char missing[OUTPUT_TEXT_MAX], min[OUTPUT_TEXT_MAX] = "", max[OUTPUT_TEXT_MAX] = "",
                                       mean[OUTPUT_TEXT_MAX] = "";
        snprintf(missing, sizeof missing, "%.0f", output_number(col, "missing", 0));
        if (cJSON_GetObjectItemCaseSensitive(col, "mean")) {
            snprintf(min, sizeof min, "%.6g", output_number(col, "min", 0));
            snprintf(max, sizeof max, "%.6g", output_number(col, "max", 0));
            snprintf(mean, sizeof mean, "%.6g", output_number(col, "mean", 0));
        }
        char categories[OUTPUT_TEXT_MAX] = "";
        const cJSON *values = cJSON_GetObjectItemCaseSensitive(col, "categories");
        if (cJSON_IsArray(values)) snprintf(categories, sizeof categories, "%d", cJSON_GetArraySize(values));
        const char *const cells[] = {
            output_text(col, "name"), output_text(col, "type"), missing, min, max, mean, categories};
        table_row(t, cells);
    }
    table_print(t);
}

static void print_dataset(const cJSON *dataset)
{
    char size[OUTPUT_TEXT_MAX];
    output_bytes(size, output_number(dataset, "bytes", 0));
    printf("%s  %s  %s  %.0f rows  %s\n\n", output_text(dataset, "id"), output_text(dataset, "name"),
           output_text(dataset, "format"), output_number(dataset, "rows", 0), size);
    print_columns(dataset);
}

static int run_show(const struct command_args *args, struct err *e)
{
    return call_print(print_dataset, e, "GET", "/v1/datasets/%s", args->words[0]);
}

static int run_delete(const struct command_args *args, struct err *e)
{
    struct client *c;
    int rc = client_open(&c, e);
    if (rc) return rc;
    struct buf path = {0};
    buf_printf(&path, "/v1/datasets/%s", args->words[0]);
    rc = client_call(c, "DELETE", path.data, NULL, NULL, e);
    if (rc == 0) printf("deleted %s\n", args->words[0]);
    buf_dispose(&path);
    client_close(c);
    return rc;
}

static const struct option_row upload_rows[] = {
    {.name = "name",
     .type = OPTION_STR,
     .out = &opt_name,
     .help = "the dataset's name (default: from the file's name)"},
    {.name = "labels",
     .type = OPTION_STR,
     .out = &opt_labels,
     .help = "a second file with one label per row, for IDX and .npy features"},
};

const struct command dataset_commands[] = {
    {"dataset upload", "<file>", 1, 1, COMMAND_TENANT | COMMAND_JSON, upload_rows, 2,
     "upload a CSV with a header, IDX or .npy file (may be .gz)", run_upload},
    {"dataset list", "", 0, 0, COMMAND_TENANT | COMMAND_JSON, NULL, 0, "the newest datasets", run_list},
    {"dataset show", "<dataset>", 1, 1, COMMAND_TENANT | COMMAND_JSON, NULL, 0, "one dataset and its columns",
     run_show},
    {"dataset delete", "<dataset>", 1, 1, COMMAND_TENANT, NULL, 0, "delete a dataset", run_delete},
    {0},
};
