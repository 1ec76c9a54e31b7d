/* A daemon that the launcher started: spawned detached, remembered in run/<name>.pid, found again later.
 *
 *     process_spawn ──▶ fork ─ setsid ─ (drop to another user) ─ stdio to log/<name>.log ─ exec
 *
 * A pid file holds "pid start-time": a number that the kernel has given to somebody else since is not
 * mistaken for our process. */
#ifndef ADMIN_LAUNCH_PROCESS_H
#define ADMIN_LAUNCH_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>
#include "admin/launch/home.h"
#include "base/err.h"

struct process_spec {
    const char *name;        /* of the pid file and the log */
    const char *const *argv; /* borrowed; argv[0] is the path; NULL-terminated */
    const char *cwd;         /* NULL: the home */
    const char *user;        /* NULL: the caller's; only root may name another */
};

/* Starts it and writes its pid file. The exec's own failure is reported here ("…: No such file"). */
int process_spawn(const struct home *h, const struct process_spec *spec, pid_t *pid, struct err *e);

/* Runs it to its end with output to log/<name>.log; ERR_IO with the log's last lines when it exits other than
 * 0. */
int process_run(const struct home *h, const struct process_spec *spec, struct err *e);

/* The running process of that name, or 0. */
pid_t process_find(const struct home *h, const char *name);

/* Milliseconds since it started, or -1. */
long process_age_ms(pid_t pid);

/* Sends signal, waits up to patience_ms, then SIGKILL. True when it had to be killed. Removes the pid file.
 */
bool process_stop(const struct home *h, const char *name, int signal, int patience_ms);

/* The last lines of log/<name>.log, for an error message; at most cap bytes with the NUL. */
void process_log_tail(const struct home *h, const char *name, char *out, size_t cap);

#endif
