/* What the routes of aliases share. Inside routes/ only. */
#ifndef GATEWAY_ROUTES_ALIASES_H
#define GATEWAY_ROUTES_ALIASES_H

#include "gateway/api_call.h"
#include "store/alias.h"

/* The member "last_rollback"; null when there was none. */
void aliases__write_ended(struct json_writer *w, const struct alias_ended *ended);

#endif
