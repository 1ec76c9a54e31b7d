/* One batch on one session: whole requests and those in pieces, refusals among them, and memory that runs
 * out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "tests/unit/worker/model_fixture.h"
#include "worker/engine_batch.h"

enum { ROOM = 8, REQUESTS = 6, ROWS_MAX = 40, INPUTS = 2, OUTPUTS = 2 };

static struct model *model;
static struct model_session *session;

/* A request, and what came back. */
static struct request {
    struct work work;
    struct message_tensor inputs[INPUTS];
    char sizes[ROWS_MAX * sizeof(float) + 1]; /* from the second byte on */
    struct buf colours;
    struct reply *reply;
    struct message answer;
    struct message_tensor outputs[OUTPUTS];
} requests[REQUESTS];

static struct batch_counts counts;

static int set_up(void **state)
{
    struct buf artifact = {0};
    struct err e = {0};
    (void)state;
    model_fixture_table(&artifact);
    if (model_load(&model, artifact.data, artifact.len, 0, &e)) return -1;
    buf_dispose(&artifact);
    return model_session_create(&session, model, ROOM, &e);
}

static int tear_down(void **state)
{
    (void)state;
    model_session_free(session);
    model_free(model);
    for (int i = 0; i < REQUESTS; i++) buf_dispose(&requests[i].colours);
    return 0;
}

static void set_size(struct request *q, size_t row, float size)
{
    memcpy(q->sizes + 1 + row * sizeof size, &size, sizeof size);
}

/* Rows `first` … of an endless table. */
static void ask(int i, int first, uint32_t rows)
{
    struct request *q = &requests[i];
    buf_clear(&q->colours);
    for (uint32_t k = 0; k < rows; k++) {
        int row = first + (int)k;
        set_size(q, k, (float)(row * 37 % 64) + 0.1F);
        if (row % 3)
            buf_append(&q->colours, "\3\0\0\0red", 7);
        else
            buf_append(&q->colours, "\4\0\0\0blue", 8);
    }
    q->inputs[0] = (struct message_tensor){MESSAGE_FP32, 1, {rows}, q->sizes + 1, rows * sizeof(float)};
    q->inputs[1] = (struct message_tensor){MESSAGE_BYTES, 1, {rows}, q->colours.data, q->colours.len};
    q->work = (struct work){.message = {.type = MESSAGE_PREDICT, .tensors = q->inputs, .tensors_len = INPUTS},
                            .from = q};
    q->work.message.predict.request_id = (uint64_t)i + 100;
    q->work.message.predict.rows = rows;
}

static void run(int n)
{
    struct reply *next;
    for (int i = 0; i < n; i++) {
        requests[i].work.next = i + 1 < n ? &requests[i + 1].work : NULL;
        requests[i].work.answered = false;
        requests[i].reply = NULL;
    }
    memset(&counts, 0, sizeof counts);
    for (struct reply *r = engine__batch_run(session, model_signature(model), &requests[0].work, &counts); r;
         r = next) {
        struct request *q = r->to;
        struct err e;
        next = r->next;
        r->next = NULL;
        assert_null(q->reply);
        q->reply = r;
        if (message_decode(&q->answer, q->outputs, OUTPUTS, r->record.data, r->record.len, &e))
            fail_msg("%s", e.message);
        assert_int_equal(q->answer.reply.request_id, q->work.message.predict.request_id);
    }
    assert_int_equal(counts.requests, n);
    for (int i = 0; i < n; i++) assert_int_equal(requests[i].reply != NULL, requests[i].work.answered);
}

static void drop(int n)
{
    for (int i = 0; i < n; i++) reply_free_list(requests[i].reply);
}

/* What the model says of the same rows one at a time. */
static void check_answer(const struct request *q)
{
    const struct message *m = &q->work.message;
    const char *probabilities = q->outputs[0].data, *label = q->outputs[1].data, *colour = q->colours.data;
    struct err e = {0};
    assert_int_equal(q->answer.reply.code, 0);
    assert_int_equal(q->answer.tensors_len, OUTPUTS);
    assert_int_equal(q->outputs[0].dims[0], m->predict.rows);
    assert_int_equal(q->outputs[0].dims[1], 2);
    for (uint32_t k = 0; k < m->predict.rows; k++) {
        size_t text = 4 + (size_t)colour[0];
        struct model_input in[INPUTS] = {{DATATYPE_FP32, q->sizes + 1 + k * sizeof(float), sizeof(float)},
                                         {DATATYPE_BYTES, colour, text}};
        struct model_output out[OUTPUTS];
        assert_int_equal(model_predict(session, in, 1, out, &e), 0);
        assert_memory_equal(probabilities, out[0].data, out[0].bytes);
        assert_memory_equal(label, out[1].data, out[1].bytes);
        colour += text;
        probabilities += out[0].bytes;
        label += out[1].bytes;
    }
    assert_ptr_equal(label, (const char *)q->outputs[1].data + q->outputs[1].data_len);
}

static void requests_whole_and_in_pieces_get_the_bits_of_their_rows_alone(void **state)
{
    (void)state;
    /* the third, fourth and fifth do not fit beside those before them */
    static const uint32_t rows[REQUESTS] = {3, 4, 2, 30, 8, 1};
    for (int i = 0; i < REQUESTS; i++) ask(i, 50 * i, rows[i]);
    run(REQUESTS);
    assert_int_equal(counts.rows, 48);
    assert_int_equal(counts.runs, 6);
    assert_int_equal(counts.failed, 0);
    for (int i = 0; i < REQUESTS; i++) {
        check_answer(&requests[i]);
        assert_int_equal(requests[i].answer.reply.batch_rows, ROOM);
    }
    drop(REQUESTS);
}

/* Whatever row of the large one is at fault, only that one is refused, and is so once. */
static void a_request_with_a_wrong_row_in_any_piece_is_refused_alone(void **state)
{
    (void)state;
    for (uint32_t wrong = 0; wrong < 20; wrong++) {
        ask(0, 0, 5);
        ask(1, 7, 20);
        ask(2, 90, 11);
        set_size(&requests[1], wrong, INFINITY);
        run(3);
        assert_int_equal(counts.failed, 1);
        assert_int_equal(counts.rows, 16);
        check_answer(&requests[0]);
        check_answer(&requests[2]);
        assert_int_equal(requests[1].answer.reply.code, ERR_INVALID);
        assert_string_equal(requests[1].answer.reply.field, "size");
        assert_int_equal(requests[1].answer.tensors_len, 0);
        assert_non_null(strstr(requests[1].answer.reply.message, "expected finite numbers"));
        drop(3);
    }
}

static void a_request_of_another_shape_is_refused_alone(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) ask(i, i, 4);
    requests[0].work.message.tensors_len = 1;
    requests[1].inputs[0].dims[0] = 3;
    run(3);
    assert_int_equal(counts.failed, 2);
    assert_int_equal(requests[0].answer.reply.code, ERR_INVALID);
    assert_string_equal(requests[0].answer.reply.field, "inputs");
    assert_string_equal(requests[1].answer.reply.message, "3 elements where 4 rows of 1 were expected");
    check_answer(&requests[2]);
    drop(3);
}

/* Each is answered, with its outputs or with an error, or else stays unanswered: never with anything else. */
static void without_memory_at_any_point_the_others_are_answered(void **state)
{
    (void)state;
    int refused = 0, unanswered = 0;
    bool all = false;
    for (int forever = 0; forever < 2; forever++)
        for (size_t nth = 1; nth == 1 || !all; nth++) {
            all = true;
            for (int i = 0; i < 3; i++) ask(i, 11 * i, i == 1 ? 19 : 3);
            mem_fail_at(nth, forever);
            run(3);
            mem_fail_at(0, false);
            for (int i = 0; i < 3; i++) {
                const struct request *q = &requests[i];
                bool answered = q->reply && q->answer.reply.code == 0;
                all = all && answered;
                refused += q->reply && !answered;
                unanswered += !q->reply;
                if (answered) check_answer(q);
            }
            assert_int_equal(counts.failed == 0, all);
            drop(3);
        }
    assert_true(refused > 0 && unanswered > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_whole_and_in_pieces_get_the_bits_of_their_rows_alone),
        cmocka_unit_test(a_request_with_a_wrong_row_in_any_piece_is_refused_alone),
        cmocka_unit_test(a_request_of_another_shape_is_refused_alone),
        cmocka_unit_test(without_memory_at_any_point_the_others_are_answered),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
