/* tenor demo: the whole road on real data, told as it goes, with one JSON line of what was measured at its
 * end.
 *
 *     up ─▶ tenant ─▶ upload Fashion-MNIST ─▶ train 784-128-128-10 ─▶ predict over both protocols ─▶ pictures
 *        ─▶ linear regression ─▶ events, version, usage, invoice, audit ─▶ down */
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "admin/cli/billing.h"
#include "admin/cli/client.h"
#include "admin/cli/command.h"
#include "admin/cli/images.h"
#include "admin/cli/metrics.h"
#include "admin/cli/operator.h"
#include "admin/cli/output.h"
#include "admin/cli/train.h"
#include "admin/launch/platform.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/fs.h"
#include "base/json.h"

#define DATA_FOLDER "/usr/share/datasets/fashion-mnist/"

enum { PREDICT_BATCH = 50, PREDICT_BATCHES = 4, SHOWN = 4, LINEAR_ROWS = 400, PATIENCE_MS = 20000 };

static const char *opt_data, *opt_listen;
static bool opt_keep;

struct demo {
    struct home home;
    struct platform_addresses at;
    struct client *client;
    struct images test;
    char key[KEY_TEXT_MAX];
    char job[ID_MAX];
    bool was_running;
    int64_t started_ms;

    /* what the last line reports */
    double accuracy, slope, intercept, train_seconds;
    int64_t predictions, correct, invoice_micros;
    bool verified;
};

static void heading(const char *text)
{
    bool bold = output_is_terminal();
    printf("\n%s== %s%s\n", bold ? "\033[1m" : "", text, bold ? "\033[0m" : "");
    fflush(stdout);
}

static void on_step(const char *what)
{
    printf("  %s\n", what);
    fflush(stdout);
}

static int start_platform(struct demo *d, struct err *e)
{
    heading("A platform of our own: Postgres, Redis, gateway, scheduler, worker");
    d->was_running = platform_runs(&d->home);
    struct platform_options o = {.listen = opt_listen ? opt_listen : "127.0.0.1:8080", .on_step = on_step};
    int rc = platform_up(&d->home, &o, &d->at, e);
    if (rc == ERR_CONFLICT && !opt_listen && strcmp(e->field, "listen") == 0) {
        printf("  port 8080 is taken by another program; any free one will do for a demo\n");
        o.listen = "127.0.0.1:0";
        rc = platform_up(&d->home, &o, &d->at, e);
    }
    if (rc == 0) printf("  the API answers on %s\n", d->at.url);
    return rc;
}

static int make_tenant(struct demo *d, struct err *e)
{
    char name[48], id[ID_MAX];
    snprintf(name, sizeof name, "demo-%" PRIx64, (uint64_t)clock_wall_us() / 1000);
    heading("A new tenant");
    int rc = operator_bootstrap(name, id, d->key, e);
    if (rc == 0) rc = client_open_as(&d->client, d->at.url, d->key, e);
    if (rc == 0) printf("  %s (%s), key %.20s… shown once and stored as a hash\n", name, id, d->key);
    return rc;
}

static void on_upload(int64_t sent, int64_t total)
{
    output_progress("  uploading %3.0f %%", 100.0 * (double)sent / (double)total);
}

/* Uploads an IDX pair, or one file when labels is NULL. */
static int upload(struct demo *d, const char *name, const char *file, const char *labels, char id[ID_MAX],
                  struct err *e)
{
    struct client_file files[2] = {{.part = labels ? "features" : "file", .path = file},
                                   {.part = "labels", .path = labels}};
    cJSON *dataset = NULL;
    int rc = client_upload(d->client, "/v1/datasets", name, files, labels ? 2 : 1, on_upload, &dataset, e);
    if (rc == 0) {
        char size[OUTPUT_TEXT_MAX];
        output_bytes(size, output_number(dataset, "bytes", 0));
        snprintf(id, ID_MAX, "%s", output_text(dataset, "id"));
        output_progress_end();
        printf("  %-14s %s  %.0f rows, %s\n", name, id, output_number(dataset, "rows", 0), size);
    }
    cJSON_Delete(dataset);
    return rc;
}

static int upload_images(struct demo *d, char train[ID_MAX], char test[ID_MAX], struct err *e)
{
    char path[4][PATH_MAX];
    static const char *const names[] = {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
                                        "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"};
    for (int i = 0; i < 4; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", opt_data, names[i]);
        if (access(path[i], R_OK) != 0)
            return err_errno(e, ERR_NOT_FOUND,
                             "Fashion-MNIST: %s (Debian's package dataset-fashion-mnist brings it)", path[i]);
    }
    heading("Upload: Fashion-MNIST, 60,000 + 10,000 images of clothes");
    int rc = images_load(&d->test, path[2], path[3], e);
    if (rc == 0) rc = upload(d, "fashion-train", path[0], path[1], train, e);
    if (rc == 0) rc = upload(d, "fashion-test", path[2], path[3], test, e);
    return rc;
}

static double job_seconds(const cJSON *job)
{
    return output_number(job, "finished_at", 0) - output_number(job, "started_at", 0);
}

static int train_images(struct demo *d, const char *train, const char *test, struct err *e)
{
    heading("Train: 784-128-128-10");
    struct buf body = {0};
    buf_printf(
        &body,
        "{\"type\":\"train\",\"model\":\"fashion\",\"dataset\":\"%s\",\"test_dataset\":\"%s\",\"max_"
        "seconds\":600,\"spec\":{\"family\":\"mlp\","
        "\"preprocess\":[{\"op\":\"rescale\",\"factor\":0.00392156862745098}],"
        "\"architecture\":[{\"layer\":\"Flatten\"},{\"layer\":\"Dense\",\"units\":128,\"activation\":"
        "\"relu\"},"
        "{\"layer\":\"Dense\",\"units\":128,\"activation\":\"relu\"},{\"layer\":\"Dense\",\"units\":10}],"
        "\"training\":{\"epochs\":12,\"batch_size\":64,\"seed\":1,\"validation_split\":0.05,"
        "\"optimizer\":{\"name\":\"adam\",\"learning_rate\":0.001},\"early_stopping\":{\"monitor\":\"val_"
        "loss\",\"patience\":4}}}}",
        train, test);
    cJSON *job = NULL;
    int64_t began = clock_mono_ms();
    int rc = train_submit(d->client, body.data, d->job, e);
    if (rc == 0) rc = train_watch(d->client, d->job, &job, e);
    d->train_seconds = (double)(clock_mono_ms() - began) / 1000;
    if (rc == 0) {
        const cJSON *metrics =
            cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(job, "result"), "metrics");
        const cJSON *tested = cJSON_GetObjectItemCaseSensitive(metrics, "test");
        d->accuracy = output_number(tested, "accuracy", NAN);
        char cost[OUTPUT_TEXT_MAX], took[OUTPUT_TEXT_MAX];
        output_money(cost, output_micros(job, "cost_micros"));
        output_duration(took, job_seconds(job));
        printf("  accuracy on the 10,000 test images: %.4f (macro F1 %.4f), trained in %s, cost %s\n",
               d->accuracy, output_number(tested, "f1_macro", NAN), took, cost);
        metrics_print_confusion(cJSON_GetObjectItemCaseSensitive(metrics, "confusion_matrix"));
        if (!(d->accuracy >= 0.87))
            rc = err_set(e, ERR_CONFLICT, NULL, "test accuracy %.4f is below 0.87", d->accuracy);
    }
    cJSON_Delete(job);
    buf_dispose(&body);
    return rc;
}

/* Rows [from, from + n) of the test images, as an Open Inference Protocol or a TensorFlow Serving body. */
static void write_rows(struct buf *body, const struct images *im, size_t from, size_t n, bool open_inference)
{
    size_t pixels = im->rows * im->columns;
    if (open_inference)
        buf_printf(
            body, "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[%zu,%zu,%zu],\"data\":[",
            n, im->rows, im->columns);
    else
        buf_str(body, "{\"instances\":[");
    for (size_t i = 0; i < n; i++) {
        for (size_t row = 0; row < im->rows; row++) {
            const uint8_t *p = im->pixels + (from + i) * pixels + row * im->columns;
            buf_str(body, i || row ? "," : "");
            if (!open_inference) buf_str(body, row ? "[" : "[[");
            for (size_t col = 0; col < im->columns; col++) buf_printf(body, "%s%d", col ? "," : "", p[col]);
            if (!open_inference) buf_str(body, row + 1 == im->rows ? "]]" : "]");
        }
    }
    buf_str(body, open_inference ? "]}]}" : "]}");
}

static const cJSON *output_named(const cJSON *answer, const char *name)
{
    const cJSON *o;
    cJSON_ArrayForEach(o, cJSON_GetObjectItemCaseSensitive(answer, "outputs"))
    {
        if (strcmp(output_text(o, "name"), name) == 0) return cJSON_GetObjectItemCaseSensitive(o, "data");
    }
    return NULL;
}

/* Asks for n rows over one protocol; labels[i] is what the model says. */
static int predict_rows(struct demo *d, size_t from, size_t n, bool open_inference, int *labels,
                        struct err *e)
{
    struct buf body = {0};
    cJSON *answer = NULL;
    write_rows(&body, &d->test, from, n, open_inference);
    int rc = client_call(d->client, "POST",
                         open_inference ? "/v2/models/fashion/infer" : "/v1/models/fashion:predict",
                         body.data, &answer, e);
    const cJSON *list = open_inference ? output_named(answer, "label")
                                       : cJSON_GetObjectItemCaseSensitive(answer, "predictions");
    if (rc == 0 && (size_t)cJSON_GetArraySize(list) != n)
        rc = err_set(e, ERR_INTERNAL, NULL, "asked for %zu rows, was given %d", n, cJSON_GetArraySize(list));
    const cJSON *item = rc == 0 ? list->child : NULL;
    for (size_t i = 0; item && i < n; i++, item = item->next)
        labels[i] = (int)(open_inference ? item->valuedouble : output_number(item, "label", -1));
    if (rc == 0) d->predictions += (int64_t)n;
    cJSON_Delete(answer);
    buf_dispose(&body);
    return rc;
}

static void show_pictures(const struct demo *d, const int *labels)
{
    static const char *const classes[] = {"T-shirt", "trouser", "pullover", "dress", "coat",
                                          "sandal",  "shirt",   "sneaker",  "bag",   "ankle boot"};
    size_t which[SHOWN];
    char text[SHOWN][32];
    const char *captions[SHOWN];
    for (size_t i = 0; i < SHOWN; i++) {
        which[i] = i;
        int said = labels[i] >= 0 && labels[i] < 10 ? labels[i] : 0, is = d->test.labels[i] % 10;
        snprintf(text[i], sizeof text[i], said == is ? "%s" : "%s? it is a %s", classes[said], classes[is]);
        captions[i] = text[i];
    }
    images_print(&d->test, which, captions, SHOWN);
}

static int predict_images(struct demo *d, struct err *e)
{
    heading("Predict: test images over TensorFlow Serving REST and the Open Inference Protocol");
    int labels[PREDICT_BATCH] = {0}, again[PREDICT_BATCH] = {0}, shown[PREDICT_BATCH] = {0};
    for (size_t b = 0; b < PREDICT_BATCHES; b++) {
        int rc = predict_rows(d, b * PREDICT_BATCH, PREDICT_BATCH, false, labels, e);
        if (rc == 0) rc = predict_rows(d, b * PREDICT_BATCH, PREDICT_BATCH, true, again, e);
        if (rc) return rc;
        if (memcmp(labels, again, sizeof labels) != 0)
            return err_set(e, ERR_INTERNAL, NULL, "the two protocols gave different answers");
        for (size_t i = 0; i < PREDICT_BATCH; i++)
            d->correct += labels[i] == d->test.labels[b * PREDICT_BATCH + i];
        if (b == 0) memcpy(shown, labels, sizeof shown);
    }
    show_pictures(d, shown);
    printf("  %" PRId64 " rows predicted; both protocols agree on all; %" PRId64 " of %d right\n",
           d->predictions, d->correct, PREDICT_BATCH * PREDICT_BATCHES);
    return 0;
}

/* y = 3x + 2 + noise: the sum of twelve uniform numbers, less six, is close to a standard normal one. */
static int write_linear_csv(const char *path, struct err *e)
{
    struct buf csv = {0};
    buf_str(&csv, "x,y\n");
    for (int i = 0; i < LINEAR_ROWS; i++) {
        uint32_t r[13];
        crypto_random(r, sizeof r);
        double x = 10.0 * r[12] / UINT32_MAX, noise = -6;
        for (int k = 0; k < 12; k++) noise += (double)r[k] / UINT32_MAX;
        buf_printf(&csv, "%.6f,%.6f\n", x, 3 * x + 2 + 0.1 * noise);
    }
    int rc = fs_write_atomic(path, csv.data, csv.len, 0600, e);
    buf_dispose(&csv);
    return rc;
}

static int linear_regression(struct demo *d, struct err *e)
{
    char path[PATH_MAX], dataset[ID_MAX], job_id[ID_MAX];
    heading("Linear regression: y = 3x + 2 + noise");
    home_path(&d->home, "work/linear.csv", path);
    int rc = write_linear_csv(path, e);
    if (rc == 0) rc = upload(d, "linear", path, NULL, dataset, e);
    unlink(path);
    if (rc) return rc;
    struct buf body = {0};
    buf_printf(&body,
               "{\"type\":\"train\",\"model\":\"line\",\"dataset\":\"%s\",\"max_seconds\":120,\"spec\":{"
               "\"family\":\"linear_regression\",\"target\":\"y\"}}",
               dataset);
    cJSON *job = NULL;
    if ((rc = train_submit(d->client, body.data, job_id, e)) == 0)
        rc = train_watch(d->client, job_id, &job, e);
    if (rc == 0) {
        const cJSON *metrics =
            cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(job, "result"), "metrics");
        const cJSON *found = cJSON_GetObjectItemCaseSensitive(metrics, "coefficients");
        d->slope = output_number(found, "x", NAN);
        d->intercept = output_number(found, "intercept", NAN);
        printf("  the version says y = %.4f x + %.4f\n", d->slope, d->intercept);
        if (!(fabs(d->slope - 3) < 0.05 && fabs(d->intercept - 2) < 0.05))
            rc = err_set(e, ERR_CONFLICT, NULL, "the coefficients are further than 0.05 from 3 and 2");
    }
    cJSON_Delete(job);
    buf_dispose(&body);
    return rc;
}

static int show(struct demo *d, const char *title, const char *path, void (*print)(const cJSON *),
                cJSON **out, struct err *e)
{
    cJSON *answer = NULL;
    heading(title);
    int rc = client_call(d->client, "GET", path, NULL, &answer, e);
    if (rc == 0) print(answer);
    if (out)
        *out = answer;
    else
        cJSON_Delete(answer);
    return rc;
}

static void print_events(const cJSON *list)
{
    const cJSON *ev;
    cJSON_ArrayForEach(ev, cJSON_GetObjectItemCaseSensitive(list, "data"))
    {
        char when[OUTPUT_TEXT_MAX];
        output_when(when, output_number(ev, "created_at", 0));
        printf("  %s  %s", when, output_text(ev, "message"));
        metrics_print_line(
            cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(ev, "data"), "metrics"));
        putchar('\n');
    }
}

static void print_versions(const cJSON *list)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(list, "data"))
    {
        char size[OUTPUT_TEXT_MAX];
        output_bytes(size, output_number(v, "bytes", 0));
        printf("  fashion version %.0f  %s  %s  sha256 %.16s…\n", output_number(v, "version", 0),
               output_text(v, "id"), size, output_text(v, "sha256"));
    }
}

static double rows_billed(const cJSON *invoice)
{
    double rows = 0;
    const cJSON *line;
    cJSON_ArrayForEach(line, cJSON_GetObjectItemCaseSensitive(invoice, "lines"))
    {
        if (strcmp(output_text(line, "kind"), "predict") == 0) rows += output_number(line, "quantity", 0);
    }
    return rows;
}

/* Usage reaches the ledger, and audit rows their seal, within seconds: asks again until both are there. */
static int wait_settled(struct demo *d, const char *invoice_path, struct err *e)
{
    int64_t deadline = clock_mono_ms() + PATIENCE_MS;
    for (;;) {
        cJSON *invoice = NULL, *audit = NULL;
        int rc = client_call(d->client, "GET", invoice_path, NULL, &invoice, e);
        if (rc == 0) rc = client_call(d->client, "GET", "/v1/audit/verify", NULL, &audit, e);
        bool billed = rc == 0 && (int64_t)rows_billed(invoice) >= d->predictions;
        d->verified = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(audit, "verified"));
        bool sealed = rc == 0 && output_number(audit, "unsealed", 1) <= 0;
        cJSON_Delete(invoice);
        cJSON_Delete(audit);
        if (rc || (billed && sealed)) return rc;
        if (clock_mono_ms() > deadline)
            return err_set(e, ERR_TIMEOUT, NULL, "after %d s %s", PATIENCE_MS / 1000,
                           billed ? "audit rows were still unsealed" : "not all predictions had been billed");
        if (command_interrupted) return err_set(e, ERR_CANCELLED, NULL, "interrupted");
        poll(NULL, 0, 100);
    }
}

static int show_books(struct demo *d, struct err *e)
{
    char path[96], month[8];
    long long now = (long long)time(NULL);
    billing_month_now(month);
    snprintf(path, sizeof path, "/v1/jobs/%s/events?limit=100", d->job);
    int rc = show(d, "The training job's events", path, print_events, NULL, e);
    if (rc == 0) rc = show(d, "The version", "/v1/models/fashion/versions", print_versions, NULL, e);
    snprintf(path, sizeof path, "/v1/invoices/%s", month);
    if (rc == 0) rc = wait_settled(d, path, e);
    char usage[128];
    snprintf(usage, sizeof usage, "/v1/usage?start_time=%lld&end_time=%lld&bucket_width=1h", now - 3600,
             now + 60);
    if (rc == 0) rc = show(d, "Usage", usage, billing_print_usage, NULL, e);
    cJSON *invoice = NULL;
    if (rc == 0) rc = show(d, "Invoice", path, billing_print_invoice, &invoice, e);
    d->invoice_micros = output_micros(invoice, "total_micros");
    cJSON_Delete(invoice);
    if (rc == 0) rc = show(d, "Audit trail", "/v1/audit?limit=20", billing_print_audit, NULL, e);
    if (rc == 0) printf("  the chain of hashes %s\n", d->verified ? "holds" : "is BROKEN");
    return rc == 0 && !d->verified ? err_set(e, ERR_CORRUPT, NULL, "the audit chain does not verify") : rc;
}

static int tour(struct demo *d, struct err *e)
{
    char train[ID_MAX], test[ID_MAX];
    int rc = start_platform(d, e);
    if (rc == 0) rc = make_tenant(d, e);
    if (rc == 0) rc = upload_images(d, train, test, e);
    if (rc == 0) rc = train_images(d, train, test, e);
    if (rc == 0) rc = predict_images(d, e);
    if (rc == 0) rc = linear_regression(d, e);
    if (rc == 0) rc = show_books(d, e);
    return rc;
}

static void print_summary(const struct demo *d)
{
    struct buf line = {0};
    struct json_writer w;
    jw_init(&w, &line);
    jw_obj(&w);
    jw_knum(&w, "accuracy", d->accuracy);
    jw_name(&w, "linear");
    jw_arr(&w);
    jw_num(&w, d->slope);
    jw_num(&w, d->intercept);
    jw_arr_end(&w);
    jw_knum(&w, "train_seconds", d->train_seconds);
    jw_kint(&w, "predictions", d->predictions);
    jw_kint(&w, "invoice_micros", d->invoice_micros);
    jw_kstr(&w, "audit", d->verified ? "verified" : "broken");
    jw_knum(&w, "total_seconds", (double)(clock_mono_ms() - d->started_ms) / 1000);
    jw_obj_end(&w);
    puts(line.data);
    buf_dispose(&line);
}

static int run_demo(const struct command_args *args, struct err *e)
{
    (void)args;
    struct demo d = {.started_ms = clock_mono_ms()};
    int rc = home_find(&d.home, command_shared.home, e), killed = 0;
    if (rc) return rc;
    rc = tour(&d, e);
    if (rc == 0 && opt_keep) {
        heading("Left running");
        printf("  export TENOR_URL=%s\n  export TENOR_API_KEY=%s\n  `tenor down` stops it\n", d.at.url,
               d.key);
    } else if (!d.was_running) {
        int down = platform_down(&d.home, &killed, rc ? NULL : e);
        if (rc == 0) rc = down;
    }
    if (rc == 0) {
        putchar('\n');
        print_summary(&d);
    }
    client_close(d.client);
    images_dispose(&d.test);
    return rc;
}

static const struct option_row demo_rows[] = {
    {.name = "data",
     .type = OPTION_STR,
     .out = &opt_data,
     .fallback = DATA_FOLDER,
     .help = "folder of Fashion-MNIST's four IDX files"},
    {.name = "listen",
     .type = OPTION_STR,
     .out = &opt_listen,
     .help = "address of the API (default 127.0.0.1:8080, or a free port)"},
    {.name = "keep",
     .type = OPTION_BOOL,
     .out = &opt_keep,
     .help = "leave the platform running, and print its address and key"},
};

const struct command demo_commands[] = {
    {"demo", "", 0, 0, COMMAND_LOCAL, demo_rows, 3, "the whole road on real data, in minutes", run_demo},
    {0},
};
