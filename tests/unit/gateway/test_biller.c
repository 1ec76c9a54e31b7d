/* Usage on its way from a loop to Redis: in the kernel's hands when biller_publish returns, whole again
 * whatever Redis lost, and never waited for. The beats come when the clock is moved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <event2/event.h>
#include "base/mem.h"
#include "gateway/predict/biller.h"
#include "queue/usage.h"
#include "tests/unit/fake_clock.h"
#include "tests/unit/gateway/road_scene.h"
#include "tests/unit/queue/redis_fixture.h"

enum { PATIENCE = 20000, LOOPS = 2, BEAT_MS = 1000, UNDER_WAY = 256 };

/* A loop with its connection and its biller; LOOPS of them are a gateway. */
struct shard {
    struct loop *loop;
    struct redis_async *commands;
    struct biller *biller;
};

static struct shard shards[LOOPS];
static char inc[ID_MAX], tenant[ID_MAX], versions[3][ID_MAX];

/* ---- the gateway's loops, run by hand
 * --------------------------------------------------------------------------- */

/* What is due, and a millisecond for the other side. */
static void turn(void)
{
    for (size_t i = 0; i < LOOPS; i++)
        if (shards[i].loop) event_base_loop(loop_base(shards[i].loop), EVLOOP_NONBLOCK);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void shard_open(struct shard *s, const struct redis_address *address, int number, size_t in_flight_max)
{
    struct redis_async_config c = {.address = address, .name = "commands", .in_flight_max = in_flight_max};
    assert_int_equal(loop_create(&s->loop, NULL), 0);
    s->commands = redis_async_create(s->loop, &c);
    s->biller = biller_create(s->loop, s->commands, inc, number);
}

static void wait_up(const struct shard *s, bool up)
{
    for (int i = 0; i < PATIENCE && redis_async_up(s->commands) != up; i++) {
        fake_clock_move_ms(1); /* it tries again after a while */
        turn();
    }
    assert_int_equal(redis_async_up(s->commands), up);
}

static void shard_close(struct shard *s)
{
    redis_async_free(s->commands);
    biller_free(s->biller);
    loop_free(s->loop);
    *s = (struct shard){0};
}

static int set_up(void **state)
{
    (void)state;
    redis_fixture_start();
    redis_fixture_flush();
    fake_clock_stop();
    id_new(inc, "inc_");
    id_new(tenant, "ten");
    for (size_t i = 0; i < 3; i++) id_new(versions[i], "ver");
    for (int i = 0; i < LOOPS; i++) shard_open(&shards[i], redis_fixture_start(), i, 0);
    for (int i = 0; i < LOOPS; i++) wait_up(&shards[i], true);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    redis_fixture_resume_server(); /* a test that failed left it so */
    redis_fixture_int("CONFIG SET maxmemory 0");
    for (size_t i = 0; i < LOOPS; i++)
        if (shards[i].loop) shard_close(&shards[i]);
    fake_clock_run();
    return 0;
}

static void count(struct shard *s, const char *version, int64_t rows)
{
    biller_count(s->biller, tenant, version, rows, 10 * rows);
}

static void count_and_publish(struct shard *s, const char *version, int64_t rows)
{
    count(s, version, rows);
    biller_publish(s->biller);
}

/* Redis has answered everything. */
static void wait_idle(const struct shard *s)
{
    for (int i = 0; i < PATIENCE && redis_async_in_flight(s->commands); i++) turn();
    assert_int_equal(redis_async_in_flight(s->commands), 0);
}

static void beat(void)
{
    fake_clock_move_ms(BEAT_MS);
    turn();
}

static bool says(const char *version, int64_t requests, int64_t rows)
{
    struct usage_total t = usage_in_redis(inc, version);
    return t.requests == requests && t.rows == rows && t.compute_us == 10 * rows;
}

static void wait_for(const char *version, int64_t requests, int64_t rows)
{
    for (int i = 0; i < PATIENCE && !says(version, requests, rows); i++) turn();
    struct usage_total t = usage_in_redis(inc, version);
    assert_int_equal(t.requests, requests);
    assert_int_equal(t.rows, rows);
    assert_int_equal(t.compute_us, 10 * rows);
}

static long long counting_ms(void)
{
    char key[USAGE_KEY_MAX];
    usage_counting_key(key, inc);
    return redis_fixture_int("PTTL %s", key);
}

/* ---- in the kernel's hands
 * ---------------------------------------------------------------------------------------- */

static void gateway_that_dies(void)
{
    struct shard s;
    alarm(PATIENCE / 1000);
    shard_open(&s, redis_fixture_start(), 0, 0);
    shards[0] = s;
    wait_up(&s, true);
    count(&s, versions[0], 2);
    count(&s, versions[0], 3);
    count(&s, versions[1], 4);
    biller_publish(s.biller);
    kill(getpid(), SIGKILL);
}

static void what_was_published_outlives_a_gateway_killed_at_once(void **state)
{
    (void)state;
    int status;
    for (size_t i = 0; i < LOOPS; i++) shard_close(&shards[i]);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) gateway_that_dies();
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    wait_for(versions[0], 2, 5);
    wait_for(versions[1], 1, 4);
}

static void what_a_loop_counts_is_one_command(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) count(&shards[0], versions[i % 3], 1);
    biller_publish(shards[0].biller);
    biller_publish(shards[0].biller); /* nothing new */
    assert_int_equal(redis_async_in_flight(shards[0].commands), 1);
    wait_for(versions[0], 17, 17);
    wait_for(versions[2], 16, 16);
}

static void the_loops_of_a_gateway_add_up(void **state)
{
    (void)state;
    count_and_publish(&shards[0], versions[0], 2);
    count_and_publish(&shards[1], versions[0], 5);
    wait_for(versions[0], 2, 7);
}

/* ---- Redis is away, or forgets
 * ------------------------------------------------------------------------------------ */

static void totals_wait_for_a_redis_that_is_away(void **state)
{
    (void)state;
    count_and_publish(&shards[0], versions[0], 1);
    wait_for(versions[0], 1, 1);
    redis_fixture_stop_server();
    wait_up(&shards[0], false);
    for (int i = 0; i < 5; i++) count_and_publish(&shards[0], versions[0], 1);
    count_and_publish(&shards[0], versions[1], 3);
    redis_fixture_start_server();
    wait_up(&shards[0], true);
    beat();
    wait_for(versions[0], 6, 6);
    wait_for(versions[1], 1, 3);
}

/* What was on its way when Redis died went nowhere, though the kernel had taken it. */
static void what_was_on_its_way_to_a_redis_that_died_is_written_again(void **state)
{
    (void)state;
    redis_fixture_pause_server();
    for (int i = 0; i < 10; i++) count_and_publish(&shards[0], versions[i % 2], 1);
    redis_fixture_stop_server();
    redis_fixture_start_server();
    wait_up(&shards[0], false);
    wait_up(&shards[0], true);
    beat();
    wait_for(versions[0], 5, 5);
    wait_for(versions[1], 5, 5);
}

static void a_redis_that_stalls_gets_a_bounded_number_of_commands(void **state)
{
    (void)state;
    redis_fixture_pause_server();
    for (int i = 0; i < 3 * UNDER_WAY; i++) count_and_publish(&shards[0], versions[0], 1);
    assert_int_equal(redis_async_in_flight(shards[0].commands), UNDER_WAY);
    redis_fixture_resume_server();
    wait_for(versions[0], 3 * UNDER_WAY, 3 * UNDER_WAY); /* and no beat in between: the clock stands */
}

static void a_connection_that_takes_no_more_commands_loses_no_total(void **state)
{
    (void)state;
    shard_close(&shards[0]);
    shard_open(&shards[0], redis_fixture_start(), 0, 4);
    wait_up(&shards[0], true);
    beat();
    wait_idle(&shards[0]);
    redis_fixture_pause_server();
    for (size_t i = 0; i < 4; i++) redis_async_call(shards[0].commands, NULL, NULL, "PING");
    count_and_publish(&shards[0], versions[2], 1); /* refused, and never counted again */
    for (int i = 0; i < 10; i++) count_and_publish(&shards[0], versions[i % 2], 1);
    redis_fixture_resume_server();
    wait_idle(&shards[0]);
    beat();
    wait_for(versions[0], 5, 5);
    wait_for(versions[1], 5, 5);
    wait_for(versions[2], 1, 1);
}

/* Its connection was given up, but the kernel still holds what was written to it. */
static void a_redis_that_stalls_beyond_patience_ends_with_the_newest_totals(void **state)
{
    (void)state;
    redis_fixture_pause_server();
    for (int i = 0; i < UNDER_WAY; i++) count_and_publish(&shards[0], versions[i % 3], 1);
    fake_clock_move_ms(10000);
    wait_up(&shards[0], false);
    count_and_publish(&shards[0], versions[0], 100);
    redis_fixture_resume_server();
    wait_up(&shards[0], true);
    beat();
    wait_for(versions[0], UNDER_WAY / 3 + 2, UNDER_WAY / 3 + 101);
    for (int i = 0; i < 100; i++) { /* nothing older comes after it */
        turn();
        assert_true(says(versions[0], UNDER_WAY / 3 + 2, UNDER_WAY / 3 + 101));
    }
}

/* Out of memory: what it refuses is written again each second, not with each answer. */
static void a_redis_that_refuses_is_asked_once_a_second(void **state)
{
    (void)state;
    count_and_publish(&shards[0], versions[0], 1);
    beat();
    wait_for(versions[0], 1, 1);
    redis_fixture_int("CONFIG SET maxmemory 1");
    count_and_publish(&shards[0], versions[2], 1); /* once, and never again */
    wait_idle(&shards[0]);
    for (int i = 0; i < 10; i++) count_and_publish(&shards[0], versions[i % 2], 1);
    assert_int_equal(redis_async_in_flight(shards[0].commands), 0);
    redis_fixture_int("CONFIG SET maxmemory 0");
    beat();
    wait_for(versions[0], 6, 6);
    wait_for(versions[1], 5, 5);
    wait_for(versions[2], 1, 1);
    wait_idle(&shards[0]);
    count_and_publish(&shards[0], versions[0], 1); /* as ever */
    assert_int_equal(redis_async_in_flight(shards[0].commands), 1);
    wait_for(versions[0], 7, 7);
}

static void a_redis_that_forgets_is_whole_again_after_a_beat(void **state)
{
    (void)state;
    for (size_t i = 0; i < LOOPS; i++)
        for (size_t v = 0; v < 3; v++) count_and_publish(&shards[i], versions[v], 1 + (int64_t)v);
    beat(); /* says that it counts */
    for (size_t v = 0; v < 3; v++) wait_for(versions[v], 2, 2 * (1 + (int64_t)v));
    for (size_t i = 0; i < LOOPS; i++) wait_idle(&shards[i]);
    redis_fixture_flush();
    assert_true(says(versions[0], 0, 0));
    beat();
    for (size_t v = 0; v < 3; v++) wait_for(versions[v], 2, 2 * (1 + (int64_t)v));
}

/* Each loop's own totals, and though some of them came back by themselves. */
static void what_came_back_by_itself_hides_nothing_that_did_not(void **state)
{
    (void)state;
    int64_t counted[3] = {0};
    for (size_t goes_on = 0; goes_on < 3; goes_on++) {
        for (size_t v = 0; v < 3; v++) count(&shards[0], versions[v], 1), counted[v]++;
        biller_publish(shards[0].biller);
        beat();
        for (size_t v = 0; v < 3; v++) wait_for(versions[v], counted[v], counted[v]);
        wait_idle(&shards[0]);
        redis_fixture_flush();
        count_and_publish(&shards[0], versions[goes_on], 1);
        counted[goes_on]++;
        beat();
        for (size_t v = 0; v < 3; v++) wait_for(versions[v], counted[v], counted[v]);
    }
    count_and_publish(&shards[1], versions[0], 1);
    beat();
    wait_for(versions[0], counted[0] + 1, counted[0] + 1);
    for (size_t i = 0; i < LOOPS; i++) wait_idle(&shards[i]);
    redis_fixture_flush();
    count_and_publish(&shards[1], versions[0], 1); /* the other loop's total of the same version is gone */
    beat();
    wait_for(versions[0], counted[0] + 2, counted[0] + 2);
    wait_for(versions[1], counted[1], counted[1]);
}

/* ---- signs of life
 * ---------------------------------------------------------------------------------------------- */

static bool counts_as_alive(void)
{
    struct redis *r = redis_fixture_connect();
    bool out;
    assert_int_equal(usage_counting(r, inc, &out, NULL), 0);
    redis_free(r);
    return out;
}

static void a_gateway_says_each_second_that_it_counts(void **state)
{
    (void)state;
    char key[USAGE_KEY_MAX];
    usage_counting_key(key, inc);
    count_and_publish(&shards[0], versions[0], 1);
    for (int i = 0; i < 3; i++) {
        beat();
        for (int k = 0; k < PATIENCE && !(counts_as_alive() && counting_ms() > 0); k++) turn();
        assert_in_range(counting_ms(), 1, USAGE_COUNTING_MS);
        assert_true(counts_as_alive());
        redis_fixture_int("DEL %s", key);
        assert_false(counts_as_alive());
    }
}

static void a_key_about_to_expire_is_prolonged(void **state)
{
    (void)state;
    char key[USAGE_KEY_MAX];
    usage_counting_key(key, inc);
    count_and_publish(&shards[0], versions[0], 1);
    beat();
    for (int k = 0; k < PATIENCE && counting_ms() <= 0; k++) turn();
    assert_int_equal(redis_fixture_int("PEXPIRE %s 100000 GT", key), 1);
    beat();
    for (int k = 0; k < PATIENCE && counting_ms() > USAGE_COUNTING_MS; k++) turn();
    assert_in_range(counting_ms(), USAGE_COUNTING_MS / 2, USAGE_COUNTING_MS);
}

/* ---- a Redis that goes in the middle of a sentence
 * ---------------------------------------------------------------- */

/* Answers AUTH, and 1 to everything else that comes, until the totals' key is asked about: then it answers
 * and closes, so that whoever writes from inside the answer writes to a closed socket. */
static void *run_curt_redis(void *arg)
{
    int fd = accept(*(int *)arg, NULL, NULL);
    char text[4096];
    ssize_t n;
    while ((n = recv(fd, text, sizeof text - 1, 0)) > 0) {
        struct buf out = {0};
        text[n] = '\0';
        for (const char *p = text; (p = strchr(p, '*')) != NULL; p++)
            buf_str(&out, strncmp(p, "*2\r\n$4\r\nAUTH", 12) == 0 ? "+OK\r\n" : ":1\r\n");
        send(fd, out.data, out.len, MSG_NOSIGNAL);
        buf_dispose(&out);
        if (strstr(text, "tnr:counting:")) break;
    }
    close(fd);
    return NULL;
}

static void a_redis_that_answers_and_closes_takes_nobody_along(void **state)
{
    (void)state;
    struct redis_address address = *redis_fixture_start();
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    pthread_t thread;
    snprintf(a.sun_path, sizeof a.sun_path, "/tmp/tenor-curt-%d", (int)getpid());
    strcpy(address.host, a.sun_path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(listener, 1), 0);
    pthread_create(&thread, NULL, run_curt_redis, &listener);
    shard_close(&shards[0]);
    shard_open(&shards[0], &address, 0, 0);
    wait_up(&shards[0], true);
    count(&shards[0], versions[0], 1);
    fake_clock_move_ms(BEAT_MS);
    event_base_loop(loop_base(shards[0].loop), EVLOOP_NONBLOCK);
    pthread_join(thread, NULL); /* its answers wait in the socket, and nobody is behind them */
    close(listener);
    unlink(address.host);
    turn();
    wait_up(&shards[0], false);
    count_and_publish(&shards[0], versions[0], 1);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_was_published_outlives_a_gateway_killed_at_once),
        CASE(what_a_loop_counts_is_one_command),
        CASE(the_loops_of_a_gateway_add_up),
        CASE(totals_wait_for_a_redis_that_is_away),
        CASE(what_was_on_its_way_to_a_redis_that_died_is_written_again),
        CASE(a_redis_that_stalls_gets_a_bounded_number_of_commands),
        CASE(a_connection_that_takes_no_more_commands_loses_no_total),
        CASE(a_redis_that_stalls_beyond_patience_ends_with_the_newest_totals),
        CASE(a_redis_that_refuses_is_asked_once_a_second),
        CASE(a_redis_that_forgets_is_whole_again_after_a_beat),
        CASE(what_came_back_by_itself_hides_nothing_that_did_not),
        CASE(a_gateway_says_each_second_that_it_counts),
        CASE(a_key_about_to_expire_is_prolonged),
        CASE(a_redis_that_answers_and_closes_takes_nobody_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
