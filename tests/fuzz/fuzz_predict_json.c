/* Fuzzes the bodies of the predict protocols against signatures: whatever is accepted must be whole tensors
 * of the rows that it says. The first byte chooses the protocol, the signature, and where the JSON part ends.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/crypto.h"
#include "base/json.h"
#include "gateway/predict/infer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const char *const signatures[] = {
    "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,2,3]}],"
    "\"outputs\":[{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[-1,2]},"
    "{\"name\":\"label\",\"datatype\":\"INT64\",\"shape\":[-1]}]}",
    "{\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[-1]},{\"name\":\"b\",\"datatype\":"
    "\"BYTES\",\"shape\":[-1]}],"
    "\"outputs\":[{\"name\":\"prediction\",\"datatype\":\"FP32\",\"shape\":[-1]}]}"};

static struct signature *signature_at(size_t i)
{
    static struct signature *made[2];
    cJSON *root;
    if (!made[i]) {
        crypto_init();
        if (json_parse(&root, signatures[i], strlen(signatures[i]), 1000, NULL) ||
            signature_from_json(&made[i], root, "", NULL))
            abort();
        cJSON_Delete(root);
    }
    return made[i];
}

static void check(const struct infer *r)
{
    if (r->rows < 1 || r->rows > MESSAGE_ROWS_MAX) abort();
    for (size_t i = 0; i < r->signature->n_inputs; i++) {
        const struct infer_input *in = &r->inputs[i];
        struct message_tensor t = {.dtype = (enum message_dtype)((int)in->datatype + 1),
                                   .ndim = r->signature->inputs[i].rank};
        memcpy(t.dims, r->signature->inputs[i].shape, (size_t)t.ndim * sizeof *t.dims);
        t.dims[0] = r->rows;
        t.data = in->raw ? in->raw : in->owned.data;
        t.data_len = in->raw ? in->raw_len : in->owned.len;
        if (!in->given || !message_tensor_fits(&t)) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) return 0;
    static const struct infer_protocol *const protocols[] = {&oip_protocol, &tfs_protocol,
                                                             &tfs_classify_protocol, &tfs_regress_protocol};
    const struct infer_protocol *p = protocols[data[0] & 3];
    size_t json_len = data[0] & 8 ? (size_t)data[0] >> 4 : SIZE_MAX;
    struct infer r;
    struct err e = {0};
    if (!infer_init(&r, signature_at(data[0] >> 2 & 1))) abort();
    int rc = p->decode(&r, (const char *)data + 1, len - 1, json_len, &e);
    if (rc == 0) check(&r);
    if (rc && !e.message[0]) abort();
    infer_dispose(&r);
    return 0;
}
