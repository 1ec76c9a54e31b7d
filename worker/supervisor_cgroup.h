/* A memory cgroup per runner, where the machine lets us make one (version 1, or a delegated version 2). Where
 * it does not, the runner's own limit on private memory has to do. */
#ifndef WORKER_SUPERVISOR_CGROUP_H
#define WORKER_SUPERVISOR_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cgroup_base {
    char path[PATH_MAX / 2]; /* a folder of this worker's; "" when there are no cgroups for us */
    bool v1;
};

/* Tries; finding none is no error. name is the worker's incarnation. */
void cgroup_open(struct cgroup_base *b, const char *name);
void cgroup_close(struct cgroup_base *b); /* removes the folder when it is empty */

/* Puts the process into a group of its own with that limit. False when it could not be done; nothing is left
 * behind then. */
bool cgroup_confine(const struct cgroup_base *b, const char *job_id, pid_t pid, int64_t memory_bytes);
/* After the process has ended: whether the kernel killed it at the group's limit. Removes the group. */
bool cgroup_release(const struct cgroup_base *b, const char *job_id);

#endif
