/* What the routes of models share. Inside routes/ only. */
#ifndef GATEWAY_ROUTES_MODELS_H
#define GATEWAY_ROUTES_MODELS_H

#include "gateway/api_call.h"
#include "store/model.h"

/* The model of the path's first segment: ERR_NOT_FOUND for a name of another form as for an unknown one, and
 * so for one outside the key's allow-list. */
int models__check_name(struct api_call *c, struct err *e);
/* Names the noun of a version's or alias's path that was not found. */
int models__not_found(int rc, struct err *e);

/* If-Match: "3", quoted or not, makes a read-modify-write safe. -1 without it, or for *. */
int models__if_match(struct api_call *c, int64_t *etag, struct err *e);
void models__tell_etag(struct api_call *c, int64_t etag); /* the answer's ETag */
/* The members of a model; the caller opens and closes the object. */
void models__members(struct json_writer *w, const struct model *m);

#endif
