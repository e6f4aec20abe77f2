/* What the scheduler has counted of a thread (Documentation/scheduler/sched-stats.rst). */
#pragma once

#include <stdint.h>

struct thread_time {
    uint64_t ran_nsec;
    uint64_t waited_nsec; /* for a CPU that others had */
    uint64_t runs;        /* how often it got one */
};

/* Of the calling thread. Returns 0 or a negative errno with `out` untouched: a kernel that does not count, or
 * a system without /proc. */
int thread_time_read(struct thread_time *out);
