/* Turns a failure into the status and the JSON that the client gets. */
#include "gateway/http/envelope.h"

#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "base/log.h"
#include "gateway/http/exchange.h"

static const struct {
    int code;
    int status;
} STATUS[] = {
    {ERR_NOMEM, 503},        {ERR_INVALID, 400},   {ERR_NOT_FOUND, 404}, {ERR_CONFLICT, 409},
    {ERR_UNAUTHORIZED, 401}, {ERR_FORBIDDEN, 403}, {ERR_LIMIT, 429},     {ERR_OVERLOAD, 503},
    {ERR_TOO_LARGE, 413},    {ERR_TIMEOUT, 504},   {ERR_IO, 500},        {ERR_UNAVAILABLE, 503},
    {ERR_CANCELLED, 503},    {ERR_CORRUPT, 500},   {ERR_STALE, 409},     {ERR_UNSUPPORTED, 400},
    {ERR_INTERNAL, 500},
};

int http_status_of(const struct err *e)
{
    if (e->code == ERR_TIMEOUT && !strcmp(e->field, "body")) return 408;
    if (e->code == ERR_IO && !strcmp(e->field, "body")) return 400;
    if (e->code == ERR_UNSUPPORTED && !strcmp(e->field, "content-type")) return 415;
    for (size_t i = 0; i < sizeof STATUS / sizeof *STATUS; i++) {
        if (STATUS[i].code == e->code) return STATUS[i].status;
    }
    return 500;
}

static const char *type_of(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 409:
        return "conflict_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

void envelope_write(struct buf *out, int status, const char *code, const char *param, const char *message)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    jw_name(&w, "error");
    jw_obj(&w);
    jw_kstr(&w, "message", message);
    jw_kstr(&w, "type", type_of(status));
    jw_kstr(&w, "param", param && *param ? param : NULL);
    jw_kstr(&w, "code", code);
    jw_obj_end(&w);
    jw_obj_end(&w);
}

int envelope_of_err(struct buf *out, const struct err *e, const char *request_id)
{
    int status = http_status_of(e);
    if (status != 500) {
        envelope_write(out, status, err_name(e->code), e->field, e->message);
        return status;
    }
    log_error("request_failed", "request=%s code=%s message=%s", request_id, err_name(e->code), e->message);
    char message[128];
    snprintf(message, sizeof message, "An internal error. It was logged; quote the request id %s.",
             request_id);
    envelope_write(out, status, "internal", NULL, message);
    return status;
}

int envelope_retry_after(const struct err *e)
{
    int status = http_status_of(e);
    if (status != 429 && status != 503) return 0;
    return e->retry_after_ms > 0 ? (e->retry_after_ms - 1) / 1000 + 1 : 1;
}
