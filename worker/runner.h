/* One training run seen from inside: tenor-runner's talk with its supervisor, and train_run in between.
 *
 *   descriptor 3: a stream socket, a JSON object per line, both ways      4: the artifact (a memfd)      5 …:
 * data, one pipe a part
 *
 *   ◀── {"type":"start",…}   ──▶ {"type":"progress",…} {"type":"message",…} …   ──▶ {"type":"done",…} |
 * {"type":"failed",…} ◀── {"type":"cancel"}
 *
 * End of the control socket means that the supervisor is gone: the run ends at once, without a word. One
 * thread. */
#ifndef WORKER_RUNNER_H
#define WORKER_RUNNER_H

#include "learn/train.h"

enum { RUNNER_CONTROL_FD = 3, RUNNER_ARTIFACT_FD = 4, RUNNER_FIRST_INPUT_FD = 5 };
enum { RUNNER_KEEP_FDS = RUNNER_FIRST_INPUT_FD + TRAIN_MAX_INPUTS };

/* A start line is at most this long: a schema may list the categories of many columns. */
enum { RUNNER_START_MAX_BYTES = 64 << 20, RUNNER_MAX_TOKENS = 8000000 };

/* The exit status of a run that its limit on private memory left without memory. */
enum { RUNNER_EXIT_MEMORY = 71 };

/* Reads the start line, trains, and says how it ended. Returns the exit status: 0 when a last word was said.
 */
int runner_run(int control_fd, int artifact_fd);

#endif
