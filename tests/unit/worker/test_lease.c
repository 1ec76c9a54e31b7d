/* Leases while Postgres cannot be reached: the alarm must come before the lease ends, and only once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/log.h"
#include "worker/lease.h"

enum { LEASE_MS = 1000, PATIENCE_S = 10 };

/* Nobody listens there. */
#define NOWHERE "host=/nonexistent/tenor port=1 user=x dbname=x"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t heard = PTHREAD_COND_INITIALIZER;
static int lost, cancelled;
static int64_t lost_ms, lost_fence;
static char lost_job[ID_MAX];

static void on_lost(void *arg, const char *job_id, int64_t fence)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    lost++;
    lost_ms = clock_mono_ms();
    lost_fence = fence;
    strncpy(lost_job, job_id, sizeof lost_job - 1);
    pthread_cond_broadcast(&heard);
    pthread_mutex_unlock(&lock);
}

static void on_cancel(void *arg, const char *job_id, int64_t fence)
{
    (void)arg;
    (void)job_id;
    (void)fence;
    cancelled++;
}

static struct lease_keeper *keeper(void)
{
    struct lease_keeper *k = NULL;
    struct err e = {0};
    struct lease_config config = {
        .postgres_url = NOWHERE, .lease_ms = LEASE_MS, .on_cancel = on_cancel, .on_lost = on_lost};
    lost = cancelled = 0;
    if (lease_create(&k, &config, &e) != 0) fail_msg("%s", e.message);
    return k;
}

static void wait_for_losses(int n)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&lock);
    int rc = 0;
    while (lost < n && rc == 0) rc = pthread_cond_timedwait(&heard, &lock, &until);
    int seen = lost;
    pthread_mutex_unlock(&lock);
    assert_true(seen >= n);
}

static void a_lease_that_cannot_be_renewed_is_lost_before_it_ends(void **state)
{
    (void)state;
    struct lease_keeper *k = keeper();
    int64_t began_ms = clock_mono_ms();
    assert_int_equal(lease_add(k, "job_a", "ten_a", 7, NULL), 0);
    assert_true(lease_left_ms(k, "job_a", 7) > 0);
    wait_for_losses(1);
    assert_string_equal(lost_job, "job_a");
    assert_int_equal(lost_fence, 7);
    assert_in_range(lost_ms - began_ms, LEASE_MS / 2, LEASE_MS - 1);
    assert_true(lease_left_ms(k, "job_a", 7) <= 0);
    lease_free(k);
    assert_int_equal(cancelled, 0);
}

static void each_lease_is_lost_once(void **state)
{
    (void)state;
    struct lease_keeper *k = keeper();
    assert_int_equal(lease_add(k, "job_a", "ten_a", 1, NULL), 0);
    wait_for_losses(1);
    assert_int_equal(lease_add(k, "job_b", "ten_a", 1, NULL), 0);
    wait_for_losses(2);
    lease_free(k);
    assert_int_equal(lost, 2);
}

static void a_removed_lease_raises_no_alarm(void **state)
{
    (void)state;
    struct lease_keeper *k = keeper();
    assert_int_equal(lease_add(k, "job_gone", "ten_a", 1, NULL), 0);
    lease_remove(k, "job_gone", 1);
    assert_int_equal(lease_add(k, "job_kept", "ten_a", 1, NULL), 0);
    wait_for_losses(1); /* job_gone's would have come first */
    assert_string_equal(lost_job, "job_kept");
    lease_free(k);
    assert_int_equal(lost, 1);
}

static void a_job_is_kept_once_and_a_newer_fence_takes_over(void **state)
{
    (void)state;
    struct lease_keeper *k = keeper();
    struct err e = {0};
    assert_int_equal(lease_add(k, "job_a", "ten_a", 3, &e), 0);
    assert_int_equal(lease_add(k, "job_a", "ten_a", 3, &e), ERR_CONFLICT);
    assert_int_equal(lease_add(k, "job_a", "ten_a", 2, &e), ERR_CONFLICT);
    assert_int_equal(lease_add(k, "job_a", "ten_a", 5, &e), 0);
    assert_true(lease_left_ms(k, "job_a", 3) <= 0);
    assert_true(lease_left_ms(k, "job_a", 5) > 0);
    lease_free(k);
}

static void more_leases_than_there_is_room_for_are_refused(void **state)
{
    (void)state;
    struct lease_keeper *k = keeper();
    struct err e = {0};
    char id[ID_MAX] = "job_00";
    for (int i = 0; i < LEASE_MAX; i++) {
        id[4] = (char)('0' + i / 10);
        id[5] = (char)('0' + i % 10);
        assert_int_equal(lease_add(k, id, "ten_a", 1, &e), 0);
    }
    assert_int_equal(lease_add(k, "job_more", "ten_a", 1, &e), ERR_OVERLOAD);
    lease_free(k);
}

int main(void)
{
    log_init("test", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lease_that_cannot_be_renewed_is_lost_before_it_ends),
        cmocka_unit_test(each_lease_is_lost_once),
        cmocka_unit_test(a_removed_lease_raises_no_alarm),
        cmocka_unit_test(a_job_is_kept_once_and_a_newer_fence_takes_over),
        cmocka_unit_test(more_leases_than_there_is_room_for_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
