/* "host:port" addresses that the launcher hands to the gateway. */
#ifndef ADMIN_LAUNCH_ADDRESS_H
#define ADMIN_LAUNCH_ADDRESS_H

#include <stddef.h>
#include "base/err.h"

enum { ADDRESS_TEXT_MAX = 256 };

/* Binds `text` for a moment: ERR_CONFLICT in plain words when somebody listens there, ERR_INVALID when it is
 * no address. out is text with a free port in place of 0. field names the option. */
int address_claim(const char *text, const char *field, char out[ADDRESS_TEXT_MAX], struct err *e);

/* The address that a client on this machine uses: "0.0.0.0" and "[::]" become the loopback address. */
void address_reachable(const char *text, char out[ADDRESS_TEXT_MAX]);

#endif
