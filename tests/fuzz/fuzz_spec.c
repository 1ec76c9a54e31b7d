/* Any text as a spec: an error, or a settled spec that settles to itself, for a table, for texts and for
 * images. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "learn/data/scan.h"
#include "learn/spec/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct schema *schema_of(const void *data, size_t len, enum scan_role role)
{
    struct scan_options o = {.role = role, .format = -1};
    struct scan *s = NULL;
    struct schema *out = NULL;
    if (scan_create(&s, &o, NULL) || scan_push(s, data, len, NULL) || scan_finish(s, &out, NULL)) abort();
    scan_free(s);
    return out;
}

static struct schema *images(void)
{
    static const unsigned char features[] = {0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 2,
                                             1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7};
    static const unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 2, 1};
    struct schema *f = schema_of(features, sizeof features, SCAN_FEATURES),
                  *l = schema_of(labels, sizeof labels, SCAN_LABELS), *both;
    if (schema_join(&both, f, l, NULL)) abort();
    schema_free(f);
    schema_free(l);
    return both;
}

static int settle(struct buf *out, const char *text, size_t len, const struct schema *schema)
{
    cJSON *node = NULL;
    struct spec *spec = NULL;
    struct resolved *r = NULL;
    struct signature *sig = NULL;
    struct json_writer w;
    int rc = json_parse(&node, text, len, 100000, NULL);
    if (!rc) rc = spec_parse(&spec, node, "spec", NULL);
    if (!rc) rc = spec_resolve(&r, spec, schema, NULL, NULL);
    if (!rc) rc = resolved_signature(&sig, r, schema, NULL);
    if (!rc) {
        jw_init(&w, out);
        resolved_to_json(r, schema, &w);
    }
    signature_free(sig);
    resolved_free(r);
    spec_free(spec);
    cJSON_Delete(node);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { SCHEMAS = 3 };
    static struct schema *schema[SCHEMAS];
    static const char csv[] = "a,b,k,n\n1.5,x,u,1\n2.5,y,v,2\n3,,u,3\n4,x,v,1\n5,y,v,2\n";
    static const char texts[] = "k,t\nu,one two\nv,\"three,\n four\"\nu,five\nv,\n";
    if (!schema[0]) {
        schema[0] = schema_of(csv, sizeof csv - 1, SCAN_FILE);
        schema[1] = images();
        schema[2] = schema_of(texts, sizeof texts - 1, SCAN_FILE);
    }
    for (int i = 0; i < SCHEMAS; i++) {
        struct buf first = {0}, second = {0};
        if (settle(&first, (const char *)data, size, schema[i]) == 0) {
            if (settle(&second, first.data, first.len, schema[i]) || strcmp(first.data, second.data) != 0) {
                fprintf(stderr, "%s\n%s\n", first.data, second.data ? second.data : "refused");
                abort();
            }
        }
        buf_dispose(&first);
        buf_dispose(&second);
    }
    return 0;
}
