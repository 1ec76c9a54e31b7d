/* Spawning without fork (the worker has OpenBLAS's threads and fork handlers in it), and talk over the
 * control socket. */
#include "worker/supervisor_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "worker/runner.h"

/* A line: a progress report or a last word with its metrics and signature. */
enum { LINE_MAX_BYTES = 4 << 20, ABOVE_FDS = 64, ARGS_MAX = 8 };
enum { OWN_FDS = RUNNER_FIRST_INPUT_FD - RUNNER_CONTROL_FD };

/* ---- spawn ---- */

/* The sources are moved far up first, so that no target overwrites one that is still needed. */
static int plan_fds(posix_spawn_file_actions_t *a, int moved[], const int sources[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        moved[i] = fcntl(sources[i], F_DUPFD_CLOEXEC, ABOVE_FDS);
        if (moved[i] < 0) return errno;
        int rc = posix_spawn_file_actions_adddup2(a, moved[i], RUNNER_CONTROL_FD + (int)i);
        if (rc != 0) return rc;
    }
    return 0;
}

static int plan_attributes(posix_spawnattr_t *attr)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int rc = posix_spawnattr_setsigmask(attr, &none);
    if (rc == 0) rc = posix_spawnattr_setsigdefault(attr, &all);
    if (rc == 0) rc = posix_spawnattr_setpgroup(attr, 0); /* a terminal's Ctrl-C is the worker's business */
    const short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP;
    return rc == 0 ? posix_spawnattr_setflags(attr, flags) : rc;
}

static int exec_runner(struct child *c, const struct child_config *config,
                       posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr)
{
    char memory[40], cpu[40], file[40];
    snprintf(memory, sizeof memory, "--memory=%lld", (long long)config->memory_bytes);
    snprintf(cpu, sizeof cpu, "--cpu-seconds=%lld", (long long)config->cpu_seconds);
    snprintf(file, sizeof file, "--file-size=%lld", (long long)config->file_bytes);
    /* The one thing in its environment: without it OpenBLAS makes a thread and a buffer per core when it is
     * loaded. A run's threads are its own. */
    char blas[] = "OPENBLAS_NUM_THREADS=1";
    char name[] = "tenor-runner";
    char *argv[ARGS_MAX] = {name, memory, cpu, file, NULL};
    char *envp[] = {blas, NULL};
    return posix_spawn(&c->pid, config->runner, actions, attr, argv, envp);
}

static int spawn(struct child *c, const struct child_config *config, int theirs, struct err *e)
{
    int sources[OWN_FDS + TRAIN_MAX_INPUTS] = {theirs, c->artifact_fd, c->checkpoint_fd[0],
                                               c->checkpoint_fd[1]};
    int moved[OWN_FDS + TRAIN_MAX_INPUTS];
    size_t n = OWN_FDS + config->n_inputs;
    for (size_t i = 0; i < config->n_inputs; i++) sources[OWN_FDS + i] = config->input_fds[i];
    for (size_t i = 0; i < n; i++) moved[i] = -1;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    int rc = plan_fds(&actions, moved, sources, n);
    if (rc == 0) rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (rc == 0) rc = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    if (rc == 0) rc = posix_spawn_file_actions_addclosefrom_np(&actions, RUNNER_CONTROL_FD + (int)n);
    if (rc == 0) rc = posix_spawn_file_actions_addchdir_np(&actions, config->folder);
    if (rc == 0) rc = plan_attributes(&attr);
    if (rc == 0) rc = exec_runner(c, config, &actions, &attr);
    for (size_t i = 0; i < n; i++) {
        if (moved[i] >= 0) close(moved[i]);
    }
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) {
        return err_set(e, ERR_INTERNAL, NULL, "the runner %s could not be started: %s", config->runner,
                       strerror(rc));
    }
    return 0;
}

int child_spawn(struct child *c, const struct child_config *config, struct err *e)
{
    *c = (struct child){.pidfd = -1,
                        .control_fd = -1,
                        .artifact_fd = -1,
                        .checkpoint_fd = {-1, -1},
                        .in = {.limit = LINE_MAX_BYTES}};
    int pair[2] = {-1, -1}, rc;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return err_errno(e, ERR_IO, "make the runner's control socket");
    }
    c->control_fd = pair[0];
    c->artifact_fd = memfd_create("artifact", MFD_CLOEXEC);
    for (int i = 0; i < RUNNER_CHECKPOINTS; i++)
        c->checkpoint_fd[i] = memfd_create("checkpoint", MFD_CLOEXEC);
    rc = c->artifact_fd < 0 || c->checkpoint_fd[0] < 0 || c->checkpoint_fd[1] < 0 ||
                 fcntl(pair[0], F_SETFL, O_NONBLOCK) != 0
             ? err_errno(e, ERR_IO, "make the runner's descriptors")
             : spawn(c, config, pair[1], e);
    close(pair[1]);
    if (rc == 0) {
        c->pidfd = pidfd_open(c->pid, 0);
        if (c->pidfd < 0) rc = err_errno(e, ERR_IO, "watch the runner");
    }
    if (rc != 0) {
        int artifact_fd = child_dispose(c);
        if (artifact_fd >= 0) close(artifact_fd);
    }
    return rc;
}

/* ---- talk ---- */

static void send_some(struct child *c)
{
    while (c->out.len > 0 && !c->closed) {
        ssize_t n = send(c->control_fd, c->out.data, c->out.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) { /* nobody will read it; what it said before is still to be read */
            buf_clear(&c->out);
            return;
        }
        buf_consume(&c->out, (size_t)n);
    }
}

void child_send(struct child *c, const char *line, size_t len)
{
    buf_append(&c->out, line, len);
    buf_char(&c->out, '\n');
    send_some(c);
}

static void receive_some(struct child *c)
{
    char chunk[65536];
    while (!c->closed && !c->in.failed) {
        ssize_t n = recv(c->control_fd, chunk, sizeof chunk, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            c->closed = true;
            return;
        }
        buf_append(&c->in, chunk, (size_t)n);
        if ((size_t)n < sizeof chunk) return;
    }
}

static void empty_eventfd(int fd)
{
    uint64_t count;
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR) continue;
}

int child_poll(struct child *c, int wake_fd, int timeout_ms, struct err *e)
{
    send_some(c);
    short talk = (short)(POLLIN | (c->out.len > 0 ? POLLOUT : 0));
    struct pollfd p[3] = {{.fd = wake_fd, .events = POLLIN},
                          {.fd = c->closed ? -1 : c->control_fd, .events = talk},
                          {.fd = c->reaped ? -1 : c->pidfd, .events = POLLIN}};
    int n = poll(p, 3, timeout_ms);
    if (n < 0 && errno != EINTR) return err_errno(e, ERR_IO, "wait for the runner");
    if (n > 0 && p[0].revents) empty_eventfd(wake_fd);
    receive_some(c);
    if (c->in.failed) {
        return err_set(e, ERR_TOO_LARGE, NULL, "the runner's message is longer than %d bytes",
                       LINE_MAX_BYTES);
    }
    return 0;
}

char *child_line(struct child *c, size_t *len)
{
    char *end = c->in.len ? memchr(c->in.data, '\n', c->in.len) : NULL;
    if (!end) return NULL;
    *len = (size_t)(end - c->in.data);
    return c->in.data;
}

void child_line_done(struct child *c, size_t len)
{
    buf_consume(&c->in, len + 1);
}

/* ---- end ---- */

void child_kill(struct child *c, int signal)
{
    if (c->reaped || c->pid <= 0) return;
    if (c->pidfd >= 0) {
        (void)pidfd_send_signal(c->pidfd, signal, NULL, 0);
    } else {
        kill(c->pid, signal); /* not reaped yet, so the number is still its own */
    }
}

bool child_reap(struct child *c)
{
    if (!c->reaped && c->pid > 0 && waitpid(c->pid, &c->status, WNOHANG) == c->pid) c->reaped = true;
    return c->reaped;
}

int child_take_checkpoint(struct child *c, int index)
{
    int fd = c->checkpoint_fd[index];
    c->checkpoint_fd[index] = -1;
    return fd;
}

int child_dispose(struct child *c)
{
    if (c->pid > 0 && !c->reaped) {
        child_kill(c, SIGKILL);
        while (waitpid(c->pid, &c->status, 0) < 0 && errno == EINTR) continue;
        c->reaped = true;
    }
    if (c->pidfd >= 0) close(c->pidfd);
    if (c->control_fd >= 0) close(c->control_fd);
    for (int i = 0; i < RUNNER_CHECKPOINTS; i++) {
        int fd = child_take_checkpoint(c, i);
        if (fd >= 0) close(fd);
    }
    buf_dispose(&c->in);
    buf_dispose(&c->out);
    c->pidfd = c->control_fd = -1;
    int artifact_fd = c->artifact_fd;
    c->artifact_fd = -1;
    return artifact_fd;
}
