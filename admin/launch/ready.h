/* Waiting until a local platform serves: the gateway says so, and a worker's heartbeat is there. */
#ifndef ADMIN_LAUNCH_READY_H
#define ADMIN_LAUNCH_READY_H

#include <stdbool.h>
#include "admin/launch/home.h"
#include "base/err.h"

/* Up to 30 s. A daemon that ends meanwhile fails at once, with the last lines of its log. */
int ready_wait(const struct home *h, struct err *e);

/* One question to the gateway's /readyz. */
bool ready_gateway(const struct home *h);

#endif
