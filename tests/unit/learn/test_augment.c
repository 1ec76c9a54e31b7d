/* Augmented images: as a naive reading of what was drawn says, the same for the same seed, epoch and row,
 * never when measuring, and worth it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "learn/augment.h"
#include "tests/unit/learn/aid.h"

enum { HEIGHT = 7, WIDTH = 9, CHANNELS = 3, NUMBERS = HEIGHT * WIDTH * CHANNELS };

static void picture(float *image)
{
    struct aid_random r = {11};
    for (int i = 0; i < NUMBERS; i++) image[i] = (float)aid_normal(&r);
}

static struct augment augment_with(struct augmentation_spec spec)
{
    if (spec.crop == 0) spec.crop = 1;
    return (struct augment){.spec = spec, .height = HEIGHT, .width = WIDTH, .channels = CHANNELS, .seed = 42};
}

static float at(const float *image, int y, int x, int c)
{
    y = y < 0 ? 0 : y >= HEIGHT ? HEIGHT - 1 : y;
    x = x < 0 ? 0 : x >= WIDTH ? WIDTH - 1 : x;
    return image[(y * WIDTH + x) * CHANNELS + c];
}

static void flips_and_shifts_are_those_of_a_naive_oracle(void **state)
{
    struct augment a =
        augment_with((struct augmentation_spec){.shift = 3, .flip_horizontal = true, .flip_vertical = true});
    bool mirrored[2] = {false}, turned[2] = {false}, down[7] = {false}, right[7] = {false};
    float image[NUMBERS], moved[NUMBERS], scratch[NUMBERS];
    (void)state;
    picture(image);
    for (uint32_t row = 0; row < 200; row++) {
        struct augment_draw d = augment_draw(&a, 5, row);
        memcpy(moved, image, sizeof image);
        augment_image(&a, 5, row, moved, scratch);
        for (int y = 0; y < HEIGHT; y++)
            for (int x = 0; x < WIDTH; x++)
                for (int c = 0; c < CHANNELS; c++) {
                    int fy = (d.upside_down ? HEIGHT - 1 - y : y) - (int)d.down;
                    int fx = (d.mirror ? WIDTH - 1 - x : x) - (int)d.right;
                    assert_true(at(moved, y, x, c) == at(image, fy, fx, c));
                }
        assert_in_range(d.down + 3, 0, 6);
        assert_in_range(d.right + 3, 0, 6);
        mirrored[d.mirror] = turned[d.upside_down] = down[d.down + 3] = right[d.right + 3] = true;
    }
    for (int i = 0; i < 2; i++) assert_true(mirrored[i] && turned[i]);
    for (int i = 0; i < 7; i++) assert_true(down[i] && right[i]);
}

/* A picture whose value is a plane is sampled exactly between its pixels, whatever the window. */
static void crops_stretch_a_window_that_lies_inside(void **state)
{
    struct augment a = augment_with((struct augmentation_spec){.crop = 0.5});
    float image[NUMBERS], scratch[NUMBERS];
    double least = 1;
    (void)state;
    for (uint32_t row = 0; row < 200; row++) {
        struct augment_draw d = augment_draw(&a, 1, row);
        assert_true(d.top >= 0 && d.left >= 0 && d.top + d.high <= HEIGHT && d.left + d.wide <= WIDTH);
        assert_true(d.high >= 0.5 * HEIGHT && fabs(d.high / HEIGHT - d.wide / WIDTH) < 1e-12);
        least = fmin(least, d.high / HEIGHT);
        for (int i = 0; i < NUMBERS; i++)
            image[i] = (float)(i / CHANNELS / WIDTH) * 10 + (float)(i / CHANNELS % WIDTH);
        augment_image(&a, 1, row, image, scratch);
        for (int y = 0; y < HEIGHT; y++)
            for (int x = 0; x < WIDTH; x++) {
                double sy = d.top + (y + 0.5) * d.high / HEIGHT - 0.5;
                double sx = d.left + (x + 0.5) * d.wide / WIDTH - 0.5;
                double want =
                    10 * fmin(fmax(sy, 0), HEIGHT - 1) + fmin(fmax(sx, 0), WIDTH - 1); /* borders repeat */
                assert_true(fabs((double)at(image, y, x, 1) - want) < 1e-4);
            }
    }
    assert_true(least < 0.55);
}

static void noise_has_the_spread_that_was_asked_for(void **state)
{
    struct augment a = augment_with((struct augmentation_spec){.noise = 0.25});
    double sum = 0, squares = 0, n = 0;
    float image[NUMBERS], scratch[NUMBERS];
    (void)state;
    for (uint32_t row = 0; row < 500; row++) {
        memset(image, 0, sizeof image);
        augment_image(&a, 1, row, image, scratch);
        for (int i = 0; i < NUMBERS; i++, n++) {
            sum += (double)image[i];
            squares += (double)image[i] * (double)image[i];
        }
    }
    assert_true(fabs(sum / n) < 0.005);
    assert_true(fabs(sqrt(squares / n) - 0.25) < 0.005);
}

static void seed_epoch_and_row_decide_and_nothing_else(void **state)
{
    struct augment a = augment_with(
        (struct augmentation_spec){.shift = 2, .flip_horizontal = true, .crop = 0.7, .noise = 0.1});
    struct augment other = a;
    float image[NUMBERS], one[NUMBERS], two[NUMBERS], scratch[NUMBERS];
    (void)state;
    picture(image);
    other.seed = 43;
    memcpy(one, image, sizeof image);
    augment_image(&a, 3, 17, one, scratch);
    const struct {
        const struct augment *a;
        int64_t epoch;
        uint32_t row;
        bool same;
    } tries[] = {{&a, 3, 17, true}, {&a, 4, 17, false}, {&a, 3, 18, false}, {&other, 3, 17, false}};
    for (size_t i = 0; i < 4; i++) {
        memcpy(two, image, sizeof image);
        augment_image(tries[i].a, tries[i].epoch, tries[i].row, two, scratch);
        assert_int_equal(memcmp(one, two, sizeof one) == 0, tries[i].same);
    }
}

/* ---- in a training run ---- */

enum { SIDE = 10, ROWS = 300, TESTED = 200 };

/* Three kinds of 4 by 4 pictures on a black ground, at `place`, or with place < 0 anywhere. */
static void pictures(struct buf *features, struct buf *labels, uint32_t n, int place, uint64_t seed)
{
    static const char *const kinds[3] = {"#..#.##..##.#..#", ".##.#..##..#.##.", "######....######"};
    uint32_t dims[3] = {n, SIDE, SIDE};
    struct aid_random r = {seed};
    struct buf pixels = {0}, classes = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint8_t image[SIDE * SIDE] = {0};
        int top = place < 0 ? (int)(aid_uniform(&r) * (SIDE - 3)) : place,
            left = place < 0 ? (int)(aid_uniform(&r) * (SIDE - 3)) : place;
        for (int k = 0; k < 16; k++)
            if (kinds[i % 3][k] == '#') image[(top + k / 4) * SIDE + left + k % 4] = 200;
        for (int k = 0; k < SIDE * SIDE; k++) image[k] += (uint8_t)(aid_uniform(&r) * 50);
        buf_append(&pixels, image, sizeof image);
        buf_char(&classes, (char)(i % 3));
    }
    aid_idx(features, 3, dims, (const uint8_t *)pixels.data, pixels.len);
    aid_idx(labels, 1, dims, (const uint8_t *)classes.data, classes.len);
    buf_dispose(&pixels);
    buf_dispose(&classes);
}

struct scene {
    struct buf features, labels, test_features, test_labels;
};

static void scene_init(struct scene *s)
{
    *s = (struct scene){0};
    pictures(&s->features, &s->labels, ROWS, 3, 1);
    pictures(&s->test_features, &s->test_labels, TESTED, -1, 2);
}

static void scene_dispose(struct scene *s)
{
    buf_dispose(&s->features);
    buf_dispose(&s->labels);
    buf_dispose(&s->test_features);
    buf_dispose(&s->test_labels);
}

static int run_on(struct aid_result *out, const struct scene *s, int threads, const char *training,
                  struct err *e)
{
    char spec[1024];
    snprintf(spec, sizeof spec,
             "{\"architecture\":[{\"layer\":\"Flatten\"},{\"layer\":\"Dense\",\"units\":48,\"activation\":"
             "\"relu\"},{\"layer\":\"Dense\",\"units\":3}],\"training\":{%s}}",
             training);
    struct aid_run run = {.spec = spec,
                          .features = &s->features,
                          .labels = &s->labels,
                          .test_features = &s->test_features,
                          .test_labels = &s->test_labels,
                          .threads = threads};
    return aid_train(out, &run, e);
}

static int run_with(struct aid_result *out, const struct scene *s, const char *training, struct err *e)
{
    return run_on(out, s, 1, training, e);
}

static int trained(struct aid_result *out, const struct scene *s, const char *more, struct err *e)
{
    char training[512];
    snprintf(training, sizeof training,
             "%s\"epochs\":30,\"batch_size\":16,\"seed\":5,\"optimizer\":{\"name\":\"adam\","
             "\"learning_rate\":0.003}",
             more);
    return run_with(out, s, training, e);
}

static double accuracy_of(const struct scene *s, const char *training)
{
    struct aid_result r = {0};
    struct err e = {0};
    if (trained(&r, s, training, &e)) fail_msg("%s: %s", e.field, e.message);
    double accuracy = aid_metric(&r, "accuracy");
    aid_result_dispose(&r);
    return accuracy;
}

static void what_was_seen_in_one_place_is_known_in_others(void **state)
{
    struct scene s;
    (void)state;
    scene_init(&s);
    double plain = accuracy_of(&s, ""), shifted = accuracy_of(&s, "\"augmentation\":{\"shift\":3},");
    if (!(shifted > plain + 0.25 && shifted > 0.85)) fail_msg("%g without, %g with", plain, shifted);
    scene_dispose(&s);
}

static void a_run_repeats_its_augmentation_bit_by_bit(void **state)
{
    static const char noisy[] = "\"augmentation\":{\"flip\":\"horizontal\",\"noise\":0.1},";
    struct aid_result a = {0}, b = {0};
    struct scene s;
    struct err e = {0};
    (void)state;
    scene_init(&s);
    assert_int_equal(trained(&a, &s, noisy, &e), 0);
    assert_int_equal(trained(&b, &s, noisy, &e), 0);
    assert_true(aid_metric(&a, "log_loss") == aid_metric(&b, "log_loss"));
    assert_true(aid_metric(&a, "train.loss") == aid_metric(&b, "train.loss"));
    aid_result_dispose(&a);
    aid_result_dispose(&b);
    scene_dispose(&s);
}

/* A second thread loads the next batch while the first computes: the network is too small for both. */
static void a_thread_that_loads_ahead_augments_to_the_same_bits(void **state)
{
    static const char training[] = "\"epochs\":8,\"batch_size\":32,\"augmentation\":{\"shift\":2,\"flip\":"
                                   "\"both\",\"crop\":0.8,\"noise\":0.1}";
    struct aid_result one = {0}, two = {0};
    struct scene s;
    struct err e = {0};
    (void)state;
    scene_init(&s);
    if (run_on(&one, &s, 1, training, &e)) fail_msg("%s: %s", e.field, e.message);
    if (run_on(&two, &s, 2, training, &e)) fail_msg("%s: %s", e.field, e.message);
    assert_true(aid_metric(&one, "train.loss") == aid_metric(&two, "train.loss"));
    assert_true(aid_metric(&one, "log_loss") == aid_metric(&two, "log_loss"));
    aid_result_dispose(&one);
    aid_result_dispose(&two);
    scene_dispose(&s);
}

static double of_first_epoch(const struct aid_result *r, const char *name)
{
    const cJSON *history = cJSON_GetObjectItemCaseSensitive(r->metrics, "history");
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(history, 0), name);
    assert_true(cJSON_IsNumber(value));
    return value->valuedouble;
}

/* At so small a rate nothing is learnt: what is measured could differ by augmentation alone. */
static void what_is_measured_is_never_augmented(void **state)
{
    static const char still[] = "\"epochs\":1,\"validation_split\":0.3,\"optimizer\":{\"name\":\"sgd\","
                                "\"learning_rate\":1e-9}%s";
    struct aid_result plain = {0}, noisy = {0};
    char text[512];
    struct scene s;
    struct err e = {0};
    (void)state;
    scene_init(&s);
    snprintf(text, sizeof text, still, "");
    if (run_with(&plain, &s, text, &e)) fail_msg("%s: %s", e.field, e.message);
    snprintf(text, sizeof text, still, ",\"augmentation\":{\"noise\":2,\"shift\":3}");
    if (run_with(&noisy, &s, text, &e)) fail_msg("%s: %s", e.field, e.message);
    assert_true(fabs(of_first_epoch(&plain, "val_loss") - of_first_epoch(&noisy, "val_loss")) < 1e-6);
    assert_true(fabs(aid_metric(&plain, "log_loss") - aid_metric(&noisy, "log_loss")) < 1e-6);
    assert_true(fabs(of_first_epoch(&plain, "loss") - of_first_epoch(&noisy, "loss")) > 0.01);
    aid_result_dispose(&plain);
    aid_result_dispose(&noisy);
    scene_dispose(&s);
}

/* ---- specs ---- */

static int settle(struct resolved **out, const struct schema *schema, const char *augmentation, struct err *e)
{
    char text[512];
    snprintf(text, sizeof text, "{%s\"training\":{\"augmentation\":%s}}",
             schema_find(schema, "kind") ? "\"target\":\"kind\"," : "", augmentation);
    return aid_settle(out, text, schema, e);
}

static struct schema *images_of(int rank, const uint32_t *dim)
{
    uint32_t all[5] = {30}, n = 30;
    struct buf features = {0}, labels = {0}, bytes = {0}, classes = {0};
    struct schema *f = NULL, *l = NULL, *both = NULL;
    struct err e = {0};
    for (int i = 0; i < rank; i++) n *= all[i + 1] = dim[i];
    for (uint32_t i = 0; i < n; i++) buf_char(&bytes, (char)(i % 7));
    for (uint32_t i = 0; i < 30; i++) buf_char(&classes, (char)(i % 3));
    aid_idx(&features, rank + 1, all, (const uint8_t *)bytes.data, n);
    aid_idx(&labels, 1, all, (const uint8_t *)classes.data, 30);
    assert_int_equal(aid_scan(&f, features.data, features.len, 0, SCAN_FEATURES, &e), 0);
    assert_int_equal(aid_scan(&l, labels.data, labels.len, 0, SCAN_LABELS, &e), 0);
    assert_int_equal(schema_join(&both, f, l, &e), 0);
    schema_free(f);
    schema_free(l);
    buf_dispose(&features);
    buf_dispose(&labels);
    buf_dispose(&bytes);
    buf_dispose(&classes);
    return both;
}

#define FIELD "spec.training.augmentation"

static void what_is_no_image_or_leaves_nothing_is_refused_by_path(void **state)
{
    static const struct {
        int rank; /* 0: a table */
        uint32_t dim[3];
        const char *augmentation, *field, *says;
    } corpus[] = {
        {0, {0}, "{\"shift\":1}", FIELD, "columns of a table"},
        {1, {20}, "{\"flip\":\"both\"}", FIELD, "1 dimension; expected [height, width]"},
        {2, {6, 8}, "{\"shift\":6}", FIELD ".shift", "leaves nothing of images of 6 by 8"},
        {2, {6, 8}, "{\"crop\":0.1}", FIELD ".crop", "leaves nothing"},
        {2, {6, 8}, "{\"crop\":0}", FIELD ".crop", "0.01"},
        {2, {6, 8}, "{\"flip\":\"diagonal\"}", FIELD ".flip", "horizontal"},
        {2, {6, 8}, "{\"noise\":-1}", FIELD ".noise", "0"},
        {2, {6, 8}, "{\"rotate\":3}", FIELD ".rotate", "there is no field"},
        {2, {6, 8}, "true", FIELD, "object"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof corpus[0]; i++) {
        struct schema *s = corpus[i].rank ? images_of(corpus[i].rank, corpus[i].dim)
                                          : aid_csv("a,b,kind\n1,2,x\n3,4,y\n5,6,x\n7,8,y\n");
        struct resolved *r;
        struct err e = {0};
        assert_int_equal(settle(&r, s, corpus[i].augmentation, &e), ERR_INVALID);
        if (strcmp(e.field, corpus[i].field) != 0 || !strstr(e.message, corpus[i].says))
            fail_msg("%s: %s: %s", corpus[i].augmentation, e.field, e.message);
        schema_free(s);
    }
}

static void a_settled_augmentation_reads_back_the_same_and_counts_its_memory(void **state)
{
    struct schema *s = images_of(3, (uint32_t[]){6, 8, 2});
    struct resolved *r, *plain;
    struct err e = {0};
    struct buf text = {0};
    struct json_writer w;
    (void)state;
    assert_int_equal(settle(&plain, s, "{}", &e), 0);
    assert_false(augmentation_wanted(&plain->training.augmentation));
    if (settle(&r, s, "{\"shift\":2,\"flip\":\"vertical\",\"crop\":0.75,\"noise\":0.05}", &e))
        fail_msg("%s: %s", e.field, e.message);
    assert_int_equal(r->estimate.memory_bytes - plain->estimate.memory_bytes,
                     r->training.batch_size * 6 * 8 * 2 * 4);
    jw_init(&w, &text);
    jw_obj(&w);
    augmentation_to_json(&r->training.augmentation, &w);
    jw_obj_end(&w);
    assert_string_equal(
        text.data, "{\"augmentation\":{\"shift\":2,\"flip\":\"vertical\",\"crop\":0.75,\"noise\":0.05}}");
    buf_dispose(&text);
    resolved_free(r);
    resolved_free(plain);
    schema_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flips_and_shifts_are_those_of_a_naive_oracle),
        cmocka_unit_test(crops_stretch_a_window_that_lies_inside),
        cmocka_unit_test(noise_has_the_spread_that_was_asked_for),
        cmocka_unit_test(seed_epoch_and_row_decide_and_nothing_else),
        cmocka_unit_test(what_was_seen_in_one_place_is_known_in_others),
        cmocka_unit_test(a_run_repeats_its_augmentation_bit_by_bit),
        cmocka_unit_test(a_thread_that_loads_ahead_augments_to_the_same_bits),
        cmocka_unit_test(what_is_measured_is_never_augmented),
        cmocka_unit_test(what_is_no_image_or_leaves_nothing_is_refused_by_path),
        cmocka_unit_test(a_settled_augmentation_reads_back_the_same_and_counts_its_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
