/* Any bytes as a version's file: an error, or a model that loads, answers and reads nothing outside its
 * bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "learn/model.h"
#include "learn/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void touch(const struct safetensors *s)
{
    volatile unsigned char sum = 0;
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const struct safetensor *t = safetensors_at(s, i);
        for (size_t k = 0; k < t->bytes; k++)
            sum = (unsigned char)(sum + ((const unsigned char *)t->data)[k]);
    }
}

static void predict(const struct model *m)
{
    struct model_session *s = NULL;
    const struct signature *sig = model_signature(m);
    int64_t width = signature_width(&sig->inputs[0]);
    struct model_output out[2];
    bool text = sig->inputs[0].datatype == DATATYPE_BYTES;
    if (sig->n_inputs != 1 || (!text && sig->inputs[0].datatype != DATATYPE_FP32) || width > 4096) return;
    float *x = mem_alloc((size_t)width, sizeof *x);
    struct model_input in = {DATATYPE_FP32, x, (size_t)width * sizeof *x};
    if (text) in = (struct model_input){DATATYPE_BYTES, "\11\0\0\0one Two's", 13};
    if (model_session_create(&s, m, 2, NULL) == 0) model_predict(s, &in, 1, out, NULL);
    model_session_free(s);
    mem_free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *s = NULL;
    struct model *m = NULL;
    if (safetensors_open(&s, data, size, NULL) == 0) touch(s);
    safetensors_free(s);
    if (model_load(&m, data, size, (size_t)1 << 26, NULL) == 0) predict(m);
    model_free(m);
    return 0;
}
