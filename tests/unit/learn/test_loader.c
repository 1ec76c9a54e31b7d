/* Batches come whole, in order and without an error lost, whoever fills them and whenever. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "aid.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "learn/loader.h"
#include "tensor/graph.h"
#include "tensor/layer.h"
#include "tensor/plan.h"

enum { ROWS = 103, BATCH = 16, MAX_FILLERS = 8 };

/* What the filler saw. */
struct seen {
    atomic_int rows;
    int64_t epoch, bad; /* bad: the row whose filling fails; -1: none */
    pthread_mutex_t lock;
    pthread_t filler[MAX_FILLERS];
    int n_fillers;
};

static void note_filler(struct seen *s)
{
    int i = 0;
    pthread_mutex_lock(&s->lock);
    while (i < s->n_fillers && !pthread_equal(s->filler[i], pthread_self())) i++;
    if (i == s->n_fillers && i < MAX_FILLERS) s->filler[s->n_fillers++] = pthread_self();
    pthread_mutex_unlock(&s->lock);
}

/* Two numbers a row, and one. */
static int fill(void *ctx, const struct loader_part *p, struct err *e)
{
    struct seen *s = ctx;
    note_filler(s);
    for (size_t i = 0; i < p->n; i++) {
        if (p->rows[i] == s->bad) return err_set(e, ERR_CORRUPT, "row", "row %lld is bad", (long long)s->bad);
        ((float *)p->data[0])[2 * i] = (float)p->rows[i];
        ((float *)p->data[0])[2 * i + 1] = (float)(p->at + i);
        ((int32_t *)p->data[1])[i] = (int32_t)p->epoch;
    }
    atomic_fetch_add(&s->rows, (int)p->n);
    return 0;
}

/* A loader beside a run of some threads, of those that were granted. */
struct desk {
    struct graph *g;
    struct plan *plan;
    struct params *params;
    struct run *run;
    struct loader *loader;
    struct loader_config config;
    struct seen seen;
    uint32_t order[ROWS];
};

static void must(int rc, const struct err *e)
{
    if (rc) fail_msg("%s: %s", err_name(rc), e->message);
}

static void make_run(struct desk *d, int threads)
{
    struct shape xs = shape_of(2, (int64_t[]){SHAPE_BATCH, 2}), ts = shape_of(2, (int64_t[]){SHAPE_BATCH, 3});
    struct layer_dense dense = layer_dense_defaults(3, NULL);
    struct plan_options o = {.mode = PLAN_TRAIN,
                             .max_batch = BATCH,
                             .threads = threads,
                             .thread_flops = 1,
                             .optim = optim_defaults(OPTIM_SGD)};
    struct err e = {0};
    int x, t, y;
    must(graph_create(&d->g, &e), &e);
    must(graph_input(d->g, "x", DTYPE_F32, &xs, &x, &e), &e);
    must(graph_input(d->g, "t", DTYPE_F32, &ts, &t, &e), &e);
    must(layer_dense(d->g, "dense", x, &dense, &y, &e), &e);
    must(layer_loss(d->g, "loss", "mse", y, t, &e), &e);
    must(plan_create(&d->plan, d->g, &o, &e), &e);
    must(params_create(&d->params, d->g, &e), &e);
    must(run_create(&d->run, d->plan, d->params, &e), &e);
    assert_int_equal(run_threads(d->run), threads);
}

static void sit_down(struct desk *d, int computing, int granted)
{
    struct err e = {0};
    *d = (struct desk){.seen = {.bad = -1}};
    pthread_mutex_init(&d->seen.lock, NULL);
    make_run(d, computing);
    d->config = (struct loader_config){.fill = fill,
                                       .ctx = &d->seen,
                                       .n_streams = 2,
                                       .row_bytes = {2 * sizeof(float), sizeof(int32_t)},
                                       .batch = BATCH,
                                       .run = d->run,
                                       .threads = granted};
    must(loader_create(&d->loader, &d->config, &e), &e);
    for (uint32_t i = 0; i < ROWS; i++) d->order[i] = i * 59 % ROWS;
}

static void get_up(struct desk *d)
{
    loader_free(d->loader);
    run_free(d->run);
    params_free(d->params);
    plan_free(d->plan);
    graph_free(d->g);
    pthread_mutex_destroy(&d->seen.lock);
}

static void check_batch(const struct desk *d, const struct loader_batch *b, size_t at, int64_t epoch)
{
    size_t left = ROWS - at;
    assert_int_equal(b->n, left < BATCH ? left : BATCH);
    assert_ptr_equal(b->rows, d->order + at);
    for (size_t i = 0; i < b->n; i++) {
        assert_true(((float *)b->data[0])[2 * i] == (float)d->order[at + i]);
        assert_true(((float *)b->data[0])[2 * i + 1] == (float)(at + i));
        assert_int_equal(((int32_t *)b->data[1])[i], epoch);
    }
}

/* One pass from row `from`, of at most so many batches. */
static void pass(struct desk *d, size_t from, int64_t epoch, size_t most)
{
    struct loader_batch b;
    struct err e = {0};
    loader_begin(d->loader, d->order, ROWS, from, epoch);
    for (size_t at = from, n = 0; n < most; at += BATCH, n++) {
        must(loader_next(d->loader, &b, &e), &e);
        if (at >= ROWS) {
            assert_int_equal(b.n, 0);
            return;
        }
        check_batch(d, &b, at, epoch);
    }
}

/* {computing, granted} */
static const int ways[][2] = {{1, 0}, {1, 1}, {2, 2}, {3, 3}, {1, 2}, {2, 3}};
enum { WAYS = sizeof ways / sizeof *ways };

static void every_row_comes_once_in_order_however_threads_are_used(void **state)
{
    (void)state;
    for (int w = 0; w < WAYS; w++) {
        struct desk d;
        sit_down(&d, ways[w][0], ways[w][1]);
        for (int64_t epoch = 1; epoch <= 3; epoch++) pass(&d, 0, epoch, SIZE_MAX);
        assert_int_equal(atomic_load(&d.seen.rows), 3 * ROWS);
        pass(&d, 2 * BATCH, 4, SIZE_MAX); /* resumed inside an epoch */
        assert_int_equal(atomic_load(&d.seen.rows), 4 * ROWS - 2 * BATCH);
        pass(&d, ROWS, 5, SIZE_MAX); /* at its end */
        pass(&d, 0, 6, 2);           /* left early */
        pass(&d, 0, 7, SIZE_MAX);
        get_up(&d);
    }
}

static void no_more_threads_fill_than_were_granted(void **state)
{
    static const int fillers[WAYS] = {1, 1, 2, 3, 1, 1};
    (void)state;
    for (int w = 0; w < WAYS; w++) {
        struct desk d;
        sit_down(&d, ways[w][0], ways[w][1]);
        for (int64_t epoch = 1; epoch <= 5; epoch++) pass(&d, 0, epoch, SIZE_MAX);
        assert_int_equal(d.seen.n_fillers, fillers[w]);
        bool own = ways[w][1] > ways[w][0]; /* then a thread that computes nothing */
        for (int i = 0; own && i < d.seen.n_fillers; i++)
            assert_false(pthread_equal(d.seen.filler[i], pthread_self()));
        get_up(&d);
    }
}

/* Until the filler has seen so many rows; fails the test after ten seconds. */
static void wait_for_rows(struct seen *s, int rows)
{
    int64_t until_ms = clock_mono_ms() + 10000;
    while (atomic_load(&s->rows) < rows)
        if (clock_mono_ms() > until_ms) fail_msg("%d rows, not %d", atomic_load(&s->rows), rows);
}

static void a_spare_thread_fills_the_next_batch_while_this_one_is_used(void **state)
{
    struct desk d;
    struct loader_batch b;
    struct err e = {0};
    (void)state;
    sit_down(&d, 1, 2);
    loader_begin(d.loader, d.order, ROWS, 0, 1);
    wait_for_rows(&d.seen, BATCH); /* before anybody asks */
    for (size_t at = 0; at < ROWS; at += BATCH) {
        must(loader_next(d.loader, &b, &e), &e);
        size_t ahead = at + 2 * BATCH < ROWS ? at + 2 * BATCH : ROWS;
        wait_for_rows(&d.seen, (int)ahead);
        check_batch(&d, &b, at, 1); /* untouched */
    }
    assert_int_equal(loader_bytes(&d.config), 2 * BATCH * 12);
    d.config.threads = 1;
    assert_int_equal(loader_bytes(&d.config), BATCH * 12);
    get_up(&d);
}

static void an_error_comes_with_its_batch_and_ends_the_pass(void **state)
{
    (void)state;
    for (int w = 0; w < WAYS; w++)
        for (size_t place = 0; place < ROWS; place += 7) {
            struct desk d;
            struct loader_batch b;
            struct err e = {0};
            sit_down(&d, ways[w][0], ways[w][1]);
            d.seen.bad = d.order[place];
            loader_begin(d.loader, d.order, ROWS, 0, 1);
            for (size_t at = 0; at + BATCH <= place; at += BATCH) {
                must(loader_next(d.loader, &b, &e), &e);
                check_batch(&d, &b, at, 1);
            }
            assert_int_equal(loader_next(d.loader, &b, &e), ERR_CORRUPT);
            assert_string_equal(e.field, "row");
            assert_int_equal(loader_next(d.loader, &b, &e), 0);
            assert_int_equal(b.n, 0);
            d.seen.bad = -1;
            pass(&d, 0, 2, SIZE_MAX);
            get_up(&d);
        }
}

static void a_loader_that_cannot_be_made_leaves_nothing_behind(void **state)
{
    struct desk d;
    (void)state;
    for (int granted = 1; granted <= 2; granted++) {
        sit_down(&d, 1, granted);
        for (size_t nth = 1;; nth++) {
            struct loader *l = NULL;
            struct err e = {0};
            mem_fail_at(nth, false);
            int rc = loader_create(&l, &d.config, &e);
            mem_fail_at(0, false);
            loader_free(l);
            if (rc == 0) {
                assert_int_equal(nth, 2 + 2 * granted); /* the loader, and two streams a set */
                break;
            }
            assert_int_equal(rc, ERR_NOMEM);
        }
        d.config.batch = SIZE_MAX / 4;
        struct loader *none;
        struct err e = {0};
        assert_int_equal(loader_create(&none, &d.config, &e), ERR_NOMEM);
        get_up(&d);
    }
}

/* ---- whole training runs ---- */

struct heard {
    char text[512];
};

static void on_message(void *ctx, const char *level, const char *text)
{
    struct heard *h = ctx;
    (void)level;
    if (strstr(text, "thread")) snprintf(h->text, sizeof h->text, "%s", text);
}

/* The artifact's hash; *loss is the training part's. */
static void trained(const struct buf *csv, const char *layers, int threads, char hash[65], double *loss,
                    struct heard *heard)
{
    char spec[600];
    struct aid_result r;
    struct err e = {0};
    unsigned char sum[32];
    *heard = (struct heard){0};
    snprintf(spec, sizeof spec,
             "{\"target\":\"species\",\"architecture\":[%s],"
             "\"training\":{\"epochs\":3,\"batch_size\":64,\"seed\":4}}",
             layers);
    struct aid_run run = {.spec = spec,
                          .csv = csv->data,
                          .threads = threads,
                          .callbacks = {.ctx = heard, .message = on_message}};
    must(aid_train(&r, &run, &e), &e);
    *loss = aid_metric(&r, "train.loss");
    crypto_sha256(sum, r.artifact.data, r.artifact.len);
    crypto_hex(hash, sum, sizeof sum);
    aid_result_dispose(&r);
}

static void a_run_of_two_threads_gives_the_same_bytes_again_and_the_loss_of_one(void **state)
{
    static const char wide[] =
        "{\"layer\":\"Dense\",\"units\":256,\"activation\":\"relu\"},"
        "{\"layer\":\"Dropout\",\"rate\":0.2},"
        "{\"layer\":\"Dense\",\"units\":256,\"activation\":\"relu\"},{\"layer\":\"Dense\",\"units\":3}";
    struct buf csv = {0};
    struct heard heard;
    char one[65], two[65], again[65];
    double a, b, c;
    (void)state;
    aid_flowers(&csv, 400, 3);
    trained(&csv, wide, 1, one, &a, &heard);
    trained(&csv, wide, 2, two, &b, &heard);
    assert_string_equal(heard.text, ""); /* both compute */
    trained(&csv, wide, 2, again, &c, &heard);
    assert_string_equal(two, again);
    assert_string_not_equal(one, two);
    assert_true(a - b < 1e-3 && b - a < 1e-3 && b == c);
    buf_dispose(&csv);
}

static void a_network_that_computes_on_one_thread_says_so_and_gives_its_bytes(void **state)
{
    static const struct {
        const char *layers, *why;
    } nets[] = {
        {"{\"layer\":\"Dense\",\"units\":8,\"activation\":\"relu\"},{\"layer\":\"Dense\",\"units\":3}",
         "batches of 64 rows"},
        {"{\"layer\":\"Dense\",\"units\":256},{\"layer\":\"BatchNormalization\"},"
         "{\"layer\":\"Dense\",\"units\":256},{\"layer\":\"Dense\",\"units\":3}",
         "BatchNormalization needs the whole batch"}};
    struct buf csv = {0};
    struct heard heard;
    char one[65], two[65];
    double a, b;
    (void)state;
    aid_flowers(&csv, 200, 3);
    for (int i = 0; i < 2; i++) {
        trained(&csv, nets[i].layers, 1, one, &a, &heard);
        assert_string_equal(heard.text, "");
        trained(&csv, nets[i].layers, 2, two, &b, &heard);
        assert_non_null(strstr(heard.text, nets[i].why));
        assert_string_equal(one, two); /* another thread loads the same batches */
    }
    buf_dispose(&csv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_comes_once_in_order_however_threads_are_used),
        cmocka_unit_test(no_more_threads_fill_than_were_granted),
        cmocka_unit_test(a_spare_thread_fills_the_next_batch_while_this_one_is_used),
        cmocka_unit_test(an_error_comes_with_its_batch_and_ends_the_pass),
        cmocka_unit_test(a_loader_that_cannot_be_made_leaves_nothing_behind),
        cmocka_unit_test(a_run_of_two_threads_gives_the_same_bytes_again_and_the_loss_of_one),
        cmocka_unit_test(a_network_that_computes_on_one_thread_says_so_and_gives_its_bytes),
    };
    return cmocka_run_group_tests_name("learn/loader", tests, NULL, NULL);
}
