/* One training run seen from inside: tenor-runner's talk with its supervisor, and train_run in between.
 *
 *   descriptor 3: a stream socket, a JSON object per line, both ways      4: the artifact (a memfd)
 *   5, 6: checkpoints (memfds), written in turn      7 …: data, one pipe a part
 *
 *   ◀── {"type":"start",…}   ──▶ {"type":"progress",…} {"type":"message",…} …   ──▶ {"type":"done",…} |
 *   {"type":"failed",…} | {"type":"yielded",…}
 *   ◀── {"type":"checkpoint"}                   ──▶
 * {"type":"checkpoint","file":0,"bytes":N,"epoch":E,"step":S,…} ◀── {"type":"yield","now":false}
 * {"type":"cancel"}
 *
 * A checkpoint to go on from lies in the first of the two files; the first one that is written goes into the
 * other. A run that is asked to yield does so once it has got somewhere: after its first step, and not before
 * it has trained for as long as it took to get there, so that runs which take turns spend at most half of
 * their time on reading; with "now" at once, wherever it is.
 *
 * End of the control socket means that the supervisor is gone: the run ends at once, without a word. One
 * thread. */
#ifndef WORKER_RUNNER_H
#define WORKER_RUNNER_H

#include "learn/train.h"

enum { RUNNER_CONTROL_FD = 3, RUNNER_ARTIFACT_FD = 4, RUNNER_CHECKPOINT_FD = 5, RUNNER_CHECKPOINTS = 2 };
enum { RUNNER_FIRST_INPUT_FD = RUNNER_CHECKPOINT_FD + RUNNER_CHECKPOINTS };
enum { RUNNER_KEEP_FDS = RUNNER_FIRST_INPUT_FD + TRAIN_MAX_INPUTS };

/* A start line is at most this long: a schema may list the categories of many columns. */
enum { RUNNER_START_MAX_BYTES = 64 << 20, RUNNER_MAX_TOKENS = 8000000 };

/* The exit status of a run that its limit on private memory left without memory. */
enum { RUNNER_EXIT_MEMORY = 71 };

/* Reads the start line, trains, and says how it ended. The checkpoints' descriptors stand at
 * RUNNER_CHECKPOINT_FD. Returns the exit status: 0 when a last word was said. */
int runner_run(int control_fd, int artifact_fd);

#endif
