/* Whether threads wait a moment for more to do, so that it is done at once.
 *
 * Where threads and clients share CPUs, a thread that goes on at once finds one thing to do, sleeps, and is
 * woken for the next, which costs more than the thing itself. One that lets the others run first
 * (sched_yield(2)) finds what they have made meanwhile. Where every thread has a CPU this gains nothing, and
 * where a stranger wants the CPU it is his for milliseconds. So the threads find out together which way gets
 * more done (base/trial.h): what one gains alone may be another's loss. */
#pragma once

#include "base/trial.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Shared by threads; any thread. Zeroed: nobody waits. */
struct patience {
    _Atomic uint64_t done; /* since the last look at the trial */
    _Atomic uint64_t look_usec;
    _Atomic bool is_patient;
    atomic_bool looks; /* a thread has the trial */
    struct trial trial;
};

/* A turn begins, and `done` was done that nobody was told of; takes it when it is enough. Returns whether to
 * wait a moment. */
bool patience_begin(struct patience *patience, uint64_t now_usec, uint64_t *done);
