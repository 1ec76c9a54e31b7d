/* Two links of one loop that speak to each other, and memory that is shared for the pieces of their records.
 */
#ifndef TESTS_UNIT_QUEUE_LINK_SCENE_H
#define TESTS_UNIT_QUEUE_LINK_SCENE_H

#include "queue/link.h"

struct side {
    struct link *link;
    struct buf got; /* records, each behind its length, unless `take` wants them */
    void (*take)(struct side *s, const char *data, size_t len);
    int up, down, records;
    bool free_on_record, refuse_on_record, free_on_down;
    char why[80];
};

extern struct loop *loop;
extern struct side near, far;
extern uint8_t key[LINK_KEY_LEN];
extern char address[LINK_ADDRESS_MAX];
extern int far_send_bytes; /* of the far side's socket; 0: the system's */

int scene_set_up(void **state);
int scene_tear_down(void **state);

struct link_events events_of(struct side *s);
void turn(void);
void run_until(const int *count, int wanted); /* fails the test after 10 s */
int accept_one(void);
void open_links(const uint8_t far_key[LINK_KEY_LEN]);
void connect_sides(void); /* until both are up */
int send_bytes(struct link *l, const char *bytes, size_t len);

/* Runs of noise that records have their pieces in. */
enum { POOL_RUNS = 16, POOL_RUN_BYTES = 512 * 1024 };
void pool_make(void);
/* A zeroed r becomes a record of text up to text_max long and of pieces up to piece_max long, and is appended
 * to `whole` as it must arrive, behind its length. */
void pool_record(struct record *r, size_t text_max, size_t piece_max, struct buf *whole);
bool pool_is_unheld(void);
void pool_free(void); /* fails the test when a piece is still held */

#endif
