/* "Drop what you cached": the channel tnr:changed, from whoever changes a key, a model or a tenant, to every
 * gateway. A hint for speed: caches also expire by themselves within seconds. */
#ifndef QUEUE_CHANGED_H
#define QUEUE_CHANGED_H

#include <stddef.h>
#include "base/err.h"
#include "base/ids.h"
#include "queue/redis.h"

#define CHANGED_CHANNEL "tnr:changed"
enum { CHANGED_NAME_MAX = 65 };

enum changed_kind {
    CHANGED_KEY,
    CHANGED_MODEL,
    CHANGED_TENANT,
    CHANGED_ALL /* never sent: messages may have been missed */
};

struct changed {
    enum changed_kind kind;
    char key_id[ID_MAX];          /* KEY */
    char tenant_id[ID_MAX];       /* MODEL, TENANT */
    char model[CHANGED_NAME_MAX]; /* MODEL: its name */
};

int changed_publish(struct redis *r, const struct changed *c,
                    struct err *e); /* blocking; CHANGED_ALL is refused */
int changed_parse(struct changed *out, const char *text, size_t len, struct err *e);

#endif
