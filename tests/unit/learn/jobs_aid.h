/* What the tests of tune and evaluate jobs share: runs by type, and what they say. */
#ifndef TESTS_UNIT_LEARN_JOBS_AID_H
#define TESTS_UNIT_LEARN_JOBS_AID_H

#include "base/crypto.h"
#include "tests/unit/learn/aid.h"

/* What a run said. */
struct heard {
    int trial_events, fold_events, epochs_of[32],
        cancel_after; /* cancel_after: so many trial events; 0: never */
    char last_part[512], text[8192];
};
void heard_progress(void *ctx, const struct train_progress *p);
void heard_message(void *ctx, const char *level, const char *text);

/* heard may be NULL. */
int jobs_run(struct aid_result *out, const char *type, const char *spec, const char *csv, struct heard *h,
             struct err *e);
void jobs_succeed(struct aid_result *out, const char *type, const char *spec, const char *csv,
                  struct heard *h);

double jobs_number(const cJSON *o, const char *name); /* NaN when absent */
const char *jobs_text(const cJSON *o, const char *name);
const cJSON *jobs_trial(const struct aid_result *r, int number);
void jobs_digest(const struct buf *b, char hex[SHA256_HEX_LEN]);
/* Fails the test, naming the mark that b went on from, unless both ended with the same artifact and the same
 * metrics but for how long it took. */
void jobs_same(const struct aid_result *a, const struct aid_result *b, const char *what,
               const struct train_mark *mark);
void jobs_near(double a, double b, double within);

#endif
