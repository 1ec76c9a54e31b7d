/* The user that Postgres runs as: the caller, or, when the caller is root (initdb refuses root), an
 * unprivileged one. */
#ifndef ADMIN_LAUNCH_ACCOUNT_H
#define ADMIN_LAUNCH_ACCOUNT_H

#include <sys/types.h>
#include "base/err.h"

/* NULL when the caller is not root; else "postgres", or "nobody" where there is no such user. */
const char *account_for_servers(void);

/* Gives path (and what is below it) to user; nothing for NULL. */
int account_own(const char *user, const char *path, struct err *e);

/* In a forked child: becomes user for good. Where user could not enter `folder` (a 0700 home above it), the
 * one capability to pass through folders is kept, so that the data can stay inside the home. 0, or -1 with
 * errno. */
int account_become(const char *user, const char *folder);

#endif
