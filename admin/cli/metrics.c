/* Prints metrics and confusion matrices for the job commands and the demo. */
#include "admin/cli/metrics.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "admin/cli/output.h"

enum { LABEL_MAX = 12, CLASSES_MAX = 20 };

void metrics_print_line(const cJSON *metrics)
{
    const cJSON *m;
    cJSON_ArrayForEach(m, metrics)
    {
        if (cJSON_IsNumber(m)) printf("  %s %.4f", m->string, m->valuedouble);
    }
}

static void print_cell(const cJSON *count, bool right, double row_total)
{
    bool colour = output_is_terminal() && count->valuedouble > 0;
    int share = row_total > 0 ? (int)(count->valuedouble / row_total * 5) : 0;
    /* Green for what is right, red for what is mistaken, stronger for a greater share of the row. */
    if (colour)
        printf("\033[48;5;%dm", right ? 22 + 6 * (share > 4 ? 4 : share) : 52 + 36 * (share > 3 ? 3 : share));
    printf("%7.0f", count->valuedouble);
    if (colour) printf("\033[0m");
}

void metrics_print_confusion(const cJSON *matrix)
{
    const cJSON *labels = cJSON_GetObjectItemCaseSensitive(matrix, "labels"), *row, *cell;
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(matrix, "rows");
    int n = cJSON_GetArraySize(rows), at = 0;
    if (n < 2 || n > CLASSES_MAX || cJSON_GetArraySize(labels) != n) return;
    printf("\n  %-*s  answered\n  %-*s", LABEL_MAX, "is", LABEL_MAX, "");
    char text[OUTPUT_TEXT_MAX];
    cJSON_ArrayForEach(cell, labels)
    {
        snprintf(text, sizeof text, cJSON_IsString(cell) ? "%.6s" : "", cell->valuestring);
        if (cJSON_IsNumber(cell)) snprintf(text, sizeof text, "%.6g", cell->valuedouble);
        printf("%7s", text);
    }
    putchar('\n');
    cJSON_ArrayForEach(row, rows)
    {
        const cJSON *label = cJSON_GetArrayItem(labels, at);
        if (cJSON_IsString(label))
            printf("  %-*.*s", LABEL_MAX, LABEL_MAX, label->valuestring);
        else
            printf("  %-*.6g", LABEL_MAX, label->valuedouble);
        double total = 0;
        int column = 0;
        cJSON_ArrayForEach(cell, row)
        {
            total += cell->valuedouble;
        }
        cJSON_ArrayForEach(cell, row)
        {
            print_cell(cell, column++ == at, total);
        }
        putchar('\n');
        at++;
    }
}

void metrics_print(const cJSON *metrics)
{
    const cJSON *m, *inner;
    cJSON_ArrayForEach(m, metrics)
    {
        if (cJSON_IsNumber(m)) printf("  %-22s %.6g\n", m->string, m->valuedouble);
        if (!cJSON_IsObject(m)) continue;
        cJSON_ArrayForEach(inner, m)
        {
            if (cJSON_IsNumber(inner))
                printf("  %s.%-*s %.6g\n", m->string, 21 - (int)strlen(m->string), inner->string,
                       inner->valuedouble);
        }
    }
    metrics_print_confusion(cJSON_GetObjectItemCaseSensitive(metrics, "confusion_matrix"));
}
