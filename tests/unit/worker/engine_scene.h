/* A predict engine with real models behind a real Redis, and a gateway that speaks to it over a link: what
 * the tests of the engine share. */
#ifndef TESTS_UNIT_WORKER_ENGINE_SCENE_H
#define TESTS_UNIT_WORKER_ENGINE_SCENE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/ids.h"
#include "queue/message.h"
#include "queue/redis.h"
#include "worker/engine.h"

enum { PATIENCE_MS = 20000, VERSIONS = 4, REQUESTS_MAX = 4096 };

extern struct buf line, table;                                     /* artifacts */
extern char versions[VERSIONS][ID_MAX], tenants[VERSIONS][ID_MAX]; /* even ones are lines, odd ones tables */
extern uint32_t batch_rows[VERSIONS], queue_delays_us[VERSIONS];   /* settings that their requests carry */
extern atomic_int fetches, jobs_seen;
extern struct engine *engine;
extern struct engine_config config;
extern struct redis *redis;

/* A reply, copied out: floats are the first output's, as far as there is room, crc is of all of them. */
struct got {
    uint64_t id;
    int code;
    char field[96], message[416];
    size_t outputs, floats_len;
    float floats[256];
    uint32_t crc;
    uint32_t batch_rows, queue_us, compute_us;
};

void start_engine(int64_t model_bytes_max, int threads);
int set_up(void **state);
int tear_down(void **state);
void push(const struct message *m);
void order(enum message_type type, int v);
bool is_placed(int v);
void pause_briefly(void);
void wait_placed(int v, bool placed);
void load(int v);
struct message a_predict(int v, uint64_t id, uint32_t rows);
void ask_line(int v, uint64_t id, const float *x, uint32_t rows);
void ask_table(int v, uint64_t id, const float *sizes, const char *const *colours, uint32_t rows);
void collect(struct got *out, size_t n);
struct got collect_one(void);
void send_message(const struct message *m);
int train_models(void **state);
int drop_models(void **state);
void hang_up(void); /* the gateway goes, and comes again */

#endif
