/* What a process can still do behind the walls, and what ends it: each case in a child of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tensor/team.h"
#include "worker/sandbox.h"

enum { KEEP = 16, MIB = 1 << 20, SETUP_FAILED = 99 };

static char folder[] = "/tmp/tenor-test-sandbox-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) && chmod(folder, 0755) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static void enter(struct sandbox_limits limits)
{
    struct err e = {0};
    if (limits.keep_fds == 0) limits.keep_fds = KEEP;
    if (chdir(folder) != 0 || sandbox_enter(&limits, &e) != 0) {
        fprintf(stderr, "sandbox: %s\n", e.message);
        _exit(SETUP_FAILED);
    }
}

/* Runs act behind the walls; returns the status of waitpid. act's result is the exit status. */
static int behind_walls(struct sandbox_limits limits, int (*act)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        enter(limits);
        _exit(act());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void assert_forbidden(int (*act)(void))
{
    int status = behind_walls((struct sandbox_limits){0}, act);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void assert_allowed(struct sandbox_limits limits, int (*act)(void))
{
    int status = behind_walls(limits, act);
    if (WIFSIGNALED(status)) fail_msg("ended by signal %d", WTERMSIG(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- forbidden ---- */

static int open_file(void)
{
    return open("/etc/passwd", O_RDONLY) >= 0;
}

static int create_file(void)
{
    return open("new", O_CREAT | O_WRONLY, 0600) >= 0;
}

static int make_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) >= 0;
}

static int run_program(void)
{
    char name[] = "/bin/true", *argv[] = {name, NULL}, *envp[] = {NULL};
    return execve(name, argv, envp);
}

static int fork_process(void)
{
    return (int)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) >= 0;
}

static int kill_parent(void)
{
    return kill(1, 0);
}

static int trace_parent(void)
{
    return (int)ptrace(PTRACE_ATTACH, getpid(), NULL, NULL);
}

static int map_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static int remove_file(void)
{
    return unlink("/etc/passwd");
}

static int raise_limit(void)
{
    const uint64_t none[2] = {UINT64_MAX, UINT64_MAX};
    return (int)syscall(SYS_prlimit64, 0, 0, none, NULL);
}

static void files_sockets_programs_and_processes_are_deadly(void **state)
{
    (void)state;
    assert_forbidden(open_file);
    assert_forbidden(create_file);
    assert_forbidden(remove_file);
    assert_forbidden(make_socket);
    assert_forbidden(run_program);
    assert_forbidden(fork_process);
}

static void other_processes_code_pages_and_limits_are_deadly(void **state)
{
    (void)state;
    assert_forbidden(kill_parent);
    assert_forbidden(trace_parent);
    assert_forbidden(map_code);
    assert_forbidden(raise_limit);
}

/* ---- allowed ---- */

static void *count(void *arg)
{
    int *n = arg;
    for (int i = 0; i < 1000; i++) (*n)++;
    return NULL;
}

static int compute(void)
{
    pthread_t thread;
    int n = 0;
    double *big = malloc(8 * MIB);
    if (!big || pthread_create(&thread, NULL, count, &n) != 0) return 1;
    pthread_join(thread, NULL);
    for (int i = 0; i < MIB; i++) big[i] = (double)i;
    bool ok = n == 1000 && big[MIB - 1] > 0;
    free(big);
    return ok ? 0 : 2;
}

static void threads_memory_and_arithmetic_work(void **state)
{
    (void)state;
    assert_allowed((struct sandbox_limits){0}, compute);
}

/* A training run's threads: started behind the walls, asleep in between, and joined. */
static void take_turn(void *ctx, int member)
{
    int *turns = ctx;
    turns[member]++;
    if (member == 0) usleep(2000); /* the others fall asleep */
}

static int use_team(void)
{
    struct team *team;
    int turns[3] = {0};
    if (team_create(&team, 3, NULL) != 0) return 1;
    for (int i = 0; i < 10; i++) {
        team_run(team, take_turn, turns);
        usleep(2000);
    }
    team_free(team);
    return turns[0] == 10 && turns[1] == 10 && turns[2] == 10 ? 0 : 2;
}

static void the_threads_of_a_run_work(void **state)
{
    (void)state;
    assert_allowed((struct sandbox_limits){.memory_bytes = 256 * MIB}, use_team);
}

static int inherited[2], artifact = -1;

static int pass_on(void)
{
    char bytes[4];
    struct stat st;
    if (read(inherited[0], bytes, sizeof bytes) != sizeof bytes) return 1;
    if (write(artifact, bytes, sizeof bytes) != sizeof bytes) return 2;
    return fstat(artifact, &st) == 0 && st.st_size == sizeof bytes ? 0 : 3;
}

static void inherited_descriptors_can_be_read_and_written(void **state)
{
    (void)state;
    assert_int_equal(pipe(inherited), 0);
    artifact = memfd_create("artifact", 0);
    assert_int_equal(write(inherited[1], "data", 4), 4);
    assert_allowed((struct sandbox_limits){0}, pass_on);
    close(inherited[0]);
    close(inherited[1]);
    close(artifact);
}

static int use_closed(void)
{
    return write(KEEP, "x", 1) < 0 && errno == EBADF ? 0 : 1;
}

static void descriptors_beyond_the_agreed_ones_are_closed(void **state)
{
    (void)state;
    assert_int_equal(dup2(1, KEEP), KEEP);
    assert_allowed((struct sandbox_limits){0}, use_closed);
    close(KEEP);
}

/* ---- limits ---- */

static long status_field(pid_t pid, const char *name)
{
    char path[64], line[256];
    long value = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, name, strlen(name)) == 0) value = strtol(line + strlen(name), NULL, 10);
    }
    fclose(f);
    return value;
}

static int take_memory(void)
{
    void *volatile p = malloc((size_t)200 * MIB);
    void *volatile q = malloc((size_t)20 * MIB);
    return !p && q ? 0 : 1;
}

static void memory_beyond_the_limit_is_refused(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* shadow memory counts as well: sandbox.c sets no such limit then */
#endif
    /* The libraries of this program have some already. */
    int64_t used_bytes = status_field(getpid(), "VmData:") * 1024;
    assert_allowed((struct sandbox_limits){.memory_bytes = used_bytes + (int64_t)100 * MIB}, take_memory);
}

static int write_long(void)
{
    static char bytes[MIB];
    ssize_t first = write(artifact, bytes, sizeof bytes), second = write(artifact, bytes, sizeof bytes);
    return first == (ssize_t)sizeof bytes && second < 0 && errno == EFBIG ? 0 : 1;
}

static void a_file_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    artifact = memfd_create("artifact", 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_allowed((struct sandbox_limits){.file_bytes = MIB}, write_long);
    signal(SIGXFSZ, SIG_DFL);
    close(artifact);
}

static volatile uint64_t turns;

static int spin(void)
{
    while (turns < UINT64_MAX) turns = turns + 1;
    return 0;
}

static void an_endless_loop_ends_with_its_processor_time(void **state)
{
    (void)state;
    int status = behind_walls((struct sandbox_limits){.cpu_seconds = 1}, spin);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGXCPU);
}

/* ---- as others see it ---- */

static void it_runs_as_nobody_without_new_privileges_under_a_filter(void **state)
{
    (void)state;
    int ready[2], go[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        enter((struct sandbox_limits){0});
        _exit(write(ready[1], "x", 1) == 1 && read(go[0], &byte, 1) == 1 ? 0 : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    if (geteuid() == 0) assert_int_equal(status_field(pid, "Uid:"), 65534);
    assert_int_equal(status_field(pid, "NoNewPrivs:"), 1);
    assert_int_equal(status_field(pid, "Seccomp:"), 2);
    assert_int_equal(write(go[1], "x", 1), 1);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(ready[0]);
    close(ready[1]);
    close(go[0]);
    close(go[1]);
}

static void it_dies_with_the_process_that_started_it(void **state)
{
    (void)state;
    int life[2], ready[2];
    char byte;
    assert_int_equal(pipe(life), 0); /* the grandchild holds the write end as long as it lives */
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (fork() == 0) {
            enter((struct sandbox_limits){0});
            if (write(ready[1], "x", 1) == 1) spin();
        }
        _exit(read(ready[0], &byte, 1) == 1 ? 0 : 1); /* walls up: now its parent leaves */
    }
    close(life[1]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(read(life[0], &byte, 1), 0);
    close(life[0]);
    close(ready[0]);
    close(ready[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_sockets_programs_and_processes_are_deadly),
        cmocka_unit_test(other_processes_code_pages_and_limits_are_deadly),
        cmocka_unit_test(threads_memory_and_arithmetic_work),
        cmocka_unit_test(the_threads_of_a_run_work),
        cmocka_unit_test(inherited_descriptors_can_be_read_and_written),
        cmocka_unit_test(descriptors_beyond_the_agreed_ones_are_closed),
        cmocka_unit_test(memory_beyond_the_limit_is_refused),
        cmocka_unit_test(a_file_beyond_the_limit_is_refused),
        cmocka_unit_test(an_endless_loop_ends_with_its_processor_time),
        cmocka_unit_test(it_runs_as_nobody_without_new_privileges_under_a_filter),
        cmocka_unit_test(it_dies_with_the_process_that_started_it),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
