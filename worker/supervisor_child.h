/* A tenor-runner process: started with exactly its descriptors, listened to line by line, killed, and waited
 * for.
 *
 *   child_spawn ─▶ child_send start ─▶ child_poll: lines … ─▶ exited ─▶ child_reap ─▶ child_dispose
 *
 * The spawning thread must outlive the child: the kernel kills the child when that thread ends. One thread; a
 * kill may come from any thread through the pidfd. */
#ifndef WORKER_SUPERVISOR_CHILD_H
#define WORKER_SUPERVISOR_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/buf.h"
#include "base/err.h"
#include "worker/runner.h"

struct child {
    pid_t pid;
    int pidfd;      /* owned, as all descriptors here; −1: none */
    int control_fd; /* non-blocking */
    int artifact_fd;
    int checkpoint_fd[RUNNER_CHECKPOINTS]; /* memfds that it writes to in turn, and may read from */
    struct buf in;                         /* what it said, as far as not taken */
    struct buf out;                        /* what we say, as far as not sent */
    bool closed;                           /* its side of the control socket is */
    bool reaped;
    int status; /* of waitpid, when reaped */
};

struct child_config {
    const char *runner;
    const char *folder;   /* empty; where it stands */
    const int *input_fds; /* read ends; become descriptors RUNNER_FIRST_INPUT_FD … */
    size_t n_inputs;
    int64_t memory_bytes, cpu_seconds, file_bytes; /* 0 for no limit */
};

/* On success the child runs, walls up, and waits for its start line. input_fds stay the caller's. */
int child_spawn(struct child *c, const struct child_config *config, struct err *e);

/* Queues a line (the newline is added) and sends what fits now. */
void child_send(struct child *c, const char *line, size_t len);

/* Sends and reads what is possible, waiting for at most timeout_ms or until wake_fd is readable (which is
 * then emptied), the child says something, or it exits. ERR_TOO_LARGE when it speaks without end. */
int child_poll(struct child *c, int wake_fd, int timeout_ms, struct err *e);
/* The next whole line without its newline, borrowed until the next call; NULL when there is none. Then
 * child_line_done. */
char *child_line(struct child *c, size_t *len);
void child_line_done(struct child *c, size_t len);

void child_kill(struct child *c, int signal);
/* Collects the exit status if it has exited; true once it has. */
bool child_reap(struct child *c);
/* The file is the caller's from now on. −1: there is none, or it was taken already. */
int child_take_checkpoint(struct child *c, int index);
/* Kills and waits when it still runs; closes everything but artifact_fd, which is handed back (−1: none). */
int child_dispose(struct child *c);

#endif
