/* The token bucket: its script, and running it with EVALSHA, falling back to EVAL when Redis has forgotten
 * it. */
#include "queue/rate.h"

#include <stdio.h>
#include <string.h>
#include <openssl/sha.h>
#include "base/crypto.h"
#include "base/mem.h"

/* KEYS[1] the bucket "tokens:time in µs"; ARGV: tokens per second, bucket size, tokens wanted. The bucket
 * expires when it would be full, since a full bucket and none are the same. Returns {granted, ms until the
 * next token, whole tokens left}. */
static const char script[] =
    "local rate, burst, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n"
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000000 + t[2]\n"
    "local tokens, last = burst, now\n"
    "local saved = redis.call('GET', KEYS[1])\n"
    "if saved then\n"
    "  local a, b = string.match(saved, '^([^:]+):([^:]+)$')\n"
    "  tokens, last = tonumber(a) or 0, tonumber(b) or now\n"
    "end\n"
    "if now > last then tokens = tokens + (now - last) * rate / 1000000 end\n"
    "tokens = math.min(burst, tokens)\n"
    "local granted = math.min(want, math.floor(tokens))\n"
    "tokens = tokens - granted\n"
    "local full = math.ceil((burst - tokens) / rate * 1000) + 1\n"
    "redis.call('SET', KEYS[1], string.format('%.6f:%.0f', tokens, now), 'PX', full)\n"
    "local wait = 0\n"
    "if granted == 0 then wait = math.ceil((1 - tokens) / rate * 1000) end\n"
    "return {granted, wait, math.floor(tokens)}\n";

enum { SHA1_HEX = 41, NUMBER_TEXT = 32 };

static void script_sha1(char out[SHA1_HEX])
{
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA1((const unsigned char *)script, sizeof script - 1, digest);
    crypto_hex(out, digest, sizeof digest);
}

/* The command's texts, in one place so that argv may point into it. */
struct rate_command {
    char sha[SHA1_HEX], key[ID_MAX + 16], rate[NUMBER_TEXT], burst[NUMBER_TEXT], want[NUMBER_TEXT];
    const char *argv[7];
};

static void compose(struct rate_command *c, const struct rate_request *q, bool by_sha)
{
    script_sha1(c->sha);
    snprintf(c->key, sizeof c->key, "tnr:rate:%s", q->tenant_id);
    snprintf(c->rate, sizeof c->rate, "%.6f", q->per_second);
    snprintf(c->burst, sizeof c->burst, "%.6f", q->burst);
    snprintf(c->want, sizeof c->want, "%d", q->want);
    c->argv[0] = by_sha ? "EVALSHA" : "EVAL";
    c->argv[1] = by_sha ? c->sha : script;
    c->argv[2] = "1";
    c->argv[3] = c->key;
    c->argv[4] = c->rate;
    c->argv[5] = c->burst;
    c->argv[6] = c->want;
}

static bool is_forgotten(const struct err *e)
{
    return strstr(e->message, "NOSCRIPT") != NULL;
}

static int read_grant(struct rate_grant *out, const redisReply *reply, struct err *e)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3)
        return err_set(e, ERR_INTERNAL, NULL, "the rate script answered in an unknown form");
    out->granted = (int)redis_reply_int(reply->element[0], 0);
    out->retry_after_ms = (int)redis_reply_int(reply->element[1], 0);
    out->remaining = (int)redis_reply_int(reply->element[2], 0);
    return 0;
}

int rate_take(struct redis *r, const struct rate_request *q, struct rate_grant *out, struct err *e)
{
    struct rate_command c;
    struct err first = {0};
    redisReply *reply;
    compose(&c, q, true);
    int rc = redis_call_argv(r, &reply, 7, c.argv, NULL, &first);
    if (rc && is_forgotten(&first)) {
        compose(&c, q, false);
        rc = redis_call_argv(r, &reply, 7, c.argv, NULL, &first);
    }
    if (rc) {
        if (e) *e = first;
        return rc;
    }
    rc = read_grant(out, reply, e);
    freeReplyObject(reply);
    return rc;
}

/* ---- on a loop
 * ------------------------------------------------------------------------------------------------ */

struct rate_call {
    struct redis_async *r;
    struct rate_request q;
    bool by_sha;
    rate_fn fn;
    void *arg;
};

static int send_call(struct rate_call *call);

static void on_script(void *arg, int rc, const redisReply *reply, const struct err *e)
{
    struct rate_call *call = arg;
    struct rate_grant grant = {0};
    struct err failure = *e;
    if (rc && call->by_sha && is_forgotten(e)) {
        call->by_sha = false;
        rc = send_call(call);
        if (rc == 0) return;
        err_set(&failure, rc, NULL, "Redis cannot be asked for a rate lease now");
    }
    if (rc == 0) rc = read_grant(&grant, reply, &failure);
    call->fn(call->arg, rc, rc ? NULL : &grant, &failure);
    mem_free(call);
}

static int send_call(struct rate_call *call)
{
    struct rate_command c;
    compose(&c, &call->q, call->by_sha);
    return redis_async_argv(call->r, 0, on_script, call, 7, c.argv, NULL);
}

int rate_take_async(struct redis_async *r, const struct rate_request *q, rate_fn fn, void *arg)
{
    struct rate_call *call = mem_alloc(1, sizeof *call);
    *call = (struct rate_call){.r = r, .q = *q, .by_sha = true, .fn = fn, .arg = arg};
    int rc = send_call(call);
    if (rc) mem_free(call);
    return rc;
}
