#include "daemon/limits.h"

#include "base/cpu_limit.h"
#include "base/descriptor_limit.h"
#include "daemon/daemon_log.h"

#include <sched.h>
#include <unistd.h>

#define SUNDRY_DESCRIPTORS 32

uint64_t limits_raise_descriptors(void)
{
    uint64_t limit;
    int r = descriptor_limit_raise(&limit);
    if (r < 0)
        daemon_log_descriptor_limit(limit, -r);
    return limit;
}

uint64_t limits_room(uint64_t descriptors, unsigned workers, unsigned listeners)
{
    uint64_t own = SUNDRY_DESCRIPTORS + 3 + 4 * (uint64_t)workers + listeners;
    return descriptors > own ? descriptors - own : 0;
}

static unsigned count_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
    /* EINVAL: more CPUs than the set has bits for. */
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

unsigned limits_cpus(void)
{
    unsigned cpus = count_cpus(), limit = cpu_limit("");
    return cpus < limit ? cpus : limit;
}
