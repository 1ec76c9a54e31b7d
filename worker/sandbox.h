/* Walls around the calling process, put up once and never taken down: for tenor-runner, before it reads a
 * byte of a tenant's.
 *
 *   sandbox_enter: close descriptors ▸ limits ▸ no network ▸ empty root and user nobody (as root) ▸ no new
 * privileges ▸ Landlock (no files) ▸ seccomp (what a training run needs; anything else kills the process)
 *
 * What the kernel or missing privileges refuse of the outer walls (network name space, root, user, Landlock)
 * is skipped, since seccomp alone already forbids opening files, sockets and programs. No privileges and no
 * seccomp is an error. */
#ifndef WORKER_SANDBOX_H
#define WORKER_SANDBOX_H

#include <stdint.h>
#include "base/err.h"

struct sandbox_limits {
    int keep_fds;         /* descriptors from this one on are closed */
    int64_t memory_bytes; /* private writable memory of the process (RLIMIT_DATA); 0 for no limit */
    int64_t cpu_seconds;  /* then SIGXCPU; 0 for no limit */
    int64_t file_bytes;   /* the longest file that may be written; 0 for no limit */
};

/* Call before starting threads. The current folder becomes the root of a process that runs as root: let it be
 * an empty one. */
int sandbox_enter(const struct sandbox_limits *limits, struct err *e);

#endif
