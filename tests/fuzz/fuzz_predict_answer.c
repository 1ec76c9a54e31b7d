/* Fuzzes what a predict job's answer is written from: the note of the request and the stored reply. Whatever
 * is accepted must be an answer of the rows that the note says; nothing may be read beyond either. The input
 * is a note, a NUL, and a reply; the same bytes are read as a Prefer header too. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/crypto.h"
#include "base/json.h"
#include "gateway/predict/async.h"
#include "gateway/routes/prefer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct signature *signature(void)
{
    static const char json[] = "{\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[-1]}],"
                               "\"outputs\":[{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[-1,"
                               "2],\"classes\":[\"n\",\"y\"]},"
                               "{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[-1]}]}";
    static struct signature *made;
    cJSON *root;
    if (made) return made;
    crypto_init();
    if (json_parse(&root, json, sizeof json - 1, 1000, NULL) || signature_from_json(&made, root, "", NULL))
        abort();
    cJSON_Delete(root);
    return made;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const uint8_t *end = memchr(data, 0, len);
    if (!end) return 0;
    struct model_route route = {.model = "m", .version = 1, .signature = signature()};
    size_t note_len = (size_t)(end - data) + 1, reply_len = len - note_len, json_len;
    char *note = malloc(note_len), *reply = malloc(reply_len ? reply_len : 1);
    struct buf out = {0};
    struct err e = {0};
    if (!note || !reply) abort();
    memcpy(note, data, note_len);
    memcpy(reply, data + note_len, reply_len);
    struct prefer p = {0};
    prefer_add(&p, note);
    if (p.wait_s < 0) abort();
    int rc = async_encode(&out, &json_len, note, &route, reply, reply_len, &e);
    if (rc && !e.message[0]) abort();
    if (rc == 0 && (out.len == 0 || json_len > out.len)) abort();
    buf_dispose(&out);
    free(note);
    free(reply);
    return 0;
}
