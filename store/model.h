/* Models (a name and its newest version number), immutable versions, movable aliases. A model appears with
 * its first version. */
#ifndef STORE_MODEL_H
#define STORE_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/crypto.h"
#include "base/ids.h"
#include "store/blob.h"
#include "store/db.h"

struct alias {
    char name[STORE_NAME_MAX];
    char model[STORE_NAME_MAX];
    int64_t version;
    int64_t previous;   /* the version that it pointed at before; 0: none to go back to */
    int64_t canary;     /* the version that gets a share of its calls; 0: none */
    int64_t canary_ppm; /* that share, in millionths: 1 to 999,999 */
    int64_t etag;       /* grows with each change */
    int64_t updated_at_us;
};

struct model {
    char id[ID_MAX]; /* "mdl_…" */
    char name[STORE_NAME_MAX];
    int64_t latest_version;
    int64_t created_at_us;
    struct alias *aliases; /* in the arena, by name */
    int n_aliases;
};

int model_find(struct db *db, const char *name, struct arena *a, struct model *out,
               struct err *e); /* ERR_NOT_FOUND */

struct model_list {
    struct model *items; /* in the arena */
    int n;
    bool has_more;
};
int model_list(struct db *db, const struct page *p, struct arena *a, struct model_list *out,
               struct err *e); /* ids: mdl_… */

#endif
