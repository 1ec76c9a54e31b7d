/* Starts daemons detached from the terminal, remembers them in pid files, and stops them. */
#include "admin/launch/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "admin/launch/account.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"

extern char **environ;

static void name_path(const struct home *h, const char *folder, const char *name, const char *ending,
                      char out[PATH_MAX])
{
    char leaf[64];
    snprintf(leaf, sizeof leaf, "%s/%s.%s", folder, name, ending);
    home_path(h, leaf, out);
}

/* Field 22 of /proc/<pid>/stat, in clock ticks since boot; 0 when there is no such process or it is a zombie.
 */
static unsigned long long start_ticks(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = '\0';
    char *p = strrchr(text, ')');
    if (!p || p[1] != ' ' || p[2] == 'Z') return 0;
    p += 2;
    for (int field = 3; field < 22; field++) {
        if (!(p = strchr(p, ' '))) return 0;
        p++;
    }
    return strtoull(p, NULL, 10);
}

long process_age_ms(pid_t pid)
{
    unsigned long long ticks = start_ticks(pid);
    if (!ticks) return -1;
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    long started_ms = (long)(ticks * 1000ULL / (unsigned long long)sysconf(_SC_CLK_TCK));
    return now.tv_sec * 1000 + now.tv_nsec / 1000000 - started_ms;
}

/* The caller's environment without our own names: an exported TENOR_POSTGRES_URL would overrule a daemon's
 * configuration file. Borrowed texts; made before the fork, because a child of threads may not allocate. */
static char **daemon_environment(void)
{
    size_t n = 0, kept = 0;
    while (environ[n]) n++;
    char **out = mem_alloc(n + 1, sizeof *out);
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "TENOR_", 6) != 0) out[kept++] = environ[i];
    return out;
}

/* Runs in the child between fork and exec; a failure's errno goes up the pipe. */
static void child(const struct home *h, const struct process_spec *spec, char **env, int log_fd,
                  int report_fd)
{
    setsid();
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(log_fd, 1) < 0 || dup2(log_fd, 2) < 0) goto fail;
    if (chdir(spec->cwd ? spec->cwd : h->root) != 0) goto fail;
    if (spec->user && account_become(spec->user, spec->cwd ? spec->cwd : h->root) != 0) goto fail;
    signal(SIGPIPE, SIG_DFL);
    execve(spec->argv[0], (char *const *)(const void *)spec->argv, env);
fail:;
    int code = errno;
    if (write(report_fd, &code, sizeof code) < 0) _exit(126);
    _exit(127);
}

static int fork_exec(const struct home *h, const struct process_spec *spec, pid_t *pid, struct err *e)
{
    char log_path[PATH_MAX];
    name_path(h, "log", spec->name, "log", log_path);
    int report[2], rc;
    int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0) return err_errno(e, ERR_IO, "open %s", log_path);
    if ((rc = fs_cloexec_pipe(report, e))) {
        close(log_fd);
        return rc;
    }
    char **env = daemon_environment();
    *pid = fork();
    if (*pid == 0) child(h, spec, env, log_fd, report[1]);
    mem_free(env);
    close(log_fd);
    close(report[1]);
    int code = 0;
    if (*pid < 0) {
        rc = err_errno(e, ERR_IO, "start %s", spec->name);
    } else if (read(report[0], &code, sizeof code) == (ssize_t)sizeof code) {
        waitpid(*pid, NULL, 0);
        errno = code;
        rc = err_errno(e, ERR_IO, "start %s (%s)", spec->name, spec->argv[0]);
    }
    close(report[0]);
    return rc;
}

int process_spawn(const struct home *h, const struct process_spec *spec, pid_t *pid, struct err *e)
{
    int rc = fork_exec(h, spec, pid, e);
    if (rc) return rc;
    char path[PATH_MAX], text[64];
    name_path(h, "run", spec->name, "pid", path);
    int n = snprintf(text, sizeof text, "%d %llu\n", (int)*pid, start_ticks(*pid));
    return fs_write_atomic(path, text, (size_t)n, 0600, e);
}

int process_run(const struct home *h, const struct process_spec *spec, struct err *e)
{
    pid_t pid;
    int status, rc = fork_exec(h, spec, &pid, e);
    if (rc) return rc;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) return err_errno(e, ERR_IO, "wait for %s", spec->name);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
    char tail[300];
    process_log_tail(h, spec->name, tail, sizeof tail);
    return err_set(e, ERR_IO, NULL, "%s failed: %s", spec->name, tail);
}

pid_t process_find(const struct home *h, const char *name)
{
    char path[PATH_MAX];
    name_path(h, "run", name, "pid", path);
    struct buf text = {0};
    int pid = 0;
    unsigned long long ticks = 0;
    if (fs_read_all(&text, path, 128, NULL) == 0 && text.data &&
        sscanf(text.data, "%d %llu", &pid, &ticks) == 2) {
        if (pid <= 1 || !ticks || start_ticks(pid) != ticks) pid = 0;
    }
    buf_dispose(&text);
    return pid;
}

/* A pidfd tells of the end of any process, ours or not, without polling. */
static bool wait_gone(pid_t pid, int patience_ms)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) return errno == ESRCH;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, patience_ms);
    close(fd);
    waitpid(pid, NULL, WNOHANG);
    return n > 0;
}

bool process_stop(const struct home *h, const char *name, int signal_number, int patience_ms)
{
    pid_t pid = process_find(h, name);
    bool killed = false;
    if (pid > 0 && kill(pid, signal_number) == 0 && !wait_gone(pid, patience_ms)) {
        killed = true;
        kill(pid, SIGKILL);
        wait_gone(pid, 5000);
    }
    char path[PATH_MAX];
    name_path(h, "run", name, "pid", path);
    unlink(path);
    return killed;
}

void process_log_tail(const struct home *h, const char *name, char *out, size_t cap)
{
    char path[PATH_MAX];
    name_path(h, "log", name, "log", path);
    out[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    off_t end = lseek(fd, 0, SEEK_END);
    off_t from = end > (off_t)(cap - 1) ? end - (off_t)(cap - 1) : 0;
    ssize_t n = pread(fd, out, cap - 1, from);
    close(fd);
    out[n > 0 ? n : 0] = '\0';
    char *line = from > 0 ? strchr(out, '\n') : NULL;
    if (line && line[1]) memmove(out, line + 1, strlen(line + 1) + 1);
    for (size_t len = strlen(out); len && out[len - 1] == '\n'; len--) out[len - 1] = '\0';
}
