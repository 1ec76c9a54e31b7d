/* tenor-runner: walls up, then one training run. Started by tenor-worker; holds no credentials and learns
 * none. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/crypto.h"
#include "base/mem.h"
#include "base/option.h"
#include "base/priority.h"
#include "tensor/backend.h"
#include "worker/runner.h"
#include "worker/sandbox.h"

/* glibc's qsort asks once how much memory there is and remembers, and AMX has to be asked for; that must not
 * be the first thing behind the walls. */
static int compare_bytes(const void *a, const void *b)
{
    return *(const char *)a - *(const char *)b;
}

static void warm_up(void)
{
    static char bytes[4096];
    qsort(bytes, sizeof bytes, 1, compare_bytes);
    crypto_init();
    backend_auto();
}

static void require_supervisor(void)
{
    struct stat st;
    if (fstat(RUNNER_CONTROL_FD, &st) == 0 && S_ISSOCK(st.st_mode)) return;
    fprintf(stderr, "tenor-runner: descriptor %d is no socket; this program is started by tenor-worker\n",
            RUNNER_CONTROL_FD);
    exit(2);
}

int main(int argc, char **argv)
{
    struct sandbox_limits limits = {.keep_fds = RUNNER_KEEP_FDS};
    const struct option_row rows[] = {
        {"memory", OPTION_BYTES, &limits.memory_bytes, "0", 0, INT64_MAX, false,
         "most private memory; 0 for no limit"},
        {"cpu-seconds", OPTION_INT, &limits.cpu_seconds, "0", 0, INT64_MAX / 2, false,
         "most processor time; 0 for no limit"},
        {"file-size", OPTION_BYTES, &limits.file_bytes, "0", 0, INT64_MAX, false,
         "longest artifact; 0 for no limit"},
    };
    option_parse("tenor-runner", "Trains one model behind walls; started by tenor-worker", rows,
                 sizeof rows / sizeof *rows, argc, argv);
    require_supervisor();
    priority_patient();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    warm_up();
    mem_exit_when_out(RUNNER_EXIT_MEMORY);
    struct err e = {0};
    if (sandbox_enter(&limits, &e) != 0) {
        fprintf(stderr, "tenor-runner: the sandbox could not be entered: %s\n", e.message);
        return 3;
    }
    /* Nothing to flush, and exit handlers may do what the sandbox forbids. */
    _exit(runner_run(RUNNER_CONTROL_FD, RUNNER_ARTIFACT_FD));
}
