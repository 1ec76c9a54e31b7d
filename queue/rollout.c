/* The counts of a rollout: buckets of latency, sums, and their text in Redis. */
#include "queue/rollout.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/num.h"
#include "queue/redis_clock.h"

/* FOLD_MAX: fields that one reading adds to those that are gone; the next one takes more. */
enum { FIRST_BITS = 4, PER_DOUBLING = 4, FOLD_MAX = 256 };

const char *rollout_arm_name(enum rollout_arm arm)
{
    static const char *const names[ROLLOUT_ARMS] = {"primary", "canary", "shadow"};
    assert(arm < ROLLOUT_ARMS);
    return names[arm];
}

void rollout_key(char out[ROLLOUT_KEY_MAX], const struct rollout_id *id)
{
    snprintf(out, ROLLOUT_KEY_MAX, "tnr:rollout:%s:%s:%s:%lld", id->tenant_id, id->model, id->alias,
             (long long)id->etag);
}

/* ---- latency ---- */

size_t rollout_bucket(int64_t latency_us)
{
    if (latency_us < 1 << FIRST_BITS) return 0;
    int bits = 63 - __builtin_clzll((unsigned long long)latency_us);
    int64_t quarter = (latency_us >> (bits - 2)) & 3;
    size_t bucket = 1 + (size_t)(bits - FIRST_BITS) * PER_DOUBLING + (size_t)quarter;
    return bucket < ROLLOUT_BUCKETS ? bucket : ROLLOUT_BUCKETS - 1;
}

/* The least latency that falls into the bucket. */
static int64_t bucket_start(size_t bucket)
{
    if (bucket == 0) return 0;
    size_t i = bucket - 1;
    return (int64_t)(PER_DOUBLING + i % PER_DOUBLING) << (i / PER_DOUBLING + FIRST_BITS - 2);
}

int64_t rollout_quantile_us(const struct rollout_arm_counts *a, double q)
{
    int64_t answered = 0, below = 0;
    for (size_t i = 0; i < ROLLOUT_BUCKETS; i++) answered += a->latency[i];
    if (answered == 0) return 0;
    double rank = q * (double)answered;
    size_t i = 0;
    while (i + 1 < ROLLOUT_BUCKETS && (double)(below + a->latency[i]) < rank) below += a->latency[i++];
    int64_t start = bucket_start(i), end = bucket_start(i + 1);
    double part = a->latency[i] ? (rank - (double)below) / (double)a->latency[i] : 0;
    return start + (int64_t)(part * (double)(end - start));
}

/* ---- sums ---- */

void rollout_add(struct rollout_counts *to, const struct rollout_counts *more)
{
    for (size_t i = 0; i < ROLLOUT_ARMS; i++) {
        struct rollout_arm_counts *a = &to->arm[i];
        const struct rollout_arm_counts *b = &more->arm[i];
        a->requests += b->requests;
        a->errors += b->errors;
        a->slow += b->slow;
        for (size_t k = 0; k < ROLLOUT_BUCKETS; k++) a->latency[k] += b->latency[k];
    }
    to->skipped += more->skipped;
    to->compared += more->compared;
    to->disagreements += more->disagreements;
    to->largest_difference = fmax(to->largest_difference, more->largest_difference);
}

/* ---- text: "written skipped compared disagreements largest", then of each arm "requests errors slow n" and
 * n pairs "bucket count" */

void rollout_encode(struct buf *out, const struct rollout_counts *c, int64_t written_ms)
{
    buf_printf(out, "%lld %lld %lld %lld %.17g", (long long)written_ms, (long long)c->skipped,
               (long long)c->compared, (long long)c->disagreements, c->largest_difference);
    for (size_t i = 0; i < ROLLOUT_ARMS; i++) {
        const struct rollout_arm_counts *a = &c->arm[i];
        int used = 0;
        for (size_t k = 0; k < ROLLOUT_BUCKETS; k++) used += a->latency[k] > 0;
        buf_printf(out, " %lld %lld %lld %d", (long long)a->requests, (long long)a->errors,
                   (long long)a->slow, used);
        for (size_t k = 0; k < ROLLOUT_BUCKETS; k++)
            if (a->latency[k] > 0) buf_printf(out, " %zu %lld", k, (long long)a->latency[k]);
    }
}

/* The next whole number of the text, at most max; false when there is none. */
static bool take(const char **at, int64_t max, int64_t *out)
{
    const char *p = *at;
    int64_t v = 0;
    if (*p == ' ') p++;
    const char *first = p;
    for (; *p >= '0' && *p <= '9'; p++)
        if (v > (max - (*p - '0')) / 10)
            return false;
        else
            v = v * 10 + (*p - '0');
    *at = p;
    *out = v;
    return p > first && (*p == ' ' || *p == '\0');
}

/* So that no sum of counts overflows. */
enum { SHIFT_MAX = 50 };
static const int64_t count_max = (int64_t)1 << SHIFT_MAX;

static bool take_arm(const char **at, struct rollout_arm_counts *a)
{
    int64_t used, bucket;
    if (!take(at, count_max, &a->requests) || !take(at, count_max, &a->errors) ||
        !take(at, count_max, &a->slow) || !take(at, ROLLOUT_BUCKETS, &used))
        return false;
    for (; used > 0; used--)
        if (!take(at, ROLLOUT_BUCKETS - 1, &bucket) || !take(at, count_max, &a->latency[bucket]))
            return false;
    return true;
}

int rollout_decode(struct rollout_counts *out, int64_t *written_ms, const char *text, struct err *e)
{
    const char *at = text;
    memset(out, 0, sizeof *out);
    bool good = take(&at, count_max, written_ms) && take(&at, count_max, &out->skipped) &&
                take(&at, count_max, &out->compared) && take(&at, count_max, &out->disagreements) &&
                *at == ' ';
    size_t len = good ? num_scan(at + 1, at + 1 + strcspn(at + 1, " "), &out->largest_difference) : 0;
    good = len > 0 && out->largest_difference >= 0 && isfinite(out->largest_difference);
    at += 1 + len;
    for (size_t i = 0; i < ROLLOUT_ARMS && good; i++) good = *at == ' ' && take_arm(&at, &out->arm[i]);
    if (good && *at == '\0') return 0;
    memset(out, 0, sizeof *out);
    return err_set(e, ERR_CORRUPT, NULL, "\"%.100s\" are not the counts of a rollout", text);
}

/* ---- reading ---- */

#define GONE "gone"

/* The loops that are gone. */
struct gone {
    struct rollout_counts sum;
    const char *text;             /* of the field, as it was read; borrowed */
    const char *fields[FOLD_MAX]; /* that the sum has and the text has not; borrowed */
    size_t n;
};

/* ARGV: the text that stood there, the one that is to, and the fields that it has more. Whoever comes second
 * finds another text, and nothing is added twice. */
static const char fold_script[] =
    "if redis.call('EXISTS', KEYS[1]) == 0 or (redis.call('HGET', KEYS[1], '" GONE
    "') or '') ~= ARGV[1] then "
    "return 0 end "
    "redis.call('HSET', KEYS[1], '" GONE "', ARGV[2]) "
    "for i = 3, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end "
    "return 1";

/* Not being able to is no harm: the next one that reads does it. */
static void fold(struct redis *r, const char *key, const struct gone *g)
{
    const char *argv[6 + FOLD_MAX] = {"EVAL", fold_script, "1", key, g->text};
    struct buf text = {0};
    rollout_encode(&text, &g->sum, 0);
    argv[5] = text.data;
    memcpy(argv + 6, g->fields, g->n * sizeof *argv);
    if (!text.failed) (void)redis_call_argv(r, NULL, 6 + (int)g->n, argv, NULL, NULL);
    buf_dispose(&text);
}

static int read_field(struct gone *g, const char *writer, const char *text, rollout_each_fn each, void *arg,
                      struct err *e)
{
    struct rollout_counts counts;
    int64_t written_ms;
    if (!writer || !text || strlen(writer) >= ROLLOUT_WRITER_MAX) return 0;
    if (rollout_decode(&counts, &written_ms, text, NULL)) return 0;
    bool is_sum = strcmp(writer, GONE) == 0;
    bool is_old = !is_sum && redis_clock_us() / 1000 - written_ms > ROLLOUT_LIFE_MS;
    if (!is_sum && (!is_old || g->n == FOLD_MAX)) return each(arg, writer, &counts, e);
    rollout_add(&g->sum, &counts);
    if (is_sum)
        g->text = text;
    else
        g->fields[g->n++] = writer;
    return 0;
}

int rollout_read(struct redis *r, const struct rollout_id *id, rollout_each_fn each, void *arg, struct err *e)
{
    char key[ROLLOUT_KEY_MAX];
    redisReply *reply;
    struct gone g = {.text = ""};
    rollout_key(key, id);
    int rc = redis_call(r, &reply, e, "HGETALL %s", key);
    if (rc) return rc;
    for (size_t i = 0; i + 1 < reply->elements && rc == 0; i += 2)
        rc = read_field(&g, redis_reply_str(reply->element[i]), redis_reply_str(reply->element[i + 1]), each,
                        arg, e);
    if (rc == 0) rc = each(arg, NULL, &g.sum, e);
    if (g.n > 0) fold(r, key, &g);
    freeReplyObject(reply);
    return rc;
}
