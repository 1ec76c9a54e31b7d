/* Slices and niceness, set on one thread (to Linux each thread has its own). */
#include "base/priority.h"

#include <errno.h>
#include <linux/sched/types.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/log.h"

enum { SLICE_NS = 100 * 1000, NICE = 5 }; /* the shortest slice that the kernel grants; its own is 3 ms */

void priority_prompt(void)
{
    struct sched_attr a = {
        .size = sizeof a, .sched_nice = getpriority(PRIO_PROCESS, 0), .sched_runtime = SLICE_NS};
    if (syscall(SYS_sched_setattr, 0, &a, 0) != 0)
        log_debug("priority_unchanged", "wanted=prompt reason=\"%s\"", strerror(errno));
}

void priority_patient(void)
{
    if (getpriority(PRIO_PROCESS, 0) < NICE && setpriority(PRIO_PROCESS, 0, NICE) != 0)
        log_debug("priority_unchanged", "wanted=patient reason=\"%s\"", strerror(errno));
}
