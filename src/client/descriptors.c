#include "client/descriptors.h"

#include <sys/resource.h>

/* Standard streams, signals, the coordinator's loop, what a parent left open. */
#define SUNDRY_DESCRIPTORS 16

/* POSIX promises so many; a kernel that does not tell its limit keeps a stricter one with EMFILE. */
#define LEAST_DESCRIPTORS 20

uint64_t descriptors_raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return LEAST_DESCRIPTORS;
    struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
    if (limit.rlim_cur != limit.rlim_max && setrlimit(RLIMIT_NOFILE, &raised) == 0)
        return raised.rlim_cur;
    return limit.rlim_cur;
}

uint64_t descriptors_room(uint64_t limit, uint64_t own)
{
    own += SUNDRY_DESCRIPTORS;
    return limit > own ? limit - own : 0;
}
