/* Fuzzes the message decoder: whatever it accepts must encode to a record that it accepts again, alike. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "queue/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct message_tensor tensors[MESSAGE_TENSORS_MAX];
    struct message m;
    struct buf record = {0};
    struct err e;
    if (message_decode(&m, tensors, MESSAGE_TENSORS_MAX, data, len, &e)) return 0;
    for (size_t i = 0; i < m.tensors_len; i++)
        if (!message_tensor_fits(&tensors[i])) abort();
    message_encode(&record, &m);
    if (record.len != len || memcmp(record.data, data, len) != 0) abort();
    buf_dispose(&record);
    return 0;
}
