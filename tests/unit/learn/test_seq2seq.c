/* Texts from texts: specs, the network, what it learns, and that it says alone what it was measured to know.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "learn/family.h"
#include "learn/model.h"
#include "learn/seq2seq.h"
#include "learn/spec/score.h"
#include "learn/translator.h"
#include "tensor/layer.h"
#include "tensor/plan.h"
#include "tests/unit/learn/settle_aid.h"

#define L(name, fields) "{\"layer\":\"" name "\"" fields "}"
#define TOKENS          L("TokenAndPositionEmbedding", ",\"embedding_dim\":24,\"mask_zero\":true")
#define ENCODER                                                                                              \
    "\"encoder\":[" TOKENS "," L("TransformerEncoder", ",\"intermediate_dim\":48,\"num_heads\":2") "]"
#define CROSS   L("TransformerDecoder", ",\"intermediate_dim\":48,\"num_heads\":2")
#define DECODER "\"decoder\":[" TOKENS "," CROSS "]"
#define STEPS   "\"preprocess\":[{\"op\":\"tokenise\",\"mode\":\"character\",\"length\":8,\"vocabulary\":40}]"
#define SPEC(architecture, more)                                                                             \
    "{\"family\":\"seq2seq\",\"target\":\"out\"," STEPS ",\"architecture\":{" architecture "}" more "}"

/* Words of two to five letters, and the same backwards. No word twice over all calls with other seeds. */
static void words(struct buf *csv, size_t rows, uint64_t seed)
{
    struct aid_random random = {seed};
    buf_str(csv, "in,out\n");
    for (size_t i = 0; i < rows; i++) {
        char word[8] = {0}, back[8] = {0};
        size_t n = 2 + (size_t)(aid_uniform(&random) * 4);
        for (size_t k = 0; k < n; k++) word[k] = (char)('a' + (int)(aid_uniform(&random) * 6));
        for (size_t k = 0; k < n; k++) back[k] = word[n - 1 - k];
        buf_printf(csv, "%s,%s\n", word, back);
    }
}

static struct schema *schema_of_words(void)
{
    struct buf csv = {0};
    words(&csv, 300, 1);
    struct schema *s = aid_csv(csv.data);
    buf_dispose(&csv);
    return s;
}

/* ---- specs ---- */

/* Specs, the field at fault, and what is said of it (NULL: any words). */
static const char *const misfits[][3] = {
    {SPEC("\"encoder\":[" TOKENS "]", ""), "spec.architecture.decoder", NULL},
    {SPEC(ENCODER ",\"decoder\":[" TOKENS "]", ""), "spec.architecture.decoder[0]",
     "no layer of the decoder looks at what the encoder gives; put a TransformerDecoder there"},
    {SPEC(ENCODER ",\"decoder\":[" TOKENS
                  "," L("TransformerEncoder", ",\"intermediate_dim\":8,\"num_heads\":2") "," CROSS "]",
          ""),
     "spec.architecture.decoder[1]", NULL},
    {SPEC(ENCODER ",\"decoder\":[" TOKENS "," CROSS "," L(
              "Residual", ",\"layers\":[" L("MultiHeadAttention", ",\"num_heads\":2,\"key_dim\":8") "]") "]",
          ""),
     "spec.architecture.decoder[2].layers[0]",
     "layer \"multi_head_attention_1\": in a decoder no step may see a later one, which a "
     "MultiHeadAttention like this lets it; use TransformerDecoder, MultiHeadAttention with "
     "use_causal_mask, a recurrent layer of one direction, or Conv1D with causal padding and strides of "
     "1"},
    {SPEC(ENCODER ",\"decoder\":[" TOKENS "," CROSS
                  "," L("LSTM", ",\"units\":8,\"bidirectional\":true,\"return_sequences\":true") "]",
          ""),
     "spec.architecture.decoder[2]", NULL},
    {SPEC(ENCODER ",\"decoder\":[" TOKENS "," CROSS "," L("Flatten", "") "]", ""),
     "spec.architecture.decoder[2]",
     "layer \"flatten_1\" gives rows of shape [168]; expected [steps, features]"},
    {SPEC("\"encoder\":[" L("Dense", ",\"units\":8") "]," DECODER, ""), "spec.architecture.encoder[0]",
     "layer \"dense_1\": the first layer for texts is an Embedding"},
    {SPEC("\"encoder\":[" L("Embedding", ",\"output_dim\":8,\"input_dim\":39") "]," DECODER, ""),
     "spec.architecture.encoder[0].input_dim",
     "layer \"embedding_1\": the vocabulary may hold 40 numbers; set input_dim to that, or leave it out"},
    {SPEC(ENCODER "," DECODER, ",\"training\":{\"loss\":\"mse\"}"), "spec.training.loss",
     "this loss does not fit texts; expected sparse_categorical_crossentropy"},
    {SPEC(ENCODER "," DECODER, ",\"training\":{\"loss\":\"huber\"}"), "spec.training.loss", NULL},
    {SPEC(ENCODER "," DECODER, ",\"training\":{\"label_smoothing\":0.1}"), "spec.training.label_smoothing",
     "label smoothing is not offered for seq2seq"},
    {SPEC(ENCODER "," DECODER, ",\"task\":\"classification\""), "spec.task",
     "the task of seq2seq is sequence"},
    {"{\"task\":\"sequence\",\"target\":\"out\"}", "spec.task", "the task sequence is for seq2seq"},
    {"{\"family\":\"seq2seq\",\"target\":\"out\",\"preprocess\":[{\"op\":\"one_hot\"}]}",
     "spec.preprocess[0]", "of the steps only tokenise is for texts"},
    {"{\"family\":\"seq2seq\",\"target\":\"out\",\"preprocess\":[{\"op\":\"tokenise\",\"columns\":[\"x\"]"
     "}]}",
     "spec.preprocess[0]", "\"x\" is neither the feature nor the target"},
    {"{\"family\":\"seq2seq\",\"target\":\"out\",\"architecture\":[]}", "spec.architecture", NULL},
};

static void pairs_that_cannot_be_learnt_say_why(void **state)
{
    struct schema *s = schema_of_words();
    (void)state;
    for (size_t i = 0; i < sizeof misfits / sizeof misfits[0]; i++)
        settle_refused(misfits[i][0], s, misfits[i][1], misfits[i][2]);
    schema_free(s);
}

static void numbers_are_no_texts(void **state)
{
    struct schema *s = aid_csv("in,out\n1,a\n2,b\n3,a\n");
    (void)state;
    static const char out[] = "{\"family\":\"seq2seq\",\"target\":\"out\"}";
    static const char in[] = "{\"family\":\"seq2seq\",\"target\":\"in\"}";
    assert_int_equal(settle_refused(out, s, "spec.features", NULL), ERR_INVALID);
    assert_int_equal(settle_refused(in, s, "spec.target", NULL), ERR_INVALID);
    schema_free(s);
}

/* Given and by default: what is settled settles again, and the graph has what was promised. */
static void a_pair_settles_to_what_its_graph_takes(void **state)
{
    static const char *const specs[] = {SPEC(ENCODER "," DECODER, ""),
                                        "{\"family\":\"seq2seq\",\"target\":\"out\",\"features\":[\"in\"]}"};
    struct schema *s = schema_of_words();
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct resolved *r = settle(specs[i], s);
        settle_again(r, s);
        settle_graph(r, specs[i]);
        resolved_free(r);
    }
    schema_free(s);
}

/* ---- learning and saying ---- */

static void put_text(struct buf *b, const char *text, size_t len)
{
    for (int i = 0; i < 4; i++) buf_char(b, (char)(len >> (8 * i)));
    buf_append(b, text, len);
}

/* The texts between `column` commas of each line, as a BYTES tensor. */
static int64_t column_of(struct buf *out, const char *csv, int column)
{
    int64_t rows = 0;
    for (const char *line = strchr(csv, '\n') + 1; *line; line = strchr(line, '\n') + 1, rows++) {
        const char *comma = strchr(line, ',');
        if (column == 0)
            put_text(out, line, (size_t)(comma - line));
        else
            put_text(out, comma + 1, (size_t)(strchr(line, '\n') - comma - 1));
    }
    return rows;
}

static struct model_output say(struct model_session *s, const struct buf *texts, int64_t rows)
{
    struct model_output out = {0};
    struct err e = {0};
    struct model_input in = {DATATYPE_BYTES, texts->data, texts->len};
    if (model_predict(s, &in, rows, &out, &e)) fail_msg("%s: %s", e.field, e.message);
    assert_int_equal(out.datatype, DATATYPE_BYTES);
    return out;
}

/* How many of two BYTES tensors' texts are the same. */
static int64_t same_texts(const unsigned char *a, const unsigned char *b, int64_t rows)
{
    int64_t same = 0;
    for (int64_t i = 0; i < rows; i++) {
        size_t n = a[0], m = b[0]; /* shorter than 256 bytes */
        same += n == m && memcmp(a + 4, b + 4, n) == 0;
        a += 4 + n;
        b += 4 + m;
    }
    return same;
}

struct lesson {
    struct aid_result out;
    struct buf test;
};

#define LEARN                                                                                                \
    ",\"training\":{\"epochs\":%d,\"batch_size\":32,\"validation_split\":0.1,\"seed\":3,"                    \
    "\"optimizer\":{\"name\":\"adam\",\"learning_rate\":0.005}}"

static void learn(struct lesson *l, int epochs)
{
    struct buf train = {0}, spec = {0};
    struct err e = {0};
    *l = (struct lesson){0};
    words(&train, 1500, 1);
    words(&l->test, 200, 2);
    buf_printf(&spec, SPEC(ENCODER "," DECODER, LEARN), epochs);
    struct aid_run run = {.csv = train.data, .test_csv = l->test.data, .spec = spec.data};
    if (aid_train(&l->out, &run, &e)) fail_msg("%s: %s", e.field, e.message);
    buf_dispose(&train);
    buf_dispose(&spec);
}

static void forget(struct lesson *l)
{
    aid_result_dispose(&l->out);
    buf_dispose(&l->test);
}

/* The figures come from the decoder being given the truth so far; alone it must do exactly as well. */
static void a_model_says_alone_what_it_was_measured_to_know(void **state)
{
    struct lesson l;
    (void)state;
    for (int epochs = 2; epochs <= 12; epochs += 10) { /* bad and good */
        struct buf in = {0}, want = {0};
        struct model *m = NULL;
        struct model_session *s = NULL;
        struct err e = {0};
        learn(&l, epochs);
        int64_t rows = column_of(&in, l.test.data, 0);
        column_of(&want, l.test.data, 1);
        assert_int_equal(model_load(&m, l.out.artifact.data, l.out.artifact.len, 0, &e), 0);
        assert_int_equal(model_session_create(&s, m, 256, &e), 0);
        struct model_output said = say(s, &in, rows);
        double exact = (double)same_texts(said.data, (const unsigned char *)want.data, rows) / (double)rows;
        double measured = aid_metric(&l.out, "exact_match");
        if (fabs(exact - measured) > 1e-9) fail_msg("says %g, measured %g", exact, measured);
        if (epochs > 2 && !(exact > 0.9)) fail_msg("exact_match %g", exact);
        assert_true(aid_metric(&l.out, "accuracy") >= measured);
        assert_true(aid_metric(&l.out, "perplexity") >= 1);
        assert_int_equal(aid_metric(&l.out, "rows"), rows);
        model_session_free(s);
        model_free(m);
        buf_dispose(&in);
        buf_dispose(&want);
        forget(&l);
    }
}

static void a_row_is_answered_the_same_alone_and_in_company(void **state)
{
    struct lesson l;
    struct model *m = NULL;
    struct model_session *s = NULL;
    struct err e = {0};
    struct buf all = {0}, kept = {0};
    (void)state;
    learn(&l, 2);
    assert_int_equal(model_load(&m, l.out.artifact.data, l.out.artifact.len, 0, &e), 0);
    assert_int_equal(model_session_create(&s, m, 256, &e), 0);
    int64_t rows = column_of(&all, l.test.data, 0);
    struct model_output said = say(s, &all, rows);
    buf_append(&kept, said.data, said.bytes);
    const unsigned char *in = (const unsigned char *)all.data, *want = (const unsigned char *)kept.data;
    for (int64_t i = 0; i < 20; i++) {
        struct buf one = {0};
        put_text(&one, (const char *)in + 4, in[0]);
        said = say(s, &one, 1);
        assert_int_equal(said.bytes, 4 + (size_t)want[0]);
        assert_memory_equal(said.data, want, said.bytes);
        in += 4 + in[0];
        want += 4 + want[0];
        buf_dispose(&one);
    }
    /* Anything is a text: none at all, one that is too long, letters that it has never seen. */
    static const char *const odd[] = {"", "abcdefabcdefabcdef", "ÄÖÜ☃"};
    for (size_t i = 0; i < 3; i++) {
        struct buf one = {0};
        put_text(&one, odd[i], strlen(odd[i]));
        assert_true(say(s, &one, 1).bytes >= 4);
        buf_dispose(&one);
    }
    model_session_free(s);
    model_free(m);
    buf_dispose(&all);
    buf_dispose(&kept);
    forget(&l);
}

static void the_same_request_gives_the_same_artifact(void **state)
{
    struct lesson a, b;
    (void)state;
    learn(&a, 1);
    learn(&b, 1);
    assert_int_equal(a.out.artifact.len, b.out.artifact.len);
    assert_memory_equal(a.out.artifact.data, b.out.artifact.data, a.out.artifact.len);
    forget(&a);
    forget(&b);
}

static void texts_that_are_cut_are_told(void *ctx, const char *level, const char *text)
{
    if (strcmp(level, "warn") == 0) buf_str(ctx, text);
}

static void a_target_that_does_not_fit_is_warned_of(void **state)
{
    struct buf csv = {0}, said = {0};
    struct aid_result out;
    struct err e = {0};
    (void)state;
    words(&csv, 100, 1);
    buf_str(&csv, "abc,abcdefabcdef\n");
    struct aid_run run = {.csv = csv.data,
                          .spec = SPEC(ENCODER "," DECODER, ",\"training\":{\"epochs\":1}"),
                          .callbacks = {.ctx = &said, .message = texts_that_are_cut_are_told}};
    if (aid_train(&out, &run, &e)) fail_msg("%s: %s", e.field, e.message);
    assert_non_null(strstr(said.data, "1 texts of \"out\" are longer than the 8 ids of a row"));
    aid_result_dispose(&out);
    buf_dispose(&csv);
    buf_dispose(&said);
}

/* Threads share a step's rows only if every operator takes rows apart or means over them. */
static void the_network_lets_threads_share_its_rows(void **state)
{
    struct schema *s = schema_of_words();
    struct resolved *r = settle(SPEC(ENCODER "," DECODER, ""), s);
    struct graph *g = NULL;
    struct plan *p = NULL;
    struct err e = {0};
    struct plan_options o = {.mode = PLAN_TRAIN,
                             .max_batch = 32,
                             .keep_outputs = true,
                             .threads = 2,
                             .thread_flops = 1,
                             .optim = optim_defaults(OPTIM_ADAM)};
    (void)state;
    assert_int_equal(family_graph(&g, r, &e), 0);
    if (plan_create(&p, g, &o, &e)) fail_msg("%s: %s", e.field, e.message);
    if (plan_whole_batch(p)) fail_msg("%s keeps it to one thread", plan_whole_batch(p));
    assert_int_equal(plan_threads(p), 2);
    plan_free(p);
    graph_free(g);
    resolved_free(r);
    schema_free(s);
}

/* ---- interrupted, and out of memory ---- */

struct keeper {
    int fd, asked;
    struct buf file;
};

static bool on_save_due(void *ctx)
{
    return ++((struct keeper *)ctx)->asked == 4;
}

static int on_save_to(void *ctx)
{
    return ((struct keeper *)ctx)->fd;
}

static void on_saved(void *ctx, const struct train_mark *mark)
{
    struct keeper *k = ctx;
    struct err e = {0};
    assert_int_equal(lseek(k->fd, 0, SEEK_SET), 0);
    assert_int_equal(fs_read_fd(&k->file, k->fd, (size_t)1 << 30, &e), 0);
    assert_int_equal(k->file.len, mark->bytes);
}

static void on_refused(void *ctx, const char *why)
{
    (void)ctx;
    fail_msg("%s", why);
}

static void a_resumed_pair_ends_with_the_bits_of_one_left_alone(void **state)
{
    struct buf csv = {0};
    struct keeper k = {.fd = memfd_create("checkpoint", MFD_CLOEXEC)};
    struct aid_result alone, watched, again;
    struct err e = {0};
    (void)state;
    words(&csv, 100, 1);
    struct aid_run run = {
        .csv = csv.data, .spec = SPEC(ENCODER "," DECODER, ",\"training\":{\"epochs\":2,\"batch_size\":32}")};
    assert_int_equal(aid_train(&alone, &run, &e), 0);
    run.callbacks = (struct train_callbacks){
        .ctx = &k, .save_due = on_save_due, .save_to = on_save_to, .saved = on_saved, .refused = on_refused};
    assert_int_equal(aid_train(&watched, &run, &e), 0);
    assert_true(k.file.len > 0);
    run.resume = &k.file;
    if (aid_train(&again, &run, &e)) fail_msg("%s: %s", e.field, e.message);
    assert_int_equal(again.artifact.len, alone.artifact.len);
    assert_memory_equal(again.artifact.data, alone.artifact.data, alone.artifact.len);
    aid_result_dispose(&alone);
    aid_result_dispose(&watched);
    aid_result_dispose(&again);
    buf_dispose(&k.file);
    buf_dispose(&csv);
    close(k.fd);
}

/* Every allocation that may fail fails once, a few apart to save time. */
static void running_out_of_memory_is_an_error_and_never_worse(void **state)
{
    struct buf csv = {0};
    struct aid_result out;
    struct err e = {0};
    struct model *m = NULL;
    struct model_session *s = NULL;
    (void)state;
    words(&csv, 30, 1);
    struct aid_run run = {.csv = csv.data, .spec = SPEC(ENCODER "," DECODER, ",\"training\":{\"epochs\":1}")};
    for (run.fail_at = 1;; run.fail_at += 3) {
        if (aid_train(&out, &run, &e) == 0) break;
        assert_true(e.message[0]);
    }
    assert_true(run.fail_at > 100);
    for (size_t n = 1;; n++) {
        mem_fail_at(n, false);
        int rc = model_load(&m, out.artifact.data, out.artifact.len, 0, &e);
        if (!rc && (rc = model_session_create(&s, m, 4, &e))) model_free(m);
        mem_fail_at(0, false);
        if (!rc) break;
        if (rc != ERR_NOMEM) fail_msg("allocation %zu: %d %s", n, rc, e.message);
    }
    model_session_free(s);
    model_free(m);
    aid_result_dispose(&out);
    buf_dispose(&csv);
}

/* ---- versions that nobody here wrote ---- */

static void replace(struct buf *b, const char *from, const char *to)
{
    size_t n = strlen(from);
    for (size_t i = 0; i + n <= b->len; i++)
        if (memcmp(b->data + i, from, n) == 0) memcpy(b->data + i, to, n);
}

static void a_version_with_other_inputs_or_outputs_is_refused(void **state)
{
    static const char *const change[][2] = {{"data/previous", "data/previouS"},
                                            {"data/memory", "data/Memory"},
                                            {"\"task\\\":\\\"sequence\\\"", "\"task\\\":\\\"sequenCe\\\""},
                                            {"\"marks\\\":true", "\"marks\\\":1234"}};
    struct lesson l;
    (void)state;
    learn(&l, 1);
    for (size_t i = 0; i < 4; i++) {
        struct buf bytes = {0};
        struct model *m = NULL;
        struct err e = {0};
        buf_append(&bytes, l.out.artifact.data, l.out.artifact.len);
        replace(&bytes, change[i][0], change[i][1]);
        assert_memory_not_equal(bytes.data, l.out.artifact.data, bytes.len);
        if (model_load(&m, bytes.data, bytes.len, 0, &e) != ERR_CORRUPT)
            fail_msg("%s: %s", change[i][1], e.message);
        buf_dispose(&bytes);
    }
    forget(&l);
}

static void every_figure_of_texts_can_be_compared_by(void **state)
{
    (void)state;
    assert_int_equal(score_usual(TASK_SEQUENCE), SCORE_EXACT_MATCH);
    assert_true(score_fits(SCORE_PERPLEXITY, TASK_SEQUENCE));
    assert_false(score_fits(SCORE_RMSE, TASK_SEQUENCE));
    assert_false(score_fits(SCORE_EXACT_MATCH, TASK_REGRESSION));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_that_cannot_be_learnt_say_why),
        cmocka_unit_test(numbers_are_no_texts),
        cmocka_unit_test(a_pair_settles_to_what_its_graph_takes),
        cmocka_unit_test(a_model_says_alone_what_it_was_measured_to_know),
        cmocka_unit_test(a_row_is_answered_the_same_alone_and_in_company),
        cmocka_unit_test(the_same_request_gives_the_same_artifact),
        cmocka_unit_test(a_target_that_does_not_fit_is_warned_of),
        cmocka_unit_test(the_network_lets_threads_share_its_rows),
        cmocka_unit_test(a_resumed_pair_ends_with_the_bits_of_one_left_alone),
        cmocka_unit_test(running_out_of_memory_is_an_error_and_never_worse),
        cmocka_unit_test(a_version_with_other_inputs_or_outputs_is_refused),
        cmocka_unit_test(every_figure_of_texts_can_be_compared_by),
    };
    return cmocka_run_group_tests_name("learn/seq2seq", tests, NULL, NULL);
}
