/* Any text as the spec of a tune or evaluate job: an error, or a search whose every trial can be made, and
 * that reads back from what it writes as the same trials. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "learn/data/scan.h"
#include "learn/spec/review.h"
#include "learn/spec/tune.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct schema *table(void)
{
    static const char csv[] =
        "a,b,k,n\n1.5,x,u,1\n2.5,y,v,2\n3,,u,3\n4,x,v,1\n5,y,v,2\n6,y,u,2\n7,x,v,1\n8,x,u,3\n";
    struct scan_options o = {.role = SCAN_FILE, .format = -1};
    struct scan *s = NULL;
    struct schema *out = NULL;
    if (scan_create(&s, &o, NULL) || scan_push(s, csv, sizeof csv - 1, NULL) || scan_finish(s, &out, NULL))
        abort();
    scan_free(s);
    return out;
}

static void write_values(const struct tune_spec *t, struct buf *out)
{
    struct json_writer w;
    for (int64_t i = 1; i <= t->trials; i++) {
        jw_init(&w, out);
        tune_trial_values(t, i, &w);
    }
}

static void search(const cJSON *node, const struct schema *schema)
{
    struct tune_spec *t = NULL, *again = NULL;
    struct estimate need;
    enum score_kind score;
    struct buf json = {0}, first = {0}, second = {0};
    struct json_writer w;
    cJSON *copy = NULL;
    if (tune_parse(&t, node, "spec", NULL)) return;
    (void)tune_check(&need, &score, t, schema, NULL, NULL);
    jw_init(&w, &json);
    tune_to_json(t, &w);
    if (json_parse(&copy, json.data, json.len, 1000000, NULL) || tune_parse(&again, copy, "spec", NULL)) {
        fprintf(stderr, "%s\nis refused\n", json.data);
        abort();
    }
    write_values(t, &first);
    write_values(again, &second);
    if (first.len != second.len || (first.len && memcmp(first.data, second.data, first.len) != 0)) abort();
    buf_dispose(&json);
    buf_dispose(&first);
    buf_dispose(&second);
    tune_free(t);
    tune_free(again);
    cJSON_Delete(copy);
}

static void review(const cJSON *node, const struct schema *schema)
{
    struct review_spec *s = NULL;
    struct resolved *r = NULL;
    (void)review_columns(node, schema, NULL);
    if (review_parse(&s, node, "spec", NULL)) return;
    if (s->base && review_resolve(&r, s, schema, NULL) == 0) resolved_free(r);
    review_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct schema *schema;
    cJSON *node = NULL;
    if (!schema) schema = table();
    if (json_parse(&node, (const char *)data, size, 100000, NULL)) return 0;
    search(node, schema);
    review(node, schema);
    cJSON_Delete(node);
    return 0;
}
