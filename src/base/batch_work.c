#include "base/batch_work.h"

#include "base/cleanup.h"

#include <sched.h>

/* Fewer turns from one look to the next are a quiet thread's, unless it waits for long. */
#define FEW_TURNS 4

/* Parts of a CPU: a thread that takes more than the first becomes batch work, and stays so above the other.
 */
#define BUSY_PART 8
#define QUIET_PART 16

/* For a CPU, each time. Clients who have many connections work for some hundred microseconds, and a time
 * slice of somebody who computes is longer. But who then also runs for long has nothing to complain of. */
#define LONG_WAIT_NSEC (1000 * NSEC_PER_USEC)
#define LONG_WAITS_A_RUN 4

/* After this many it tries again each 20 seconds. */
#define MOST_LOSSES 10

static void set_policy(struct batch_work *work, bool is_batch)
{
    const struct sched_param none = {0};
    if (work->is_batch == is_batch)
        return;
    /* Somebody else's policy is not ours to change; a filter of system calls may forbid both calls. */
    if (sched_getscheduler(0) != (work->is_batch ? SCHED_BATCH : SCHED_OTHER))
        work->adapts = false;
    else if (sched_setscheduler(0, is_batch ? SCHED_BATCH : SCHED_OTHER, &none) < 0)
        work->adapts = false;
    else
        work->is_batch = is_batch;
}

static bool waits_long(const struct thread_time *since)
{
    return since->waited_nsec > since->runs * LONG_WAIT_NSEC &&
           since->waited_nsec > since->ran_nsec * LONG_WAITS_A_RUN;
}

static void judge(struct batch_work *work, const struct thread_time *since, uint64_t passed_nsec)
{
    if (!work->is_batch) {
        if (work->skips > 0)
            work->skips--;
        else if (since->ran_nsec > passed_nsec / BUSY_PART)
            set_policy(work, true);
        return;
    }
    if (waits_long(since)) {
        if (work->losses < MOST_LOSSES)
            work->losses++;
        work->skips = 1U << work->losses;
        set_policy(work, false);
        return;
    }
    if (work->losses > 0)
        work->losses--;
    if (since->ran_nsec < passed_nsec / QUIET_PART)
        set_policy(work, false);
}

void batch_work_begin(struct batch_work *work)
{
    *work = (struct batch_work){.time_fd = thread_time_open()};
    work->adapts = work->time_fd >= 0;
}

void batch_work_turn(struct batch_work *work, uint64_t now_usec)
{
    if (!work->adapts)
        return;
    work->turns++;
    uint64_t passed_usec = now_usec - work->looked_usec;
    if (passed_usec < BATCH_WORK_LOOK_USEC)
        return;
    bool is_quiet = work->turns < FEW_TURNS && !work->is_batch;
    work->turns = 0;
    work->looked_usec = now_usec;
    struct thread_time now;
    if (is_quiet || thread_time_read(work->time_fd, &now) < 0) {
        work->has_time = false;
        set_policy(work, false);
        return;
    }
    if (work->has_time) {
        const struct thread_time since = {
            .ran_nsec = now.ran_nsec - work->time.ran_nsec,
            .waited_nsec = now.waited_nsec - work->time.waited_nsec,
            .runs = now.runs - work->time.runs,
        };
        judge(work, &since, passed_usec * NSEC_PER_USEC);
    }
    work->time = now;
    work->has_time = true;
}

void batch_work_end(struct batch_work *work)
{
    set_policy(work, false);
    work->adapts = false;
    fd_close(&work->time_fd);
}
