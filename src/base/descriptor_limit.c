#include "base/descriptor_limit.h"

#include <errno.h>
#include <sys/resource.h>

int descriptor_limit_raise(uint64_t *limit)
{
    struct rlimit now;
    *limit = 0;
    if (getrlimit(RLIMIT_NOFILE, &now) < 0)
        return -errno;
    *limit = now.rlim_cur;
    if (now.rlim_cur == now.rlim_max)
        return 0;
    const struct rlimit raised = {.rlim_cur = now.rlim_max, .rlim_max = now.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) < 0)
        return -errno;
    *limit = raised.rlim_cur;
    return 0;
}
