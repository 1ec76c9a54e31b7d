/* Carries out the steps of a training run: read, split, fit preprocessing, train, measure, write. */
#include "learn/training.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/json.h"
#include "base/mem.h"
#include "learn/family.h"
#include "learn/least_squares.h"
#include "learn/model.h"
#include "learn/precision.h"
#include "learn/report.h"
#include "tensor/plan.h"

enum { SERVING_ROWS = 64 };

/* ---- what to do ---- */

int training_schemas(struct training_data *d, const struct train_request *q, struct err *e)
{
    int rc = schema_from_json(&d->train.schema, q->schema, "schema", e);
    return rc || !q->test_schema ? rc : schema_from_json(&d->test.schema, q->test_schema, "test_schema", e);
}

int training_resolve(struct training *t, struct err *e)
{
    const struct train_request *q = t->request;
    int rc;
    if ((rc = spec_parse(&t->spec, t->spec_json, "spec", e)) ||
        (rc = spec_resolve(&t->resolved, t->spec, t->data->train.schema, t->data->test.schema, e)) ||
        (rc = precision_settle(&t->artifact.precision, t->resolved, e)))
        return rc;
    t->closed_form = strcmp(t->resolved->training.optimizer.name, "least_squares") == 0;
    uint64_t need = estimate_bytes(&t->resolved->estimate, q->threads);
    if (q->memory_bytes && need > q->memory_bytes)
        return err_set(e, ERR_TOO_LARGE, "dataset",
                       "the run needs about %llu MiB of memory; %llu MiB are allowed",
                       (unsigned long long)(need >> 20), (unsigned long long)(q->memory_bytes >> 20));
    return 0;
}

static struct table_want want_column(const struct column *c, bool target, bool classes)
{
    struct table_want w = {.name = c->name, .width = column_width(c), .cells = CELLS_F32};
    if (c->type == COLUMN_CATEGORY) {
        w.cells = CELLS_CODE;
        w.n_categories = c->n_categories;
        w.categories = c->categories;
    } else if (target) {
        w.cells = CELLS_F64;
        if (classes) w.width = 1;
    } else if (c->type == COLUMN_TENSOR && c->dtype == DATA_U8) {
        w.cells = CELLS_U8;
    }
    return w;
}

static int choose_columns(struct training_data *d, const struct resolved *r, struct err *e)
{
    d->want = mem_try_alloc(r->n_features + 1, sizeof *d->want);
    if (!d->want) return err_set(e, ERR_NOMEM, NULL, "no memory for the columns");
    for (size_t i = 0; i < r->n_features; i++) {
        const struct column *c = &d->train.schema->columns[r->features[i].column];
        const struct column *test = d->test.schema ? schema_find(d->test.schema, c->name) : NULL;
        d->want[i] = r->features[i].text ? preprocess_want_text(c, test) : want_column(c, false, false);
    }
    const struct column *target = &d->train.schema->columns[r->target];
    const struct column *test = d->test.schema ? schema_find(d->test.schema, target->name) : NULL;
    d->want[r->n_features] = r->task == TASK_SEQUENCE
                                 ? preprocess_want_text(target, test)
                                 : want_column(target, true, r->task == TASK_CLASSIFICATION);
    return 0;
}

/* ---- data ---- */

/* What reading needs to know. */
struct reading {
    struct training_data *data;
    const struct resolved *resolved;
    const struct train_request *request;
    struct watch *watch;
};

static int read_inputs(const struct reading *r, struct training_part *part, bool test, struct err *e)
{
    const struct train_request *q = r->request;
    size_t sources = 0;
    int rc = table_create(&part->table, r->data->want, r->resolved->n_features + 1, part->schema->rows,
                          q->memory_bytes, e);
    for (size_t i = 0; i < q->n_inputs && !rc; i++) {
        if (q->inputs[i].test != test) continue;
        struct table_source from = {.fd = q->inputs[i].fd,
                                    .role = q->inputs[i].role,
                                    .format = part->schema->format,
                                    .cancelled = r->watch->callbacks->cancelled,
                                    .ctx = r->watch->callbacks->ctx};
        rc = table_read(part->table, &from, e);
        sources++;
    }
    size_t wanted = part->schema->format == SCHEMA_CSV ? 1 : 2;
    if (!rc && sources != wanted)
        rc = err_set(e, ERR_INTERNAL, "inputs", "the run was given %zu files of a dataset that has %zu",
                     sources, wanted);
    return rc;
}

static bool has_target(const struct resolved *r, const struct training_part *part, int64_t row)
{
    if (part->classes) return part->classes[row] >= 0;
    const struct table_column *c = &part->table->columns[r->n_features];
    size_t len;
    if (r->task == TASK_SEQUENCE) {
        table_text(c, row, &len);
        return len > 0;
    }
    for (int64_t k = 0; k < c->width; k++)
        if (isnan(((const double *)c->data)[row * c->width + k])) return false;
    return true;
}

static int find_targets(const struct reading *r, struct training_part *part, struct err *e)
{
    int64_t rows = part->table->rows;
    bool classes = r->resolved->task == TASK_CLASSIFICATION;
    int rc;
    part->rows = mem_try_alloc((size_t)rows, sizeof *part->rows);
    if (classes) part->classes = mem_try_alloc((size_t)rows, sizeof *part->classes);
    if (!part->rows || (classes && !part->classes))
        return err_set(e, ERR_NOMEM, NULL, "no memory for the rows");
    if (classes && (rc = preprocess_classes(r->resolved, part->table, part->classes, e))) return rc;
    for (int64_t i = 0; i < rows; i++)
        if (has_target(r->resolved, part, i)) part->rows[part->n_rows++] = (uint32_t)i;
    if (part->n_rows == 0) return err_set(e, ERR_INVALID, "spec.target", "no row has a value of the target");
    if ((int64_t)part->n_rows < rows)
        watch_message(r->watch, "warn", "%lld rows without a value of the target are left out",
                      (long long)rows - (long long)part->n_rows);
    return 0;
}

int training_read(struct training_data *d, const struct resolved *r, const struct train_request *q,
                  struct watch *w, struct err *e)
{
    struct train_progress p = {
        .phase = "read", .epochs = r->training.epochs, .metrics_json = "{}", .eta_seconds = -1};
    const struct reading reading = {.data = d, .resolved = r, .request = q, .watch = w};
    int rc;
    watch_report(w, &p);
    if ((rc = choose_columns(d, r, e)) || (rc = read_inputs(&reading, &d->train, false, e)) ||
        (rc = find_targets(&reading, &d->train, e)) || !d->test.schema)
        return rc;
    if ((rc = read_inputs(&reading, &d->test, true, e))) return rc;
    return find_targets(&reading, &d->test, e);
}

/* ---- split, preprocessing, network ---- */

static int lonely(const struct training *t, int32_t c, struct err *e)
{
    const struct resolved *r = t->resolved;
    char label[SCHEMA_MAX_CATEGORY + 3];
    if (r->integer_labels)
        snprintf(label, sizeof label, "%lld", (long long)r->class_integers[c]);
    else
        snprintf(label, sizeof label, "\"%s\"", r->class_texts[c]);
    return err_set(e, ERR_INVALID, "spec.training.validation_split",
                   "the class %.80s appears only in the validation part; set training.stratify to true, or "
                   "give it more rows",
                   label);
}

static int split_rows(struct training *t, struct err *e)
{
    if (t->split.n_train > 0) return 0;
    const struct resolved *r = t->resolved;
    struct split_request q = {.rows = t->data->train.rows,
                              .n_rows = t->data->train.n_rows,
                              .classes = t->data->train.classes,
                              .n_classes = r->n_classes,
                              .validation = r->training.validation_split,
                              .stratify = r->training.stratify,
                              .seed = r->training.seed};
    int32_t alone;
    int rc = split_make(&t->split, &q, &alone, e);
    if (rc && alone >= 0) return lonely(t, alone, e);
    if (rc) err_under(e, "spec");
    return rc;
}

static int make_graph(struct training *t, struct err *e)
{
    struct artifact *a = &t->artifact;
    if (t->resolved->task != TASK_SEQUENCE) return family_graph(&a->graph, t->resolved, e);
    return seq2seq_graph(&a->graph, t->resolved, vocabulary_size(a->preprocess->features[0].vocabulary),
                         vocabulary_size(a->preprocess->target.vocabulary), e);
}

static int open_feed(struct training *t, struct err *e)
{
    if (t->resolved->task != TASK_SEQUENCE) return 0;
    t->pairs = (struct seq2seq_feed){.preprocess = t->artifact.preprocess,
                                     .table = t->data->train.table,
                                     .evaluator = t->evaluator,
                                     .metrics = &t->measured};
    seq2seq_warn_of_cuts(&t->pairs, t->watch);
    metrics_init_texts(&t->measured);
    return seq2seq_feed_init(&t->feed, &t->pairs, e);
}

int training_prepare(struct training *t, struct err *e)
{
    struct artifact *a = &t->artifact;
    const struct resolved *r = t->resolved;
    int rc;
    if ((rc = split_rows(t, e)) ||
        (rc = preprocess_fit(&a->preprocess, r, t->data->train.schema, t->data->train.table, t->split.train,
                             t->split.n_train, e)) ||
        (rc = make_graph(t, e)) || (rc = params_create(&a->params, a->graph, e)) ||
        (rc = resolved_signature(&a->signature, r, t->data->train.schema, e)) ||
        (rc = evaluator_create(&t->evaluator, a->graph, a->preprocess, precision_backend(a->precision), e)))
        return rc;
    return open_feed(t, e);
}

/* Everything that decides what the run computes, and that it was written by a program like this one. */
static int digest(const struct training *t, char out[SHA256_HEX_LEN], struct err *e)
{
    struct buf text = {0};
    struct json_writer w;
    uint8_t sum[SHA256_LEN];
    jw_init(&w, &text);
    jw_arr(&w);
    resolved_to_json(t->resolved, t->data->train.schema, &w);
    graph_to_json(t->artifact.graph, &w);
    preprocess_to_json(t->artifact.preprocess, &w);
    jw_int(&w, (int64_t)t->split.n_train);
    jw_int(&w, (int64_t)t->split.n_validation);
    jw_node(&w, t->request->lineage);
    jw_arr_end(&w);
    if (!text.failed) crypto_sha256(sum, text.data, text.len);
    if (!text.failed) crypto_hex(out, sum, sizeof sum);
    int rc = text.failed ? err_set(e, ERR_NOMEM, NULL, "no memory to describe the run") : 0;
    buf_dispose(&text);
    return rc;
}

static struct fit_request fit_request_of(const struct training *t, const char *with_digest)
{
    return (struct fit_request){.resolved = t->resolved,
                                .graph = t->artifact.graph,
                                .preprocess = t->artifact.preprocess,
                                .table = t->data->train.table,
                                .split = &t->split,
                                .classes = t->data->train.classes,
                                .evaluator = t->evaluator,
                                .feed = t->resolved->task == TASK_SEQUENCE ? &t->feed : NULL,
                                .watch = t->watch,
                                .limit_bytes = t->request->memory_bytes,
                                .threads = t->request->threads,
                                .backend = precision_backend(t->artifact.precision),
                                .until_epoch = t->until_epoch,
                                .digest = with_digest,
                                .resume = t->request->resume,
                                .resume_bytes = t->request->resume_bytes};
}

static int solve(struct training *t, struct err *e)
{
    struct fit_request q = fit_request_of(t, NULL);
    int64_t began = clock_mono_ns();
    int rc = least_squares_run(&q, t->artifact.params, e);
    t->train_seconds = (double)(clock_mono_ns() - began) / 1e9;
    return rc;
}

int training_fit(struct training *t, struct err *e)
{
    if (t->closed_form) return solve(t, e);
    char sum[SHA256_HEX_LEN];
    int rc = digest(t, sum, e);
    if (rc) return rc;
    struct fit_request q = fit_request_of(t, sum);
    rc = fit_run(&q, t->artifact.params, &t->fit, e);
    t->train_seconds = t->fit.seconds;
    return rc;
}

/* ---- measuring ---- */

int training_metrics(const struct training *t, struct metrics *m, size_t rows, bool scores, struct err *e)
{
    const struct resolved *r = t->resolved;
    bool classes = r->task == TASK_CLASSIFICATION;
    int rc = r->task == TASK_SEQUENCE
                 ? metrics_init_texts(m)
                 : metrics_init(m, classes, classes ? r->n_classes : (size_t)r->target_width, e);
    metrics_minimise(m, r->training.objective,
                     r->training.huber_delta * (double)t->artifact.preprocess->target_std);
    return rc || !classes || !scores ? rc : metrics_keep_scores(m, rows, e);
}

static int measure(struct training *t, const struct training_part *part, const uint32_t *rows, size_t n_rows,
                   struct metrics *m, struct err *e)
{
    struct evaluation what = {.table = part->table, .classes = part->classes, .rows = rows, .n_rows = n_rows};
    bool reported = m == (t->data->test.schema    ? &t->on_test
                          : t->split.n_validation ? &t->on_validation
                                                  : &t->on_train);
    int rc = training_metrics(t, m, n_rows, reported, e);
    return rc ? rc : evaluator_run(t->evaluator, t->artifact.params, &what, m, t->watch, e);
}

static int measure_parts(struct training *t, struct err *e)
{
    int64_t epochs = t->resolved->training.epochs;
    struct train_progress p = {.phase = "evaluate",
                               .epoch = t->closed_form ? epochs : t->fit.epochs_run,
                               .epochs = epochs,
                               .metrics_json = "{}",
                               .eta_seconds = -1};
    int rc;
    watch_report(t->watch, &p);
    if ((rc = measure(t, &t->data->train, t->split.train, t->split.n_train, &t->on_train, e))) return rc;
    if (t->split.n_validation &&
        (rc = measure(t, &t->data->train, t->split.validation, t->split.n_validation, &t->on_validation, e)))
        return rc;
    return t->data->test.schema
               ? measure(t, &t->data->test, t->data->test.rows, t->data->test.n_rows, &t->on_test, e)
               : 0;
}

int training_save(struct training *t, struct err *e)
{
    char sum[SHA256_HEX_LEN];
    int rc = t->closed_form ? 0 : digest(t, sum, e);
    if (rc || t->closed_form) return rc;
    struct fit_request q = fit_request_of(t, sum);
    return fit_save_fitted(&q, t->artifact.params, &t->fit, e);
}

/* Gives way with the training done: only this is left when it is resumed. One that paused has laid down more
 * than that. */
static void give_way(struct training *t)
{
    struct err why = {0};
    if (!t->fit.paused && training_save(t, &why))
        watch_message(t->watch, "warn", "no checkpoint was made: %s", why.message);
}

int training_evaluate(struct training *t, struct err *e)
{
    int rc = measure_parts(t, e);
    if (rc == ERR_CANCELLED) give_way(t);
    return rc;
}

/* ---- results ---- */

void training_describe(const struct training *t, double seconds, struct buf *out)
{
    struct report r = {.resolved = t->resolved,
                       .preprocess = t->artifact.preprocess,
                       .params = t->artifact.params,
                       .fit = t->closed_form ? NULL : &t->fit,
                       .train = &t->on_train,
                       .validation = t->split.n_validation ? &t->on_validation : NULL,
                       .test = t->data->test.schema ? &t->on_test : NULL,
                       .precision = t->artifact.precision,
                       .train_seconds = seconds};
    struct json_writer w;
    jw_init(&w, out);
    report_to_json(&r, &w);
}

static void lineage_to_json(const struct training *t, struct buf *out)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    jw_name(&w, "spec");
    resolved_to_json(t->resolved, t->data->train.schema, &w);
    jw_name(&w, "source");
    if (t->request->lineage)
        jw_node(&w, t->request->lineage);
    else
        jw_raw(&w, "{}", 2);
    jw_obj_end(&w);
}

/* What a worker needs for the version with one session. */
static int serving_bytes(const struct training *t, uint64_t *out, struct err *e)
{
    const struct preprocess *p = t->artifact.preprocess;
    struct plan *plan = NULL;
    int rc = model_plan(&plan, t->artifact.graph, precision_backend(t->artifact.precision), e);
    if (rc) return rc;
    uint64_t row = (uint64_t)p->width + p->n_classes + (uint64_t)p->target_width + 2;
    *out = plan_bytes(plan)->packed + plan_bytes(plan)->arena + preprocess_bytes(p) +
           row * sizeof(float) * SERVING_ROWS + 65536;
    plan_free(plan);
    return 0;
}

int training_write(struct training *t, struct train_result *out, struct err *e)
{
    struct buf lineage = {0}, metrics = {0};
    struct json_writer w;
    training_describe(t, -1, &metrics);
    training_describe(t, t->train_seconds, &out->metrics);
    lineage_to_json(t, &lineage);
    jw_init(&w, &out->signature);
    signature_to_json(t->artifact.signature, &w);
    bool failed = metrics.failed || lineage.failed || out->metrics.failed || out->signature.failed;
    t->artifact.metrics = buf_steal(&metrics);
    t->artifact.lineage = buf_steal(&lineage);
    if (failed) return err_set(e, ERR_NOMEM, NULL, "no memory for the results");
    int rc = serving_bytes(t, &out->memory_bytes, e);
    return rc ? rc : artifact_write(&t->artifact, t->request->artifact_fd, &out->artifact_bytes, e);
}

static void part_dispose(struct training_part *p)
{
    schema_free(p->schema);
    table_free(p->table);
    mem_free(p->classes);
    mem_free(p->rows);
}

void training_data_dispose(struct training_data *d)
{
    part_dispose(&d->train);
    part_dispose(&d->test);
    mem_free(d->want);
    *d = (struct training_data){0};
}

void training_dispose(struct training *t)
{
    evaluator_free(t->evaluator);
    seq2seq_feed_dispose(&t->pairs);
    artifact_dispose(&t->artifact);
    metrics_dispose(&t->on_train);
    metrics_dispose(&t->on_validation);
    metrics_dispose(&t->on_test);
    buf_dispose(&t->fit.history);
    split_dispose(&t->split);
    resolved_free(t->resolved);
    spec_free(t->spec);
    *t = (struct training){0};
}
