/* Folders under /sys/fs/cgroup and the few files in them that matter. */
#include "worker/supervisor_cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"

enum { GROUP_PATH_MAX = PATH_MAX };

static bool write_file(const char *folder, const char *file, const char *text)
{
    char path[GROUP_PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path) return false;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = write(fd, text, strlen(text));
    close(fd);
    return n == (ssize_t)strlen(text);
}

static bool has_file(const char *folder, const char *file)
{
    char path[GROUP_PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", folder, file) < (int)sizeof path && access(path, W_OK) == 0;
}

/* This process's place in the hierarchy: the line "0::/path" (version 2) or "5:memory:/path" (version 1). */
static bool own_place(char *out, size_t cap, bool v1)
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f) return false;
    char line[PATH_MAX];
    bool found = false;
    while (!found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *first = strchr(line, ':');
        char *second = first ? strchr(first + 1, ':') : NULL;
        if (!second) continue;
        *second = '\0';
        found = strcmp(first + 1, v1 ? "memory" : "") == 0 && snprintf(out, cap, "%s", second + 1) < (int)cap;
    }
    fclose(f);
    return found;
}

static bool try_base(struct cgroup_base *b, const char *name, bool v1)
{
    char place[PATH_MAX / 4];
    if (!own_place(place, sizeof place, v1)) return false;
    if (strcmp(place, "/") == 0) place[0] = '\0';
    int n =
        snprintf(b->path, sizeof b->path, "/sys/fs/cgroup%s%s/tenor-%s", v1 ? "/memory" : "", place, name);
    if (n >= (int)sizeof b->path || mkdir(b->path, 0755) != 0) return false;
    b->v1 = v1;
    /* Version 2 shows the file only where the controller was delegated. */
    if (v1 ? has_file(b->path, "memory.limit_in_bytes")
           : write_file(b->path, "cgroup.subtree_control", "+memory") && has_file(b->path, "memory.max")) {
        return true;
    }
    rmdir(b->path);
    return false;
}

void cgroup_open(struct cgroup_base *b, const char *name)
{
    if (!try_base(b, name, false) && !try_base(b, name, true)) b->path[0] = '\0';
    log_info("memory_limits", "by=%s", b->path[0] ? b->path : "rlimit");
}

void cgroup_close(struct cgroup_base *b)
{
    if (b->path[0]) rmdir(b->path);
    b->path[0] = '\0';
}

static bool group_path(char out[GROUP_PATH_MAX], const struct cgroup_base *b, const char *job_id)
{
    return b->path[0] && snprintf(out, GROUP_PATH_MAX, "%s/%s", b->path, job_id) < GROUP_PATH_MAX;
}

bool cgroup_confine(const struct cgroup_base *b, const char *job_id, pid_t pid, int64_t memory_bytes)
{
    char path[GROUP_PATH_MAX], number[32];
    if (!group_path(path, b, job_id)) return false;
    if (mkdir(path, 0755) != 0 && errno != EEXIST) return false;
    snprintf(number, sizeof number, "%lld", (long long)memory_bytes);
    bool ok = write_file(path, b->v1 ? "memory.limit_in_bytes" : "memory.max", number);
    /* Without a limit on swap the memory limit only moves the trouble; not every kernel has the file. */
    if (ok)
        (void)write_file(path, b->v1 ? "memory.memsw.limit_in_bytes" : "memory.swap.max",
                         b->v1 ? number : "0");
    snprintf(number, sizeof number, "%lld", (long long)pid);
    ok = ok && write_file(path, "cgroup.procs", number);
    if (!ok) rmdir(path);
    return ok;
}

/* The number behind key in one of the group's files ("": the whole file is the number); 0 when it is not
 * there. */
static long long counter(const char *group, const char *name, const char *key)
{
    char file[GROUP_PATH_MAX + 32], line[128];
    long long value = 0;
    snprintf(file, sizeof file, "%s/%s", group, name);
    FILE *f = fopen(file, "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0) value = atoll(line + strlen(key));
    if (f) fclose(f);
    return value;
}

/* A kill alone may also be the machine's, out of memory as a whole: the group's own limit must have been met.
 */
bool cgroup_release(const struct cgroup_base *b, const char *job_id)
{
    char path[GROUP_PATH_MAX];
    if (!group_path(path, b, job_id)) return false;
    bool killed = counter(path, b->v1 ? "memory.oom_control" : "memory.events", "oom_kill ") > 0;
    bool met = b->v1 ? counter(path, "memory.failcnt", "") > 0 : counter(path, "memory.events", "oom ") > 0;
    rmdir(path);
    return killed && met;
}
