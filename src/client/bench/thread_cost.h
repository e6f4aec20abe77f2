/* What the calling thread takes of the CPUs from one moment to another. */
#pragma once

#include <stdint.h>

struct thread_cost {
    uint64_t wall_nsec, cpu_nsec;
    uint64_t queued_nsec; /* ready to run and without a CPU to run on: a client that shares its CPUs with the
                             server is slowed by that, and its CPU time does not show it. 0 where the kernel
                             does not say */
};

/* From here on. */
void thread_cost_begin(struct thread_cost *cost);

/* Until here: what was stored by thread_cost_begin becomes what has passed since. By the same thread. */
void thread_cost_end(struct thread_cost *cost);
