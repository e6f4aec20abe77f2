/* When a loop's thread is batch work (SCHED_BATCH, sched(7)): one that wakes does not take the CPU from
 * whoever runs there.
 *
 * A client on the same machine that sends to many connections wakes a worker with the first. A worker that
 * takes the CPU at once finds one message, answers, sleeps, and is woken by the next; one that waits until
 * the client has no more to send finds all of them. So a thread that is busy waits. But where somebody
 * computes all the time, a time slice is milliseconds: the scheduler tells how long the thread has waited,
 * and one that waits long is batch work no more, and tries again ever more rarely. A quiet thread never is:
 * its next client waits for nobody. */
#pragma once

#include "base/clock.h"
#include "base/thread_time.h"

#include <stdbool.h>
#include <stdint.h>

/* Zeroed until it begins: then it is off. The loop's thread. */
struct batch_work {
    /* False, too, where the waits are unknown, or a policy was set from outside, or may not be set. */
    bool adapts;
    int time_fd; /* of the thread's counts, from begin to end; or -1 */
    bool is_batch;
    bool has_time;           /* the last look was one at a thread that turned, and `time` is of then */
    unsigned turns;          /* since the last look */
    unsigned losses;         /* how many more waits were long than short */
    unsigned skips;          /* looks to take before the next try */
    uint64_t looked_usec;    /* when the last look was */
    struct thread_time time; /* and what was counted then */
};

/* From one look at the thread to the next. */
#define BATCH_WORK_LOOK_USEC (20 * USEC_PER_MSEC)

/* From here on. Takes a descriptor until the end. */
void batch_work_begin(struct batch_work *work);

/* A turn of the loop is over. */
void batch_work_turn(struct batch_work *work, uint64_t now_usec);

/* Off, with the policy that the thread had. Behind a begin. */
void batch_work_end(struct batch_work *work);

/* When a turn is due even if nothing happens, or USEC_NEVER: a thread does not sleep for long as batch work.
 */
static inline uint64_t batch_work_next_usec(const struct batch_work *work)
{
    return work->adapts && work->is_batch ? work->looked_usec + BATCH_WORK_LOOK_USEC : USEC_NEVER;
}
