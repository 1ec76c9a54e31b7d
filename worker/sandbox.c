/* The walls, from the outermost to seccomp. */
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <linux/prctl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NOBODY = 65534, OPEN_MAX_FDS = 32, CPU_GRACE_S = 5 };

/* ---- limits ---- */

static int limit(int resource, int64_t soft, int64_t hard, struct err *e)
{
    struct rlimit now;
    if (getrlimit(resource, &now) != 0) return err_errno(e, ERR_INTERNAL, "read a resource limit");
    rlim_t wanted = (rlim_t)hard;
    if (now.rlim_max != RLIM_INFINITY && wanted > now.rlim_max) wanted = now.rlim_max;
    struct rlimit next = {.rlim_cur = (rlim_t)soft < wanted ? (rlim_t)soft : wanted, .rlim_max = wanted};
    if (setrlimit(resource, &next) != 0) return err_errno(e, ERR_INTERNAL, "set a resource limit");
    return 0;
}

/* A sanitizer's shadow memory is counted too, and is larger than any limit that makes sense. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool memory_can_be_limited = false;
#else
static const bool memory_can_be_limited = true;
#endif

static int set_limits(const struct sandbox_limits *l, struct err *e)
{
    int rc = limit(RLIMIT_CORE, 0, 0, e);
    if (rc == 0) rc = limit(RLIMIT_NOFILE, OPEN_MAX_FDS, OPEN_MAX_FDS, e);
    if (rc == 0 && l->cpu_seconds > 0) {
        rc = limit(RLIMIT_CPU, l->cpu_seconds, l->cpu_seconds + CPU_GRACE_S, e);
    }
    if (rc == 0 && l->file_bytes > 0) rc = limit(RLIMIT_FSIZE, l->file_bytes, l->file_bytes, e);
    if (rc == 0 && l->memory_bytes > 0 && memory_can_be_limited)
        rc = limit(RLIMIT_DATA, l->memory_bytes, l->memory_bytes, e);
    return rc;
}

/* ---- outer walls ---- */

/* A network without an interface. Without privileges a user name space of our own may grant the right. */
static void leave_network(void)
{
    if (unshare(CLONE_NEWNET | CLONE_NEWIPC) != 0) (void)unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC);
}

static int drop_root(struct err *e)
{
    if (geteuid() != 0) return 0;
    if (chroot(".") != 0 && errno != EPERM)
        return err_errno(e, ERR_INTERNAL, "make the empty folder the root");
    /* In a container without the right to change users, seccomp has to do. */
    if (setgroups(0, NULL) != 0 || setresgid(NOBODY, NOBODY, NOBODY) != 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) != 0) {
        if (errno != EPERM && errno != EINVAL) return err_errno(e, ERR_INTERNAL, "become nobody");
    }
    return 0;
}

/* A ruleset that handles every right and grants none. Old kernels don't know it. */
static void forbid_files(void)
{
    int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1) return;
    struct landlock_ruleset_attr attr = {.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0u);
    if (fd < 0) return;
    (void)syscall(SYS_landlock_restrict_self, fd, 0u);
    close(fd);
}

/* ---- seccomp ---- */

static const int plain_calls[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(fstat),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(futex),
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(membarrier),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(sched_yield),
    SCMP_SYS(getcpu),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(getrandom),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(getrusage),
    SCMP_SYS(times),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
};

struct bound_call {
    int call;
    uint32_t action;
    struct scmp_arg_cmp arg;
};

static int allow_bound(scmp_filter_ctx ctx)
{
    const uint64_t thread = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND;
    const uint32_t ok = SCMP_ACT_ALLOW;
    const struct bound_call calls[] = {
        /* no memory that can be executed */
        {SCMP_SYS(mmap), ok, SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
        {SCMP_SYS(mprotect), ok, SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
        /* threads, but no processes */
        {SCMP_SYS(clone), ok, SCMP_A0_64(SCMP_CMP_MASKED_EQ, thread, thread)},
        /* abort() */
        {SCMP_SYS(tgkill), ok, SCMP_A0_64(SCMP_CMP_EQ, (uint64_t)getpid())},
        {SCMP_SYS(prctl), ok, SCMP_A0_64(SCMP_CMP_EQ, PR_SET_NAME)},
        {SCMP_SYS(prctl), ok, SCMP_A0_64(SCMP_CMP_EQ, PR_SET_VMA)},
        {SCMP_SYS(fcntl), ok, SCMP_A1_64(SCMP_CMP_EQ, F_GETFL)},
        {SCMP_SYS(fcntl), ok, SCMP_A1_64(SCMP_CMP_EQ, F_SETFL)},
        /* limits may be read: no new value */
        {SCMP_SYS(prlimit64), ok, SCMP_A2_64(SCMP_CMP_EQ, 0)},
        /* fstat() is this call on an open descriptor */
        {SCMP_SYS(newfstatat), ok, SCMP_A3_64(SCMP_CMP_EQ, AT_EMPTY_PATH)},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        int rc = seccomp_rule_add_array(ctx, calls[i].action, calls[i].call, 1, &calls[i].arg);
        if (rc != 0) return rc;
    }
    return 0;
}

/* Calls that a C library tries and can do without. Its answer to ENOSYS from clone3 is clone, which can be
 * looked into. */
static int refuse_politely(scmp_filter_ctx ctx)
{
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (rc == 0) rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOTTY), SCMP_SYS(ioctl), 0);
    return rc;
}

static int filter_calls(struct err *e)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!ctx) return err_set(e, ERR_NOMEM, NULL, "no memory for the system call filter");
    int rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    /* OpenBLAS may have started threads when it was loaded. */
    if (rc == 0) rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; i < sizeof plain_calls / sizeof *plain_calls && rc == 0; i++) {
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, plain_calls[i], 0);
    }
    if (rc == 0) rc = allow_bound(ctx);
    if (rc == 0) rc = refuse_politely(ctx);
    if (rc == 0) rc = seccomp_load(ctx);
    seccomp_release(ctx);
    if (rc != 0) {
        return err_set(e, ERR_INTERNAL, NULL, "the system call filter was refused: %s", strerror(-rc));
    }
    return 0;
}

int sandbox_enter(const struct sandbox_limits *limits, struct err *e)
{
    if (close_range((unsigned)limits->keep_fds, ~0u, 0) != 0) {
        return err_errno(e, ERR_INTERNAL, "close the inherited descriptors");
    }
    leave_network();
    int rc = drop_root(e);
    if (rc == 0) rc = set_limits(limits, e);
    if (rc != 0) return rc;
    /* A change of user clears this, so it comes after. The kernel sends it when the thread that started us
     * ends. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return err_errno(e, ERR_INTERNAL, "tie the run to its worker");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_errno(e, ERR_INTERNAL, "give up new privileges");
    forbid_files();
    return filter_calls(e);
}
