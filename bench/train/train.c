/* Our side of bench-train: trains one network from its initial weights, again and again, as many steps as it
 * is told on standard input, and says on standard output what that took.
 *
 *   train NET PRECISION THREADS BATCH DATA_FOLDER [WEIGHTS_OUT]
 *
 *   > {"ready":true,"loss":2.31,"threads":2}  or {"unsupported":"why"}: this configuration is not to be had
 * here < steps 100 > {"seconds":0.21,"cpu":0.2,"loss":0.7}  the last step's loss
 *
 * PRECISION is f32 or the name of a backend. Adam, rate 0.001, batches in the file's order. A benchmark's
 * tool, installed nowhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bench/nets.h"
#include "tensor/plan.h"
#include "tensor/run.h"

enum { SEED = 1 };

struct trainer {
    const struct net *net;
    int64_t batch;
    const char *x;
    const int32_t *label;
    struct graph *graph;
    struct plan *plan;
    struct params *params, *initial;
    struct run *run;
};

static int step(struct trainer *t, uint64_t index, bool update, float *loss, struct err *e)
{
    int64_t at = (int64_t)index * t->batch % (NET_DATA_ROWS / t->batch * t->batch);
    const void *feeds[] = {t->x + at * t->net->row * 4, t->label + at};
    struct step s = {.feeds = feeds, .rows = t->batch, .seed = SEED, .index = index, .rate = 0.001};
    return update ? run_step(t->run, &s, loss, e) : run_gradients(t->run, &s, loss, e);
}

static void rewind_to_start(struct trainer *t)
{
    params_copy(t->params, t->initial);
    for (int i = 0; i < run_slot_count(t->run); i++)
        memset(run_slot(t->run, i), 0, t->params->len * sizeof(float));
}

static int open_plan(struct trainer *t, const char *precision, int threads, struct err *e)
{
    struct plan_options o = {
        .mode = PLAN_TRAIN, .max_batch = t->batch, .threads = threads, .optim = optim_defaults(OPTIM_ADAM)};
    int rc = net_backend(&o.backend, precision, e);
    if (rc == 0) rc = net_graph(&t->graph, t->net, true, e);
    if (rc == 0) rc = plan_create(&t->plan, t->graph, &o, e);
    if (rc == 0) rc = params_create(&t->params, t->graph, e);
    if (rc == 0) rc = params_create(&t->initial, t->graph, e);
    if (rc == 0) params_init(t->initial, t->graph, SEED);
    if (rc == 0) rc = run_create(&t->run, t->plan, t->params, e);
    return rc;
}

static int serve(struct trainer *t, struct err *e)
{
    char word[NET_WORD_MAX];
    float loss = 0;
    long steps;
    rewind_to_start(t);
    int rc = step(t, 0, false, &loss, e);
    if (rc) return rc;
    printf("{\"ready\":true,\"loss\":%.9g,\"threads\":%d}\n", (double)loss, plan_threads(t->plan));
    fflush(stdout);
    while (net_command(word, &steps)) {
        rewind_to_start(t);
        struct net_time start = net_now();
        for (long i = 0; i < steps; i++)
            if ((rc = step(t, (uint64_t)i, true, &loss, e))) return rc;
        struct net_time end = net_now();
        printf("{\"seconds\":%.6f,\"cpu\":%.6f,\"loss\":%.9g}\n", end.wall - start.wall, end.cpu - start.cpu,
               (double)loss);
        fflush(stdout);
    }
    return 0;
}

static void trainer_dispose(struct trainer *t)
{
    run_free(t->run);
    params_free(t->params);
    params_free(t->initial);
    plan_free(t->plan);
    graph_free(t->graph);
}

int main(int argc, char **argv)
{
    struct trainer t = {0};
    struct err e = {0};
    if (argc < 6 || argc > 7 || !(t.net = net_find(argv[1])) || (t.batch = atol(argv[4])) < 1 ||
        t.batch > NET_DATA_ROWS) {
        fprintf(stderr, "usage: train mlp|cnn|lstm|transformer f32|BACKEND THREADS BATCH DATA_FOLDER "
                        "[WEIGHTS_OUT]\n");
        return 2;
    }
    int rc = open_plan(&t, argv[2], atoi(argv[3]), &e);
    bool unsupported = rc == ERR_UNSUPPORTED;
    const void *label = NULL, *x = NULL;
    if (rc == 0) rc = net_data(&x, argv[5], t.net->x_file, t.net->row, &e);
    if (rc == 0) rc = net_data(&label, argv[5], t.net->label_file, 1, &e);
    t.x = x;
    t.label = label;
    if (rc == 0 && argc == 7) rc = net_save(t.initial, argv[6], &e);
    if (rc == 0) rc = serve(&t, &e);
    trainer_dispose(&t);
    return rc ? net_refused("train", unsupported, &e) : 0;
}
