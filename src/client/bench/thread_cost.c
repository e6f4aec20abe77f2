#include "client/bench/thread_cost.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* The second figure that the scheduler counts of a thread (Documentation/scheduler/sched-stats.rst). */
static uint64_t read_queued(void)
{
    char text[80] = "";
    uint64_t queued_nsec = 0;
    CLEANUP(fd_close) int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0 || sscanf(text, "%*u %" SCNu64, &queued_nsec) != 1)
        return 0;
    return queued_nsec;
}

static struct thread_cost read_now(void)
{
    struct timespec cpu;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    return (struct thread_cost){
        .wall_nsec = clock_monotonic_nsec(),
        .cpu_nsec = (uint64_t)cpu.tv_sec * NSEC_PER_SEC + (uint64_t)cpu.tv_nsec,
        .queued_nsec = read_queued(),
    };
}

void thread_cost_begin(struct thread_cost *cost)
{
    *cost = read_now();
}

void thread_cost_end(struct thread_cost *cost)
{
    const struct thread_cost now = read_now();
    cost->wall_nsec = now.wall_nsec - cost->wall_nsec;
    cost->cpu_nsec = now.cpu_nsec - cost->cpu_nsec;
    cost->queued_nsec = now.queued_nsec > cost->queued_nsec ? now.queued_nsec - cost->queued_nsec : 0;
}
