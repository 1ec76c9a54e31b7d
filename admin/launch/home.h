/* TENOR_HOME: the folder that holds everything of one local platform.
 *
 *     etc/   secrets and generated configuration (0600)     pg/     Postgres' data
 *     run/   pid files, sockets, the lock                   redis/  Redis' append-only file
 *     log/   one log per process                            blobs/  encrypted datasets and versions
 *
 * A unix socket's path holds 107 bytes: when the home's path is too long, sockets live in a private folder
 * below /tmp that `run/sockets` points to, and `tenor down` removes it. */
#ifndef ADMIN_LAUNCH_HOME_H
#define ADMIN_LAUNCH_HOME_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

enum { HOME_SECRET_HEX_LEN = 65, HOME_SOCKETS_MAX = 96 };

struct home {
    char root[PATH_MAX];            /* absolute, no link in it */
    char sockets[HOME_SOCKETS_MAX]; /* where the unix sockets are; short enough for sun_path */
    int lock_fd;                    /* -1 unless locked */
};

/* path NULL: TENOR_HOME, else ./var. Nothing is created. */
int home_find(struct home *h, const char *path, struct err *e);

/* Creates the folders (0700) and the sockets' folder. */
int home_create(struct home *h, struct err *e);

/* One launcher at a time: ERR_CONFLICT when another one is at work. home_unlock also closes. */
int home_lock(struct home *h, struct err *e);
void home_unlock(struct home *h);

/* root/name. Dies when the path does not fit: the root was checked to leave room. */
void home_path(const struct home *h, const char *name, char out[PATH_MAX]);
void home_socket(const struct home *h, const char *name, char out[PATH_MAX]);

/* etc/<name>: 32 random bytes as hex, made on first use (0600), the same from then on. */
int home_secret(const struct home *h, const char *name, char out[HOME_SECRET_HEX_LEN], struct err *e);

/* Removes the folder of sockets when it lies outside the home. */
void home_release_sockets(const struct home *h);

#endif
