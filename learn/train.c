/* Carries one training run through: read, split, fit preprocessing, train, measure, write. */
#include "learn/train.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "learn/artifact.h"
#include "learn/data/table.h"
#include "learn/evaluate.h"
#include "learn/family.h"
#include "learn/fit.h"
#include "learn/least_squares.h"
#include "learn/report.h"
#include "learn/split.h"
#include "learn/watch.h"
#include "tensor/plan.h"

enum { SERVING_ROWS = 64 };

/* One of the two datasets in memory. */
struct part {
    struct schema *schema;
    struct table *table;
    int32_t *classes; /* by row; NULL for regression */
    uint32_t *rows;   /* those with a target, ascending */
    size_t n_rows;
};

struct training {
    const struct train_request *request;
    struct watch watch;
    struct spec *spec;
    struct resolved *resolved;
    struct table_want *want; /* features in order, then the target */
    struct part train, test;
    struct split split;
    struct artifact artifact; /* graph, params, preprocess, signature as they come to be */
    struct evaluator *evaluator;
    struct fit_result fit;
    struct metrics on_train, on_validation, on_test;
    bool closed_form;
    double train_seconds;
};

/* ---- what to do ---- */

static int resolve(struct training *t, struct err *e)
{
    const struct train_request *q = t->request;
    int rc;
    if ((rc = schema_from_json(&t->train.schema, q->schema, "schema", e)) ||
        (q->test_schema && (rc = schema_from_json(&t->test.schema, q->test_schema, "test_schema", e))) ||
        (rc = spec_parse(&t->spec, q->spec, "spec", e)) ||
        (rc = spec_resolve(&t->resolved, t->spec, t->train.schema, t->test.schema, e)))
        return rc;
    t->closed_form = strcmp(t->resolved->training.optimizer.name, "least_squares") == 0;
    uint64_t need = t->resolved->estimate.memory_bytes;
    if (q->memory_bytes && need > q->memory_bytes)
        return err_set(e, ERR_TOO_LARGE, "dataset",
                       "the run needs about %llu MiB of memory; %llu MiB are allowed",
                       (unsigned long long)(need >> 20), (unsigned long long)(q->memory_bytes >> 20));
    if (q->threads > 1)
        watch_message(&t->watch, "info", "training uses one thread; %d were offered", q->threads);
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

static int choose_columns(struct training *t, struct err *e)
{
    const struct resolved *r = t->resolved;
    t->want = mem_try_alloc(r->n_features + 1, sizeof *t->want);
    if (!t->want) return err_set(e, ERR_NOMEM, NULL, "no memory for the columns");
    for (size_t i = 0; i < r->n_features; i++)
        t->want[i] = want_column(&t->train.schema->columns[r->features[i].column], false, false);
    t->want[r->n_features] =
        want_column(&t->train.schema->columns[r->target], true, r->task == TASK_CLASSIFICATION);
    return 0;
}

/* ---- data ---- */

static int read_inputs(struct training *t, struct part *part, bool test, struct err *e)
{
    const struct train_request *q = t->request;
    size_t sources = 0;
    int rc = table_create(&part->table, t->want, t->resolved->n_features + 1, part->schema->rows,
                          q->memory_bytes, e);
    for (size_t i = 0; i < q->n_inputs && !rc; i++) {
        if (q->inputs[i].test != test) continue;
        struct table_source from = {.fd = q->inputs[i].fd,
                                    .role = q->inputs[i].role,
                                    .format = part->schema->format,
                                    .cancelled = t->watch.callbacks->cancelled,
                                    .ctx = t->watch.callbacks->ctx};
        rc = table_read(part->table, &from, e);
        sources++;
    }
    size_t wanted = part->schema->format == SCHEMA_CSV ? 1 : 2;
    if (!rc && sources != wanted)
        rc = err_set(e, ERR_INTERNAL, "inputs", "the run was given %zu files of a dataset that has %zu",
                     sources, wanted);
    return rc;
}

static bool has_target(const struct training *t, const struct part *part, int64_t row)
{
    if (part->classes) return part->classes[row] >= 0;
    const struct table_column *c = &part->table->columns[t->resolved->n_features];
    for (int64_t k = 0; k < c->width; k++)
        if (isnan(((const double *)c->data)[row * c->width + k])) return false;
    return true;
}

static int find_targets(struct training *t, struct part *part, struct err *e)
{
    int64_t rows = part->table->rows;
    int rc;
    part->rows = mem_try_alloc((size_t)rows, sizeof *part->rows);
    if (t->resolved->task == TASK_CLASSIFICATION)
        part->classes = mem_try_alloc((size_t)rows, sizeof *part->classes);
    if (!part->rows || (t->resolved->task == TASK_CLASSIFICATION && !part->classes))
        return err_set(e, ERR_NOMEM, NULL, "no memory for the rows");
    if (part->classes && (rc = preprocess_classes(t->resolved, part->table, part->classes, e))) return rc;
    for (int64_t i = 0; i < rows; i++)
        if (has_target(t, part, i)) part->rows[part->n_rows++] = (uint32_t)i;
    if (part->n_rows == 0) return err_set(e, ERR_INVALID, "spec.target", "no row has a value of the target");
    if ((int64_t)part->n_rows < rows)
        watch_message(&t->watch, "warn", "%lld rows without a value of the target are left out",
                      (long long)rows - (long long)part->n_rows);
    return 0;
}

static int load_data(struct training *t, struct err *e)
{
    struct train_progress p = {
        .phase = "read", .epochs = t->resolved->training.epochs, .metrics_json = "{}", .eta_seconds = -1};
    int rc;
    watch_report(&t->watch, &p);
    if ((rc = choose_columns(t, e)) || (rc = read_inputs(t, &t->train, false, e)) ||
        (rc = find_targets(t, &t->train, e)))
        return rc;
    if (!t->test.schema) return 0;
    if ((rc = read_inputs(t, &t->test, true, e))) return rc;
    return find_targets(t, &t->test, e);
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
    const struct resolved *r = t->resolved;
    struct split_request q = {.rows = t->train.rows,
                              .n_rows = t->train.n_rows,
                              .classes = t->train.classes,
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

static int prepare(struct training *t, struct err *e)
{
    struct artifact *a = &t->artifact;
    const struct resolved *r = t->resolved;
    int rc;
    if ((rc = split_rows(t, e)) ||
        (rc = preprocess_fit(&a->preprocess, r, t->train.schema, t->train.table, t->split.train,
                             t->split.n_train, e)) ||
        (rc = family_graph(&a->graph, r, e)) || (rc = params_create(&a->params, a->graph, e)) ||
        (rc = resolved_signature(&a->signature, r, t->train.schema, e)))
        return rc;
    return evaluator_create(&t->evaluator, a->graph, a->preprocess, e);
}

static int train(struct training *t, struct err *e)
{
    struct fit_request q = {.resolved = t->resolved,
                            .graph = t->artifact.graph,
                            .preprocess = t->artifact.preprocess,
                            .table = t->train.table,
                            .split = &t->split,
                            .classes = t->train.classes,
                            .evaluator = t->evaluator,
                            .watch = &t->watch,
                            .limit_bytes = t->request->memory_bytes};
    int64_t began = clock_mono_ns();
    int rc = t->closed_form ? least_squares_run(&q, t->artifact.params, e)
                            : fit_run(&q, t->artifact.params, &t->fit, e);
    t->train_seconds = (double)(clock_mono_ns() - began) / 1e9;
    return rc;
}

/* ---- measuring ---- */

static int measure(struct training *t, const struct part *part, const uint32_t *rows, size_t n_rows,
                   struct metrics *m, struct err *e)
{
    const struct resolved *r = t->resolved;
    struct evaluation what = {.table = part->table, .classes = part->classes, .rows = rows, .n_rows = n_rows};
    bool classes = r->task == TASK_CLASSIFICATION;
    int rc = metrics_init(m, classes, classes ? r->n_classes : (size_t)r->target_width, e);
    metrics_minimise(m, r->training.objective,
                     r->training.huber_delta * (double)t->artifact.preprocess->target_std);
    bool reported = m == (t->test.schema          ? &t->on_test
                          : t->split.n_validation ? &t->on_validation
                                                  : &t->on_train);
    if (!rc && classes && reported) rc = metrics_keep_scores(m, n_rows, e);
    return rc ? rc : evaluator_run(t->evaluator, t->artifact.params, &what, m, &t->watch, e);
}

static int evaluate(struct training *t, struct err *e)
{
    int64_t epochs = t->resolved->training.epochs;
    struct train_progress p = {.phase = "evaluate",
                               .epoch = t->closed_form ? epochs : t->fit.epochs_run,
                               .epochs = epochs,
                               .metrics_json = "{}",
                               .eta_seconds = -1};
    int rc;
    watch_report(&t->watch, &p);
    if ((rc = measure(t, &t->train, t->split.train, t->split.n_train, &t->on_train, e))) return rc;
    if (t->split.n_validation &&
        (rc = measure(t, &t->train, t->split.validation, t->split.n_validation, &t->on_validation, e)))
        return rc;
    return t->test.schema ? measure(t, &t->test, t->test.rows, t->test.n_rows, &t->on_test, e) : 0;
}

/* ---- results ---- */

static void describe(const struct training *t, double seconds, struct buf *out)
{
    struct report r = {.resolved = t->resolved,
                       .preprocess = t->artifact.preprocess,
                       .params = t->artifact.params,
                       .fit = t->closed_form ? NULL : &t->fit,
                       .train = &t->on_train,
                       .validation = t->split.n_validation ? &t->on_validation : NULL,
                       .test = t->test.schema ? &t->on_test : NULL,
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
    resolved_to_json(t->resolved, t->train.schema, &w);
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
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = 2 * SERVING_ROWS};
    struct plan *plan = NULL;
    int rc = plan_create(&plan, t->artifact.graph, &o, e);
    if (rc) return rc;
    uint64_t row = (uint64_t)p->width + p->n_classes + (uint64_t)p->target_width + 2;
    *out = plan_bytes(plan)->packed + plan_bytes(plan)->arena + preprocess_bytes(p) +
           row * sizeof(float) * SERVING_ROWS + 65536;
    plan_free(plan);
    return 0;
}

static int finish(struct training *t, struct train_result *out, struct err *e)
{
    struct buf lineage = {0}, metrics = {0};
    struct json_writer w;
    describe(t, -1, &metrics);
    describe(t, t->train_seconds, &out->metrics);
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

static void part_dispose(struct part *p)
{
    schema_free(p->schema);
    table_free(p->table);
    mem_free(p->classes);
    mem_free(p->rows);
}

static void training_dispose(struct training *t)
{
    evaluator_free(t->evaluator);
    artifact_dispose(&t->artifact);
    metrics_dispose(&t->on_train);
    metrics_dispose(&t->on_validation);
    metrics_dispose(&t->on_test);
    buf_dispose(&t->fit.history);
    split_dispose(&t->split);
    part_dispose(&t->train);
    part_dispose(&t->test);
    mem_free(t->want);
    resolved_free(t->resolved);
    spec_free(t->spec);
}

int train_run(struct train_result *out, const struct train_request *request,
              const struct train_callbacks *callbacks, struct err *e)
{
    struct training t = {.request = request};
    int rc;
    *out = (struct train_result){0};
    watch_init(&t.watch, callbacks, request->seconds);
    if ((rc = resolve(&t, e)) == 0 && (rc = load_data(&t, e)) == 0 && (rc = prepare(&t, e)) == 0 &&
        (rc = train(&t, e)) == 0 && (rc = evaluate(&t, e)) == 0)
        rc = finish(&t, out, e);
    training_dispose(&t);
    if (rc) train_result_dispose(out);
    return rc;
}

void train_result_dispose(struct train_result *r)
{
    buf_dispose(&r->metrics);
    buf_dispose(&r->signature);
    *r = (struct train_result){0};
}
