/* Walks a path through a spec's JSON, making what is missing on the way. */
#include "learn/spec/put.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

enum { NAME_MAX_BYTES = 128, PLACE_DIGITS = 6 };

/* One step of a path: a name, or a place in a list. */
struct step {
    char name[NAME_MAX_BYTES]; /* "" for a place */
    int place;
};

/* Reads the step at *at and moves behind it and its dot; false when the path is malformed. */
static bool read_step(const char **at, bool first, struct step *s)
{
    const char *p = *at;
    *s = (struct step){.place = -1};
    if (*p == '[' && !first) {
        size_t digits = strspn(++p, "0123456789");
        if (digits == 0 || digits > PLACE_DIGITS || p[digits] != ']') return false;
        for (s->place = 0; *p != ']'; p++) s->place = s->place * 10 + (*p - '0');
        p++;
    } else {
        size_t n = strcspn(p, ".[]");
        if (n == 0 || n >= sizeof s->name) return false;
        memcpy(s->name, p, n);
        p += n;
    }
    if (*p == '.') {
        p++;
        if (*p == '\0' || *p == '[') return false;
    } else if (*p != '\0' && *p != '[') {
        return false;
    }
    *at = p;
    return true;
}

static cJSON *child(const cJSON *node, const struct step *s)
{
    if (s->name[0]) return cJSON_IsObject(node) ? cJSON_GetObjectItemCaseSensitive(node, s->name) : NULL;
    return cJSON_IsArray(node) ? cJSON_GetArrayItem(node, s->place) : NULL;
}

const cJSON *spec_at(const cJSON *root, const char *path)
{
    struct step s;
    for (const char *at = path; root && (*at || at == path); root = child(root, &s))
        if (!read_step(&at, at == path, &s)) return NULL;
    return root;
}

/* The object's name becomes an object of that name, as the spec allows both: "adam" and {"name":"adam"}. */
static cJSON *unfold_optimizer(cJSON *parent, const struct step *s, cJSON *node)
{
    if (!cJSON_IsString(node) || strcmp(s->name, "optimizer") != 0) return node;
    cJSON *object = cJSON_CreateObject();
    if (!object || !cJSON_AddStringToObject(object, "name", node->valuestring) ||
        !cJSON_ReplaceItemInObjectCaseSensitive(parent, s->name, object)) {
        cJSON_Delete(object);
        return NULL;
    }
    return object;
}

/* The part that the next step goes into; made when it is missing. NULL: no memory, or there is no such part.
 */
static cJSON *enter(cJSON *node, const struct step *s)
{
    cJSON *next = child(node, s);
    if (next && !cJSON_IsNull(next)) return s->name[0] ? unfold_optimizer(node, s, next) : next;
    if (!s->name[0] || !cJSON_IsObject(node)) return NULL;
    if (next) cJSON_DeleteItemFromObjectCaseSensitive(node, s->name);
    next = cJSON_AddObjectToObject(node, s->name);
    /* Of an optimiser, the name is the one thing without a default; this is what the spec has without one. */
    if (next && strcmp(s->name, "optimizer") == 0 && !cJSON_AddStringToObject(next, "name", "adam"))
        return NULL;
    return next;
}

static bool replace(cJSON *node, const struct step *s, const cJSON *value)
{
    cJSON *copy = cJSON_Duplicate(value, true);
    bool done = false;
    if (copy && s->name[0] && cJSON_IsObject(node))
        done = cJSON_GetObjectItemCaseSensitive(node, s->name)
                   ? cJSON_ReplaceItemInObjectCaseSensitive(node, s->name, copy)
                   : cJSON_AddItemToObject(node, s->name, copy);
    else if (copy && !s->name[0] && cJSON_IsArray(node) && s->place < cJSON_GetArraySize(node))
        done = cJSON_ReplaceItemInArray(node, s->place, copy);
    if (!done) cJSON_Delete(copy);
    return done;
}

int spec_put(cJSON *root, const char *path, const cJSON *value, const char *field, struct err *e)
{
    const char *at = path;
    struct step s;
    for (;;) {
        if (!read_step(&at, at == path, &s))
            return err_set(e, ERR_INVALID, field,
                           "\"%.80s\" is no path into a spec; expected names joined by dots, with places of "
                           "lists in brackets, as in architecture[0].units",
                           path);
        if (*at == '\0') break;
        root = enter(root, &s);
        if (!root)
            return err_set(e, ERR_INVALID, field,
                           "the base spec has nothing at the start of \"%.80s\"; only "
                           "missing objects are made, not layers and steps of lists",
                           path);
    }
    return replace(root, &s, value)
               ? 0
               : err_set(e, ERR_INVALID, field, "the base spec has no place for \"%.80s\"", path);
}
