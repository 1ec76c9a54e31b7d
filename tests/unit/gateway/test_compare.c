/* When two answers are the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "gateway/predict/compare.h"

static struct message_tensor floats(const float *v, int64_t n)
{
    return (struct message_tensor){
        .dtype = MESSAGE_FP32, .ndim = 1, .dims = {n}, .data = v, .data_len = (size_t)n * sizeof *v};
}

static struct comparison of_floats(const float *a, const float *b, int64_t n, double tolerance)
{
    struct message_tensor x = floats(a, n), y = floats(b, n);
    return compare_answers(&x, 1, &y, 1, tolerance);
}

static void numbers_may_differ_by_the_tolerance(void **state)
{
    (void)state;
    const float a[] = {1, 2, -3}, b[] = {1, 2.25F, -3};
    assert_true(of_floats(a, b, 3, 0.25).equal);
    assert_false(of_floats(a, b, 3, 0.24).equal);
    assert_true(of_floats(a, b, 3, 0.24).largest == 0.25);
    assert_true(of_floats(a, a, 3, 0).equal);
    const double c = 1, d = 1.5;
    struct message_tensor x = {.dtype = MESSAGE_FP64, .ndim = 1, .dims = {1}, .data = &c, .data_len = 8},
                          y = x;
    y.data = &d;
    assert_true(compare_answers(&x, 1, &y, 1, 0.5).equal);
    assert_false(compare_answers(&x, 1, &y, 1, 0.4).equal);
}

static void what_is_no_number_equals_itself_only(void **state)
{
    (void)state;
    const float v[] = {NAN, INFINITY, -INFINITY, 0, 3e38F, -3e38F};
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 6; k++) {
            struct comparison c = of_floats(&v[i], &v[k], 1, 1);
            assert_int_equal(c.equal, i == k);
            assert_true(isfinite(c.largest));
        }
}

static void other_datatypes_are_compared_byte_by_byte(void **state)
{
    (void)state;
    const int64_t a[] = {1, 2}, b[] = {1, 3};
    struct message_tensor x = {
        .dtype = MESSAGE_INT64, .ndim = 1, .dims = {2}, .data = a, .data_len = sizeof a};
    struct message_tensor y = x;
    assert_true(compare_answers(&x, 1, &y, 1, 5).equal);
    y.data = b;
    assert_false(compare_answers(&x, 1, &y, 1, 5).equal); /* a label is no measure */
    const char s[] = "\3\0\0\0cat", t[] = "\3\0\0\0dog";
    struct message_tensor u = {.dtype = MESSAGE_BYTES, .ndim = 1, .dims = {1}, .data = s, .data_len = 7},
                          w = u;
    assert_true(compare_answers(&u, 1, &w, 1, 5).equal);
    w.data = t;
    assert_false(compare_answers(&u, 1, &w, 1, 5).equal);
}

static void another_shape_datatype_or_number_of_outputs_is_another_answer(void **state)
{
    (void)state;
    const float a[] = {1, 2, 3, 4};
    struct message_tensor x[2] = {floats(a, 4), floats(a, 2)}, y[2] = {floats(a, 4), floats(a, 2)};
    assert_true(compare_answers(x, 2, y, 2, 0).equal);
    assert_false(compare_answers(x, 2, y, 1, 0).equal);
    assert_false(compare_answers(x, 0, y, 1, 0).equal);
    y[0].ndim = 2;
    y[0].dims[0] = y[0].dims[1] = 2;
    assert_false(compare_answers(x, 2, y, 2, 0).equal);
    y[0] = x[0];
    y[0].dtype = MESSAGE_UINT32;
    assert_false(compare_answers(x, 2, y, 2, 0).equal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_may_differ_by_the_tolerance),
        cmocka_unit_test(what_is_no_number_equals_itself_only),
        cmocka_unit_test(other_datatypes_are_compared_byte_by_byte),
        cmocka_unit_test(another_shape_datatype_or_number_of_outputs_is_another_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
