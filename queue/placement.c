/* The placement sets and their channel. */
#include "queue/placement.h"

#include <stdio.h>
#include <string.h>

void placement_key(char out[PLACEMENT_KEY_MAX], const char *version_id)
{
    snprintf(out, PLACEMENT_KEY_MAX, "tnr:place:%s", version_id);
}

enum { COMMANDS_PER_CHANGE = 5 };

/* MULTI, the set, its life, the message, EXEC: five replies to come. */
static int append_change(struct redis *r, const char *version_id, const char *inc, bool up, struct err *e)
{
    char key[PLACEMENT_KEY_MAX], text[2 * ID_MAX + 8];
    placement_key(key, version_id);
    snprintf(text, sizeof text, "%s %s %s", version_id, inc, up ? "up" : "down");
    int rc;
    if ((rc = redis_append(r, e, "MULTI")) ||
        (rc = redis_append(r, e, up ? "SADD %s %s" : "SREM %s %s", key, inc)) ||
        (rc = redis_append(r, e, "PEXPIRE %s %d", key, PLACEMENT_LIFE_MS)) ||
        (rc = redis_append(r, e, "PUBLISH " PLACEMENT_CHANNEL " %s", text)))
        return rc;
    return redis_append(r, e, "EXEC");
}

int placement_announce(struct redis *r, const char *version_id, const char *inc, struct err *e)
{
    int rc = append_change(r, version_id, inc, true, e);
    return rc ? rc : redis_take_all(r, COMMANDS_PER_CHANGE, e);
}

int placement_withdraw(struct redis *r, const char *version_id, const char *inc, struct err *e)
{
    int rc = append_change(r, version_id, inc, false, e);
    return rc ? rc : redis_take_all(r, COMMANDS_PER_CHANGE, e);
}

int placement_announce_all(struct redis *r, const char (*version_ids)[ID_MAX], size_t n, const char *inc,
                           struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) rc = append_change(r, version_ids[i], inc, true, e);
    return rc ? rc : redis_take_all(r, n * COMMANDS_PER_CHANGE, e);
}

int placement_holders(struct redis *r, const char *version_id, char (*incs)[ID_MAX], size_t *n, struct err *e)
{
    *n = 0;
    char key[PLACEMENT_KEY_MAX];
    placement_key(key, version_id);
    redisReply *reply;
    int rc = redis_call(r, &reply, e, "SMEMBERS %s", key);
    if (rc) return rc;
    for (size_t i = 0; i < reply->elements && *n < PLACEMENT_HOLDERS_MAX; i++) {
        const char *inc = redis_reply_str(reply->element[i]);
        if (inc && id_valid(inc, "inc")) snprintf(incs[(*n)++], ID_MAX, "%s", inc);
    }
    freeReplyObject(reply);
    return 0;
}

/* As "<name of the code>:<message>". */
int placement_fail(struct redis *r, const char *version_id, const struct err *why, struct err *e)
{
    return redis_call(r, NULL, e, "SET tnr:loadfail:%s %s:%s PX %d", version_id, err_name(why->code),
                      why->message, PLACEMENT_FAIL_MS);
}

int placement_failure(struct redis *r, const char *version_id, struct err *why, struct err *e)
{
    err_clear(why);
    redisReply *reply;
    int rc = redis_call(r, &reply, e, "GET tnr:loadfail:%s", version_id);
    if (rc) return rc;
    const char *text = redis_reply_str(reply), *colon = text ? strchr(text, ':') : NULL;
    char name[32];
    if (colon) {
        snprintf(name, sizeof name, "%.*s", (int)(colon - text), text);
        err_set(why, err_code_of(name), NULL, "%s", colon + 1);
    }
    freeReplyObject(reply);
    return 0;
}

bool placement_failure_is_final(int code)
{
    return code == ERR_CORRUPT || code == ERR_NOT_FOUND || code == ERR_UNSUPPORTED || code == ERR_INVALID;
}

/* Of the version, or of the room for versions: words for its tenant. What else kept a worker from loading it
 * is ours, and names our folders and servers. */
const char *placement_failure_told(const struct err *why)
{
    bool theirs =
        placement_failure_is_final(why->code) || why->code == ERR_TOO_LARGE || why->code == ERR_LIMIT;
    return theirs ? why->message : "it could not be loaded; try again";
}

int placement_parse(struct placement_change *out, const char *text, size_t len, struct err *e)
{
    char copy[2 * ID_MAX + 8], word[3][ID_MAX], rest;
    memset(out, 0, sizeof *out);
    if (len >= sizeof copy) return err_set(e, ERR_CORRUPT, NULL, "a placement message of %zu bytes", len);
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (sscanf(copy, "%39s %39s %39s %c", word[0], word[1], word[2], &rest) != 3 ||
        !id_valid(word[0], "ver") || !id_valid(word[1], "inc") ||
        (strcmp(word[2], "up") != 0 && strcmp(word[2], "down") != 0))
        return err_set(e, ERR_CORRUPT, NULL, "\"%s\" is not a placement message", copy);
    memcpy(out->version_id, word[0], ID_MAX);
    memcpy(out->inc, word[1], ID_MAX);
    out->up = strcmp(word[2], "up") == 0;
    return 0;
}
