/* What the scheduler has counted of a thread (Documentation/scheduler/sched-stats.rst). */
#pragma once

#include <stdint.h>

struct thread_time {
    uint64_t ran_nsec;
    uint64_t waited_nsec; /* for a CPU that others had */
    uint64_t runs;        /* how often it got one */
};

/* Opens the counts of the calling thread. Returns a descriptor, which the caller closes, or a negative errno:
 * ENOENT from a kernel that does not count, or without /proc; EMFILE. */
int thread_time_open(void);

/* Any thread. Returns 0 or a negative errno with `out` untouched: ESRCH when the thread has ended. */
int thread_time_read(int fd, struct thread_time *out);
