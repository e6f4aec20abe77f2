#include "client/bench/thread_cost.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/thread_time.h"

static struct thread_cost read_now(int time_fd)
{
    struct thread_time time = {0};
    struct timespec cpu;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    thread_time_read(time_fd, &time); /* or it is not known: each time, or never */
    return (struct thread_cost){
        .wall_nsec = clock_monotonic_nsec(),
        .cpu_nsec = (uint64_t)cpu.tv_sec * NSEC_PER_SEC + (uint64_t)cpu.tv_nsec,
        .queued_nsec = time.waited_nsec,
        .time_fd = time_fd,
    };
}

void thread_cost_begin(struct thread_cost *cost)
{
    *cost = read_now(thread_time_open());
}

void thread_cost_end(struct thread_cost *cost)
{
    struct thread_cost now = read_now(cost->time_fd);
    fd_close(&now.time_fd);
    now.wall_nsec -= cost->wall_nsec;
    now.cpu_nsec -= cost->cpu_nsec;
    now.queued_nsec -= cost->queued_nsec;
    *cost = now;
}
