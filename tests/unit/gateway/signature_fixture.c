/* Signatures read from their JSON text. */
#include "signature_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/json.h"

const char signature_fixture_table[] =
    "{\"inputs\":[{\"name\":\"size\",\"datatype\":\"FP32\",\"shape\":[-1]},"
    "{\"name\":\"colour\",\"datatype\":\"BYTES\",\"shape\":[-1]}],"
    "\"outputs\":[{\"name\":\"prediction\",\"datatype\":\"FP32\",\"shape\":[-1]}]}";

struct signature *signature_fixture(const char *json)
{
    cJSON *root;
    struct signature *s;
    assert_int_equal(json_parse(&root, json, strlen(json), 1000, NULL), 0);
    assert_int_equal(signature_from_json(&s, root, "", NULL), 0);
    cJSON_Delete(root);
    return s;
}
