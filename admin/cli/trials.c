/* Prints the trials of a search and the folds of a cross-validation. */
#include "admin/cli/trials.h"

#include <stdio.h>
#include <string.h>

#include "admin/cli/output.h"
#include "base/buf.h"

static void number_cell(char out[OUTPUT_TEXT_MAX], const cJSON *object, const char *name)
{
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(object, name);
    snprintf(out, OUTPUT_TEXT_MAX, "-");
    if (cJSON_IsNumber(n)) snprintf(out, OUTPUT_TEXT_MAX, "%.6g", n->valuedouble);
}

/* "training.l2=0.01 architecture[0].units=64" */
static void describe_values(struct buf *out, const cJSON *values)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, values)
    {
        char *text = cJSON_PrintUnformatted(v);
        buf_printf(out, "%s%s=%s", out->len ? " " : "", v->string, text ? text : "");
        cJSON_free(text);
    }
}

static void print_search(const cJSON *tune)
{
    const char *const headers[] = {"TRIAL", "STATE", "SCORE", "EPOCHS", "SECONDS", "PARAMETERS"};
    struct table *t = table_create(headers, 6);
    double best = output_number(tune, "best_trial", 0);
    const cJSON *trial;
    cJSON_ArrayForEach(trial, cJSON_GetObjectItemCaseSensitive(tune, "trials"))
    {
        char number[OUTPUT_TEXT_MAX], score[OUTPUT_TEXT_MAX], epochs[OUTPUT_TEXT_MAX],
            seconds[OUTPUT_TEXT_MAX];
        struct buf values = {0};
        double at = output_number(trial, "trial", 0);
        snprintf(number, sizeof number, "%.0f%s", at, at == best ? " *" : "");
        number_cell(score, trial, "score");
        number_cell(epochs, trial, "epochs");
        number_cell(seconds, trial, "seconds");
        describe_values(&values, cJSON_GetObjectItemCaseSensitive(trial, "parameters"));
        const char *const cells[] = {number,  output_text(trial, "state"),   score, epochs,
                                     seconds, values.data ? values.data : ""};
        table_row(t, cells);
        buf_dispose(&values);
    }
    printf("\n  %s by %s; * is the best\n", output_text(tune, "method"), output_text(tune, "metric"));
    table_print(t);
}

static void print_folds(const cJSON *folds)
{
    static const char *const figures[] = {"accuracy", "f1_macro", "auc", "loss", "rmse", "r2"};
    const char *headers[TABLE_COLUMNS_MAX] = {"FOLD", "ROWS"};
    const cJSON *first = cJSON_GetArrayItem(folds, 0), *fold;
    size_t columns = 2;
    for (size_t i = 0; i < sizeof figures / sizeof *figures && columns < TABLE_COLUMNS_MAX; i++)
        if (cJSON_GetObjectItemCaseSensitive(first, figures[i])) headers[columns++] = figures[i];
    struct table *t = table_create(headers, columns);
    cJSON_ArrayForEach(fold, folds)
    {
        char text[TABLE_COLUMNS_MAX][OUTPUT_TEXT_MAX];
        const char *cells[TABLE_COLUMNS_MAX];
        for (size_t i = 0; i < columns; i++) {
            number_cell(text[i], fold, i == 0 ? "fold" : i == 1 ? "rows" : headers[i]);
            cells[i] = text[i];
        }
        table_row(t, cells);
    }
    putchar('\n');
    table_print(t);
}

void trials_print(const cJSON *metrics)
{
    const cJSON *tune = cJSON_GetObjectItemCaseSensitive(metrics, "tune");
    const cJSON *folds = cJSON_GetObjectItemCaseSensitive(metrics, "folds");
    if (cJSON_IsObject(tune)) print_search(tune);
    if (cJSON_IsArray(folds) && cJSON_GetArraySize(folds) > 0) print_folds(folds);
}
