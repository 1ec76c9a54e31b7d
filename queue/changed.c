/* The text of tnr:changed: "key <id>", "model <tenant> <name>", "tenant <id>". */
#include "queue/changed.h"

#include <stdio.h>
#include <string.h>

int changed_publish(struct redis *r, const struct changed *c, struct err *e)
{
    char text[ID_MAX + CHANGED_NAME_MAX + 16];
    switch (c->kind) {
    case CHANGED_KEY:
        snprintf(text, sizeof text, "key %s", c->key_id);
        break;
    case CHANGED_MODEL:
        snprintf(text, sizeof text, "model %s %s", c->tenant_id, c->model);
        break;
    case CHANGED_TENANT:
        snprintf(text, sizeof text, "tenant %s", c->tenant_id);
        break;
    default:
        return err_set(e, ERR_INTERNAL, NULL, "changed_publish: nothing to say of kind %d", (int)c->kind);
    }
    return redis_call(r, NULL, e, "PUBLISH " CHANGED_CHANNEL " %s", text);
}

int changed_parse(struct changed *out, const char *text, size_t len, struct err *e)
{
    char copy[ID_MAX + CHANGED_NAME_MAX + 16], kind[8], id[ID_MAX], name[CHANGED_NAME_MAX], rest;
    memset(out, 0, sizeof *out);
    if (len >= sizeof copy) return err_set(e, ERR_CORRUPT, NULL, "a change message of %zu bytes", len);
    memcpy(copy, text, len);
    copy[len] = '\0';
    int words = sscanf(copy, "%7s %39s %64s %c", kind, id, name, &rest);
    if (words == 2 && strcmp(kind, "key") == 0 && id_valid(id, "key")) {
        out->kind = CHANGED_KEY;
        memcpy(out->key_id, id, strlen(id) + 1);
        return 0;
    }
    if (words == 2 && strcmp(kind, "tenant") == 0 && id_valid(id, "ten"))
        out->kind = CHANGED_TENANT;
    else if (words == 3 && strcmp(kind, "model") == 0 && id_valid(id, "ten") && id_name_valid(name)) {
        out->kind = CHANGED_MODEL;
        memcpy(out->model, name, strlen(name) + 1);
    } else
        return err_set(e, ERR_CORRUPT, NULL, "\"%s\" is not a change message", copy);
    memcpy(out->tenant_id, id, strlen(id) + 1);
    return 0;
}
