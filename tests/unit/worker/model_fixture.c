/* Trains from CSV text in memory. */
#include "tests/unit/worker/model_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/json.h"
#include "learn/data/scan.h"
#include "learn/train.h"
#include "tensor/backend.h"

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "model fixture: %s: %s\n", what, e->message);
    exit(1);
}

static int memory_file(const struct buf *content)
{
    struct err e = {0};
    int fd = memfd_create("fixture", MFD_CLOEXEC);
    if (fd < 0 || (content && fs_write_all(fd, content->data, content->len, &e))) die("memory file", &e);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static cJSON *schema_of(const struct buf *csv)
{
    struct scan_options options = {.role = SCAN_FILE, .format = -1};
    struct scan *scan;
    struct schema *schema = NULL;
    struct json_writer w;
    struct buf text = {0};
    struct err e = {0};
    cJSON *root;
    if (scan_create(&scan, &options, &e) || scan_push(scan, csv->data, csv->len, &e) ||
        scan_finish(scan, &schema, &e))
        die("scan", &e);
    jw_init(&w, &text);
    schema_to_json(schema, &w);
    if (json_parse(&root, text.data, text.len, 100000, &e)) die("schema", &e);
    schema_free(schema);
    scan_free(scan);
    buf_dispose(&text);
    return root;
}

static void train(struct buf *artifact, const struct buf *csv, const char *spec_json)
{
    struct err e = {0};
    struct train_callbacks callbacks = {0};
    struct train_result result;
    cJSON *spec, *schema = schema_of(csv);
    if (json_parse(&spec, spec_json, strlen(spec_json), 1000, &e)) die("spec", &e);
    struct train_request request = {
        .spec = spec, .schema = schema, .n_inputs = 1, .threads = 1, .artifact_fd = memory_file(NULL)};
    request.inputs[0] = (struct train_input){.role = "table", .fd = memory_file(csv), .bytes = csv->len};
    if (train_run(&result, &request, &callbacks, &e)) die("train", &e);
    lseek(request.artifact_fd, 0, SEEK_SET);
    if (fs_read_fd(artifact, request.artifact_fd, 1 << 24, &e)) die("artifact", &e);
    train_result_dispose(&result);
    close(request.artifact_fd);
    close(request.inputs[0].fd);
    cJSON_Delete(spec);
    cJSON_Delete(schema);
}

void model_fixture_line(struct buf *artifact)
{
    struct buf csv = {0};
    buf_str(&csv, "x,y\n");
    for (int i = 0; i < 50; i++) buf_printf(&csv, "%d.5,%d.5\n", i, 3 * i + 3);
    train(artifact, &csv, "{\"target\":\"y\",\"family\":\"linear_regression\"}");
    buf_dispose(&csv);
}

static void train_table(struct buf *artifact, const char *precision)
{
    struct buf csv = {0}, spec = {0};
    buf_str(&csv, "size,colour,kind\n");
    for (int i = 0; i < 64; i++)
        buf_printf(&csv, "%d.25,%s,%s\n", i, i % 3 ? "red" : "blue", i > 30 ? "big" : "small");
    buf_printf(&spec,
               "{\"target\":\"kind\",\"family\":\"mlp\",\"architecture\":[{\"layer\":\"Dense\",\"units\":32,"
               "\"activation\":\"relu\"},{\"layer\":\"Dense\",\"units\":2}],"
               "\"training\":{\"epochs\":3,\"batch_size\":16,\"seed\":1,\"precision\":\"%s\"}}",
               precision);
    train(artifact, &csv, spec.data);
    buf_dispose(&csv);
    buf_dispose(&spec);
}

void model_fixture_table(struct buf *artifact)
{
    train_table(artifact, "f32");
}

bool model_fixture_table_bf16(struct buf *artifact)
{
    const struct backend *b;
    if (backend_find(&b, "bf16", NULL) != 0) return false;
    train_table(artifact, "bf16");
    return true;
}
