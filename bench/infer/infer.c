/* Our side of bench-infer: answers batches of one network, one thread, as told on standard input.
 *
 *   infer NET PRECISION DATA_FOLDER [WEIGHTS_OUT]
 *
 *   > {"ready":true}                         or {"unsupported":"why"}: this configuration is not to be had
 * here < batch 8                                 from here on 8 rows a time > {"answers":[0.1,…]} the first 8
 * rows' probabilities < runs 1000                               batches in the file's order >
 * {"seconds":0.02,"cpu":0.02}
 *
 * PRECISION is f32 or the name of a backend. A benchmark's tool, installed nowhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "bench/nets.h"
#include "tensor/plan.h"
#include "tensor/run.h"

enum { SEED = 1, MAX_BATCH = 32 };

struct answerer {
    const struct net *net;
    const char *x;
    int64_t batch;
    struct graph *graph;
    struct plan *plan;
    struct params *params;
    struct run *run;
};

static int open_plan(struct answerer *a, const char *precision, struct err *e)
{
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = MAX_BATCH};
    int rc = net_backend(&o.backend, precision, e);
    if (rc == 0) rc = net_graph(&a->graph, a->net, false, e);
    if (rc == 0) rc = plan_create(&a->plan, a->graph, &o, e);
    if (rc == 0) rc = params_create(&a->params, a->graph, e);
    if (rc == 0) params_init(a->params, a->graph, SEED);
    if (rc == 0) rc = plan_load(a->plan, a->params, e);
    if (rc == 0) rc = run_create(&a->run, a->plan, NULL, e);
    return rc;
}

static int forward(struct answerer *a, long index, struct err *e)
{
    int64_t at = index * a->batch % (NET_DATA_ROWS / a->batch * a->batch);
    return run_forward(a->run, (const void *[]){a->x + at * a->net->row * 4}, a->batch, e);
}

static int say_answers(struct answerer *a, struct err *e)
{
    int rc = forward(a, 0, e);
    if (rc) return rc;
    struct view y = run_output(a->run, 0);
    printf("{\"answers\":[");
    for (size_t i = 0; i < view_count(&y); i++)
        printf("%s%.9g", i ? "," : "", (double)((const float *)y.data)[i]);
    printf("]}\n");
    return 0;
}

static int say_time(struct answerer *a, long runs, struct err *e)
{
    struct net_time start = net_now();
    for (long i = 0; i < runs; i++) {
        int rc = forward(a, i, e);
        if (rc) return rc;
    }
    struct net_time end = net_now();
    printf("{\"seconds\":%.9f,\"cpu\":%.9f}\n", end.wall - start.wall, end.cpu - start.cpu);
    return 0;
}

static int serve(struct answerer *a, struct err *e)
{
    char word[NET_WORD_MAX];
    long number;
    int rc = 0;
    printf("{\"ready\":true}\n");
    fflush(stdout);
    while (rc == 0 && net_command(word, &number)) {
        if (strcmp(word, "batch") == 0 && number >= 1 && number <= MAX_BATCH) {
            a->batch = number;
            rc = say_answers(a, e);
        } else if (strcmp(word, "runs") == 0 && a->batch) {
            rc = say_time(a, number, e);
        } else {
            rc = err_set(e, ERR_INVALID, "command", "'%s %ld': expected batch 1 to %d, or runs", word, number,
                         MAX_BATCH);
        }
        fflush(stdout);
    }
    return rc;
}

int main(int argc, char **argv)
{
    struct answerer a = {0};
    struct err e = {0};
    const void *x = NULL;
    if (argc < 4 || argc > 5 || !(a.net = net_find(argv[1]))) {
        fprintf(stderr, "usage: infer mlp|cnn|lstm|transformer f32|BACKEND DATA_FOLDER [WEIGHTS_OUT]\n");
        return 2;
    }
    int rc = open_plan(&a, argv[2], &e);
    bool unsupported = rc == ERR_UNSUPPORTED;
    if (rc == 0) rc = net_data(&x, argv[3], a.net->x_file, a.net->row, &e);
    a.x = x;
    if (rc == 0 && argc == 5) rc = net_save(a.params, argv[4], &e);
    if (rc == 0) rc = serve(&a, &e);
    run_free(a.run);
    params_free(a.params);
    plan_free(a.plan);
    graph_free(a.graph);
    return rc ? net_refused("infer", unsupported, &e) : 0;
}
