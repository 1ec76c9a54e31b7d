/* The message codec: what goes in comes out, and nothing malformed gets through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "base/crypto.h"
#include "queue/message.h"

static struct message_tensor room[MESSAGE_TENSORS_MAX];
static const float numbers[6] = {1.5F, -2, 3, 0, 1e-30F, 7};
static const char texts[] = "\3\0\0\0abc\0\0\0\0\1\0\0\0z"; /* "abc", "", "z" */

static struct message a_predict(struct message_tensor t[2])
{
    struct message m = {.type = MESSAGE_PREDICT, .tensors = t, .tensors_len = 2};
    m.predict.request_id = 0x1122334455667788u;
    id_new(m.predict.tenant_id, "ten");
    id_new(m.predict.version_id, "ver");
    m.predict.deadline_us = 1234567890123;
    m.predict.rows = 3;
    m.predict.max_batch_rows = MESSAGE_BATCH_ROWS_MAX;
    m.predict.max_queue_delay_us = MESSAGE_QUEUE_DELAY_MAX_US;
    t[0] = (struct message_tensor){
        .dtype = MESSAGE_FP32, .ndim = 2, .dims = {3, 2}, .data = numbers, .data_len = 24};
    t[1] = (struct message_tensor){
        .dtype = MESSAGE_BYTES, .ndim = 1, .dims = {3}, .data = texts, .data_len = sizeof texts - 1};
    return m;
}

static void a_predict_survives_the_wire(void **state)
{
    (void)state;
    struct message_tensor t[2];
    struct message m = a_predict(t), got;
    struct buf b = {0};
    message_encode(&b, &m);
    assert_int_equal(message_decode(&got, room, 2, b.data, b.len, NULL), 0);
    assert_memory_equal(&got.predict, &m.predict, sizeof m.predict);
    assert_int_equal(got.tensors_len, 2);
    assert_int_equal(got.tensors[0].ndim, 2);
    assert_memory_equal(got.tensors[0].data, numbers, sizeof numbers);
    assert_memory_equal(got.tensors[1].data, texts, sizeof texts - 1);
    buf_dispose(&b);
}

static void replies_and_orders_survive_the_wire(void **state)
{
    (void)state;
    struct message got, reply = {.type = MESSAGE_PREDICT_REPLY};
    struct buf b = {0};
    reply.reply.request_id = 9;
    reply.reply.code = ERR_INVALID;
    strcpy(reply.reply.field, "species");
    strcpy(reply.reply.message, "row 2: no such category");
    reply.reply.queue_us = 5;
    message_encode(&b, &reply);
    assert_int_equal(message_decode(&got, room, 0, b.data, b.len, NULL), 0);
    assert_memory_equal(&got.reply, &reply.reply, sizeof reply.reply);
    static const enum message_type jobs[] = {MESSAGE_JOB_RUN, MESSAGE_JOB_YIELD, MESSAGE_JOB_CANCEL,
                                             MESSAGE_JOB_ENDED, MESSAGE_HINT};
    for (size_t i = 0; i < 4; i++) {
        struct message job = {.type = jobs[i]};
        id_new(job.job.job_id, "job");
        id_new(job.job.tenant_id, "ten");
        job.job.fence = INT64_MAX - 1;
        buf_clear(&b);
        message_encode(&b, &job);
        assert_int_equal(message_decode(&got, NULL, 0, b.data, b.len, NULL), 0);
        assert_int_equal(got.type, jobs[i]);
        assert_memory_equal(&got.job, &job.job, sizeof job.job);
    }
    static const enum message_type models[] = {MESSAGE_PLACE, MESSAGE_MODEL_LOAD, MESSAGE_MODEL_UNLOAD,
                                               MESSAGE_MODEL_REPLICATE};
    for (size_t i = 0; i < 4; i++) {
        struct message model = {.type = models[i]};
        id_new(model.model.version_id, "ver");
        id_new(model.model.tenant_id, "ten");
        model.model.bytes = UINT64_MAX;
        buf_clear(&b);
        message_encode(&b, &model);
        assert_int_equal(message_decode(&got, NULL, 0, b.data, b.len, NULL), 0);
        assert_memory_equal(&got.model, &model.model, sizeof model.model);
    }
    buf_dispose(&b);
}

static void every_truncation_and_every_tail_is_refused(void **state)
{
    (void)state;
    struct message_tensor t[2];
    struct message m = a_predict(t), got;
    struct buf b = {0};
    struct err e;
    message_encode(&b, &m);
    for (size_t len = 0; len < b.len; len++) {
        char *copy =
            malloc(len ? len : 1); /* of exactly this size, so that a sanitizer sees a read beyond it */
        memcpy(copy, b.data, len);
        assert_int_equal(message_decode(&got, room, 2, copy, len, &e), ERR_CORRUPT);
        free(copy);
    }
    buf_char(&b, 'x');
    assert_int_equal(message_decode(&got, room, 2, b.data, b.len, &e), ERR_CORRUPT);
    buf_dispose(&b);
}

/* Flipping any byte gives another valid message or an error, never more tensors than there is room for. */
static void random_damage_never_reads_beyond_the_record(void **state)
{
    (void)state;
    struct message_tensor t[2];
    struct message m = a_predict(t), got;
    struct buf b = {0};
    message_encode(&b, &m);
    srandom(7);
    for (int round = 0; round < 20000; round++) {
        char *copy = malloc(b.len);
        memcpy(copy, b.data, b.len);
        for (int flips = 1 + (int)(random() % 4); flips; flips--)
            copy[random() % (long)b.len] ^= (char)(1 << random() % 8);
        if (message_decode(&got, room, 2, copy, b.len, NULL) == 0 && got.type == MESSAGE_PREDICT)
            for (size_t i = 0; i < got.tensors_len; i++) assert_true(message_tensor_fits(&got.tensors[i]));
        free(copy);
    }
    buf_dispose(&b);
}

static void refuse(struct message *m, const char *why)
{
    struct message got;
    struct buf b = {0};
    message_encode(&b, m);
    if (message_decode(&got, room, 2, b.data, b.len, NULL) != ERR_CORRUPT) fail_msg("accepted: %s", why);
    buf_dispose(&b);
}

static void tensors_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct message_tensor t[2];
    struct message m = a_predict(t);
    t[0].data_len = 20;
    refuse(&m, "five numbers for a shape of six");
    m = a_predict(t);
    t[0].dims[0] = INT64_MAX;
    t[0].dims[1] = INT64_MAX;
    refuse(&m, "a shape whose product overflows");
    m = a_predict(t);
    t[0].dims[1] = -2;
    refuse(&m, "a negative dimension");
    m = a_predict(t);
    m.predict.rows = 2;
    refuse(&m, "rows that differ from the tensors'");
    m = a_predict(t);
    m.predict.rows = 0;
    refuse(&m, "no rows");
    m = a_predict(t);
    m.predict.max_batch_rows++;
    refuse(&m, "a batch larger than a setting may be");
    m = a_predict(t);
    m.predict.max_queue_delay_us++;
    refuse(&m, "a wait longer than a setting may be");
    m = a_predict(t);
    t[1].data_len--;
    refuse(&m, "texts cut short");
    m = a_predict(t);
    strcpy(m.predict.tenant_id, "ten_short");
    refuse(&m, "a malformed id");
}

static void another_version_of_the_format_is_refused(void **state)
{
    (void)state;
    struct message_tensor t[2];
    struct message m = a_predict(t), got;
    struct buf b = {0};
    message_encode(&b, &m);
    b.data[1]++;
    assert_int_equal(message_decode(&got, room, 2, b.data, b.len, NULL), ERR_CORRUPT);
    buf_dispose(&b);
}

int main(void)
{
    crypto_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_predict_survives_the_wire),
        cmocka_unit_test(replies_and_orders_survive_the_wire),
        cmocka_unit_test(every_truncation_and_every_tail_is_refused),
        cmocka_unit_test(random_damage_never_reads_beyond_the_record),
        cmocka_unit_test(tensors_that_do_not_fit_are_refused),
        cmocka_unit_test(another_version_of_the_format_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
