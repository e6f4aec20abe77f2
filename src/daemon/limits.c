#include "daemon/limits.h"

#include "daemon/reports.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#define SUNDRY_DESCRIPTORS 32

uint64_t limits_raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        report_descriptor_limit(0, errno);
        return 0;
    }
    if (limit.rlim_cur == limit.rlim_max)
        return limit.rlim_cur;
    struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) < 0) {
        report_descriptor_limit(limit.rlim_cur, errno);
        return limit.rlim_cur;
    }
    return raised.rlim_cur;
}

uint64_t limits_room(uint64_t descriptors, unsigned workers, unsigned listeners)
{
    uint64_t own = SUNDRY_DESCRIPTORS + 2 * (uint64_t)(workers + 1) + listeners;
    return descriptors > own ? descriptors - own : 0;
}

unsigned limits_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
    /* EINVAL: more CPUs than the set has bits for. */
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}
