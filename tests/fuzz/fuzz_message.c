/* Fuzzes the message decoder: whatever it accepts must encode to a record that it accepts again, alike. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "queue/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct message_tensor first[MESSAGE_TENSORS_MAX], second[MESSAGE_TENSORS_MAX];
    struct message a, b;
    struct buf record = {0};
    struct err e;
    if (message_decode(&a, first, MESSAGE_TENSORS_MAX, data, len, &e)) return 0;
    for (size_t i = 0; i < a.tensors_len; i++)
        if (!message_tensor_fits(&first[i])) abort();
    message_encode(&record, &a);
    if (record.len != len || memcmp(record.data, data, len) != 0) abort();
    if (a.type == MESSAGE_PREDICT) {
        message_mark_resent(&record);
        if (message_decode(&b, second, MESSAGE_TENSORS_MAX, record.data, record.len, &e) || !b.predict.resent)
            abort();
    }
    buf_dispose(&record);
    return 0;
}
